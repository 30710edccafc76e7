//! What is counted of requests, under ingress-nginx's names. Each thread has its own counts; they are added up when
//! someone asks.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use proxy::web::{self, Answer};
use proxy::{Exposition, Histogram};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Route;

/// How many sets of labels a thread has; requests beyond are not counted.
const SERIES: usize = 10_000;
/// How many may ask for them at once; further ones wait.
const CONNECTIONS: usize = 16;
/// The methods that are told apart.
const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
    Method::OPTIONS,
    Method::TRACE,
];

/// The counts of a server's threads.
#[derive(Debug)]
pub struct Metrics {
    /// The labels that all metrics have.
    own: String,
    shards: Mutex<Vec<Arc<Shard>>>,
}

/// The counts of one thread.
#[derive(Debug)]
pub(crate) struct Shard {
    hasher: RandomState,
    series: Mutex<HashMap<u64, Arc<Series>>>,
}

/// What is counted with the same labels.
#[derive(Debug)]
pub(crate) struct Series {
    labels: String,
    tally: Mutex<Tally>,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    count: u64,
    durations: Histogram,
    /// Bytes.
    asked: u64,
    sent: u64,
}

/// What tells requests apart.
pub(crate) struct Labels<'a> {
    /// The host as it is in rules.
    pub(crate) host: Option<(&'static str, &'a str)>,
    pub(crate) route: Option<&'a Route>,
    pub(crate) canary: bool,
    pub(crate) method: &'a Method,
    pub(crate) status: StatusCode,
}

impl Hash for Labels<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let route = self.route.map(|route| {
            let backend = route.backend.as_deref().map(|backend| (&backend.service, &backend.port));
            (&route.ingress, &route.path, backend)
        });
        (self.host, route, self.canary, METHODS.iter().position(|method| method == self.method), self.status)
            .hash(state);
    }
}

impl Labels<'_> {
    fn text(&self) -> String {
        let (star, host) = self.host.unwrap_or(("", "_"));
        let (route, text) =
            (self.route, |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        let backend = route.and_then(|route| route.backend.as_deref());
        let canary = route.and_then(|route| route.canary.as_ref()).filter(|_| self.canary);
        let canary = canary.map_or_else(String::new, |canary| {
            format!("{}-{}-{}", canary.backend.service.namespace, canary.backend.service.name, canary.backend.port)
        });
        format!(
            "canary=\"{canary}\",host=\"{star}{}\",ingress=\"{}\",method=\"{}\",namespace=\"{}\",path=\"{}\",\
             service=\"{}\",status=\"{}\"",
            text(host),
            route.map_or("", |route| &route.ingress.name),
            METHODS.iter().find(|method| *method == self.method).map_or("OTHER", |method| method.as_str()),
            route.map_or("", |route| &route.ingress.namespace),
            text(route.map_or("", |route| &route.path)),
            backend.map_or("", |backend| &backend.service.name),
            self.status.as_u16(),
        )
    }
}

impl Shard {
    /// The series with these labels.
    pub(crate) fn series(&self, labels: &Labels<'_>) -> Option<Arc<Series>> {
        let hash = self.hasher.hash_one(labels);
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = series.get(&hash) {
            return Some(found.clone());
        }
        (series.len() < SERIES).then(|| {
            let new = Arc::new(Series { labels: labels.text(), tally: Mutex::default() });
            series.insert(hash, new.clone());
            new
        })
    }
}

impl Series {
    /// Counts a request that took so long and had so many bytes.
    pub(crate) fn count(&self, took: Duration, asked: u64, sent: u64) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.count += 1;
        tally.durations.observe(took);
        tally.asked += asked;
        tally.sent += sent;
    }
}

impl Metrics {
    /// Those of the controller called `pod`, none yet.
    pub fn new(pod: &str) -> Self {
        let own = format!(
            "controller_class=\"k8s.io/ingress-nginx\",controller_namespace=\"kube-system\",controller_pod=\"{pod}\""
        );
        Metrics { own, shards: Mutex::default() }
    }

