//! What can go wrong between the agent and a shim.

use std::io;

/// An error of a [`crate::Client`]. Messages read well after "failed to start container: ".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim did not come up; the text says which step failed and why.
    #[error("{0}")]
    Spawn(String),
    /// The shim answered that it could not do it; the text is for an event or a status message,
    /// like `failed to mount overlay at /: Operation not permitted (os error 1)`.
    #[error("{0}")]
    Refused(String),
    /// No shim answers on the socket any more: it ended, and with it every container of the pod.
    #[error("the pod's shim is gone: {0}")]
    Gone(#[from] io::Error),
    /// The shim speaks another version of the protocol, or not this protocol at all.
    #[error("unexpected answer of the shim: {0}")]
    Protocol(String),
}
