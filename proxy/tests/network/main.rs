//! The data plane end to end, in network namespaces.

mod announce;
mod ask;
mod bpf;
mod cluster;
mod frontends;
mod kernel;
mod lab;
mod path;
mod policies;
mod resync;
mod rolling;
mod sctp;
mod spread;
mod user;
mod world;
