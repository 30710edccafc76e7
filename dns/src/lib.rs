//! The cluster DNS of Coracle: Snapshot × question → answer.
//!
//! It answers as the Kubernetes DNS specification 1.1.0 and CoreDNS do, for what is under the
//! cluster's domain and for the addresses of Services, and asks the host's resolvers the rest.
//! A question takes one of two ways. UDP questions of the common shape go `udp` → `fast`: their
//! name is looked up, as it lies in the packet, in a table of ready answers that `zone` keeps.
//! All others go `udp` or `tcp` → `resolve` → `answer` (pure) → `message`, or on to `forward`.

mod answer;
mod config;
mod fast;
#[cfg(test)]
mod fixture;
mod forward;
mod message;
mod resolve;
mod server;
mod tcp;
mod udp;
mod zone;

pub use config::{Config, Error, Sockets, host_resolvers, resolvers};
pub use server::Server;
