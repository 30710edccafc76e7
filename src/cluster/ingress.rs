//! What a cluster has of its Ingress controller: its IngressClasses, and where it is on the node.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::Context as _;
use futures::FutureExt as _;
use k8s_openapi::api::networking::v1::IngressClass;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use crate::{config::Options, isolated::Inside};

/// The classes that are served, with the controllers that they name, and which one is the default.
const CLASSES: [(&str, &str, bool); 2] =
    [("nginx", ingress_controller::CONTROLLERS[0], true), ("coracle", ingress_controller::CONTROLLERS[1], false)];

/// Makes the IngressClasses that every cluster has; what is there already stays as it is.
pub(super) async fn publish(client: &Client) {
    let api = Api::<IngressClass>::all(client.clone());
    let create = async |(name, controller, default): (&str, &str, bool)| {
        let annotations = json!({"ingressclass.kubernetes.io/is-default-class": default.to_string()});
        let annotations = if default { annotations } else { json!({}) };
        let class = json!({"metadata": {"name": name, "annotations": annotations}, "spec": {"controller": controller}});
        match api.create(&PostParams::default(), &serde_json::from_value(class)?).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            created => created.map(drop).with_context(|| format!("make the IngressClass {name}")),
        }
    };
    for error in futures::future::join_all(CLASSES.map(create)).await.into_iter().filter_map(Result::err) {
        tracing::warn!("objects of Ingress: {error:#}");
    }
}

/// Where the controller is: at the node's address towards its pods, which in an isolated node is inside.
pub(super) fn place(options: &Options, client: Client, inside: Option<&Inside>) -> ingress_controller::Place {
    let (node_name, address) = (options.node_name.clone(), options.gateway().into());
    let log = options.data_dir.join("ingress.log");
    let Some(inside) = inside else {
        let listen = |at| async move { TcpListener::bind(at) }.boxed();
        let connect = |to| tokio::net::TcpStream::connect::<SocketAddr>(to).boxed();
        return ingress_controller::Place {
            client,
            node_name,
            address,
            log,
            listen: Arc::new(listen),
            connect: Arc::new(connect),
        };
    };
    let (listen, connect) = (inside.clone(), inside.clone());
    let listen = move |at| {
        let inside = listen.clone();
        async move {
            match at {
                SocketAddr::V4(at) => inside.listen(at).await,
                SocketAddr::V6(_) => Err(io::Error::from(io::ErrorKind::AddrNotAvailable)),
            }
        }
        .boxed()
    };
    let connect = move |to| {
        let inside = connect.clone();
        async move { inside.connect(to).await }.boxed()
    };
    ingress_controller::Place { client, node_name, address, log, listen: Arc::new(listen), connect: Arc::new(connect) }
}
