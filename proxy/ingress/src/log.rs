//! The access log, in the format of ingress-nginx (`upstreaminfo`).

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;

use crate::Upstream;

/// Takes whole lines. It may be called by several threads at once, and must not block for long.
pub type Sink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// So much is written at once, in bytes.
const BLOCK: usize = 32 << 10;
/// What was not written for so long is written.
const DELAY: Duration = Duration::from_secs(1);

/// The lines of one thread, on their way to the sink.
pub(crate) struct Log {
    lines: Arc<Mutex<Lines>>,
    sink: Sink,
}

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    /// The time as it is written, and the second that it is of.
    time: (i64, String),
    /// They will be written by a task.
    due: bool,
}

/// What a line says besides lengths and times.
pub(crate) struct Line {
    pub(crate) from: IpAddr,
    /// All texts of the line, escaped, one after the other: fewer allocations than one for each.
    texts: Vec<u8>,
    /// Where each of them ends.
    ends: [usize; 5],
    pub(crate) status: u16,
    pub(crate) upstream: Option<Arc<Upstream>>,
    pub(crate) canary: Option<Arc<Upstream>>,
    pub(crate) tried: Vec<SocketAddr>,
    pub(crate) answered: Option<(SocketAddr, StatusCode)>,
    /// Until the head of the answer.
    pub(crate) took: Duration,
}

impl Line {
    /// That of a client's request, with a user, the request's line, and the fields Referer and User-Agent.
    pub(crate) fn new(from: IpAddr, user: Option<&str>, request: [&str; 3], fields: [Option<&[u8]>; 2]) -> Self {
        let mut line = Line {
            from,
            texts: Vec::with_capacity(256),
            ends: [0; 5],
            status: 0,
            upstream: None,
            canary: None,
            tried: Vec::new(),
            answered: None,
            took: Duration::ZERO,
        };
        line.add(0, &[user.map(str::as_bytes).unwrap_or(b"-")]);
        let [method, target, version] = request.map(str::as_bytes);
        line.add(1, &[method, b" ", target, b" ", version]);
        for (at, field) in (2..).zip(fields) {
            line.add(at, &[field.unwrap_or(b"-")]);
        }
        line
    }

    /// Says the request's id, which is the last text.
    pub(crate) fn identify(&mut self, id: Option<&[u8]>) {
        self.add(4, &[id.unwrap_or(b"-")]);
    }

    fn add(&mut self, at: usize, parts: &[&[u8]]) {
        parts.iter().for_each(|part| escape(&mut self.texts, part));
        self.ends[at] = self.texts.len();
    }

    /// Writes the line: `asked` and `sent` are lengths in bytes.
    fn write(&self, out: &mut Vec<u8>, asked: u64, sent: u64, took: Duration, time: &str) -> std::io::Result<()> {
        let text = |at: usize| -> &[u8] {
            &self.texts[at.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[at]]
        };
        let Line { from, status, answered, .. } = self;
        write!(out, "{from}")?;
        put(out, &[b" - ", text(0), b" [", time.as_bytes(), b"] \"", text(1)]);
        write!(out, "\" {status} {sent}")?;
        put(out, &[b" \"", text(2), b"\" \"", text(3)]);
        write!(out, "\" {asked} ")?;
        seconds(out, took)?;
        for upstream in [&self.upstream, &self.canary] {
            out.extend_from_slice(b" [");
            if let Some(upstream) = upstream {
                let (service, port) = (&upstream.service, &upstream.port);
                put(out, &[service.namespace.as_bytes(), b"-", service.name.as_bytes(), b"-", port.as_bytes()]);
            }
            out.push(b']');
        }
        for column in 0..4 {
            let mut before = " ";
            for at in &self.tried {
                match column {
                    0 => write!(out, "{before}{at}")?,
                    number => write!(out, "{before}{}", ["0", "-", "502"][number - 1])?,
                }
                before = ", ";
            }
            out.extend_from_slice(before.as_bytes());
            match (answered, column) {
                (None, _) if self.tried.is_empty() => out.push(b'-'),
                (None, _) => out.truncate(out.len() - before.len()),
                (Some((at, _)), 0) => write!(out, "{at}")?,
                (Some(_), 1) => write!(out, "{sent}")?,
                (Some(_), 2) => seconds(out, self.took)?,
                (Some((_, status)), _) => write!(out, "{}", status.as_u16())?,
            }
        }
        put(out, &[b" ", if self.ends[4] == 0 { b"-" } else { text(4) }, b"\n"]);
        Ok(())
    }
}

