//! One connection to a shim: a request out, answers and file descriptors in.

use crate::{
    error::Error,
    wire::{self, Answer, FDS_MAX, Request, SOCKET, VERSION, Verb},
};
use rustix::{
    fs::{Mode, OFlags},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
};

/// How much is read at once.
const CHUNK: usize = 8 << 10;

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Connects to the socket in `dir`; also says which process listens there.
    pub(super) async fn open(dir: &Path) -> Result<(Self, u32), Error> {
        // Through the directory's descriptor: a socket's path may only have 107 bytes.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty()).map_err(io::Error::from)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        let stream = UnixStream::connect(path).await?;
        let pid = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
        let pid = pid
            .filter(|pid| *pid > 0)
            .ok_or_else(|| Error::Protocol("the shim is not in this pid namespace or one below".into()))?;
        Ok((Self { stream, buffer: Vec::new(), fds: Vec::new() }, pid))
    }

    /// Sends the request of this connection.
    pub(super) async fn send(&mut self, verb: Verb) -> Result<(), Error> {
        let bytes = wire::encode(&Request { version: VERSION, verb }).map_err(Error::Refused)?;
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// Sends the request and takes its first answer.
    pub(super) async fn call(&mut self, verb: Verb) -> Result<Answer, Error> {
        self.send(verb).await?;
        self.receive().await
    }

    /// The next answer. Cancel safe: what arrived stays here.
    pub(super) async fn receive(&mut self) -> Result<Answer, Error> {
        loop {
            match wire::decode(&mut self.buffer).map_err(Error::Protocol)? {
                Some(Answer::Refused(text)) => return Err(Error::Refused(text)),
                Some(answer) => return Ok(answer),
                None if self.read().await? == 0 => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                None => {}
            }
        }
    }

    /// The file descriptors that came with the answers so far.
    pub(super) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    async fn read(&mut self) -> io::Result<usize> {
        let Self { stream, buffer, fds } = self;
        stream
            .async_io(Interest::READABLE, || {
                let mut chunk = [0; CHUNK];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let bytes =
                    recvmsg(&*stream, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = message {
                        fds.extend(received);
                    }
                }
                buffer.extend_from_slice(&chunk[..bytes]);
                Ok(bytes)
            })
            .await
    }
}
