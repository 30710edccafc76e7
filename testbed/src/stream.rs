//! Requests that go on while everything else changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// How many requests a stream makes at least.
const ENOUGH: u32 = 100;

/// Requests one after the other, until it is ended; none may fail.
pub struct Stream {
    stop: Arc<AtomicBool>,
    asking: thread::JoinHandle<(u32, Vec<String>)>,
}

impl Stream {
    /// Starts a thread, which may enter a namespace or open a socket before it makes what is called for each request.
    pub fn start<Ask: FnMut() -> Result<(), String>>(begin: impl FnOnce() -> Ask + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let asking = thread::spawn(move || {
            let (mut ask, mut asked, mut failed) = (begin(), 0, Vec::new());
            while asked < ENOUGH || !stopped.load(Ordering::Relaxed) {
                asked += 1;
                failed.extend(ask().err());
            }
            (asked, failed)
        });
        Self { stop, asking }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When a request failed, with the first one's error.
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (asked, failed) = self.asking.join().expect("the stream ends");
        assert!(failed.is_empty(), "{} of {asked} requests failed: {:?}", failed.len(), failed.first());
    }
}
