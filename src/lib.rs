//! Coracle: a whole Kubernetes cluster in one small binary, or in a test.
//!
//! [`Cluster`] is a cluster in this process: an API server that a [`kube::Client`] talks to without a socket, and the
//! controllers. This is all there is without the feature `node`, which adds (and is on unless switched off) a node
//! with its network and DNS, and [`cli`], the command that people run. Tests of controllers do well without it:
//!
//! ```toml
//! [dev-dependencies]
//! coracle = { version = "0.1", default-features = false }
//! ```
//!
//! The types of Kubernetes are those of `k8s-openapi` for v1.36. That crate allows one version in a build, so choose its
//! feature `v1_36` in your crate; the feature `node` here does it, too.

// These panic when nobody reads: `progress` has what does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cluster;

#[cfg(feature = "node")]
pub mod cli;
#[cfg(feature = "node")]
mod client;
#[cfg(feature = "node")]
mod config;
#[cfg(feature = "node")]
mod corefile;
#[cfg(feature = "node")]
mod data;
#[cfg(feature = "node")]
mod demo;
#[cfg(feature = "node")]
mod dig;
#[cfg(feature = "node")]
mod down;
#[cfg(feature = "node")]
mod echo;
#[cfg(feature = "node")]
mod images;
#[cfg(feature = "node")]
mod isolated;
#[cfg(feature = "node")]
mod kubeproxy;
#[cfg(feature = "node")]
mod lesson;
#[cfg(feature = "node")]
mod log;
#[cfg(feature = "node")]
mod nameserver;
#[cfg(feature = "node")]
mod place;
#[cfg(feature = "node")]
mod progress;
#[cfg(feature = "node")]
mod resolver;
#[cfg(feature = "node")]
mod status;
#[cfg(feature = "node")]
mod trace;
#[cfg(feature = "node")]
mod unix;
#[cfg(feature = "node")]
mod up;

pub use cluster::{Builder, Cluster};
#[cfg(feature = "node")]
pub use {
    config::{Options, Plane},
    isolated::Inside,
};
