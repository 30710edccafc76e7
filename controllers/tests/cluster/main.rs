//! The controllers and the scheduler against the real API server, in one process, with nodes that only pretend.

mod disruption;
mod faults;
mod garbage;
mod lab;
mod namespaces;
mod nodes;
mod quiet;
mod scheduling;
mod services;
mod unrest;
mod workloads;
