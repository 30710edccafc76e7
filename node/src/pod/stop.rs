//! Stopping a container: pre-stop hook, its stop signal, the grace period, SIGKILL.

use super::{check::Check, start::handler};
use k8s_openapi::api::core::v1::Container;
use std::time::Duration;
use tokio::time::Instant;

/// What is left of the grace period after a pre-stop hook that used it up (kubelet's minimum).
const LEAST: Duration = Duration::from_secs(2);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// A stop to do.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) shim: shim::Client,
    pub(crate) attempt: String,
    pub(crate) hook: Option<Check>,
    pub(crate) signal: i32,
    pub(crate) grace: Duration,
}

impl Stop {
    /// Does it; dropped when the container ended. `failed` hears of a hook that failed.
    pub(crate) async fn run(self, failed: impl FnOnce()) {
        let mut end = Instant::now() + self.grace;
        if let Some(hook) = &self.hook
            && !self.grace.is_zero()
        {
            let done = tokio::time::timeout_at(end, hook.run(&self.shim, &self.attempt, self.grace));
            if !matches!(done.await, Ok(Ok(()))) {
                failed();
            }
            end = end.max(Instant::now() + LEAST);
        }
        if !self.grace.is_zero() {
            let _ = self.shim.signal(&self.attempt, self.signal).await;
            tokio::time::sleep_until(end).await;
        }
        let _ = self.shim.signal(&self.attempt, SIGKILL).await;
    }
}

/// The pre-stop hook of a container.
pub(crate) fn hook(container: &Container, address: &str) -> Option<Check> {
    let hook = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
    handler(container, address, hook)
}

/// The number of a signal by its name (`SIGQUIT`, `QUIT`, `SIGRTMIN+3`) or number; SIGTERM for
/// what is not known.
pub(crate) fn signal(name: Option<&str>) -> i32 {
    const NAMES: [(&str, i32); 16] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
        ("WINCH", 28),
        ("PWR", 30),
        ("RTMIN", 34),
    ];
    let Some(name) = name.map(|name| name.strip_prefix("SIG").unwrap_or(name)) else {
        return SIGTERM;
    };
    if let Ok(number @ 1..=64) = name.parse() {
        return number;
    }
    if let Some(Ok(more @ 0..=30)) = name.strip_prefix("RTMIN+").map(str::parse::<i32>) {
        return 34 + more;
    }
    let known = NAMES.iter().find(|(known, _)| *known == name);
    known.map_or(SIGTERM, |(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_names() {
        for (name, number) in [
            (None, 15),
            (Some("SIGQUIT"), 3),
            (Some("QUIT"), 3),
            (Some("9"), 9),
            (Some("SIGRTMIN+3"), 37),
            (Some("RTMIN"), 34),
            (Some("nonsense"), 15),
            (Some("99"), 15),
        ] {
            assert_eq!(signal(name), number, "{name:?}");
        }
    }
}
