//! Services, EndpointSlices, Namespaces, Nodes and Pods folded into one immutable Snapshot.
//!
//! `watch` lists and watches these kinds through a `kube::Client`; an `Index` folds what it
//! hears; a `Snapshot` comes out, shared by `Arc`. What did not change keeps its `Arc` from one
//! Snapshot to the next, so the DNS server and the proxy redo only the Services that did.

mod index;
mod map;
mod namespace;
mod node;
mod pod;
mod service;
mod slice;
mod snapshot;
mod watch;

pub use index::{Index, Kind, Object};
pub use map::{Map, Shared};
pub use namespace::Namespace;
pub use node::Node;
pub use pod::{HostPort, Pod};
pub use service::{Address, Balancing, Port, Protocol, Service, Target, Type};
pub use slice::{Backend, Endpoint, EndpointPort, Hints, Slice};
pub use snapshot::{Key, Snapshot};
pub use watch::{Scope, watch};