    /// The counts of one more thread.
    pub(crate) fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard { hasher: RandomState::new(), series: Mutex::default() });
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).push(shard.clone());
        shard
    }

    /// Answers everyone on a listener with it, or with `ok` at `/healthz`, until `close`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, close: CancellationToken) {
        let page = move |path: &str| match path {
            "/healthz" => Answer::text("ok".to_owned()),
            _ => Answer { kind: "text/plain; version=0.0.4; charset=utf-8", ..Answer::text(self.text()) },
        };
        web::serve(listener, Arc::new(Semaphore::new(CONNECTIONS)), close, Arc::new(page)).await;
    }

    /// All of it, in the text format of Prometheus (0.0.4).
    pub fn text(&self) -> String {
        let mut all = BTreeMap::<String, Tally>::new();
        for shard in self.shards.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for series in shard.series.lock().unwrap_or_else(PoisonError::into_inner).values() {
                let more = series.tally.lock().unwrap_or_else(PoisonError::into_inner);
                let sum = all.entry(format!("{},{}", self.own, series.labels)).or_default();
                sum.count += more.count;
                sum.durations = sum.durations.with(&more.durations);
                sum.asked += more.asked;
                sum.sent += more.sent;
            }
        }
        let mut out = Exposition::default();
        out.begin("nginx_ingress_controller_requests", "counter", "The total number of client requests.");
        all.iter().for_each(|(labels, tally)| out.sample("", labels, tally.count as f64));
        out.begin(
            "nginx_ingress_controller_request_duration_seconds",
            "histogram",
            "How long requests took, to the end of their answers.",
        );
        all.iter().for_each(|(labels, tally)| out.histogram(labels, &tally.durations));
        let mut sizes = |name, help, size: fn(&Tally) -> u64| {
            out.begin(name, "histogram", help);
            for (labels, tally) in &all {
                out.sample("_bucket", &format!("{labels},le=\"+Inf\""), tally.count as f64);
                out.sample("_sum", labels, size(tally) as f64);
                out.sample("_count", labels, tally.count as f64);
            }
        };
        sizes("nginx_ingress_controller_request_size", "Bytes of requests.", |tally| tally.asked);
        sizes("nginx_ingress_controller_response_size", "Bytes of the answers' bodies.", |tally| tally.sent);
        out.text()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn threads_are_added_up_for_who_asks() {
        let metrics = Arc::new(Metrics::new("node-1"));
        for shard in [metrics.shard(), metrics.shard()] {
            for (method, status) in [(&Method::GET, 404), (&Method::from_bytes(b"BREW").unwrap(), 405)] {
                let (host, status) = (Some(("*.", "a.com")), StatusCode::from_u16(status).unwrap());
                let labels = Labels { host, route: None, canary: false, method, status };
                shard.series(&labels).unwrap().count(Duration::from_millis(3), 100, 20);
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(metrics.serve(listener, CancellationToken::new()));
        for _ in 0..2 {
            let (mut stream, mut text) = (TcpStream::connect(at).await.unwrap(), String::new());
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
            stream.read_to_string(&mut text).await.unwrap();
            let own = "controller_class=\"k8s.io/ingress-nginx\",controller_namespace=\"kube-system\",controller_pod=\"node-1\"";
            for (method, status) in [("GET", 404), ("OTHER", 405)] {
                let labels = format!(
                    "{own},canary=\"\",host=\"*.a.com\",ingress=\"\",method=\"{method}\",namespace=\"\",path=\"\",\
                     service=\"\",status=\"{status}\""
                );
                assert!(text.contains(&format!("_requests{{{labels}}} 2\n")), "{text}");
                assert!(text.contains(&format!("_response_size_sum{{{labels}}} 40\n")), "{text}");
            }
        }
    }
}
