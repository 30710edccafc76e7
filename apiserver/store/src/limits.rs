use std::time::Duration;

/// The bounds of everything in the store that could grow. The history of a resource ends at the first of its three
/// limits: a watch, a list or a `continue` token of an older revision gets 410 Gone.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Writes waiting for the writer; further ones wait in [`Store::commit`](crate::Store::commit).
    pub queue: usize,
    /// Writes made durable together, at most.
    pub group: usize,
    /// Events kept for each resource.
    pub history_events: usize,
    /// Bytes kept for each resource that only its history holds: replaced and deleted versions. A single event is kept
    /// however large it is.
    pub history_bytes: usize,
    /// How old an event may get; about what etcd keeps for kube-apiserver, whose compaction runs every five minutes.
    /// Enforced as the store is written to.
    pub history_age: Duration,
    /// Events that one [`Watch::next`](crate::Watch::next) returns, at most.
    pub watch_batch: usize,
    /// Writes between two snapshot files, at least; when the last one holds more objects than this, as many writes as
    /// that, so that snapshots never cost more than the writes themselves.
    pub snapshot_every: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queue: 1024,
            group: 512,
            history_events: 65_536,
            history_bytes: 32 << 20,
            history_age: Duration::from_secs(5 * 60),
            watch_batch: 512,
            snapshot_every: 2_000,
        }
    }
}
