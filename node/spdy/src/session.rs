//! A session on a connection: the client's streams, each with a reader and a writer.

use crate::{
    frame::{DATA_MAX, Decoder, Encoder, Frame, STATUS_CANCEL, STATUS_PROTOCOL_ERROR, STATUS_REFUSED_STREAM},
    headers::Headers,
};
use bytes::{Bytes, BytesMut};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinHandle,
};

/// Streams of a session at once; further ones are refused.
pub const STREAMS_MAX: usize = 512;

/// Pieces of data that wait for a slow reader; then the whole connection waits, as in Kubernetes.
const READ_QUEUE: usize = 16;
/// Frames that wait to be written; then writers wait.
const WRITE_QUEUE: usize = 16;
/// How much is read, and written, at once.
const CHUNK: usize = 64 << 10;
/// A window before anybody spoke of it.
const WINDOW: i64 = 64 << 10;
/// The window that the client is given at once: reading on or not is what bounds it. Updates for each piece would be
/// ignored by most, and wait behind what a slow client does not take.
const GIVEN: u32 = (1 << 31) - 1;
/// After so many bytes the window is filled up again.
const REFILL: u32 = 1 << 30;
/// How long the client may take to close the connection after the goodbye.
const LINGER: Duration = Duration::from_millis(500);
/// The setting that has the first window of streams.
const INITIAL_WINDOW: u32 = 7;

/// What may still be sent.
#[derive(Clone, Copy, Debug)]
struct Window {
    credit: i64,
    /// The peer has spoken of windows: this one counts.
    heeded: bool,
    /// The stream is over.
    closed: bool,
}

impl Window {
    fn open(&self) -> bool {
        self.closed || !self.heeded || self.credit > 0
    }
}

type Windows = Arc<watch::Sender<Window>>;

/// A stream as the session knows it.
#[derive(Debug)]
struct Entry {
    /// Until the peer is done.
    data: Option<mpsc::Sender<Bytes>>,
    window: Windows,
    /// The writer is not done.
    writing: bool,
    /// Bytes since its window was filled up.
    received: u32,
}

type Queued = (Frame, Option<OwnedSemaphorePermit>);

/// What the reading task, the writing task and the writers of streams have in common.
#[derive(Debug)]
struct Shared {
    streams: Mutex<BTreeMap<u32, Entry>>,
    window: Windows,
    queue: mpsc::UnboundedSender<Queued>,
    /// Bounds the queue, but for the last word of each stream.
    places: Arc<Semaphore>,
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, BTreeMap<u32, Entry>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends when there is room; false after the end.
    async fn send(&self, frame: Frame) -> bool {
        let Ok(place) = self.places.clone().acquire_owned().await else { return false };
        self.queue.send((frame, Some(place))).is_ok()
    }

    /// Takes note that one side of a stream is done.
    fn done(&self, stream: u32, change: impl FnOnce(&mut Entry)) {
        let mut streams = self.streams();
        if let Some(entry) = streams.get_mut(&stream) {
            change(entry);
            if entry.data.is_none() && !entry.writing {
                streams.remove(&stream);
            }
        }
    }
}

/// The server's side of a connection. Dropping it ends the connection.
#[derive(Debug)]
pub struct Session {
    incoming: mpsc::Receiver<Stream>,
    reading: JoinHandle<()>,
    writing: JoinHandle<()>,
    shared: Arc<Shared>,
}

/// A stream that the client opened, and that was accepted.
#[derive(Debug)]
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What the client says it is for; names in lower case.
    pub headers: Headers,
    /// What the client sends.
    pub reader: Reader,
    /// What it gets.
    pub writer: Writer,
}

