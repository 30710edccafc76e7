//! Frames as bytes: the codec.

use crate::headers::{Deflater, Headers, Inflater};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest control frame that is accepted, without its head.
pub const FRAME_MAX: usize = 32 << 10;
/// The longest piece of data that is handed out at once; a longer frame comes in several.
pub const DATA_MAX: usize = 32 << 10;
/// RST_STREAM and GOAWAY: the peer broke the protocol.
pub const STATUS_PROTOCOL_ERROR: u32 = 1;
/// RST_STREAM: the stream was not looked at.
pub const STATUS_REFUSED_STREAM: u32 = 3;
/// RST_STREAM: nobody wants the stream any more.
pub const STATUS_CANCEL: u32 = 5;

const HEAD: usize = 8;
const VERSION: u16 = 3;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
/// Stream numbers and window sizes have 31 bits.
const LOW: u32 = 0x7fff_ffff;
const MOST_SETTINGS: usize = 64;

/// Why bytes are no SPDY/3.1. The session cannot go on after any of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A control frame of another version.
    #[error("a frame is of SPDY version {0}, not 3")]
    Version(u16),
    /// Longer than [`FRAME_MAX`].
    #[error("a control frame has {0} bytes, more than {FRAME_MAX}")]
    TooLong(usize),
    /// Too short for its type, or with impossible content.
    #[error("a frame of type {0} is malformed")]
    Malformed(u16),
    /// A header block that does not decompress to headers.
    #[error("a header block is malformed")]
    Headers,
    /// More than [`crate::HEADERS_MAX`].
    #[error("a header block is too large")]
    HeadersTooLarge,
}

/// A frame; `fin` says that the sender sends no more on that stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// SYN_STREAM: a new stream.
    Syn {
        /// Odd for those of clients.
        stream: u32,
        /// Nothing will follow from the sender.
        fin: bool,
        /// Nothing may follow from the receiver.
        unidirectional: bool,
        /// What it is about.
        headers: Headers,
    },
    /// SYN_REPLY: the stream is accepted.
    Reply {
        /// Which.
        stream: u32,
        /// Nothing will follow.
        fin: bool,
        /// What there is to say.
        headers: Headers,
    },
    /// RST_STREAM: the stream is over both ways.
    Reset {
        /// Which.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// SETTINGS: numbers and values.
    Settings(Vec<(u32, u32)>),
    /// PING, to be sent back.
    Ping(u32),
    /// GOAWAY: no more streams.
    GoAway {
        /// The last stream that was looked at.
        last: u32,
        /// Why.
        status: u32,
    },
    /// HEADERS: more of them.
    Headers {
        /// On which stream.
        stream: u32,
        /// Nothing will follow.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// WINDOW_UPDATE: that many more bytes may be sent.
    Window {
        /// On which stream; 0 is the session.
        stream: u32,
        /// Bytes.
        delta: u32,
    },
    /// Data, or a part of it.
    Data {
        /// On which stream.
        stream: u32,
        /// Nothing will follow.
        fin: bool,
        /// At most [`DATA_MAX`] when decoded.
        bytes: Bytes,
    },
}

/// Takes frames from the front of a buffer.
#[derive(Debug)]
pub struct Decoder {
    headers: Inflater,
    /// A data frame of which not all came yet: stream, fin, missing bytes.
    data: Option<(u32, bool, usize)>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { headers: Inflater::new(), data: None }
    }
}

