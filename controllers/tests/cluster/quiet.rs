//! A cluster where nothing happens costs nothing: no request beyond what the watches need.

use std::sync::Arc;
use std::sync::Mutex;
use std::task::{Context, Poll};

use http::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use serde_json::json;

use crate::lab::{Lab, deployment, is_ready};

/// Notes every request.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

#[derive(Clone)]
pub(crate) struct Noted {
    pub(crate) server: apiserver::Service,
    pub(crate) notes: Notes,
}

impl tower::Service<Request<kube::client::Body>> for Noted {
    type Response = http::Response<apiserver::Body>;
    type Error = std::convert::Infallible;
    type Future = <apiserver::Service as tower::Service<Request<kube::client::Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let note = format!("{} {}", request.method(), request.uri());
        self.notes.0.lock().expect("nobody panics with it").push(note);
        tower::Service::call(&mut self.server, request)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_while_nothing_happens() {
    let notes = Notes::default();
    let mut lab = Lab::noted(notes.clone()).await;
    lab.node("n1").await;
    let ports = json!([{"port": 80, "targetPort": "http"}]);
    lab.create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}))
        .await;
    lab.create::<Deployment>(deployment("web", 3, "web:1")).await;
    lab.until("a finished rollout", async || {
        let pods = lab.list::<Pod>().await;
        let status = lab.api::<Deployment>().get("web").await.expect("it is there").status.unwrap_or_default();
        (pods.len() == 3 && pods.iter().all(is_ready) && status.available_replicas == Some(3)).then_some(())
    })
    .await;
    let count = || notes.0.lock().expect("nobody panics with it").len();
    // Between two heartbeats that the node sends, and those come all the time, nobody asks for anything.
    let leases: Api<Lease> = Api::namespaced(lab.client.clone(), "kube-node-lease");
    let renewed = async || leases.get("n1").await.expect("a Lease").metadata.resource_version;
    lab.until("two heartbeats without a request", async || {
        let (before, mut beats) = (count(), 0);
        let mut last = renewed().await;
        while beats < 2 {
            let now = renewed().await;
            beats += usize::from(now != last);
            last = now;
            tokio::task::yield_now().await;
        }
        (count() == before).then_some(())
    })
    .await;
    let all = notes.0.lock().expect("nobody panics with it").clone();
    let writes: Vec<&String> =
        all.iter().filter(|note| !note.starts_with("GET") && !note.contains("/events")).collect();
    println!("{} requests, {} writes without events:", all.len(), writes.len());
    writes.iter().for_each(|write| println!("{write}"));
    lab.end().await;
}
