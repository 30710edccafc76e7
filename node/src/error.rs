//! What can go wrong in the node agent.

use ipnet::Ipv4Net;
use std::{io, path::PathBuf};

/// An error of the node agent. Messages read well after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A range of the cluster is in use on this machine.
    #[error("{what} range {range} overlaps {with}: choose another with {flag}")]
    Overlap {
        /// `service` or `pod`.
        what: &'static str,
        /// The range that was asked for.
        range: Ipv4Net,
        /// What has it, for people: `route 10.96.0.0/12 dev eth1`.
        with: String,
        /// The command line flag that changes the range.
        flag: &'static str,
    },
    /// No address of this machine can be the node's.
    #[error("find an IPv4 address of this machine that pods and clients can reach: give one")]
    NoAddress,
    /// The kernel refused a change of links, addresses or routes.
    #[error("{what}: {reason}")]
    Link {
        /// The step: `add link cor1a2b3c`.
        what: String,
        /// The kernel's answer.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{step} {}: {source}", path.display())]
    Io {
        /// The verb: `write`, `make`, …
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// All addresses of the node's pod range are taken.
    #[error("find a free pod address in {0}")]
    NoFreeAddress(Ipv4Net),
    /// The API server refused or could not be reached.
    #[error("reach the API server: {0}")]
    Api(#[from] Box<kube::Error>),
}

impl Error {
    /// Names the step and the file of an I/O error: `.map_err(Error::io("write", path))`.
    pub(crate) fn io<E: Into<io::Error>>(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Io { step, path, source: source.into() }
    }

    /// Names the step of a netlink error.
    pub(crate) fn link(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |error| Self::Link { what, reason: reason(&error) }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

/// The kernel's own words where there are some.
fn reason(error: &rtnetlink::Error) -> String {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().to_string(),
        other => other.to_string(),
    }
}
