//! The Service data plane of Coracle.
//!
//! `kernel` turns a `state::Snapshot` into two flat nftables maps and keeps them true over a raw
//! nfnetlink socket; `user` relays connections in user space where the kernel cannot: on
//! localhost, and from one network namespace into another; `bpf` spares the packets of pods their
//! translation, where it may. All choose endpoints by the same rule.
//! `path` tells where a connection goes.

pub mod announce;
pub mod balancer;
pub mod bpf;
#[cfg(test)]
#[path = "../tests/network/cluster.rs"]
mod cluster;
mod endpoints;
mod error;
pub mod health;
pub mod kernel;
mod metrics;
mod netlink;
mod path;
pub mod user;
pub mod web;
#[cfg(test)]
#[path = "../tests/network/world.rs"]
mod world;

pub use endpoints::endpoints;
pub use error::Error;
pub use metrics::{Exposition, Health, Histogram, Metrics};
pub use path::{Connections, usable};
