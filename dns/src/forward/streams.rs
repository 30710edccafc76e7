//! Connections to an upstream, by TCP or TLS, each shared by questions (RFC 7766 §6.2.1).

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::question::{Question, random};
use crate::request::TCP_SIZE;

/// How many connections an upstream has at most: questions beyond share those.
const STREAMS: usize = 8;

/// How many questions wait on one connection.
const PIPELINE: usize = 256;

/// What a connection runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection in the making.
pub(crate) type Connecting = BoxFuture<'static, io::Result<Box<dyn Stream>>>;

/// How long connections are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many are, at most; 0 for no limit but our own.
    pub(crate) idle: usize,
    /// How long one is kept that nobody uses.
    pub(crate) expire: Duration,
    /// How old one may be for a further question; zero for no limit.
    pub(crate) age: Duration,
    /// How long an upstream may say nothing while questions wait.
    pub(crate) patience: Duration,
}

/// A packet, or why there is none.
type Answer = Result<Vec<u8>, String>;

/// A question that waits for its answer.
struct Waiting {
    question: Question,
    answer: oneshot::Sender<Answer>,
    /// Counts the questions of a connection.
    _load: Arc<()>,
}

/// A connection, which ends when nothing asks it.
struct Open {
    questions: mpsc::Sender<Waiting>,
    load: Arc<()>,
    since: Instant,
}

/// The open connections to an upstream.
#[derive(Default)]
pub(crate) struct Streams {
    open: Mutex<Vec<Open>>,
}

impl Streams {
    /// Asks on a connection: an idle one, a new one, or else the one that has least to do. Also
    /// says whether there was one already.
    pub(crate) async fn ask(
        &self,
        question: &Question,
        limits: Limits,
        connect: impl Fn() -> Connecting,
    ) -> (io::Result<Vec<u8>>, bool) {
        let ask = || {
            let (answer, kept) = self.put(question, limits, &connect);
            answer.map(move |answer| (answer.unwrap_or_else(|_| Err("the connection is closed".to_owned())), kept))
        };
        let (mut answer, kept) = ask().await;
        // One that was kept may have been closed by the upstream just now.
        if kept && answer.is_err() {
            (answer, _) = ask().await;
        }
        (answer.map_err(io::Error::other), kept)
    }

    fn put(
        &self,
        question: &Question,
        limits: Limits,
        connect: impl Fn() -> Connecting,
    ) -> (oneshot::Receiver<Answer>, bool) {
        let most = if limits.idle == 0 { STREAMS } else { limits.idle.min(STREAMS) };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let young = |open: &Open| limits.age.is_zero() || open.since.elapsed() < limits.age;
        open.retain(|open| !open.questions.is_closed() && young(open));
        let load = |open: &Open| Arc::strong_count(&open.load) - 1;
        let least = open.iter().min_by_key(|open| load(open));
        let kept = least.filter(|least| load(least) == 0 || open.len() >= most);
        let kept = kept.map(|kept| (kept.questions.clone(), kept.load.clone()));
        let found = kept.is_some();
        let (questions, load) = kept.unwrap_or_else(|| {
            let (questions, received) = mpsc::channel(PIPELINE);
            let load = Arc::new(());
            open.push(Open { questions: questions.clone(), load: load.clone(), since: Instant::now() });
            tokio::spawn(run(connect(), received, limits));
            (questions, load)
        });
        let (answer, receiver) = oneshot::channel();
        // A connection that has too much to do drops it.
        let _ = questions.try_send(Waiting { question: question.clone(), answer, _load: load });
        (receiver, found)
    }
}

/// Connects, and asks what comes until nothing does; what is left then gets the reason.
async fn run(connecting: Connecting, mut questions: mpsc::Receiver<Waiting>, limits: Limits) {
    let mut waiting = HashMap::new();
    let ended = match timeout(limits.patience, connecting).await {
        Ok(Ok(stream)) => drive(stream, &mut questions, &mut waiting, limits).await,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("no connection in time")),
    };
    let reason = ended.err().map_or_else(|| "the connection expired".to_owned(), |error| error.to_string());
    questions.close();
    let mut left: Vec<Waiting> = waiting.into_values().collect();
    while let Ok(late) = questions.try_recv() {
        left.push(late);
    }
    for Waiting { answer, .. } in left {
        let _ = answer.send(Err(reason.clone()));
    }
}

async fn drive(
    stream: Box<dyn Stream>,
    questions: &mut mpsc::Receiver<Waiting>,
    waiting: &mut HashMap<u16, Waiting>,
    limits: Limits,
) -> io::Result<()> {
    let codec = LengthDelimitedCodec::builder().length_field_length(2).max_frame_length(TCP_SIZE).new_codec();
    let mut framed = Framed::new(stream, codec);
    let (mut open, mut heard) = (true, Instant::now());
    while open || !waiting.is_empty() {
        let limit = if waiting.is_empty() { limits.expire } else { limits.patience };
        if waiting.len() >= PIPELINE {
            waiting.retain(|_, waiting| !waiting.answer.is_closed());
        }
        tokio::select! {
            biased;
            asked = questions.recv(), if open && waiting.len() < PIPELINE => match asked {
                // Nobody waits for it any more.
                Some(asked) if asked.answer.is_closed() => {}
                Some(asked) => {
                    if waiting.is_empty() {
                        heard = Instant::now();
                    }
                    let mut id = random();
                    while waiting.contains_key(&id) {
                        id = random();
                    }
                    let packet = Bytes::from(asked.question.under(id));
                    waiting.insert(id, asked);
                    timeout(limits.patience, framed.send(packet)).await??;
                }
                None => open = false,
            },
            answer = timeout_at(heard + limit, framed.next()) => match answer {
                Ok(Some(packet)) => {
                    heard = Instant::now();
                    let packet = packet?;
                    let id = packet.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
                    if let Some(asked) = waiting.remove(&id) {
                        match asked.question.answered_by(id, &packet) {
                            true => drop(asked.answer.send(Ok(packet.to_vec()))),
                            false => return Err(io::Error::other("an answer to another question")),
                        }
                    }
                }
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(_) if waiting.is_empty() => return Ok(()),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            },
        }
    }
    Ok(())
}
