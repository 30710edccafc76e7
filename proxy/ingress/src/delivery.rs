//! Answers over HTTP/2, given up when their clients do not take them: while a stream's window is closed nobody polls its
//! answer's body, so the stream's own task has to watch.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task_local;

use crate::alarm::Alarm;

/// A piece of an answer, in bytes: one frame (RFC 9113, section 4.2). In larger ones slow clients would need longer for each
/// than they are waited for.
pub(crate) const PIECE: usize = 16 << 10;

task_local! {
    /// What this step of a stream has of its answer's body, if it asked.
    static HANDED: Cell<Option<bool>>;
}

/// Tells the stream whether it has a piece of its answer, which it asks for as soon as its client may have it; until it asks
/// again that is who is waited for.
pub(crate) fn handed(piece: bool) {
    // There is no stream in HTTP/1.1.
    HANDED.try_with(|handed| handed.set(Some(piece))).ok();
}

/// Runs the streams of a client's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    /// For how long the next piece of an answer may wait for its client.
    pub(crate) patience: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        // It is large, and a task is moved about ten times as it begins and ends.
        tokio::spawn(HANDED.scope(Cell::new(None), bounded(Box::pin(stream), self.patience)));
    }
}

/// A stream, dropped and so reset when its client does not take what it has.
async fn bounded(mut stream: Pin<Box<impl Future<Output = ()>>>, patience: Duration) {
    let (mut alarm, mut waits) = (None, false);
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(handed) = HANDED.with(Cell::take) {
            waits = handed;
            if waits {
                alarm.get_or_insert_with(|| Alarm::new(patience)).set(patience);
            }
        }
        match &mut alarm {
            Some(alarm) if waits => alarm.poll(cx),
            _ => Poll::Pending,
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;
    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// For each step of a stream, in seconds and whether it has a piece for its client all the while; and when it ended.
    async fn ended(steps: &'static [(u64, bool)]) -> (u64, bool) {
        let (began, (done, finished)) = (tokio::time::Instant::now(), oneshot::channel());
        let held = Arc::new(());
        let watched = Arc::downgrade(&held);
        Streams { patience: PATIENCE }.execute(async move {
            let _held = held;
            for (seconds, piece) in steps {
                handed(*piece);
                // Woken for other reasons, too.
                for _ in 0..*seconds {
                    sleep(Duration::from_secs(1)).await;
                }
            }
            done.send(()).ok();
        });
        let finished = timeout(PATIENCE * 100, finished).await.expect("an end").is_ok();
        assert_eq!(watched.strong_count(), 0);
        (began.elapsed().as_secs(), finished)
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_waited_for_and_endpoints_too() {
        assert_eq!(ended(&[(30, true)]).await, (30, true));
        assert_eq!(ended(&[(1000, false)]).await, (1000, true), "the endpoint is slow");
        assert_eq!(ended(&[(50, true), (50, true), (50, true)]).await, (150, true), "slow, but it takes them");
        assert_eq!(ended(&[(50, true), (500, false), (50, true)]).await, (600, true), "both are slow");
        assert_eq!(ended(&[(61, true)]).await, (60, false));
        assert_eq!(ended(&[(500, false), (30, true), (61, true)]).await, (590, false));
    }
}
