//! The store from outside: against a model, with many writers, killed, and with its files damaged.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use store::{Change, Draft, Entry, Error, Expect, Key, Limits, OpenError, Sled, Store};

mod damage;
mod group;
mod kill;
mod model;
mod open;
mod topic;
mod watch;

/// The tests keep an object's payload as its metadata.
type Lab = Store<String>;

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

const HEAD: &str = r#"{"metadata":{"resourceVersion":""#;
const MIDDLE: &str = r#""},"payload":""#;

fn draft(payload: &str) -> Draft<String> {
    let bytes = format!(r#"{HEAD}{MIDDLE}{payload}"}}"#).into_bytes();
    Draft { bytes, revision_at: HEAD.len(), meta: payload.into() }
}

fn json(revision: u64, payload: &str) -> String {
    format!(r#"{HEAD}{revision}{MIDDLE}{payload}"}}"#)
}

/// The reverse of [`json`].
fn parse(_: &Key, bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let payload = text.split_once(MIDDLE).and_then(|(_, tail)| tail.strip_suffix("\"}"));
    payload.map(str::to_owned).ok_or_else(|| format!("no payload in {text}"))
}

fn pod(name: &str) -> Key {
    Key::new("/pods", "default", name)
}

fn open(dir: &Path, limits: Limits) -> Result<Lab, OpenError> {
    Store::open(Sled::open(dir)?, parse, limits)
}

async fn create(store: &Lab, key: Key, payload: &str) -> Result<Arc<Entry<String>>, Error<String>> {
    store.commit(key, Expect::Absent, Change::Put(draft(payload))).await
}

/// What has to come, or the test fails.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it came within the deadline")
}

/// SplitMix64: random enough, and the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
