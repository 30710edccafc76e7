//! Whether the nodes ranked ahead are alive: asked some times in a second, as load balancers ask, and only while there are any.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, join_all, select};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::election::Probe;
use crate::health;

/// How often each is asked, and how long an answer may take: a node that dies is found out within three periods.
const PERIOD: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_millis(350);
/// How many answers in a row it takes to believe the contrary.
const CONTRARY: u8 = 2;

/// The task that asks.
pub(crate) struct Health {
    asked: watch::Sender<BTreeSet<Probe>>,
    dead: watch::Receiver<BTreeSet<Probe>>,
}

impl Health {
    /// It ends when this is dropped.
    pub(crate) fn start() -> Self {
        let (asked, probes) = watch::channel(BTreeSet::new());
        let (found, dead) = watch::channel(BTreeSet::new());
        tokio::spawn(run(probes, found));
        Health { asked, dead }
    }

    /// Whom to ask from now on; who is new counts as alive.
    pub(crate) fn ask(&self, probes: BTreeSet<Probe>) {
        self.asked.send_if_modified(|asked| {
            let other = *asked != probes;
            *asked = probes;
            other
        });
    }

    /// Those that do not answer.
    pub(crate) fn dead(&mut self) -> BTreeSet<Probe> {
        self.dead.borrow_and_update().clone()
    }

    /// Waits until they are others.
    pub(crate) async fn changed(&mut self) {
        if self.dead.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// What is believed of one.
#[derive(Debug, Default)]
struct Belief {
    dead: bool,
    /// Answers in a row that say otherwise.
    contrary: u8,
}

impl Belief {
    fn hear(&mut self, alive: bool) {
        self.contrary = if alive == self.dead { self.contrary + 1 } else { 0 };
        if self.contrary == CONTRARY {
            *self = Belief { dead: !self.dead, contrary: 0 };
        }
    }
}

async fn run(mut probes: watch::Receiver<BTreeSet<Probe>>, found: watch::Sender<BTreeSet<Probe>>) {
    let mut beliefs = BTreeMap::<Probe, Belief>::new();
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = probes.borrow_and_update().clone();
        beliefs.retain(|probe, _| asked.contains(probe));
        asked.into_iter().for_each(|probe| _ = beliefs.entry(probe).or_default());
        let dead = beliefs.iter().filter(|(_, belief)| belief.dead).map(|(probe, _)| *probe).collect();
        found.send_if_modified(|found| {
            let other = *found != dead;
            *found = dead;
            other
        });
        tokio::select! {
            changed = probes.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            _ = period.tick(), if !beliefs.is_empty() => {}
        }
        let asking = beliefs.iter_mut().map(async |(probe, belief)| belief.hear(answers(*probe).await));
        join_all(asking).await;
    }
}

/// Whether one answers in time, and well.
async fn answers(probe: Probe) -> bool {
    let answer = async {
        match probe {
            Probe::Node(node, port) => well(SocketAddr::new(node, health::PORT)).await && lives(node, port).await,
            Probe::Endpoints(at) => well(at).await,
        }
    };
    timeout(PATIENCE, answer).await == Ok(true)
}

/// Whether a port is connected to, or refuses that.
async fn lives(node: IpAddr, port: Option<u16>) -> bool {
    let Some(port) = port else { return true };
    match TcpStream::connect((node, port)).await {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
    }
}

/// Whether a page of health says so.
async fn well(at: SocketAddr) -> bool {
    matches!(get(at).await, Ok(StatusCode::OK))
}

/// The status of a health page.
async fn get(at: SocketAddr) -> Result<StatusCode, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(at).await?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/healthz").header(header::HOST, at.to_string()).body(Empty::<Bytes>::new())?;
    let answer = match select(pin!(requests.send_request(request)), pin!(connection)).await {
        Either::Left((answer, _)) => answer?,
        // It said its last word, and hung up.
        Either::Right((_, answer)) => answer.await?,
    };
    Ok(answer.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_answers_in_a_row_change_a_belief() {
        let mut belief = Belief::default();
        let heard = "+-+-+--+-+-++-++";
        let dead: String = heard
            .chars()
            .map(|answer| {
                belief.hear(answer == '+');
                if belief.dead { 'x' } else { '.' }
            })
            .collect();
        assert_eq!(dead, "......xxxxxx....", "{heard}");
    }

    #[tokio::test]
    async fn what_counts_as_an_answer() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let page = async |answer: &'static str| {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            tokio::spawn(async move {
                let mut kept = Vec::new();
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut asked = [0; 256];
                    let length = stream.read(&mut asked).await.unwrap_or(0);
                    if length == 0 || asked.starts_with(b"GET /healthz HTTP/1.1\r\n") {
                        stream.write_all(answer.as_bytes()).await.ok();
                    }
                    // What says nothing goes on saying nothing.
                    kept.extend(answer.is_empty().then_some(stream));
                }
            });
            at
        };
        let good = page("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        for (at, want) in [
            (good, true),
            (closed, false),
            (page("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await, false),
            (page("220 mail\r\n").await, false),
            (page("").await, false),
        ] {
            // On a busy machine even a good answer may come too late.
            let mut tries = 20;
            while answers(Probe::Endpoints(at)).await != want {
                tries -= 1;
                assert!(tries > 0, "{at}");
            }
        }
        // Nobody is at an address for all of a network.
        let nobody = IpAddr::from([127, 255, 255, 255]);
        for (node, port, want) in [
            (good.ip(), Some(good.port()), true),
            (closed.ip(), Some(closed.port()), true),
            (nobody, Some(good.port()), false),
            (nobody, None, true),
        ] {
            assert_eq!(lives(node, port).await, want, "{node} {port:?}");
        }
    }
}
