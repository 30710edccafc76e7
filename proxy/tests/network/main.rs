//! The data plane end to end, in network namespaces.

mod cluster;
mod kernel;
mod lab;
mod resync;
mod user;
