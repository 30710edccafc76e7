//! A whole node with real containers against an API server in the process. Every test runs in user, network and mount
//! namespaces of its own.

#[path = "node/fixture.rs"]
mod fixture;
#[path = "node/lives.rs"]
mod lives;
#[path = "node/network.rs"]
mod network;
#[path = "node/pods.rs"]
mod pods;
#[path = "node/shell.rs"]
mod shell;
