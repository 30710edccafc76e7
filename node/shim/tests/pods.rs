//! Pods with real containers, as root of the machine and as root of a user namespace of one id.
//!
//! Each test runs as root; run by an ordinary user it runs itself again inside `unshare -Ur`.

#[path = "pods/basics.rs"]
mod basics;
#[path = "pods/confined.rs"]
mod confined;
#[path = "pods/fixture.rs"]
mod fixture;
#[path = "pods/left.rs"]
mod left;
#[path = "pods/streams.rs"]
mod streams;
