//! How long to wait before something that failed is tried again: 10 s, doubled each time up to
//! 5 min, forgotten after 10 min without a failure (kubelet's container and image back-off).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_secs(300);
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(600);

/// The memory of one thing that may fail again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Backoff {
    /// The present delay and when it was set.
    current: Option<(SignedDuration, Timestamp)>,
}

impl Backoff {
    /// The delay that is due for a failure at `failed`; zero for the first one.
    pub(crate) fn delay(&self, failed: Timestamp) -> SignedDuration {
        match self.current {
            Some((delay, set)) if failed.duration_since(set) <= FORGOTTEN => delay,
            _ => SignedDuration::ZERO,
        }
    }

    /// When to try again what failed at `failed`.
    pub(crate) fn due(&self, failed: Timestamp) -> Timestamp {
        failed.saturating_add(self.delay(failed)).unwrap_or(failed)
    }

    /// Makes the next delay the longer one; `failed` as above, `now` when it is tried again.
    pub(crate) fn next(&mut self, failed: Timestamp, now: Timestamp) {
        let delay = self.delay(failed);
        let delay = if delay.is_zero() { FIRST } else { (delay * 2).min(LONGEST) };
        self.current = Some((delay, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn delays_double_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = 1000;
        for delay in [0, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(backoff.due(at(now)), at(now + delay));
            now += delay;
            backoff.next(at(now), at(now));
        }
    }

    #[test]
    fn ten_quiet_minutes_forget() {
        let mut backoff = Backoff::default();
        backoff.next(at(0), at(0));
        backoff.next(at(10), at(10));
        assert_eq!(backoff.delay(at(610)).as_secs(), 20);
        assert_eq!(backoff.delay(at(611)).as_secs(), 0);
    }
}
