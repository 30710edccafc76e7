//! `coracle echo`: the program of the built-in image. It tells over HTTP, TCP and UDP who it is
//! and who asks, which is what a lesson about Services wants to see.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream, UdpSocket},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

/// How long it goes on after it was told to end: Services send it requests until they have heard
/// of it, which is at the same time.
const LINGER: Duration = Duration::from_millis(200);

/// Ports of the echo program.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Answer HTTP on these ports
    #[arg(long, value_name = "PORT", default_value = "80")]
    pub http: Vec<u16>,
    /// Answer TCP connections on these ports: one answer, then the end
    #[arg(long, value_name = "PORT")]
    pub tcp: Vec<u16>,
    /// Answer UDP datagrams on these ports
    #[arg(long, value_name = "PORT")]
    pub udp: Vec<u16>,
    /// Fetch the answer to HTTP requests from there, and tell on the way
    #[arg(long, value_name = "URL")]
    pub forward: Option<http::Uri>,
}

/// Who this is: the pod's name is its host name; the node's comes from the environment variable
/// `NODE_NAME`, when the manifest sets it.
struct Who {
    pod: String,
    node: Option<String>,
    forward: Option<http::Uri>,
}

impl Who {
    fn answer(&self, own: SocketAddr, client: SocketAddr) -> String {
        let node = self.node.as_ref().map(|node| format!("node: {node}\n")).unwrap_or_default();
        format!("pod: {}\n{node}address: {own}\nclient: {client}\n", self.pod)
    }
}

/// Answers until a moment after SIGTERM or SIGINT.
///
/// # Errors
/// When a port cannot be bound.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let uname = rustix::system::uname();
    let pod = uname.nodename().to_string_lossy().into_owned();
    let who = Arc::new(Who { pod, node: std::env::var("NODE_NAME").ok(), forward: options.forward });
    let mut tasks = JoinSet::new();
    for port in options.http {
        tasks.spawn(serve_http(listen(port).await?, who.clone()));
    }
    for port in options.tcp {
        tasks.spawn(serve_tcp(listen(port).await?, who.clone()));
    }
    for port in options.udp {
        let socket = UdpSocket::bind(("0.0.0.0", port)).await.with_context(|| format!("bind UDP port {port}"))?;
        tasks.spawn(serve_udp(socket, port, who.clone()));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tokio::time::sleep(LINGER).await;
    Ok(())
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("bind TCP port {port}"))
}

async fn serve_http(listener: TcpListener, who: Arc<Who>) {
    loop {
        let Ok((stream, client)) = listener.accept().await else { continue };
        let Ok(own) = stream.local_addr() else { continue };
        let who = who.clone();
        let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let mut own = who.answer(own, client) + &format!("request: {} {}\n", request.method(), request.uri());
            for value in request.headers().get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()) {
                own += &format!("on behalf of: {value}\n");
            }
            let forward = who.forward.clone();
            async move { Ok::<_, Infallible>(respond(own, forward).await) }
        });
        // A client that breaks off is its own business.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

/// The own lines, after those of whom it was forwarded to.
async fn respond(own: String, forward: Option<http::Uri>) -> Response<Full<Bytes>> {
    let fetched = match forward {
        None => Ok(String::new()),
        Some(uri) => fetch(uri).await,
    };
    let (status, text) = match fetched {
        Ok(theirs) if theirs.is_empty() => (StatusCode::OK, own),
        Ok(theirs) => (StatusCode::OK, theirs + "by way of\n" + &own),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}\n{own}")),
    };
    let response = Response::builder().status(status).header(CONTENT_TYPE, "text/plain; charset=utf-8");
    response.body(Full::new(Bytes::from(text))).unwrap_or_default()
}

/// One GET over a connection of its own, so that a Service picks a pod each time.
async fn fetch(uri: http::Uri) -> anyhow::Result<String> {
    let host = uri.host().context("the URL has no host")?.to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(80)));
    let stream = stream.await.with_context(|| format!("connect to {uri}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = http::Request::get(path).header("host", host).body(Empty::new())?;
    let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn serve_tcp(listener: TcpListener, who: Arc<Who>) {
    loop {
        let Ok((mut stream, client)) = listener.accept().await else { continue };
        let Ok(own) = stream.local_addr() else { continue };
        let answer = who.answer(own, client);
        tokio::spawn(async move {
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

async fn serve_udp(socket: UdpSocket, port: u16, who: Arc<Who>) {
    let mut buffer = [0; 2048];
    loop {
        let Ok((_, client)) = socket.recv_from(&mut buffer).await else { continue };
        let own = SocketAddr::from(([0, 0, 0, 0], port));
        let _ = socket.send_to(who.answer(own, client).as_bytes(), client).await;
    }
}
