//! The NodePort lesson, deployed and asked as a student would, but by the program itself.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::TryStreamExt as _;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
    core::TypeMeta,
    runtime::{WatchStreamExt as _, watcher},
};

use crate::isolated::Inside;

/// The manifest, as it is in `examples/`.
const MANIFEST: &str = include_str!("../examples/nodeport.yaml");
/// The name of its Deployment.
const DEPLOYMENT: &str = "nginx-deploy";
/// The name of its Service.
const SERVICE: &str = "nodeport-svc";
/// How long its pods may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// What the Service got.
pub(crate) struct Deployed {
    pub cluster_ip: Ipv4Addr,
    pub port: u16,
    pub node_port: u16,
    /// Its full name in the cluster's DNS.
    pub dns_name: String,
}

/// Creates everything in the manifest.
pub(crate) async fn create(client: &Client) -> anyhow::Result<()> {
    let documents: Vec<DynamicObject> = serde_saphyr::from_multiple(MANIFEST).context("read examples/nodeport.yaml")?;
    for object in documents {
        let types: TypeMeta = object.types.clone().context("a document without a kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), "default", &resource);
        api.create(&PostParams::default(), &object).await.with_context(|| format!("create the {}", types.kind))?;
    }
    Ok(())
}

/// Waits until all replicas are ready, and returns what the Service got.
pub(crate) async fn ready(client: &Client) -> anyhow::Result<Deployed> {
    let config = watcher::Config::default().fields(&format!("metadata.name={DEPLOYMENT}"));
    let resource = ApiResource::erase::<Deployment>(&());
    let api = Api::<DynamicObject>::default_namespaced_with(client.clone(), &resource);
    let mut changes = Box::pin(watcher(api, config).applied_objects());
    let all_ready = async {
        while let Some(DynamicObject { data, .. }) = changes.try_next().await? {
            if data["status"]["readyReplicas"] == data["spec"]["replicas"] {
                return Ok(());
            }
        }
        bail!("the watch of the Deployment ended")
    };
    tokio::time::timeout(PATIENCE, all_ready)
        .await
        .with_context(|| format!("the pods are not ready after {PATIENCE:?}; RUST_LOG=info says more"))??;
    let service = Api::<Service>::default_namespaced(client.clone()).get(SERVICE).await?;
    let spec = service.spec.unwrap_or_default();
    let port = spec.ports.unwrap_or_default().into_iter().next().context("the Service has no port")?;
    Ok(Deployed {
        cluster_ip: spec.cluster_ip.unwrap_or_default().parse().context("the Service has no ClusterIP")?,
        port: u16::try_from(port.port)?,
        node_port: u16::try_from(port.node_port.unwrap_or_default())?,
        dns_name: format!("{SERVICE}.default.svc.cluster.local"),
    })
}

/// One GET from inside the node's network: what the pod said of itself, by key.
pub(crate) async fn get(inside: &Inside, address: Ipv4Addr, port: u16) -> anyhow::Result<BTreeMap<String, String>> {
    let exchange = async {
        let stream = inside.connect((address, port).into()).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = http::Request::get("/").header("host", address.to_string()).body(Empty::new())?;
        let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        drop(sender);
        connection.await??;
        let text = String::from_utf8_lossy(&body).into_owned();
        let pairs = text.lines().filter_map(|line| line.split_once(": "));
        anyhow::Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    };
    tokio::time::timeout(ANSWER, exchange)
        .await
        .with_context(|| format!("no answer from {address}:{port} within {ANSWER:?}"))?
        .with_context(|| format!("ask {address}:{port}"))
}

/// Asks the cluster's DNS for a name's address, from inside the node's network.
pub(crate) async fn resolve(inside: &Inside, server: Ipv4Addr, name: &str) -> anyhow::Result<Ipv4Addr> {
    let socket = inside.udp().await?;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    socket.connect((server, 53)).await?;
    let mut question = Message::new(1, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
    socket.send(&question.to_vec()?).await?;
    let mut buffer = [0; 512];
    let length = tokio::time::timeout(ANSWER, socket.recv(&mut buffer)).await.context("no answer from DNS")??;
    let answer = Message::from_vec(&buffer[..length])?;
    let address = answer.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    address.with_context(|| format!("DNS has no address for {name}"))
}
