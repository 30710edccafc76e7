use super::*;
use tokio::io::{DuplexStream, duplex, split};

/// The client's side, frame by frame.
struct Client {
    io: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
    buffer: BytesMut,
}

fn connect() -> (Session, Client) {
    let (near, far) = duplex(1 << 20);
    let (read, write) = split(near);
    let client = Client { io: far, encoder: Encoder::default(), decoder: Decoder::default(), buffer: BytesMut::new() };
    (Session::start(read, write), client)
}

impl Client {
    async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        self.encoder.encode(&frame, &mut bytes);
        self.io.write_all(&bytes).await.unwrap();
    }

    /// The next frame that does not speak of windows; `None` at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.decode(&mut self.buffer).unwrap() {
                Some(Frame::Window { .. } | Frame::Settings(_)) => {}
                Some(frame) => return Some(frame),
                None if self.io.read_buf(&mut self.buffer).await.unwrap() == 0 => return None,
                None => {}
            }
        }
    }

    async fn open(&mut self, stream: u32, kind: &str) {
        let headers = vec![("streamtype".into(), kind.into())];
        self.send(Frame::Syn { stream, fin: false, unidirectional: false, headers }).await;
        assert_eq!(self.next().await, Some(Frame::Reply { stream, fin: false, headers: vec![] }));
    }

    async fn data(&mut self, stream: u32, text: &'static str, fin: bool) {
        self.send(Frame::Data { stream, fin, bytes: Bytes::from_static(text.as_bytes()) }).await;
    }
}

fn data(stream: u32, text: &'static str, fin: bool) -> Option<Frame> {
    Some(Frame::Data { stream, fin, bytes: Bytes::from_static(text.as_bytes()) })
}

#[tokio::test]
async fn streams_are_read_and_written_and_closed_by_halves() {
    let (mut session, mut client) = connect();
    client.open(1, "data").await;
    let mut stream = session.accept().await.unwrap();
    assert_eq!((stream.id, stream.header("streamtype"), stream.header("port")), (1, Some("data"), None));
    client.data(1, "question", true).await;
    assert_eq!(stream.reader.recv().await.as_deref(), Some(&b"question"[..]));
    assert_eq!(stream.reader.recv().await, None);
    assert!(stream.writer.send("answer".into()).await);
    drop(stream);
    assert_eq!(client.next().await, data(1, "answer", false));
    assert_eq!(client.next().await, data(1, "", true));
    assert!(session.shared.streams().is_empty());
    client.send(Frame::Ping(5)).await;
    assert_eq!(client.next().await, Some(Frame::Ping(5)));
    let finishing = tokio::spawn(session.finish());
    assert_eq!(client.next().await, Some(Frame::GoAway { last: 0, status: 0 }));
    drop(client);
    finishing.await.unwrap();
}

#[tokio::test]
async fn a_reset_and_the_end_of_the_connection_end_streams() {
    let (mut session, mut client) = connect();
    client.open(1, "a").await;
    client.open(3, "b").await;
    let (mut a, mut b) = (session.accept().await.unwrap(), session.accept().await.unwrap());
    client.send(Frame::Reset { stream: 1, status: 5 }).await;
    a.writer.closed().await;
    assert!(!a.writer.send("late".into()).await);
    assert_eq!(a.reader.recv().await, None);
    assert!(b.writer.send("still there".into()).await);
    drop(client);
    b.writer.closed().await;
    assert_eq!(b.reader.recv().await, None);
    assert!(session.accept().await.is_none());
}

#[tokio::test]
async fn a_stream_is_given_up() {
    let (mut session, mut client) = connect();
    client.open(1, "nonsense").await;
    session.accept().await.unwrap().writer.reset();
    assert_eq!(client.next().await, Some(Frame::Reset { stream: 1, status: STATUS_CANCEL }));
    assert!(session.shared.streams().is_empty());
}

#[tokio::test]
async fn a_window_is_heeded_once_the_client_speaks_of_it() {
    let (mut session, mut client) = connect();
    client.open(1, "data").await;
    let first = session.accept().await.unwrap();
    // Kubernetes' clients never say anything.
    assert!(first.writer.send(Bytes::from(vec![0; 4 * WINDOW as usize])).await);
    client.send(Frame::Settings(vec![(INITIAL_WINDOW, 4)])).await;
    let mut got = 0;
    while got < 4 * WINDOW as usize {
        match client.next().await {
            Some(Frame::Data { bytes, .. }) => got += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    client.open(3, "data").await;
    let second = session.accept().await.unwrap();
    let sending = tokio::spawn(async move { second.writer.send("window".into()).await });
    assert_eq!(client.next().await, data(3, "wind", false));
    client.send(Frame::Window { stream: 3, delta: 1 }).await;
    assert_eq!(client.next().await, data(3, "o", false));
    client.send(Frame::Window { stream: 3, delta: 100 }).await;
    assert_eq!(client.next().await, data(3, "w", false));
    assert!(sending.await.unwrap());
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_session() {
    let (mut session, mut client) = connect();
    client.open(3, "a").await;
    session.accept().await.unwrap();
    client.send(Frame::Syn { stream: 1, fin: false, unidirectional: false, headers: vec![] }).await;
    assert_eq!(client.next().await, data(3, "", true));
    assert_eq!(client.next().await, Some(Frame::GoAway { last: 3, status: STATUS_PROTOCOL_ERROR }));
    assert_eq!(client.next().await, None);
    assert!(session.accept().await.is_none());
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let (mut session, mut client) = connect();
    let mut held = Vec::new();
    for number in 0..STREAMS_MAX as u32 {
        client.open(2 * number + 1, "x").await;
        held.push(session.accept().await.unwrap());
    }
    let stream = 2 * STREAMS_MAX as u32 + 1;
    client.send(Frame::Syn { stream, fin: false, unidirectional: false, headers: vec![] }).await;
    assert_eq!(client.next().await, Some(Frame::Reset { stream, status: STATUS_REFUSED_STREAM }));
}
