//! Copies both ways between two connections. What comes passes through a buffer of the thread, so
//! that connections hold none, unless their reader is slow; bulk passes through a pipe.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::splice::Pipe;

/// How much is read at once at first, and while reads come back full.
pub(crate) const SMALL: usize = 16 * 1024;
const LARGE: usize = 256 * 1024;
/// After so many large reads in a row that came back full, it is bulk.
const BULK: u32 = 4;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's buffer, which is large enough for any datagram.
pub(crate) fn with_buffer<T>(act: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.is_empty() {
            *buffer = vec![0; LARGE];
        }
        act(buffer)
    })
}

/// Copies until both sides have ended; an error means that one of them broke.
pub(crate) async fn copy(a: &TcpStream, b: &TcpStream) -> io::Result<()> {
    let ended = AtomicBool::new(false);
    tokio::try_join!(pump(a, b, &ended), pump(b, a, &ended)).map(|_| ())
}

/// Copies one way to its end, and then ends that way of the other side. The last to end need not:
/// the connections are closed next.
async fn pump(from: &TcpStream, to: &TcpStream, ended: &AtomicBool) -> io::Result<()> {
    let (mut limit, mut full) = (SMALL, 0);
    loop {
        poll_fn(|cx| from.poll_read_ready(cx)).await?;
        let (length, rest) = match with_buffer(|buffer| forward(from, to, &mut buffer[..limit])) {
            Ok(moved) => moved,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if length == 0 {
            break;
        }
        write_all(to, &rest).await?;
        full = if length == LARGE { full + 1 } else { 0 };
        if !rest.is_empty() {
            limit = SMALL;
        } else if length == limit {
            limit = LARGE.min(4 * limit);
        }
        if full == BULK {
            full = 0;
            if let Some(pipe) = Pipe::new()
                && pipe.move_all(from, to).await?
            {
                break;
            }
        }
    }
    match ended.swap(true, Ordering::Relaxed) {
        true => Ok(()),
        false => SockRef::from(to).shutdown(Shutdown::Write).or_else(already_closed),
    }
}

/// Reads once and writes once: how much was read, and what of it could not be written yet.
fn forward(from: &TcpStream, to: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<u8>)> {
    let wanted = buffer.len();
    let length = once(from, Interest::READABLE, wanted, || Ok(recv(from, &mut *buffer, RecvFlags::empty())?.1))?;
    if length == 0 {
        return Ok((0, Vec::new()));
    }
    let rest = &buffer[..length];
    match once(to, Interest::WRITABLE, length, || Ok(send(to, rest, SendFlags::NOSIGNAL)?)) {
        Ok(written) => Ok((length, rest[written..].to_vec())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((length, rest.to_vec())),
        Err(error) => Err(error),
    }
}

/// Writes what a slow reader left.
async fn write_all(to: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        poll_fn(|cx| to.poll_write_ready(cx)).await?;
        match once(to, Interest::WRITABLE, rest.len(), || Ok(send(to, rest, SendFlags::NOSIGNAL)?)) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tries an operation on a socket. When less was done than `wanted`, its queue is at the end, and
/// the socket counts as not ready until the kernel says more: that saves the attempt that would block.
/// (An end that came with the last bytes has been told, and is not forgotten.)
pub(crate) fn once(
    socket: &TcpStream,
    interest: Interest,
    wanted: usize,
    act: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = None;
    let result = socket.try_io(interest, || {
        let length = *done.insert(act()?);
        if 0 < length && length < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(length) }
    });
    done.map_or(result, Ok)
}

/// The other side has closed in both directions by itself.
fn already_closed(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    }
}
