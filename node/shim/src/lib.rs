//! The process beside each pod that owns its containers.
//!
//! One small single-threaded process for each pod, the same binary re-executed (`coracle shim
//! DIR`): it makes the pod's namespaces, starts and reaps its containers, holds their log pipes and
//! answers the node agent over the Unix socket `DIR/shim.sock`. It outlives the agent, and the next
//! agent adopts it with [`Client::connect`].
//!
//! Not done: seccomp filters, AppArmor and SELinux labels, user namespaces for single pods.
//!
//! [`main`] is that process; [`Client`] is the agent's end. What they say to each other is in
//! `wire`. The shim is process 1 of a pid namespace of its own, so that the kernel ends every
//! container when the shim ends, and all mounts are made in its or its containers' mount
//! namespaces, so that the host keeps none.

mod birth;
mod cgroup;
mod client;
mod error;
mod kernel;
mod log;
mod pod;
mod privilege;
mod process;
mod program;
mod rootfs;
mod sandbox;
mod spec;
mod wire;

pub use client::{Attached, Client, Exits, Process};
pub use error::Error;
pub use process::{clear, last_states, main, remove_cgroup};
pub use spec::{Capabilities, Container, Exec, Exit, Limits, Log, Mount, Program, Root, Sandbox, State, Tmpfs, User};
