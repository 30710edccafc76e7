//! What becomes of the bytes, ends and resets of TCP connections.

use super::*;

const MEGABYTE: usize = 1 << 20;

/// Bytes of which no two stretches of a megabyte are the same.
fn bytes(megabytes: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=250).cycle().take(MEGABYTE).collect();
    bytes.resize(megabytes * MEGABYTE, 0);
    for i in 1..megabytes {
        bytes.copy_within(i..MEGABYTE, i * MEGABYTE);
    }
    bytes
}

/// A relayed connection: the client's end and the endpoint's.
async fn pair(edit: impl FnOnce(&mut Config)) -> (Lab, TcpStream, TcpStream) {
    let mut lab = Lab::new(edit).await;
    let endpoint = TcpListener::bind(("127.0.0.2", lab.target)).await.expect("a port");
    lab.endpoints(&["127.0.0.2"]);
    let client = lab.connect().await;
    let (server, _) = tokio::time::timeout(DEADLINE, endpoint.accept()).await.expect("in time").expect("a connection");
    (lab, client, server)
}

async fn all(from: &mut TcpStream) -> io::Result<String> {
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, from.read_to_string(&mut text)).await??;
    Ok(text)
}

#[tokio::test]
async fn each_side_may_end_first_and_still_be_told_more() {
    for client_first in [true, false] {
        let (lab, mut client, mut server) = pair(|_| {}).await;
        let (one, other) = if client_first { (&mut client, &mut server) } else { (&mut server, &mut client) };
        one.write_all(b"that is all").await.expect("sent");
        one.shutdown().await.expect("an end");
        assert_eq!(all(other).await.expect("an end"), "that is all");
        other.write_all(b"not from here").await.expect("sent");
        other.shutdown().await.expect("an end");
        assert_eq!(all(one).await.expect("an end"), "not from here");
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_reset_is_not_taken_for_an_end() {
    for client_first in [true, false] {
        let (lab, client, server) = pair(|_| {}).await;
        let (one, mut other) = if client_first { (client, server) } else { (server, client) };
        SockRef::from(&one).set_linger(Some(Duration::ZERO)).expect("a reset");
        drop(one);
        assert_eq!(all(&mut other).await.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
        lab.stop().await;
    }
}

#[tokio::test]
async fn a_slow_reader_slows_the_writer_and_loses_nothing() {
    let (lab, mut client, mut server) = pair(|_| {}).await;
    let sent = bytes(64);
    let expected = sent.clone();
    let mut sending = tokio::spawn(async move { server.write_all(&sent).await });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut sending).await;
    assert!(early.is_err(), "it was all taken, though nobody reads");
    let mut received = vec![0; expected.len()];
    tokio::time::timeout(DEADLINE, client.read_exact(&mut received)).await.expect("in time").expect("all");
    assert!(received == expected);
    sending.await.expect("no panic").expect("sent");
    assert_eq!(all(&mut client).await.expect("an end"), "");
    lab.stop().await;
}

#[tokio::test]
async fn a_pipe_takes_bulk_until_it_is_none() {
    let listener = TcpListener::bind((HERE, 0)).await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let pair = async || {
        let (client, server) = tokio::join!(TcpStream::connect(at), listener.accept());
        (client.expect("a connection"), server.expect("a connection").0)
    };
    let ((mut writer, from), (to, mut reader)) = (pair().await, pair().await);
    let moving = tokio::spawn(async move {
        let mut pipes = 1;
        while !splice::Pipe::new().expect("a pipe").move_all(&from, &to).await.expect("moved") {
            pipes += 1;
        }
        pipes
    });
    let sent = bytes(64);
    let expected = sent.clone();
    let mut sending = tokio::spawn(async move {
        writer.write_all(&sent).await.expect("sent");
        writer
    });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut sending).await;
    assert!(early.is_err(), "it was all taken, though nobody reads");
    let mut received = vec![0; expected.len()];
    tokio::time::timeout(DEADLINE, reader.read_exact(&mut received)).await.expect("in time").expect("all");
    assert!(received == expected);
    // Little at a time is not for pipes, and gets through, too.
    let mut writer = sending.await.expect("no panic");
    for _ in 0..3 {
        writer.write_all(b"hello").await.expect("sent");
        let mut hello = [0; 5];
        tokio::time::timeout(DEADLINE, reader.read_exact(&mut hello)).await.expect("in time").expect("all");
        assert_eq!(&hello, b"hello");
    }
    drop(writer);
    assert!(moving.await.expect("an end") >= 4);
}

#[tokio::test]
async fn endpoints_are_told_who_the_client_is() {
    let (lab, mut client, mut server) = pair(|config| config.proxy_protocol = Some(ProxyProtocol::V1)).await;
    client.write_all(b"hello").await.expect("sent");
    client.shutdown().await.expect("an end");
    let (from, at) = (client.local_addr().expect("an address"), lab.at);
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello", from.port(), at.port());
    assert_eq!(all(&mut server).await.expect("an end"), expected);
    drop(server);
    lab.stop().await;
}