impl Stream {
    /// The first header of that name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What the client sends, in pieces; it ends when the client finished, reset the stream, or left. What nobody reads any
/// more is thrown away.
pub type Reader = mpsc::Receiver<Bytes>;

/// Sends on a stream; finishes it when dropped.
#[derive(Debug)]
pub struct Writer {
    stream: u32,
    window: Windows,
    shared: Arc<Shared>,
}

impl Session {
    /// Speaks on a connection; needs a tokio runtime.
    pub fn start(
        reader: impl AsyncRead + Unpin + Send + 'static,
        writer: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let (queue, queued) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            streams: Mutex::default(),
            window: Arc::new(watch::Sender::new(Window { credit: WINDOW, heeded: false, closed: false })),
            queue,
            places: Arc::new(Semaphore::new(WRITE_QUEUE)),
        });
        let (accepted, incoming) = mpsc::channel(READ_QUEUE);
        for frame in
            [Frame::Settings(vec![(INITIAL_WINDOW, GIVEN)]), Frame::Window { stream: 0, delta: GIVEN - WINDOW as u32 }]
        {
            let _ = shared.queue.send((frame, None));
        }
        let reading = Reading { shared: shared.clone(), accepted, last: 0, initial: (WINDOW, false), received: 0 };
        let reading = tokio::spawn(reading.run(reader));
        let writing = tokio::spawn(write(writer, queued, shared.places.clone()));
        Self { incoming, reading, writing, shared }
    }

    /// The next stream that the client opens; `None` when the connection ended. Cancel safe.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }

    /// Sends what is queued and says goodbye. What the client still sends is read, up to its end or a little while: on a
    /// connection closed before, it would not get what was sent.
    pub async fn finish(mut self) {
        self.incoming.close();
        self.shared.send(Frame::GoAway { last: 0, status: 0 }).await;
        let _ = (&mut self.writing).await;
        let _ = tokio::time::timeout(LINGER, &mut self.reading).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reading.abort();
        self.writing.abort();
    }
}

impl Writer {
    /// Sends all of it, as the client's window has room; false when the stream or the connection is over.
    pub async fn send(&self, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            let mut length = bytes.len().min(DATA_MAX);
            for window in [&self.shared.window, &self.window] {
                let Ok(now) = window.subscribe().wait_for(Window::open).await.map(|now| *now) else { return false };
                if now.closed {
                    return false;
                }
                if now.heeded {
                    length = length.min(usize::try_from(now.credit).unwrap_or(1));
                }
            }
            for window in [&self.shared.window, &self.window] {
                window.send_modify(|window| window.credit -= length as i64);
            }
            let piece = bytes.split_to(length);
            if !self.shared.send(Frame::Data { stream: self.stream, fin: false, bytes: piece }).await {
                return false;
            }
        }
        true
    }

    /// Waits until the client has reset the stream, or is gone; for ever when it ends in order.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut window = self.window.subscribe();
        async move {
            if window.wait_for(|window| window.closed).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Gives the stream up, both ways.
    pub fn reset(self) {
        let reset = Frame::Reset { stream: self.stream, status: STATUS_CANCEL };
        let _ = self.shared.queue.send((reset, None));
        self.shared.done(self.stream, |entry| entry.data = None);
        self.window.send_modify(|window| window.closed = true);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.window.borrow().closed {
            let last = Frame::Data { stream: self.stream, fin: true, bytes: Bytes::new() };
            // Fails after the end of the connection only.
            let _ = self.shared.queue.send((last, None));
        }
        self.shared.done(self.stream, |entry| entry.writing = false);
    }
}

/// Writes what is queued, until it is told goodbye or nobody is left to queue.
async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut queued: mpsc::UnboundedReceiver<Queued>,
    places: Arc<Semaphore>,
) {
    let (mut encoder, mut buffer) = (Encoder::default(), BytesMut::with_capacity(CHUNK));
    while let Some((frame, place)) = queued.recv().await {
        let last = matches!(frame, Frame::GoAway { .. });
        encoder.encode(&frame, &mut buffer);
        if !last && buffer.len() < CHUNK && !queued.is_empty() {
            continue;
        }
        if writer.write_all(&buffer).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        buffer.clear();
        drop(place);
        if last {
            break;
        }
    }
    places.close();
    let _ = writer.shutdown().await;
}

/// The reading task.
struct Reading {
    shared: Arc<Shared>,
    accepted: mpsc::Sender<Stream>,
    /// The number of the last stream.
    last: u32,
    /// The first window of streams, and whether it is heeded.
    initial: (i64, bool),
    /// Bytes since the session's window was filled up.
    received: u32,
}

