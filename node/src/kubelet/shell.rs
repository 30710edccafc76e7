//! Exec and attach: the streams of a client and those of a process.

mod fd;

use super::{
    Answer, Query, channel, text,
    upgrade::{self, Connection, Protocols, Writer},
};
use crate::pods::Live;
use bytes::Bytes;
use fd::Fd;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{os::fd::OwnedFd, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PROTOCOLS: Protocols = Protocols {
    spdy: &["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"],
    websocket: &[
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "channel.k8s.io",
        "base64.channel.k8s.io",
    ],
};
/// The streams, in the order of their numbers as channels.
const KINDS: [&str; 5] = ["stdin", "stdout", "stderr", "error", "resize"];
/// How long a client may take to open its streams.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much output is sent at once.
const CHUNK: usize = 32 << 10;
/// How long output may still come after the process ended: its children may hold the pipes.
const DRAIN: Duration = Duration::from_millis(500);

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
    request: Request<Incoming>,
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
    let tty = query.is("tty");
    let [stdin, stdout, stderr] = [("stdin", "input"), ("stdout", "output"), ("stderr", "error")]
        .map(|(name, kubelet)| query.is(name) || query.is(kubelet));
    // Who asks for nothing gets the output, which is the API's default.
    let nothing = !(stdin || stdout || stderr);
    let restarts = live.containers.get(container).map_or(0, |(starts, _)| starts.saturating_sub(1));
    let exec_of = shim::Exec {
        container: format!("{container}.{restarts}"),
        args: command,
        env: if tty { vec!["TERM=xterm".into()] } else { Vec::new() },
        tty,
        stdin,
        stdout: stdout || nothing,
        stderr: (stderr || nothing) && !tty,
    };
    let session = Session { shim, exec: exec_of, attach: !exec };
    upgrade::answer(request, PROTOCOLS, stop, |connection, protocol| serve(session, connection, protocol))
}

/// A client's connection, until it left or was sent the end.
enum Client {
    Spdy(spdy::Session),
    Channels(channel::Session),
}

impl Client {
    async fn gone(&mut self) {
        match self {
            Self::Spdy(session) => while session.accept().await.is_some() {},
            Self::Channels(session) => session.gone().await,
        }
    }

    async fn finish(self) {
        match self {
            Self::Spdy(session) => session.finish().await,
            Self::Channels(session) => session.finish().await,
        }
    }
}

type Stream = (mpsc::Receiver<Bytes>, Writer);

/// The streams of a client, as [`KINDS`] has them.
async fn streams(connection: Connection, exec: &shim::Exec, protocol: &str) -> Option<(Client, [Option<Stream>; 5])> {
    let mut streams = [const { None }; 5];
    match connection {
        Connection::Channels(socket) => {
            let (session, channels) = channel::Session::start(*socket, 5, protocol.contains("base64"));
            for (place, (reader, writer)) in streams.iter_mut().zip(channels) {
                *place = Some((reader, Writer::Channel(writer)));
            }
            Some((Client::Channels(session), streams))
        }
        Connection::Spdy(mut session) => {
            let sized = exec.tty && !["", "channel.k8s.io", "v2.channel.k8s.io"].contains(&protocol);
            let wanted = [exec.stdin, exec.stdout, exec.stderr, true, sized];
            let opened = async {
                while streams.iter().zip(wanted).any(|(stream, wanted)| wanted && stream.is_none()) {
                    let stream: spdy::Stream = session.accept().await?;
                    match KINDS.iter().position(|kind| stream.header("streamtype") == Some(kind)) {
                        Some(place) => streams[place] = Some((stream.reader, Writer::Spdy(stream.writer))),
                        None => stream.writer.reset(),
                    }
                }
                Some(())
            };
            tokio::time::timeout(PATIENCE, opened).await.ok()??;
            Some((Client::Spdy(session), streams))
        }
    }
}