impl Decoder {
    /// The next frame; `None` while it is not all there. Frames of unknown types are passed over.
    ///
    /// # Errors
    /// What is no SPDY; do not call it again then.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Error> {
        loop {
            if let Some((stream, fin, missing)) = self.data {
                let length = missing.min(buffer.len()).min(DATA_MAX);
                if length == 0 && missing > 0 {
                    return Ok(None);
                }
                let left = missing - length;
                self.data = (left > 0).then_some((stream, fin, left));
                let bytes = buffer.split_to(length).freeze();
                return Ok(Some(Frame::Data { stream, fin: fin && left == 0, bytes }));
            }
            let Some((head, _)) = buffer.split_first_chunk::<HEAD>() else { return Ok(None) };
            let [a, b, c, d, flags, length @ ..] = *head;
            let first = u32::from_be_bytes([a, b, c, d]);
            let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
            if first & !LOW == 0 {
                buffer.advance(HEAD);
                self.data = Some((first, flags & FIN != 0, length));
                continue;
            }
            let version = u16::from_be_bytes([a & 0x7f, b]);
            if version != VERSION {
                return Err(Error::Version(version));
            }
            if length > FRAME_MAX {
                return Err(Error::TooLong(length));
            }
            if buffer.len() < HEAD + length {
                return Ok(None);
            }
            buffer.advance(HEAD);
            let body = buffer.split_to(length).freeze();
            if let Some(frame) = self.control(u16::from_be_bytes([c, d]), flags, body)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Option<Frame>, Error> {
        let fin = flags & FIN != 0;
        let mut number = || body.try_get_u32().map_err(|_| Error::Malformed(kind));
        Ok(Some(match kind {
            1 => {
                let stream = number()? & LOW;
                number()?;
                body.try_get_u16().map_err(|_| Error::Malformed(kind))?;
                let unidirectional = flags & UNIDIRECTIONAL != 0;
                Frame::Syn { stream, fin, unidirectional, headers: self.headers.read(&body)? }
            }
            2 => Frame::Reply { stream: number()? & LOW, fin, headers: self.headers.read(&body)? },
            3 => Frame::Reset { stream: number()? & LOW, status: number()? },
            4 => {
                let count = number()? as usize;
                if count > MOST_SETTINGS {
                    return Err(Error::Malformed(kind));
                }
                let settings = (0..count).map(|_| Ok((number()? & 0x00ff_ffff, number()?)));
                Frame::Settings(settings.collect::<Result<_, _>>()?)
            }
            6 => Frame::Ping(number()?),
            7 => Frame::GoAway { last: number()? & LOW, status: number()? },
            8 => Frame::Headers { stream: number()? & LOW, fin, headers: self.headers.read(&body)? },
            9 => Frame::Window { stream: number()? & LOW, delta: number()? & LOW },
            _ => return Ok(None),
        }))
    }
}

/// Puts frames at the end of a buffer.
#[derive(Debug)]
pub struct Encoder {
    headers: Deflater,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { headers: Deflater::new() }
    }
}

impl Encoder {
    /// Appends the frame. Header blocks are compressed in the order of the calls.
    pub fn encode(&mut self, frame: &Frame, buffer: &mut BytesMut) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let (kind, flags, body) = match frame {
            Frame::Data { stream, fin, bytes } => {
                buffer.put_u32(stream & LOW);
                length(buffer, flag(*fin, FIN), bytes.len());
                return buffer.extend_from_slice(bytes);
            }
            Frame::Syn { stream, fin, unidirectional, headers } => {
                let mut body = words(&[*stream, 0]);
                body.extend_from_slice(&[0, 0]);
                body.extend(self.headers.write(headers));
                (1, flag(*fin, FIN) | flag(*unidirectional, UNIDIRECTIONAL), body)
            }
            Frame::Reply { stream, fin, headers } => {
                (2, flag(*fin, FIN), [words(&[*stream]), self.headers.write(headers)].concat())
            }
            Frame::Reset { stream, status } => (3, 0, words(&[*stream, *status])),
            Frame::Settings(settings) => {
                let pairs = settings.iter().flat_map(|(id, value)| [*id, *value]);
                (4, 0, words(&std::iter::once(settings.len() as u32).chain(pairs).collect::<Vec<_>>()))
            }
            Frame::Ping(id) => (6, 0, words(&[*id])),
            Frame::GoAway { last, status } => (7, 0, words(&[*last, *status])),
            Frame::Headers { stream, fin, headers } => {
                (8, flag(*fin, FIN), [words(&[*stream]), self.headers.write(headers)].concat())
            }
            Frame::Window { stream, delta } => (9, 0, words(&[*stream, *delta])),
        };
        buffer.put_u16(0x8000 | VERSION);
        buffer.put_u16(kind);
        length(buffer, flags, body.len());
        buffer.extend_from_slice(&body);
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn length(buffer: &mut BytesMut, flags: u8, length: usize) {
    buffer.put_u32(u32::from(flags) << 24 | length as u32 & 0x00ff_ffff);
}

#[cfg(test)]
mod tests;
