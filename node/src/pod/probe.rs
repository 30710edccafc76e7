//! Startup, readiness and liveness probes of one start of a container.

use super::check::Check;
use k8s_openapi::api::core::v1::{Container, Probe};
use std::time::Duration;
use tokio::time::Instant;

/// The delay after a first failed probe; doubled until the period is over. A server that needs a
/// moment to open its port is seen at once, and only the last of these tries counts.
const EAGER: Duration = Duration::from_millis(25);

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Which {
    Startup,
    Readiness,
    Liveness,
}

impl Which {
    /// As kubelet's events name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// Counts the outcomes of a probe against its thresholds.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    last: Option<bool>,
    row: i32,
}

impl Tally {
    /// One more outcome; what the probe now says, if a threshold is reached.
    pub(crate) fn count(&mut self, outcome: bool, successes: i32, failures: i32) -> Option<bool> {
        if self.last == Some(outcome) {
            self.row = self.row.saturating_add(1);
        } else {
            self.last = Some(outcome);
            self.row = 1;
        }
        let threshold = if outcome { successes } else { failures };
        (self.row >= threshold).then_some(outcome)
    }
}

/// The probes of a container, with what each one does.
#[derive(Debug)]
pub(crate) struct Probes {
    startup: Option<(Probe, Check)>,
    readiness: Option<(Probe, Check)>,
    liveness: Option<(Probe, Check)>,
}

impl Probes {
    /// `address` is the pod's.
    pub(crate) fn new(container: &Container, address: &str) -> Self {
        let with = |probe: &Option<Probe>| {
            let probe = probe.as_ref()?;
            let (exec, http, tcp) = (&probe.exec, &probe.http_get, &probe.tcp_socket);
            let check = Check::new(container, address, exec.as_ref(), http.as_ref(), tcp.as_ref());
            let other = || Check::Unsupported("gRPC probes are not supported on this node".into());
            Some((probe.clone(), check.unwrap_or_else(other)))
        };
        Self {
            startup: with(&container.startup_probe),
            readiness: with(&container.readiness_probe),
            liveness: with(&container.liveness_probe),
        }
    }

    /// Without a startup probe a container is started when it runs.
    pub(crate) fn started_at_once(&self) -> bool {
        self.startup.is_none()
    }

    /// Without a readiness probe a container is ready when it is started.
    pub(crate) fn ready_at_once(&self) -> bool {
        self.readiness.is_none()
    }

    /// Probes until dropped. `tell` hears what a probe says each time it says something else, and
    /// every failure with its text; it is waited for.
    pub(crate) async fn run<F: Future<Output = ()>>(
        self,
        shim: shim::Client,
        attempt: String,
        tell: impl Fn(Which, Said) -> F,
    ) {
        let began = Instant::now();
        let each = |which, (probe, check): (Probe, Check)| {
            let (shim, attempt, tell) = (&shim, attempt.as_str(), &tell);
            async move {
                let mut one = One { which, probe, check, tally: Tally::default() };
                one.run(shim, attempt, began, tell).await
            }
        };
        if let Some(startup) = self.startup
            && !each(Which::Startup, startup).await
        {
            return;
        }
        tokio::join!(
            async {
                if let Some(probe) = self.readiness {
                    each(Which::Readiness, probe).await;
                }
            },
            async {
                if let Some(probe) = self.liveness {
                    each(Which::Liveness, probe).await;
                }
            }
        );
    }
}

/// What a probe has to say.
#[derive(Debug)]
pub(crate) enum Said {
    /// A threshold was reached.
    Is(bool),
    /// It failed once, with this text.
    Failed(String),
}

struct One {
    which: Which,
    probe: Probe,
    check: Check,
    tally: Tally,
}

impl One {
    /// Probes until the startup probe succeeded (true), or the startup or liveness probe failed.
    async fn run<F: Future<Output = ()>>(
        &mut self,
        shim: &shim::Client,
        attempt: &str,
        began: Instant,
        tell: &impl Fn(Which, Said) -> F,
    ) -> bool {
        let seconds = |given: Option<i32>, default: u64| {
            let given = given.and_then(|given| u64::try_from(given).ok());
            Duration::from_secs(given.filter(|given| *given > 0).unwrap_or(default))
        };
        let period = seconds(self.probe.period_seconds, 10);
        let patience = seconds(self.probe.timeout_seconds, 1);
        let successes = self.probe.success_threshold.unwrap_or(1);
        let failures = self.probe.failure_threshold.unwrap_or(3);
        tokio::time::sleep_until(began + seconds(self.probe.initial_delay_seconds, 0)).await;
        let mut said = None;
        let mut first = true;
        loop {
            let tick = Instant::now();
            let mut outcome = self.check.run(shim, attempt, patience).await;
            if first && self.which != Which::Liveness && !matches!(self.check, Check::Exec(_)) {
                let mut pause = EAGER;
                while outcome.is_err() && tick.elapsed() + pause < period {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    outcome = self.check.run(shim, attempt, patience).await;
                }
            }
            first = false;
            let well = outcome.is_ok();
            if let Err(text) = outcome {
                tell(self.which, Said::Failed(text)).await;
            }
            let now = self.tally.count(well, successes, failures);
            if now.is_some() && now != said {
                said = now;
                tell(self.which, Said::Is(well)).await;
                if self.which == Which::Startup || self.which == Which::Liveness && !well {
                    return well;
                }
            }
            tokio::time::sleep_until(tick + period).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_rows() {
        let mut tally = Tally::default();
        let outcomes = [
            (true, Some(true)),
            (false, None),
            (false, None),
            (true, Some(true)),
            (false, None),
            (false, None),
            (false, Some(false)),
            (false, Some(false)),
        ];
        for (step, (outcome, expected)) in outcomes.into_iter().enumerate() {
            assert_eq!(tally.count(outcome, 1, 3), expected, "step {step}");
        }
        let mut tally = Tally::default();
        assert_eq!(tally.count(true, 2, 1), None);
        assert_eq!(tally.count(true, 2, 1), Some(true));
        assert_eq!(tally.count(false, 2, 1), Some(false));
    }
}