async fn serve(session: Session, connection: Connection, protocol: &'static str) {
    let Some((mut client, streams)) = streams(connection, &session.exec, protocol).await else { return };
    let [stdin, stdout, stderr, error, resize] = streams;
    let output = [stdout, stderr].map(|stream| stream.map(|(_, writer)| writer));
    // A client ends its input when that stream is closed by this side, so it stays open to the end.
    let (stdin, stdin_end) = stdin.unzip();
    let (resize, resize_end) = resize.unzip();
    let status = tokio::select! {
        status = run(session, stdin, output, resize) => status,
        () = client.gone() => return,
    };
    if let Some((_, error)) = error {
        let failed = status["status"] != "Success";
        let structured = protocol.starts_with("v4") || protocol.starts_with("v5");
        let text = if structured { status.to_string() } else { status["message"].as_str().unwrap_or("").to_owned() };
        if structured || failed {
            error.send(text.into()).await;
        }
    }
    drop((stdin_end, resize_end));
    // Nobody is waited for who does not take what was sent.
    let _ = tokio::time::timeout(PATIENCE, client.finish()).await;
}

/// Runs to the end of the process; the Status that is sent last.
async fn run(
    session: Session,
    input: Option<mpsc::Receiver<Bytes>>,
    output: [Option<Writer>; 2],
    resize: Option<mpsc::Receiver<Bytes>>,
) -> Value {
    let Session { shim, exec, attach } = session;
    let (stdin, outputs, tty, mut process) = if attach {
        match shim.attach(&exec.container).await {
            Ok(attached) => {
                let copy = attached.tty.as_ref().and_then(|tty| tty.try_clone().ok());
                (attached.stdin.or(copy), [attached.stdout, attached.stderr], attached.tty, None)
            }
            Err(error) => return internal(&error.to_string()),
        }
    } else {
        match shim.exec(&exec).await {
            Ok(mut process) => {
                let tty = process.tty.take();
                let copy = || tty.as_ref().and_then(|fd| fd.try_clone().ok());
                let stdin = process.stdin.take().or_else(copy);
                let outputs = [process.stdout.take().or_else(copy), process.stderr.take()];
                (stdin, outputs, tty, Some(process))
            }
            Err(error) => return internal(&error.to_string()),
        }
    };
    let open = |fd: OwnedFd| Fd::new(fd).ok();
    let asked = [exec.stdout, exec.stderr];
    let outputs = outputs.into_iter().zip(asked).zip(output).filter_map(|((fd, asked), writer)| {
        let fd = fd.filter(|_| asked)?;
        Some(pump(open(fd)?, writer?))
    });
    let pumps = futures::future::join_all(outputs);
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
    let input = async {
        let typed = feed(stdin.filter(|_| exec.stdin).and_then(open), input);
        tokio::join!(typed, sizes(resize, tty));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        status = ended => status,
        () = input => success(),
    }
}

/// Copies output to the client, to its end.
async fn pump(fd: Fd, writer: Writer) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = fd.read(&mut buffer).await
        && writer.send(Bytes::copy_from_slice(&buffer[..length])).await
    {}
}

/// Gives the process what the client sends, and closes its standard input when that ends.
async fn feed(stdin: Option<Fd>, input: Option<mpsc::Receiver<Bytes>>) {
    let (Some(stdin), Some(mut input)) = (stdin, input) else { return };
    while let Some(bytes) = input.recv().await
        && stdin.write_all(&bytes).await.is_ok()
    {}
}

/// Gives the terminal the sizes that the client sends.
async fn sizes(resize: Option<mpsc::Receiver<Bytes>>, tty: Option<OwnedFd>) {
    let (Some(mut resize), Some(tty)) = (resize, tty) else { return };
    while let Some(bytes) = resize.recv().await {
        for size in serde_json::Deserializer::from_slice(&bytes).into_iter::<Size>().flatten() {
            let size = rustix::termios::Winsize { ws_col: size.width, ws_row: size.height, ws_xpixel: 0, ws_ypixel: 0 };
            // The process may have ended.
            let _ = rustix::termios::tcsetwinsize(&tty, size);
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
