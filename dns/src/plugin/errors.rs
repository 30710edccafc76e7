//! Questions that failed, in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use regex::Regex;
use tokio::sync::Notify;
use tower::ServiceExt;
use tracing::Level;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Line};
use crate::pattern::pattern;
use crate::request::{Failure, Reply, Request};

const LEVELS: [(&str, Level); 4] =
    [("warning", Level::WARN), ("error", Level::ERROR), ("info", Level::INFO), ("debug", Level::DEBUG)];

/// Errors that are counted rather than logged one by one.
struct Pattern {
    regex: Regex,
    /// How long they are counted, from the first one on.
    period: Duration,
    /// The same as it is written.
    written: String,
    level: Level,
    /// The first one is logged as it comes.
    show_first: bool,
    count: AtomicU64,
    /// A period begins.
    begun: Notify,
}

impl Pattern {
    /// Counts an error; true when it is to be logged all the same.
    fn shows(&self) -> bool {
        let first = self.count.fetch_add(1, Ordering::Relaxed) == 0;
        if first {
            self.begun.notify_one();
        }
        first && self.show_first
    }

    /// What there is to say at the end of a period.
    fn summary(&self) -> Option<String> {
        let count = self.count.swap(0, Ordering::Relaxed);
        let said = u64::from(self.show_first);
        (count > said).then(|| format!("{count} errors like '{}' occurred in last {}", self.regex, self.written))
    }

    async fn summaries(self: Arc<Self>) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(self.period).await;
            self.summary().into_iter().for_each(|line| log(self.level, &line));
        }
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        self.summary().into_iter().for_each(|line| log(self.level, &line));
    }
}

struct Errors {
    patterns: Vec<Arc<Pattern>>,
}

/// `errors { consolidate DURATION REGEXP [LEVEL] [show_first]; stacktrace }`: why questions failed
/// goes to the log. Errors like REGEXP are counted for the DURATION, and logged as one line of the
/// level warning, error, info or debug. `stacktrace` says nothing more here.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    match directive.line().between(0, 1)? {
        [file] if file.text != "stdout" => return Err(file.error(format!("invalid log file: {}", file.text))),
        _ => {}
    }
    let mut patterns = Vec::new();
    for line in directive.properties() {
        match line.name.text.as_str() {
            "stacktrace" => {}
            "consolidate" => patterns.push(Arc::new(consolidate(line)?)),
            _ => return Err(line.unknown()),
        }
    }
    setup.background.extend(patterns.iter().map(|pattern| Box::pin(pattern.clone().summaries()) as _));
    setup.push(Errors { patterns });
    Ok(())
}

fn consolidate(line: Line) -> Result<Pattern, corefile::Error> {
    let [period, regex, options @ ..] = line.between(2, 4)? else { return Err(line.unknown()) };
    let level = |text: &str| LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level);
    let options: Vec<&str> = options.iter().map(|word| word.text.as_str()).collect();
    let (level, show_first) = match options[..] {
        [] => (Some(Level::ERROR), false),
        ["show_first"] => (Some(Level::ERROR), true),
        [text] => (level(text), false),
        [text, "show_first"] => (level(text), true),
        _ => (None, false),
    };
    let Some(level) = level else {
        return Err(line.name.error(format!("unknown option in consolidate: {}", options.join(" "))));
    };
    Ok(Pattern {
        regex: pattern(regex)?,
        period: period.duration()?,
        written: period.text.clone(),
        level,
        show_first,
        count: AtomicU64::new(0),
        begun: Notify::new(),
    })
}

impl Errors {
    /// What is logged at once of a failure.
    fn line(&self, request: &Request, failure: &Failure) -> Option<(Level, String)> {
        if failure.reason.is_empty() {
            return None;
        }
        let level = match self.patterns.iter().find(|pattern| pattern.regex.is_match(&failure.reason)) {
            Some(pattern) => pattern.shows().then_some(pattern.level)?,
            None => Level::ERROR,
        };
        let (code, name) = (u16::from(failure.code), request.name().to_lowercase());
        Some((level, format!("{code} {name} {}: {}", request.kind(), failure.reason)))
    }
}

