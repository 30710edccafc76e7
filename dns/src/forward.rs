//! Questions that are not ours, sent on to the host's resolvers as they are.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::request::{TCP_SIZE, Transport};

/// How long one resolver is waited for.
const TRY: Duration = Duration::from_millis(1500);

/// How long all of them are: clients ask again after 5 seconds (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_millis(4500);

/// The resolvers that others' names are asked from.
pub(crate) struct Upstreams {
    addresses: Vec<SocketAddr>,
    /// The one that answered last; it is asked first.
    preferred: AtomicUsize,
}

impl Upstreams {
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        Upstreams { addresses, preferred: AtomicUsize::new(0) }
    }

    /// The answer of the first resolver that gives one, with the id of the question.
    /// `None` when none does in time.
    pub(crate) async fn ask(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        timeout(PATIENCE, self.rounds(packet, transport)).await.ok().flatten()
    }

    async fn rounds(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let first = self.preferred.load(Ordering::Relaxed);
        // Twice: a datagram can be lost.
        for step in 0..self.addresses.len() * 2 {
            let index = (first + step) % self.addresses.len();
            let address = self.addresses[index];
            let question = Question::new(packet)?;
            let answer = match transport {
                Transport::Udp => timeout(TRY, by_udp(address, &question)).await,
                Transport::Tcp => timeout(TRY, by_tcp(address, &question)).await,
            };
            match answer {
                Ok(Ok(mut answer)) => {
                    answer[..2].copy_from_slice(&packet[..2]);
                    self.preferred.store(index, Ordering::Relaxed);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!("resolver {address}: {error}"),
                Err(_) => tracing::debug!("resolver {address}: no answer in {TRY:?}"),
            }
        }
        None
    }
}

/// A question under an id that nobody can guess.
struct Question {
    packet: Vec<u8>,
}

impl Question {
    fn new(packet: &[u8]) -> Option<Self> {
        let mut packet = packet.to_vec();
        let id = Message::query().metadata.id;
        packet.get_mut(..2)?.copy_from_slice(&id.to_be_bytes());
        Some(Question { packet })
    }

    /// True for an answer to this very question: same id, and the same words where the answer
    /// repeats them (RFC 5452 §9.1).
    fn answered_by(&self, answer: &[u8]) -> bool {
        let Some(header) = answer.first_chunk::<12>() else {
            return false;
        };
        if header[..2] != self.packet[..2] || header[2] & 0x80 == 0 {
            return false;
        }
        let end = self.end();
        match header[4..6] {
            // Some refuse with nothing but a header.
            [0, 0] => header[3] & 0x0f != 0,
            [0, 1] => answer.get(12..end).is_some_and(|words| words.eq_ignore_ascii_case(&self.packet[12..end])),
            _ => false,
        }
    }

    /// Where the question section ends.
    fn end(&self) -> usize {
        let mut at = 12;
        while let Some(&label @ 1..64) = self.packet.get(at) {
            at += 1 + usize::from(label);
        }
        (at + 5).min(self.packet.len())
    }
}

async fn by_udp(address: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A socket for each question: its port is as hard to guess as the id.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(&question.packet).await?;
    let mut answer = vec![0; TCP_SIZE];
    loop {
        let length = socket.recv(&mut answer).await?;
        if question.answered_by(&answer[..length]) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn by_tcp(address: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let length = u16::try_from(question.packet.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes()[..], &question.packet].concat();
    stream.write_all(&framed).await?;
    let length = usize::from(stream.read_u16().await?).min(TCP_SIZE);
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    match question.answered_by(&answer) {
        true => Ok(answer),
        false => Err(io::Error::other("the answer is to another question")),
    }
}
