//! A container's output stream: from its pipe to its log and to whoever is attached.

use super::{nonblocking, now, pipe};
use crate::log::{Line, Log, timestamp};
use rustix::{fd::OwnedFd, io::Errno};
use std::io;

/// How much is read at once.
const CHUNK: usize = 16 << 10;
/// Most agents attached to one stream.
const COPIES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Output {
    /// Where it comes from, non-blocking.
    pub(super) from: OwnedFd,
    pub(super) stream: &'static str,
    /// False after its end.
    pub(super) open: bool,
    line: Line,
    copies: Vec<OwnedFd>,
}

impl Output {
    pub(super) fn new(from: OwnedFd, stream: &'static str) -> io::Result<Self> {
        nonblocking(&from)?;
        Ok(Self { from, stream, open: true, line: Line::default(), copies: Vec::new() })
    }

    /// Passes one chunk on; false when there is none now, an error at the stream's end.
    pub(super) fn pass(&mut self, log: Option<&mut Log>) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        let length = match rustix::io::read(&self.from, &mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            // A terminal's way to say that nobody has it open.
            Err(error) => return Err(error.into()),
        };
        let bytes = &chunk[..length];
        if let Some(log) = log {
            log.write(&self.line.entries(self.stream, &timestamp(now()), bytes));
        }
        // A copy that is full loses this chunk; one whose reader left is dropped.
        self.copies.retain(|copy| !matches!(rustix::io::write(copy, bytes), Err(Errno::PIPE)));
        Ok(true)
    }

    /// Logs a last line without an end.
    pub(super) fn finish(&mut self, log: Option<&mut Log>) {
        if let Some(log) = log {
            log.write(&self.line.rest(self.stream, &timestamp(now())));
        }
    }

    /// A pipe that gets a copy of all that follows.
    pub(super) fn copy(&mut self) -> Result<OwnedFd, String> {
        if self.copies.len() >= COPIES_MAX {
            return Err(format!("{COPIES_MAX} clients are attached already"));
        }
        let (read, write) = pipe().map_err(|error| error.to_string())?;
        nonblocking(&write).map_err(|error| error.to_string())?;
        self.copies.push(write);
        Ok(read)
    }
}