fn log(level: Level, line: &str) {
    match level {
        Level::ERROR => tracing::error!("plugin/errors: {line}"),
        Level::WARN => tracing::warn!("plugin/errors: {line}"),
        Level::INFO => tracing::info!("plugin/errors: {line}"),
        _ => tracing::debug!("plugin/errors: {line}"),
    }
}

impl Plugin for Errors {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let result = next.oneshot(request.clone()).await;
        if let Err(failure) = &result
            && let Some((level, line)) = self.line(&request, failure)
        {
            log(level, &line);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::RecordType;

    use super::*;
    use crate::fixture;

    fn errors(text: &str) -> Result<Errors, corefile::Error> {
        let blocks = corefile::parse(&format!(".:53 {{\nerrors {{\n{text}\n}}\n}}\n"))?;
        let patterns = blocks[0].directives[0].properties().map(|line| consolidate(line).map(Arc::new));
        Ok(Errors { patterns: patterns.collect::<Result<_, _>>()? })
    }

    #[test]
    fn lines_and_summaries() {
        let servers = Arc::new(fixture::servers("", fixture::cluster().snapshot()));
        let request = fixture::request("Example.org.", RecordType::A, &servers);
        let text =
            "consolidate 5m \".* i/o timeout$\" warning show_first\nconsolidate 30s ^Failed\nconsolidate 1s ^F info";
        let errors = errors(text).unwrap();
        let line = |reason: &str| errors.line(&request, &Failure::server(reason));
        let said = |level, reason: &str| Some((level, format!("2 example.org. A: {reason}")));
        let summaries = || errors.patterns.iter().map(|pattern| pattern.summary()).collect::<Vec<_>>();
        assert_eq!(line("no idea"), said(Level::ERROR, "no idea"));
        assert_eq!(line(""), None);
        assert_eq!(line("read: i/o timeout"), said(Level::WARN, "read: i/o timeout"));
        assert_eq!(line("Failed to read"), None);
        assert_eq!(summaries(), [None, Some("1 errors like '^Failed' occurred in last 30s".into()), None]);
        assert_eq!(line("read: i/o timeout"), said(Level::WARN, "read: i/o timeout"));
        assert_eq!(line("read: i/o timeout"), None);
        assert_eq!(line("Fail"), None);
        let table = ["2 errors like '.* i/o timeout$' occurred in last 5m", "1 errors like '^F' occurred in last 1s"];
        assert_eq!(summaries(), [Some(table[0].into()), None, Some(table[1].into())]);
        let refused = Failure { code: ResponseCode::Refused, reason: "x".into() };
        assert_eq!(errors.line(&request, &refused), Some((Level::ERROR, "5 example.org. A: x".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_period_begins_with_an_error() {
        let errors = errors("consolidate 30s x").unwrap();
        let pattern = errors.patterns[0].clone();
        let summaries = tokio::spawn(pattern.clone().summaries());
        pattern.shows();
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(pattern.count.load(Ordering::Relaxed), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(pattern.count.load(Ordering::Relaxed), 0);
        summaries.abort();
    }

    #[test]
    fn what_is_wrong() {
        let table = [
            "consolidate 5m",
            "consolidate x y",
            "consolidate 5m (",
            "consolidate 5m x loud",
            "consolidate 5m x show_first warning",
            "consolidate 5m x warning show_first y",
            "stack",
        ];
        for text in table {
            let text = format!("errors {{\n{text}\n}}");
            assert_eq!(fixture::try_servers(&text, fixture::cluster().snapshot()).err().unwrap().line, 3, "{text}");
        }
        for text in ["errors file", "errors stdout x", "errors\nerrors"] {
            assert!(fixture::try_servers(text, fixture::cluster().snapshot()).is_err(), "{text}");
        }
        assert!(fixture::try_servers("errors stdout {\nstacktrace\n}", fixture::cluster().snapshot()).is_ok());
    }
}
