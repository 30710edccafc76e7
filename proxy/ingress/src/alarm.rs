//! A bound for silence.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for many waits, which are nearly always shorter than their bound: it runs on from one to the next, and is
/// set anew only where it would ring too late, or has rung too early.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: Pin<Box<Sleep>>,
    until: Instant,
}

impl Alarm {
    /// Rings after `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        let until = Instant::now() + patience;
        Alarm { timer: Box::pin(sleep_until(until)), until }
    }

    /// A new wait begins.
    pub(crate) fn set(&mut self, patience: Duration) {
        self.until = Instant::now() + patience;
        if self.timer.deadline() > self.until {
            self.timer.as_mut().reset(self.until);
        }
    }

    /// Ready when the wait was too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Even when the task has done so much at a stretch that it is not to go on now.
        while pin!(unconstrained(self.timer.as_mut())).poll(cx).is_ready() {
            if self.timer.deadline() >= self.until {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.until);
        }
        Poll::Pending
    }
}
