//! Exec and attach over WebSocket: the subprotocols v5.channel.k8s.io and v4.channel.k8s.io, where
//! the first byte of each message says which stream it belongs to.

mod fd;

use super::{Answer, Query, text};
use crate::pods::Live;
use bytes::Bytes;
use fd::Fd;
use futures::{SinkExt, StreamExt, stream::SplitStream};
use http::{
    HeaderValue, Request, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// The subprotocols, best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Messages that wait for a slow client.
const QUEUE: usize = 16;
/// How much output is put into one message.
const CHUNK: usize = 32 << 10;
/// How long output may still come after the process ended: its children may hold the pipes.
const DRAIN: Duration = Duration::from_millis(500);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The size of a terminal, as clients send it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// What to run or attach to.
struct Session {
    shim: shim::Client,
    exec: shim::Exec,
    attach: bool,
}

/// Answers `/exec/…` and `/attach/…` with the upgrade; the rest goes on in the background.
pub(super) fn answer(
    live: &Live,
    container: &str,
    exec: bool,
    query: &Query,
    mut request: Request<Incoming>,
    stop: CancellationToken,
) -> Answer {
    let bad = |message: &str| text(StatusCode::BAD_REQUEST, message);
    let Some(shim) = live.shim.clone() else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, &format!("container not found (\"{container}\")"));
    };
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    if exec && command.is_empty() {
        return bad("you must specify at least 1 command for the container");
    }
    let stream = |name: &str, kubelet: &str| query.is(name) || query.is(kubelet);
    let tty = query.is("tty");
    let restarts = live.containers.get(container).map_or(0, |(starts, _)| starts.saturating_sub(1));
    let session = Session {
        shim,
        exec: shim::Exec {
            container: format!("{container}.{restarts}"),
            args: command,
            env: if tty { vec!["TERM=xterm".into()] } else { Vec::new() },
            tty,
            stdin: stream("stdin", "input"),
            stdout: stream("stdout", "output"),
            stderr: stream("stderr", "error") && !tty,
        },
        attach: !exec,
    };
    let (accept, protocol) = match handshake(&request) {
        Ok(handshake) => handshake,
        Err(message) => return bad(message),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => {
                let io = TokioIo::new(upgraded);
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serve(session, socket) => {}
                }
            }
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    });
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    answer
}

/// The accept key and the chosen subprotocol.
fn handshake(request: &Request<Incoming>) -> Result<(HeaderValue, &'static str), &'static str> {
    let headers = request.headers();
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    if !upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        return Err("unable to upgrade: only WebSocket is supported");
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or("missing Sec-WebSocket-Key header")?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<&str> =
        offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim).collect();
    let protocol = PROTOCOLS.into_iter().find(|protocol| offered.contains(protocol));
    let protocol = protocol.ok_or("none of the offered subprotocols is supported")?;
    Ok((accept.map_err(|_| "invalid Sec-WebSocket-Key header")?, protocol))
}

async fn serve(session: Session, socket: Socket) {
    let (mut sink, mut source) = socket.split();
    let (send, mut queue) = mpsc::channel::<Message>(QUEUE);
    let writing = tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    });
    let status = match run(session, &mut source, &send).await {
        Some(status) => status,
        // The client left.
        None => return writing.abort(),
    };
    let mut bytes = vec![ERROR];
    bytes.extend_from_slice(status.to_string().as_bytes());
    let _ = send.send(Message::Binary(Bytes::from(bytes))).await;
    // kubectl takes any other end for a broken connection.
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = send.send(Message::Close(Some(normal))).await;
    drop(send);
    let _ = writing.await;
    // The client closes, too; until it did, the end of the connection would look like a failure to it.
    let closed = async { while let Some(Ok(_)) = source.next().await {} };
    let _ = tokio::time::timeout(DRAIN, closed).await;
}

