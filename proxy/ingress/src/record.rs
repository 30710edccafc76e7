//! What is remembered of a request until it is answered to the end: for the access log, and to be counted.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, REFERER, USER_AGENT};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version, request};
use tokio::time::Instant;

use crate::body::Body;
use crate::head::{Client, X_REQUEST_ID};
use crate::log::{Line, Log};
use crate::metrics::{Labels, Series, Shard};
use crate::{Route, Table, auth};

/// Where one thread writes and counts.
pub(crate) struct Recorder {
    pub(crate) log: Option<Log>,
    pub(crate) shard: Option<Arc<Shard>>,
}

/// Whom a request was sent to.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Endpoints that failed.
    pub(crate) tried: Vec<SocketAddr>,
    /// The one that answered, and with what.
    pub(crate) answered: Option<(SocketAddr, StatusCode)>,
    /// It went to the canary.
    pub(crate) canary: bool,
    /// The request's id.
    pub(crate) id: Option<HeaderValue>,
}

/// One request.
pub(crate) struct Record {
    recorder: Arc<Recorder>,
    since: Instant,
    line: Option<Line>,
    series: Option<Arc<Series>>,
    asked: u64,
    /// How much of the answer's body was sent, in bytes.
    pub(crate) sent: u64,
}

impl Record {
    /// Begins with a request's head.
    pub(crate) fn new(recorder: &Arc<Recorder>, client: &Client, parts: &request::Parts) -> Box<Self> {
        let header = |name: HeaderName| parts.headers.get(name).map(HeaderValue::as_bytes);
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        let target = parts.uri.path_and_query().map_or("*", |target| target.as_str());
        let head = parts.method.as_str().len() + target.len() + " HTTP/1.1\r\n\r\n ".len();
        let version = match parts.version {
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        let line = recorder.log.as_ref().map(|_| {
            let user = header(AUTHORIZATION).and_then(|_| auth::credentials(&parts.headers));
            let user = user.as_ref().map(|(name, _)| &**name);
            let request = [parts.method.as_str(), target, version];
            Line::new(client.from.ip(), user, request, [header(REFERER), header(USER_AGENT)])
        });
        let asked = (head + fields.sum::<usize>()) as u64 + length.unwrap_or(0);
        Box::new(Record { recorder: recorder.clone(), since: Instant::now(), line, series: None, asked, sent: 0 })
    }

    /// Goes on with the head of the answer.
    pub(crate) fn answered(
        &mut self,
        (table, route, host): (&Table, Option<&Route>, &str),
        trace: Trace,
        method: &http::Method,
        response: &Response<Body>,
    ) {
        if let Some(shard) = &self.recorder.shard {
            let labels =
                Labels { host: table.label(host), route, canary: trace.canary, method, status: response.status() };
            self.series = shard.series(&labels);
        }
        self.line = self.line.take().filter(|_| route.is_none_or(|route| route.policy.logged));
        if let Some(line) = &mut self.line {
            line.status = response.status().as_u16();
            line.upstream = route.and_then(|route| route.backend.clone());
            let canary = route.and_then(|route| route.canary.as_ref()).filter(|_| trace.canary);
            line.canary = canary.map(|canary| canary.backend.clone());
            line.identify(trace.id.as_ref().map(HeaderValue::as_bytes));
            line.took = self.since.elapsed();
            (line.tried, line.answered) = (trace.tried, trace.answered);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.since.elapsed();
        if let Some(series) = self.series.take() {
            series.count(took, self.asked, self.sent);
        }
        if let (Some(line), Some(log)) = (self.line.take(), &self.recorder.log) {
            log.write(&line, self.asked, self.sent, took);
        }
    }
}

/// The request's id as it goes on.
pub(crate) fn id(parts: &request::Parts) -> Option<HeaderValue> {
    parts.headers.get(X_REQUEST_ID).cloned()
}
