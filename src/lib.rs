//! Coracle: a whole Kubernetes cluster in one small binary.
//!
//! [`Cluster`](cluster::Cluster) is a cluster of one node: API server, controllers, DNS, proxy and
//! node agent, wired together. [`cli`] is the command that people run.

// These panic when nobody reads: `progress` has what does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod cluster;
mod config;
mod data;
mod demo;
mod down;
mod echo;
mod images;
pub mod isolated;
mod kubeconfig;
mod lesson;
mod progress;
mod status;
mod unix;
mod up;

pub use config::Options;
