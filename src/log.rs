//! What the program says of itself, and the query log of its DNS server.

use std::fmt;
use std::io::{IsTerminal, stderr, stdout};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format};
use tracing_subscriber::registry::LookupSpan;

/// Whose lines are the query log.
const QUERIES: &str = "dns::log";

/// Events go to standard error. `queries` says that the query log is what people run the program
/// for: then it goes to standard output as CoreDNS has it, without times of its own.
pub(crate) fn start(filter: EnvFilter, queries: bool) {
    let output = stdout.with_filter(move |event| queries && event.target() == QUERIES).or_else(stderr);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(stderr().is_terminal());
    lines.with_writer(output).event_format(Lines { queries }).init();
}

struct Lines {
    queries: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<S, N>, mut out: Writer, event: &tracing::Event) -> fmt::Result {
        if !self.queries || event.metadata().target() != QUERIES {
            return format().format_event(context, out, event);
        }
        write!(out, "[INFO] ")?;
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn lines() {
        let table = [(true, QUERIES, "[INFO] 10.0.0.1:53 \"A\"\n"), (true, "dns", "dns: 10.0.0.1:53 \"A\"\n")];
        for (queries, target, want) in table.into_iter().chain([(false, QUERIES, "dns::log: 10.0.0.1:53 \"A\"\n")]) {
            let out = tempfile::NamedTempFile::new().unwrap();
            let lines = tracing_subscriber::fmt().with_writer(Arc::new(out.reopen().unwrap())).with_ansi(false);
            tracing::subscriber::with_default(lines.event_format(Lines { queries }).finish(), || match target {
                QUERIES => tracing::info!(target: QUERIES, "10.0.0.1:53 \"A\""),
                _ => tracing::info!(target: "dns", "10.0.0.1:53 \"A\""),
            });
            let text = std::fs::read_to_string(out.path()).unwrap();
            assert!(text.ends_with(want), "{text}");
            assert_eq!(text.starts_with("[INFO]"), queries && target == QUERIES, "{text}");
        }
    }
}