/// Adds one after the other; formatting them would take longer.
fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Seconds with three places.
fn seconds(out: &mut Vec<u8>, time: Duration) -> std::io::Result<()> {
    let milliseconds = (time.as_micros() + 500) / 1000;
    write!(out, "{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

/// Adds text within a line: what could end it, or its quotes, is written in hexadecimal.
fn escape(to: &mut Vec<u8>, mut text: &[u8]) {
    let odd = |byte: &u8| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\');
    while let Some(at) = text.iter().position(odd) {
        to.extend_from_slice(&text[..at]);
        to.extend_from_slice(format!("\\x{:02X}", text[at]).as_bytes());
        text = &text[at + 1..];
    }
    to.extend_from_slice(text);
}

impl Lines {
    fn add(&mut self, line: &Line, asked: u64, sent: u64, took: Duration, now: Timestamp) {
        if self.time.0 != now.as_second() || self.time.1.is_empty() {
            self.time = (now.as_second(), now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string());
        }
        line.write(&mut self.text, asked, sent, took, &self.time.1).expect("memory takes what is written");
    }
}

impl Log {
    pub(crate) fn new(sink: Sink) -> Self {
        Log { lines: Arc::default(), sink }
    }

    /// Writes a line, soon.
    pub(crate) fn write(&self, line: &Line, asked: u64, sent: u64, took: Duration) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.add(line, asked, sent, took, Timestamp::now());
        if lines.text.len() >= BLOCK {
            (self.sink)(&lines.text);
            lines.text.clear();
        } else if !lines.due
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            lines.due = true;
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

fn flush(lines: &Mutex<Lines>, sink: &Sink) {
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    if !lines.text.is_empty() {
        sink(&lines.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_ingress_nginx() {
        let mut lines = Lines::default();
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let request = ["GET", "/x?y", "HTTP/1.1"];
        let mut line = Line::new("192.0.2.1".parse().unwrap(), Some("ann"), request, [None, Some(b"curl\"\n/8")]);
        line.identify(Some(b"abc"));
        line.upstream = Some(Arc::new(Upstream::new(state::Key::new("default", "app"), "80")));
        (line.status, line.took) = (200, Duration::from_millis(12));
        line.tried = vec!["10.0.0.1:80".parse().unwrap()];
        line.answered = Some(("10.0.0.2:80".parse().unwrap(), StatusCode::OK));
        lines.add(&line, 120, 34, Duration::from_micros(1_249_600), now);
        // Nobody answered.
        (line.answered, line.status) = (None, 502);
        line.tried.push("10.0.0.3:80".parse().unwrap());
        lines.add(&line, 120, 34, Duration::from_millis(1), now + Duration::from_secs(1));
        let refused = Line::new("2001:db8::1".parse().unwrap(), None, ["GET", "*", "HTTP/2.0"], [None; 2]);
        lines.add(&refused, 80, 14, Duration::ZERO, now + Duration::from_secs(1));
        let said = String::from_utf8(lines.text).unwrap();
        let expected = [
            "192.0.2.1 - ann [01/Mar/2026:12:00:00 +0000] \"GET /x?y HTTP/1.1\" 200 34 \"-\" \"curl\\x22\\x0A/8\" 120 1.250 \
             [default-app-80] [] 10.0.0.1:80, 10.0.0.2:80 0, 34 -, 0.012 502, 200 abc",
            "192.0.2.1 - ann [01/Mar/2026:12:00:01 +0000] \"GET /x?y HTTP/1.1\" 502 34 \"-\" \"curl\\x22\\x0A/8\" 120 0.001 \
             [default-app-80] [] 10.0.0.1:80, 10.0.0.3:80 0, 0 -, - 502, 502 abc",
            "2001:db8::1 - - [01/Mar/2026:12:00:01 +0000] \"GET * HTTP/2.0\" 0 14 \"-\" \"-\" 80 0.000 [] [] - - - - -",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_of_a_busy_second_are_written_at_once_and_none_waits_longer() {
        let written = Arc::<Mutex<Vec<usize>>>::default();
        let sink = written.clone();
        let log = Log::new(Arc::new(move |lines: &[u8]| sink.lock().unwrap().push(lines.len())));
        let line = Line::new([192, 0, 2, 1].into(), None, ["GET", "/", "HTTP/1.1"], [None; 2]);
        for _ in 0..1000 {
            log.write(&line, 1, 1, Duration::ZERO);
        }
        assert!(written.lock().unwrap().iter().all(|length| *length >= BLOCK));
        let before = written.lock().unwrap().len();
        assert!((1..10).contains(&before), "{before}");
        tokio::time::sleep(DELAY + Duration::from_millis(1)).await;
        assert_eq!(written.lock().unwrap().len(), before + 1, "what was left, once");
        tokio::time::sleep(5 * DELAY).await;
        assert_eq!(written.lock().unwrap().len(), before + 1);
    }
}
