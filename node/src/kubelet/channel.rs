//! Streams in a WebSocket: the first byte of each message is the number of its channel.

use super::upgrade::Socket;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::time::Duration;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

/// Since v5: the client sends no more on the channel that follows.
const CLOSE: u8 = 255;
/// Messages that wait for a slow client, and for a slow process.
const QUEUE: usize = 16;
/// How long the client may take to close the connection, too.
const LINGER: Duration = Duration::from_millis(500);

/// A WebSocket with channels. Dropping it ends the connection.
#[derive(Debug)]
pub(super) struct Session {
    queue: mpsc::Sender<Message>,
    reading: JoinHandle<()>,
    writing: AbortHandle,
}

/// Sends on a channel.
#[derive(Debug)]
pub(super) struct Writer {
    channel: u8,
    base64: bool,
    queue: mpsc::Sender<Message>,
}

impl Writer {
    pub(super) async fn send(&self, bytes: Bytes) -> bool {
        let message = if self.base64 {
            let digit = char::from(b'0' + self.channel);
            Message::text(format!("{digit}{}", BASE64_STANDARD.encode(&bytes)))
        } else {
            Message::binary([&[self.channel][..], &bytes].concat())
        };
        self.queue.send(message).await.is_ok()
    }
}

/// What the client sends on a channel, and what it gets.
pub(super) type Channel = (mpsc::Receiver<Bytes>, Writer);

impl Session {
    /// Begins, with so many channels. In `base64` messages are text: a digit, and the rest encoded.
    pub(super) fn start(socket: Socket, count: u8, base64: bool) -> (Self, Vec<Channel>) {
        let (sink, source) = socket.split();
        let (queue, queued) = mpsc::channel(QUEUE);
        let writing = tokio::spawn(write(sink, queued)).abort_handle();
        let (mut inputs, mut channels) = (Vec::new(), Vec::new());
        for channel in 0..count {
            let (input, reader) = mpsc::channel(QUEUE);
            inputs.push(Some(input));
            channels.push((reader, Writer { channel, base64, queue: queue.clone() }));
        }
        let reading = tokio::spawn(read(source, inputs, base64));
        (Self { queue, reading, writing }, channels)
    }

    /// Waits until the client has left. Cancel safe.
    pub(super) async fn gone(&mut self) {
        let _ = (&mut self.reading).await;
    }

    /// Sends what is queued and closes the connection.
    pub(super) async fn finish(mut self) {
        // kubectl takes any other end for a broken connection.
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = self.queue.send(Message::Close(Some(normal))).await;
        // The client closes, too; until it did, the end of the connection would look like a failure to it.
        let _ = tokio::time::timeout(LINGER, self.gone()).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reading.abort();
        self.writing.abort();
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, mut queued: mpsc::Receiver<Message>) {
    while let Some(message) = queued.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

async fn read(mut source: SplitStream<Socket>, mut inputs: Vec<Option<mpsc::Sender<Bytes>>>, base64: bool) {
    while let Some(Ok(message)) = source.next().await {
        let mut bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            _ => continue,
        };
        if bytes.is_empty() {
            continue;
        }
        let mut channel = bytes.split_to(1)[0];
        if base64 {
            let Ok(decoded) = BASE64_STANDARD.decode(&bytes) else { return };
            (channel, bytes) = (channel.wrapping_sub(b'0'), decoded.into());
        }
        match inputs.get_mut(usize::from(if channel == CLOSE { *bytes.first().unwrap_or(&CLOSE) } else { channel })) {
            Some(input) if channel == CLOSE => *input = None,
            // Nobody may read it any more: then it is thrown away.
            Some(Some(input)) if !bytes.is_empty() => drop(input.send(bytes).await),
            _ => {}
        }
    }
}
