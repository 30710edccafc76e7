//! The cluster DNS of Coracle: Snapshot × question → answer.
//!
//! It answers as the Kubernetes DNS specification 1.1.0 and CoreDNS do, for what is under the
//! cluster's domain and for the addresses of Services, and asks the host's resolvers the rest.
//! A question takes one of two ways. UDP questions of the common shape go `udp` → `quick`: their
//! name is looked up, as it lies in the packet, in tables of ready answers. All others go `udp` or
//! `tcp` → `request` → `servers` → `chain`: the plugins that the `corefile` names, as tower layers
//! in one order.

mod answer;
mod cache;
mod chain;
mod config;
mod contents;
mod corefile;
mod endpoint;
mod explain;
mod fast;
mod file;
#[cfg(test)]
mod fixture;
mod forward;
mod https;
mod metrics;
mod pages;
mod pattern;
mod plugin;
mod question;
mod quick;
mod rcode;
mod request;
mod server;
mod servers;
mod tcp;
mod udp;
mod web;
mod zone;

pub use config::{Config, Error, Snapshots, Sockets};
pub use corefile::{Error as CorefileError, standard, try_corefile};
pub use explain::{absence, origin};
pub use server::Server;
