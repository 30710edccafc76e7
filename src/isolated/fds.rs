//! Messages with a file descriptor beside them, over a `SOCK_SEQPACKET` pair.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{Interest, unix::AsyncFd};

/// The longest message in bytes.
const MESSAGE: usize = 16 << 10;

/// Sends one message, not blocking the runtime.
pub(super) async fn send<T: Serialize>(
    socket: &AsyncFd<OwnedFd>,
    message: &T,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    socket.async_io(Interest::WRITABLE, |socket| send_now(socket, &bytes, fd)).await
}

/// Receives one message, not blocking the runtime.
pub(super) async fn receive<T: DeserializeOwned>(socket: &AsyncFd<OwnedFd>) -> io::Result<(T, Option<OwnedFd>)> {
    let (bytes, fd) = socket.async_io(Interest::READABLE, receive_now).await?;
    Ok((serde_json::from_slice(&bytes)?, fd))
}

/// Sends one message on a blocking socket.
pub(super) fn send_blocking<T: Serialize>(socket: &OwnedFd, message: &T, fd: Option<&OwnedFd>) -> io::Result<()> {
    send_now(socket, &serde_json::to_vec(message)?, fd.map(|fd| fd.as_fd()))
}

/// Receives one message on a blocking socket.
pub(super) fn receive_blocking<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<T> {
    let (bytes, _) = receive_now(socket)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn send_now(socket: &OwnedFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_now(socket: &OwnedFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(received.bytes);
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((bytes, fd))
}
