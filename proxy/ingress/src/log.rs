//! The access log, in the format of ingress-nginx (`upstreaminfo`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;

/// Takes whole lines. It may be called by several threads at once, and must not block for long.
pub type Sink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// So much is written at once, in bytes.
const BLOCK: usize = 32 << 10;
/// What was not written for so long is written.
const DELAY: Duration = Duration::from_secs(1);

/// The lines of one thread, on their way to the sink.
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    sink: Sink,
}

/// What a line says besides lengths and times. The texts are escaped.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) from: IpAddr,
    pub(crate) user: String,
    pub(crate) request: String,
    pub(crate) status: u16,
    pub(crate) referer: String,
    pub(crate) agent: String,
    /// `NAMESPACE-SERVICE-PORT`.
    pub(crate) upstream: String,
    pub(crate) canary: String,
    pub(crate) tried: Vec<SocketAddr>,
    pub(crate) answered: Option<(SocketAddr, StatusCode)>,
    /// Until the head of the answer.
    pub(crate) took: Duration,
    pub(crate) id: String,
}

impl Default for Line {
    fn default() -> Self {
        Line {
            from: Ipv4Addr::UNSPECIFIED.into(),
            user: "-".into(),
            request: String::new(),
            status: 0,
            referer: "-".into(),
            agent: "-".into(),
            upstream: String::new(),
            canary: String::new(),
            tried: Vec::new(),
            answered: None,
            took: Duration::ZERO,
            id: "-".into(),
        }
    }
}

impl Line {
    /// The line: `asked` and `sent` are lengths in bytes.
    fn text(&self, asked: u64, sent: u64, took: Duration, now: Timestamp) -> String {
        let Line { from, user, request, status, referer, agent, upstream, canary, id, .. } = self;
        let time = now.strftime("%d/%b/%Y:%H:%M:%S +0000");
        let failed = self.tried.iter().map(|at| [at.to_string(), "0".into(), "-".into(), "502".into()]);
        let answered = self
            .answered
            .map(|(at, status)| [at.to_string(), sent.to_string(), seconds(self.took), status.as_u16().to_string()]);
        let tries: Vec<_> = failed.chain(answered).collect();
        let column = |number: usize| match tries[..] {
            [] => "-".to_owned(),
            _ => tries.iter().map(|a_try| a_try[number].as_str()).collect::<Vec<_>>().join(", "),
        };
        let (addresses, lengths, times, statuses) = (column(0), column(1), column(2), column(3));
        let took = seconds(took);
        format!(
            "{from} - {user} [{time}] \"{request}\" {status} {sent} \"{referer}\" \"{agent}\" {asked} {took} \
             [{upstream}] [{canary}] {addresses} {lengths} {times} {statuses} {id}\n"
        )
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

impl Log {
    pub(crate) fn new(sink: Sink) -> Self {
        Log { lines: Arc::default(), sink }
    }

    /// Writes a line, soon.
    pub(crate) fn write(&self, line: &Line, asked: u64, sent: u64, took: Duration) {
        let text = line.text(asked, sent, took, Timestamp::now());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let first = lines.is_empty();
        lines.extend_from_slice(text.as_bytes());
        if lines.len() >= BLOCK {
            (self.sink)(&lines);
            lines.clear();
        } else if first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (lines, sink) = (self.lines.clone(), self.sink.clone());
            runtime.spawn(async move {
                tokio::time::sleep(DELAY).await;
                flush(&lines, &sink);
            });
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        flush(&self.lines, &self.sink);
    }
}

fn flush(lines: &Mutex<Vec<u8>>, sink: &Sink) {
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    if !lines.is_empty() {
        sink(&lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_ingress_nginx() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let line = Line {
            from: "192.0.2.1".parse().unwrap(),
            user: "ann".into(),
            request: "GET /x?y HTTP/1.1".into(),
            status: 200,
            agent: "curl/8".into(),
            upstream: "default-app-80".into(),
            tried: vec!["10.0.0.1:80".parse().unwrap()],
            answered: Some(("10.0.0.2:80".parse().unwrap(), StatusCode::OK)),
            took: Duration::from_millis(12),
            id: "abc".into(),
            ..Line::default()
        };
        assert_eq!(
            line.text(120, 34, Duration::from_millis(1250), now),
            "192.0.2.1 - ann [01/Mar/2026:12:00:00 +0000] \"GET /x?y HTTP/1.1\" 200 34 \"-\" \"curl/8\" 120 1.250 \
             [default-app-80] [] 10.0.0.1:80, 10.0.0.2:80 0, 34 -, 0.012 502, 200 abc\n"
        );
        let refused = Line { from: "2001:db8::1".parse().unwrap(), status: 404, ..Line::default() };
        assert_eq!(
            refused.text(80, 14, Duration::ZERO, now),
            "2001:db8::1 - - [01/Mar/2026:12:00:00 +0000] \"\" 404 14 \"-\" \"-\" 80 0.000 [] [] - - - - -\n"
        );
    }
}
