//! The data plane end to end, in network namespaces.

mod bpf;
mod cluster;
mod kernel;
mod lab;
mod resync;
mod user;