impl Reading {
    async fn run(mut self, mut reader: impl AsyncRead + Unpin) {
        let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::with_capacity(CHUNK));
        'connection: while let Ok(1..) = reader.read_buf(&mut buffer).await {
            loop {
                let frame = match decoder.decode(&mut buffer) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(_) => {
                        self.protest().await;
                        break 'connection;
                    }
                };
                if !self.hear(frame).await {
                    break 'connection;
                }
            }
            buffer.reserve(CHUNK);
        }
        for (_, entry) in std::mem::take(&mut *self.shared.streams()) {
            entry.window.send_modify(|window| window.closed = true);
        }
    }

    async fn protest(&self) {
        self.shared.send(Frame::GoAway { last: self.last, status: STATUS_PROTOCOL_ERROR }).await;
    }

    /// False when the connection is to end.
    async fn hear(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Syn { stream, fin, unidirectional, headers } => {
                return self.open(stream, fin, unidirectional, headers).await;
            }
            Frame::Data { stream, fin, bytes } => {
                if !bytes.is_empty() {
                    self.take(stream, bytes).await;
                }
                if fin {
                    self.shared.done(stream, |entry| entry.data = None);
                }
            }
            Frame::Headers { stream, fin: true, .. } => self.shared.done(stream, |entry| entry.data = None),
            Frame::Reset { stream, .. } => {
                if let Some(entry) = self.shared.streams().remove(&stream) {
                    entry.window.send_modify(|window| window.closed = true);
                }
            }
            Frame::Ping(id) if id % 2 == 1 => return self.shared.send(Frame::Ping(id)).await,
            Frame::Window { stream, delta } => self.widen(stream, i64::from(delta)),
            Frame::Settings(settings) => {
                let mut sizes = settings.iter().filter(|(id, _)| *id == INITIAL_WINDOW);
                if let Some((_, size)) = sizes.next() {
                    let change = i64::from(*size) - self.initial.0;
                    self.initial = (i64::from(*size), true);
                    let streams: Vec<u32> = self.shared.streams().keys().copied().collect();
                    streams.into_iter().for_each(|stream| self.widen(stream, change));
                }
            }
            // Streams that are open go on after a goodbye.
            Frame::Reply { .. } | Frame::Headers { .. } | Frame::Ping(_) | Frame::GoAway { .. } => {}
        }
        true
    }

    async fn take(&mut self, stream: u32, bytes: Bytes) {
        let length = bytes.len() as u32;
        let full = |received: &mut u32| {
            *received += length;
            (*received >= REFILL).then(|| std::mem::take(received))
        };
        let mut refills = vec![(0, full(&mut self.received))];
        let data = self.shared.streams().get_mut(&stream).and_then(|entry| {
            refills.push((stream, full(&mut entry.received)));
            entry.data.clone()
        });
        if let Some(data) = data {
            // When nobody reads any more, it is thrown away.
            let _ = data.send(bytes).await;
        }
        for (stream, delta) in refills {
            if let Some(delta) = delta {
                self.shared.send(Frame::Window { stream, delta }).await;
            }
        }
    }

    fn widen(&self, stream: u32, by: i64) {
        let of_stream = || self.shared.streams().get(&stream).map(|entry| entry.window.clone());
        let window = if stream == 0 { Some(self.shared.window.clone()) } else { of_stream() };
        if let Some(window) = window {
            window.send_modify(|window| (window.credit, window.heeded) = (window.credit.saturating_add(by), true));
        }
    }

    async fn open(&mut self, id: u32, fin: bool, unidirectional: bool, headers: Headers) -> bool {
        if id.is_multiple_of(2) || id <= self.last {
            self.protest().await;
            return false;
        }
        self.last = id;
        if self.shared.streams().len() >= STREAMS_MAX {
            return self.shared.send(Frame::Reset { stream: id, status: STATUS_REFUSED_STREAM }).await;
        }
        let (data, reader) = mpsc::channel(READ_QUEUE);
        let (credit, heeded) = self.initial;
        let window = Arc::new(watch::Sender::new(Window { credit, heeded, closed: unidirectional }));
        let entry = Entry { data: (!fin).then_some(data), window: window.clone(), writing: true, received: 0 };
        self.shared.streams().insert(id, entry);
        if !unidirectional && !self.shared.send(Frame::Reply { stream: id, fin: false, headers: Headers::new() }).await
        {
            return false;
        }
        let writer = Writer { stream: id, window, shared: self.shared.clone() };
        self.accepted.send(Stream { id, headers, reader, writer }).await.is_ok()
    }
}

#[cfg(test)]
mod tests;
