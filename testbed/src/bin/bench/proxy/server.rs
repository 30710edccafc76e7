//! What all paths lead to: one thread that answers in all pods of a topology.
//!
//! Each byte of a TCP stream asks for something: see [`SMALL`], [`LARGE`] and [`FLOOD`]. A datagram is answered by one of
//! the small answer's size.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use rustix::event::epoll::{self, Event, EventData, EventFlags};

use super::topology::{PODS, Topology};

/// The port of all endpoints.
pub(crate) const PORT: u16 = 8080;
/// Asks for an answer of [`SMALL_SIZE`] bytes.
pub(crate) const SMALL: u8 = b's';
pub(crate) const SMALL_SIZE: usize = 64;
/// Asks for an answer of [`LARGE_SIZE`] bytes.
pub(crate) const LARGE: u8 = b'l';
pub(crate) const LARGE_SIZE: usize = 1024;
/// Asks for bytes for as long as there is a connection.
pub(crate) const FLOOD: u8 = b'f';
/// How many of them are written at a time.
pub(crate) const PIECE: usize = 256 << 10;

enum Socket {
    Listener(TcpListener),
    Stream(TcpStream),
    Flooded(TcpStream),
    Udp(UdpSocket),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Listener(socket) => socket.as_fd(),
            Self::Stream(socket) | Self::Flooded(socket) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

/// Answers until it is killed; says a line as soon as it does.
pub(crate) fn run(topology: &Topology) -> anyhow::Result<()> {
    let mut server = Server { poll: epoll::create(epoll::CreateFlags::CLOEXEC)?, sockets: BTreeMap::new() };
    for (at, address) in PODS.iter().enumerate() {
        let both = || Ok((TcpListener::bind((*address, PORT))?, UdpSocket::bind((*address, PORT))?));
        let (tcp, udp) = topology.within(&format!("pod{at}"), both)?;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        server.add(Socket::Listener(tcp))?;
        server.add(Socket::Udp(udp))?;
    }
    println!("ready");
    server.serve()
}

struct Server {
    poll: rustix::fd::OwnedFd,
    sockets: BTreeMap<u64, Socket>,
}

impl Server {
    fn add(&mut self, socket: Socket) -> anyhow::Result<()> {
        let key = socket.as_fd().as_raw_fd() as u64;
        epoll::add(&self.poll, socket.as_fd(), EventData::new_u64(key), EventFlags::IN)?;
        self.sockets.insert(key, socket);
        Ok(())
    }

    fn serve(mut self) -> anyhow::Result<()> {
        let mut events = Vec::<Event>::with_capacity(256);
        let mut buffer = vec![0; PIECE];
        loop {
            events.clear();
            epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                self.answer(event.data.u64(), &mut buffer)?;
            }
        }
    }

    fn answer(&mut self, key: u64, buffer: &mut [u8]) -> anyhow::Result<()> {
        let mut ended = false;
        match self.sockets.get_mut(&key) {
            Some(Socket::Listener(listener)) => {
                let mut accepted = Vec::new();
                while let Ok((stream, _)) = listener.accept() {
                    accepted.push(stream);
                }
                for stream in accepted {
                    stream.set_nonblocking(true)?;
                    self.add(Socket::Stream(stream))?;
                }
            }
            Some(Socket::Stream(stream)) => match stream.read(&mut buffer[..1]) {
                Ok(1) => match buffer[0] {
                    FLOOD => self.flood(key)?,
                    LARGE => ended = stream.write_all(&buffer[..LARGE_SIZE]).is_err(),
                    _ => ended = stream.write_all(&buffer[..SMALL_SIZE]).is_err(),
                },
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => ended = true,
            },
            Some(Socket::Flooded(stream)) => {
                let wrote = stream.write(buffer);
                ended = wrote.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock);
            }
            Some(Socket::Udp(socket)) => {
                while let Ok((_, client)) = socket.recv_from(&mut buffer[..SMALL_SIZE]) {
                    // A client that has ended is none of our business.
                    let _ = socket.send_to(&buffer[..SMALL_SIZE], client);
                }
            }
            None => {}
        }
        if ended {
            self.sockets.remove(&key);
        }
        Ok(())
    }

    fn flood(&mut self, key: u64) -> anyhow::Result<()> {
        if let Some(Socket::Stream(stream)) = self.sockets.remove(&key) {
            epoll::modify(&self.poll, &stream, EventData::new_u64(key), EventFlags::OUT)?;
            self.sockets.insert(key, Socket::Flooded(stream));
        }
        Ok(())
    }
}
