//! SPDY/3.1 as a server speaks it: what kubectl's port-forward tunnels through its WebSocket, and what clients before
//! 1.31 use for exec. [`Decoder`] and [`Encoder`] are pure; [`Session`] puts them on a connection.
//!
//! Kubernetes' own implementation knows no flow control: it sends no WINDOW_UPDATE and heeds none. So a peer's window
//! is heeded from the first frame that speaks of windows, and not before; what it sends is bounded by not reading on.

mod frame;
mod headers;
mod session;

pub use frame::{
    DATA_MAX, Decoder, Encoder, Error, FRAME_MAX, Frame, STATUS_CANCEL, STATUS_PROTOCOL_ERROR, STATUS_REFUSED_STREAM,
};
pub use headers::{HEADERS_MAX, Headers};
pub use session::{Reader, STREAMS_MAX, Session, Stream, Writer};
