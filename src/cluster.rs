//! A cluster of one node, its parts wired: bind → run → drain.
//!
//! Two halves, [`Control`] and [`Worker`], in one process on a host, in two when isolated.

mod control;
mod host;
mod worker;

pub(crate) use self::worker::pull;
pub use self::{
    control::Control,
    host::{Cluster, node_ready},
    worker::{Puller, Worker},
};
pub use crate::config::NodeConfig;
