//! The revisioned store of Coracle: live objects and their history in memory, every acknowledged write on the disk.
//!
//! A write walks `store` → `writer` (one thread, one group of writes at a time: check, number, make durable) →
//! `backend` ([`Sled`] or [`Memory`]) → `shard` (live objects of one resource) and its `history` → the watchers of
//! their `topic`s. Reads and watches touch only the shards; lists of older revisions come from the history, too.
//! `snapshot` keeps a checked copy beside sled, from which [`Sled::open`] recovers when sled's own files are broken.

mod backend;
mod blobs;
mod error;
mod history;
mod limits;
mod memory;
mod object;
mod seal;
mod shard;
mod sled;
mod snapshot;
mod store;
mod topic;
mod watch;
mod writer;

pub use backend::{Backend, Loaded, Op, Record};
pub use error::{Error, OpenError};
pub use limits::Limits;
pub use memory::Memory;
pub use object::{Change, Draft, Entry, Event, EventKind, Expect, Key};
pub use sled::{Recovered, Sled};
pub use snapshot::Snapshots;
pub use store::{Page, Parse, Store};
pub use topic::{Audience, Topic};
pub use watch::Watch;
