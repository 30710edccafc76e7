//! What a cluster has of its DNS: the ConfigMap with the Corefile, the Service `kube-dns`, and the server itself.

use std::{
    fmt::Debug,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use anyhow::Context as _;
use futures::FutureExt as _;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, Resource, api::PostParams, core::NamespaceResourceScope};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use state::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{corefile, isolated::Inside};

/// The server, and the Corefile that it runs.
pub(super) struct CoreDns {
    server: Arc<dns::Server>,
    corefile: String,
    client: Client,
}

impl CoreDns {
    /// Starts the server with the cluster's Corefile, or with `standard` where there is none or it is wrong.
    ///
    /// # Errors
    /// When the API server cannot be asked, or an address cannot be listened on.
    pub(super) async fn bind(
        client: Client,
        address: Ipv4Addr,
        standard: String,
        inside: Option<&Inside>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let bind = async |corefile: &str| {
            let config = dns::Config { corefile: corefile.to_owned(), address: Some(address.into()), port: 53 };
            let sources = corefile::snapshots(client.clone(), Some(snapshots.clone()), stop.clone());
            dns::Server::bind(config, sockets(address, inside), sources).await
        };
        let kept = corefile::read(&client).await?;
        let kept = match kept {
            Some(kept) => bind(&kept).await.ok().map(|server| (server, kept)),
            None => None,
        };
        let (server, corefile) = match kept {
            Some(kept) => kept,
            // Whoever follows the ConfigMap says what is wrong with it.
            None => (bind(&standard).await.context("start DNS")?, standard),
        };
        Ok(Self { server: Arc::new(server), corefile, client })
    }

    /// Makes the objects that every cluster has; what is there already stays as it is.
    pub(super) async fn publish(&self, address: Ipv4Addr) {
        let corefile = json!(corefile::config_map(self.corefile.clone()));
        let (map, service, slice) = futures::join!(
            create::<ConfigMap>(&self.client, corefile),
            create::<Service>(&self.client, service(address)),
            create::<EndpointSlice>(&self.client, slice(address))
        );
        for error in [map, service, slice].into_iter().filter_map(Result::err) {
            tracing::warn!("objects of DNS: {error:#}");
        }
    }

    /// Answers, and follows the ConfigMap, until `stop`: not for a `lameduck` longer, as who asks ends too.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = corefile::follow(self.client, self.server.clone(), self.corefile) => {}
        }
    }
}

async fn create<K>(client: &Client, object: Value) -> anyhow::Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
{
    let api = Api::<K>::namespaced(client.clone(), corefile::NAMESPACE);
    match api.create(&PostParams::default(), &serde_json::from_value(object)?).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        created => created.map(drop).with_context(|| format!("make the {}", K::kind(&()))),
    }
}

/// The ports of DNS: name, protocol, number.
const PORTS: [(&str, &str, u16); 3] = [("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("metrics", "TCP", 9153)];

/// The Service by the name that it has everywhere. The proxy leaves its address alone, which is the server's own.
fn service(address: Ipv4Addr) -> Value {
    let port = |(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port, "targetPort": port});
    json!({
        "metadata": {
            "name": "kube-dns", "namespace": corefile::NAMESPACE,
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
            "labels": {
                "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {"clusterIP": address, "clusterIPs": [address], "ports": PORTS.map(port)},
    })
}

/// Its endpoint, which is no pod.
fn slice(address: Ipv4Addr) -> Value {
    let port = |(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port});
    json!({
        "metadata": {
            "name": "kube-dns", "namespace": corefile::NAMESPACE,
            "labels": {"kubernetes.io/service-name": "kube-dns", "k8s-app": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": PORTS.map(port),
    })
}

/// Where DNS listens: what a Corefile leaves open is the cluster's DNS address.
fn sockets(dns: Ipv4Addr, inside: Option<&Inside>) -> dns::Sockets {
    let at = move |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) if !ip.is_unspecified() => Ok(SocketAddrV4::new(ip, address.port())),
        ip if ip.is_unspecified() => Ok(SocketAddrV4::new(dns, address.port())),
        _ => Err(io::Error::from(io::ErrorKind::AddrNotAvailable)),
    };
    match inside {
        None => {
            let dns::Sockets { udp, tcp } = dns::Sockets::host();
            let here = move |address: SocketAddr| at(address).map_or(address, SocketAddr::from);
            dns::Sockets {
                udp: Arc::new(move |address| udp(here(address))),
                tcp: Arc::new(move |address| tcp(here(address))),
            }
        }
        Some(inside) => {
            let (udp, tcp) = (inside.clone(), inside.clone());
            dns::Sockets {
                udp: Arc::new(move |address| {
                    let inside = udp.clone();
                    async move { inside.bind(at(address)?).await }.boxed()
                }),
                tcp: Arc::new(move |address| {
                    let inside = tcp.clone();
                    async move { inside.listen(at(address)?).await }.boxed()
                }),
            }
        }
    }
}
