//! The node agent of Coracle, what kubelet is to Kubernetes: pods as containers in network
//! namespaces.
//!
//! [`Network`] makes what the machine needs before anything binds to the cluster's addresses.
//! [`Agent`] registers the node, watches the pods that are bound to it and keeps a task for each
//! (`pod`), which plans in pure functions and acts through a shim process beside the pod. The
//! kubelet API (`kubelet`) answers logs and shells on a Unix socket.

mod agent;
mod cleanup;
mod config;
mod error;
mod events;
mod kubelet;
mod network;
mod pod;
mod pods;
mod quantity;
mod register;
mod volume;

pub use agent::Agent;
pub use cleanup::cleanup;
pub use config::{Config, Pull};
pub use error::Error;
pub use network::{Network, NetworkConfig, machine_addresses};
pub use pod::{Resolv, resolv};