/// Runs to the end of the process or of the client; the Status that is sent last.
async fn run(session: Session, source: &mut SplitStream<Socket>, send: &mpsc::Sender<Message>) -> Option<Value> {
    let Session { shim, exec, attach } = session;
    let failed = |error: shim::Error| Some(internal(&error.to_string()));
    let (streams, mut process) = if attach {
        match shim.attach(&exec.container).await {
            Ok(attached) => {
                let stdin = attached.stdin.filter(|_| exec.stdin);
                let out = [(STDOUT, attached.stdout), (STDERR, attached.stderr)];
                (Streams::new(stdin, out, attached.tty), None)
            }
            Err(error) => return failed(error),
        }
    } else {
        match shim.exec(&exec).await {
            Ok(mut process) => {
                let tty = process.tty.take();
                let copy = |fd: &Option<OwnedFd>| fd.as_ref().and_then(|fd| fd.try_clone().ok());
                let stdin = process.stdin.take().or_else(|| copy(&tty).filter(|_| exec.stdin));
                let stdout = process.stdout.take().or_else(|| copy(&tty));
                let out = [(STDOUT, stdout), (STDERR, process.stderr.take())];
                (Streams::new(stdin, out, tty), Some(process))
            }
            Err(error) => return failed(error),
        }
    };
    let Streams { stdin, out, tty } = streams;
    let pumps = futures::future::join_all(out.into_iter().map(|(channel, fd)| pump(fd, channel, send)));
    let ended = async {
        tokio::pin!(pumps);
        let Some(process) = &mut process else {
            pumps.await;
            return success();
        };
        let mut drained = false;
        let exit = loop {
            tokio::select! {
                exit = process.wait() => break exit,
                _ = &mut pumps, if !drained => drained = true,
            }
        };
        if !drained {
            let _ = tokio::time::timeout(DRAIN, pumps).await;
        }
        exit.map_or_else(|error| internal(&error.to_string()), |exit| status(exit.code))
    };
    tokio::select! {
        status = ended => Some(status),
        () = input(source, stdin, tty.as_deref()) => None,
    }
}

/// The streams of a process.
struct Streams {
    stdin: Option<Fd>,
    out: Vec<(u8, Fd)>,
    tty: Option<Arc<OwnedFd>>,
}

impl Streams {
    fn new(stdin: Option<OwnedFd>, out: [(u8, Option<OwnedFd>); 2], tty: Option<OwnedFd>) -> Self {
        let open = |fd: OwnedFd| Fd::new(fd).ok();
        let out = out.into_iter().filter_map(|(channel, fd)| Some((channel, open(fd?)?)));
        Self { stdin: stdin.and_then(open), out: out.collect(), tty: tty.map(Arc::new) }
    }
}

/// Copies output into messages, to its end.
async fn pump(fd: Fd, channel: u8, send: &mpsc::Sender<Message>) {
    let mut buffer = vec![0; CHUNK + 1];
    buffer[0] = channel;
    while let Ok(length @ 1..) = fd.read(&mut buffer[1..]).await {
        let bytes = Bytes::copy_from_slice(&buffer[..=length]);
        if send.send(Message::Binary(bytes)).await.is_err() {
            return;
        }
    }
}

/// Takes input and sizes from the client until it leaves.
async fn input(source: &mut SplitStream<Socket>, mut stdin: Option<Fd>, tty: Option<&OwnedFd>) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => return,
            _ => continue,
        };
        match bytes.split_first() {
            Some((&STDIN, data)) => {
                if let Some(fd) = &stdin
                    && fd.write_all(data).await.is_err()
                {
                    stdin = None;
                }
            }
            Some((&RESIZE, data)) => {
                if let (Ok(size), Some(tty)) = (serde_json::from_slice::<Size>(data), tty) {
                    let size = rustix::termios::Winsize {
                        ws_col: size.width,
                        ws_row: size.height,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    let _ = rustix::termios::tcsetwinsize(tty, size);
                }
            }
            Some((&CLOSE, [STDIN, ..])) => stdin = None,
            _ => {}
        }
    }
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn internal(message: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}

/// The Status of a process that ended.
fn status(code: i32) -> Value {
    if code == 0 {
        return success();
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}
