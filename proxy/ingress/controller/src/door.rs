//! Where clients come in: the listeners on this node, and the Service that leads to them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ingress::{Config, Listener, Metrics, Server, Table};
use serde_json::{Value, json};
use state::{Key, Snapshot};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Place;
use crate::journal::Journal;

/// The Service of all Ingresses.
pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const NAME: &str = "ingress";
/// Who made it.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "coracle");
/// Its ports.
const PORTS: [(&str, u16); 2] = [("http", 80), ("https", 443)];
/// Where metrics are, as ingress-nginx's.
const METRICS: u16 = 10254;
/// For how long requests under way may go on when the door closes.
const GRACE: Duration = Duration::from_secs(1);

/// An open door: a server that clients reach.
pub(crate) struct Door {
    at: [SocketAddr; PORTS.len()],
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Door {
    /// Listens, on ports of the kernel's choice where the usual ones are taken, and serves.
    pub(crate) async fn open(place: &Place, table: watch::Receiver<Arc<Table>>) -> io::Result<Self> {
        let (mut listeners, mut at) = (Vec::new(), [SocketAddr::new(place.address, 0); PORTS.len()]);
        for (at, (_, port)) in at.iter_mut().zip(PORTS) {
            let socket = match (place.listen)(SocketAddr::new(place.address, port)).await {
                Ok(socket) => socket,
                Err(_) => (place.listen)(*at).await?,
            };
            *at = socket.local_addr()?;
            listeners.push(Listener { socket, tls: port == 443 });
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut server = Server::new(Config { connect: place.connect.clone(), threads, grace: GRACE }, table);
        let stop = CancellationToken::new();
        let journal = Journal::new(place.log.clone());
        server = server.logging(Arc::new(move |lines| journal.write(lines)));
        if let Some(listener) = metrics(place).await {
            let metrics = Arc::new(Metrics::new(&place.node_name));
            server = server.counting(metrics.clone());
            tokio::spawn(metrics.serve(listener, stop.clone()));
        }
        let running = server.run(listeners, stop.clone());
        let serving = tokio::spawn(async move {
            if let Err(error) = running.await {
                warn!("failed to serve Ingresses: {error}");
            }
        });
        info!("Ingresses are served at {} and {} on {threads} threads", at[0], at[1]);
        Ok(Door { at, stop, serving })
    }

    /// Closes it; requests under way have their grace.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.serving.await.ok();
    }

    /// True when the Service leads here, as far as the Snapshot knows.
    pub(crate) fn reached(&self, node: &str, snapshot: &Snapshot) -> bool {
        let service = snapshot.service(NAMESPACE, NAME);
        service.is_some_and(|service| match &service.endpoints[..] {
            [endpoint] => {
                let port = |(at, (name, _)): (&SocketAddr, (&str, u16))| {
                    endpoint.ports.iter().any(|port| *port.name == *name && port.port == at.port())
                };
                endpoint.address == self.at[0].ip()
                    && endpoint.node.as_deref() == Some(node)
                    && self.at.iter().zip(PORTS).all(port)
            }
            _ => false,
        })
    }

    /// The EndpointSlice of the Service.
    pub(crate) fn slice(&self, node: &str) -> Value {
        let port =
            |(at, (name, _)): (&SocketAddr, (&str, u16))| json!({"name": name, "protocol": "TCP", "port": at.port()});
        let ports: Vec<_> = self.at.iter().zip(PORTS).map(port).collect();
        let address = self.at[0].ip();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": NAME, "namespace": NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": MANAGED_BY.1,
                },
            },
            "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}, "nodeName": node}],
            "ports": ports,
        })
    }
}

/// Where metrics are asked for; nowhere, if their port is taken.
async fn metrics(place: &Place) -> Option<TcpListener> {
    let socket = (place.listen)(SocketAddr::new(place.address, METRICS)).await.ok()?;
    socket.set_nonblocking(true).ok()?;
    TcpListener::from_std(socket).ok()
}

/// The Service.
pub(crate) fn service() -> Value {
    let ports = PORTS.map(|(name, port)| json!({"name": name, "protocol": "TCP", "port": port}));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME, "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": NAME, MANAGED_BY.0: MANAGED_BY.1},
        },
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": ports},
    })
}

/// The addresses that the Service has for the world.
pub(crate) fn addresses(snapshot: &Snapshot) -> &[IpAddr] {
    snapshot.service(NAMESPACE, NAME).map_or(&[], |service| &service.load_balancer_ips)
}

/// True for the Service of all Ingresses.
pub(crate) fn is_service(key: &Key) -> bool {
    (&*key.namespace, &*key.name) == (NAMESPACE, NAME)
}
