/// The bounds of everything in the store that could grow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Writes waiting for the writer; further ones wait in [`Store::commit`](crate::Store::commit).
    pub queue: usize,
    /// Writes made durable together, at most.
    pub group: usize,
    /// Events kept for each resource.
    pub history_events: usize,
    /// Bytes of events kept for each resource; a single event is kept however large it is.
    pub history_bytes: usize,
    /// Events that one [`Watch::next`](crate::Watch::next) returns, at most.
    pub watch_batch: usize,
    /// Writes between two snapshot files, at least; a store of more objects than this waits for as many writes as it
    /// has objects, so that snapshots never cost more than the writes themselves.
    pub snapshot_every: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queue: 1024,
            group: 512,
            history_events: 16_384,
            history_bytes: 8 << 20,
            watch_batch: 512,
            snapshot_every: 2_000,
        }
    }
}
