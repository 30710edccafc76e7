//! Controllers, as their authors write them.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{ConfigMap, Secret},
        events::v1 as events,
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{
        controller::{Action, Controller},
        events::{Event, EventType, Recorder},
        finalizer::{self, finalizer},
        watcher::Config,
    },
};
use serde_json::json;

use crate::{all, map, start, until};

const FINALIZER: &str = "tests.coracle/secret";

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error(transparent)]
    Finalizer(#[from] Box<finalizer::Error<kube::Error>>),
}

/// Keeps for each ConfigMap with the label a Secret that it owns, and something outside that a finalizer guards.
async fn reconcile(map: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, Failure> {
    let maps: Api<ConfigMap> = all(&client);
    let result = finalizer(&maps, FINALIZER, map, |event| async {
        match event {
            finalizer::Event::Apply(map) => apply(&map, &client).await,
            finalizer::Event::Cleanup(map) => {
                let outside = json!({"data": {(map.name_any()): null}});
                all::<ConfigMap>(&client).patch("outside", &PatchParams::default(), &Patch::Merge(outside)).await?;
                Ok(Action::await_change())
            }
        }
    });
    Ok(result.await.map_err(Box::new)?)
}

async fn apply(map: &ConfigMap, client: &Client) -> Result<Action, kube::Error> {
    let name = map.name_any();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: Some(vec![map.controller_owner_ref(&()).expect("it is stored")]),
            ..ObjectMeta::default()
        },
        string_data: map.data.clone(),
        ..Secret::default()
    };
    let params = PatchParams::apply("tests").force();
    let secret = all::<Secret>(client).patch(&name, &params, &Patch::Apply(&secret)).await?;
    let outside = json!({"data": {(name): "kept"}});
    all::<ConfigMap>(client).patch("outside", &PatchParams::default(), &Patch::Merge(outside)).await?;
    let recorder = Recorder::new(client.clone(), "tests".into());
    let event = Event {
        type_: EventType::Normal,
        reason: "Kept".into(),
        note: Some(format!("Secret {}", secret.name_any())),
        action: "Keep".into(),
        secondary: None,
    };
    recorder.publish(&event, &map.object_ref(&())).await?;
    Ok(Action::requeue(Duration::from_secs(300)))
}

#[tokio::test]
async fn a_controller_keeps_what_it_owns_and_cleans_up() {
    let (_cluster, client) = start().await;
    let (maps, secrets): (Api<ConfigMap>, Api<Secret>) = (all(&client), all(&client));
    maps.create(&PostParams::default(), &map("outside")).await.unwrap();
    let controller = Controller::new(maps.clone(), Config::default().labels("secret=yes"))
        .owns(secrets.clone(), Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(50)), Arc::new(client.clone()))
        .for_each(|result| async move {
            if let Err(error) = result {
                eprintln!("{error:?}");
            }
        });
    let controller = tokio::spawn(controller);

    let mut wanted = map("settings");
    wanted.labels_mut().insert("secret".into(), "yes".into());
    maps.create(&PostParams::default(), &wanted).await.unwrap();
    let value = async |secrets: &Api<Secret>| {
        let secret = secrets.get_opt("settings").await.unwrap()?;
        Some(String::from_utf8(secret.data?.remove("key")?.0).unwrap())
    };
    until("a Secret", async || value(&secrets).await.as_deref() == Some("value")).await;
    // It follows its owner, and comes back.
    let change = Patch::Merge(json!({"data": {"key": "other"}}));
    maps.patch("settings", &PatchParams::default(), &change).await.unwrap();
    until("another value", async || value(&secrets).await.as_deref() == Some("other")).await;
    secrets.delete("settings", &DeleteParams::default()).await.unwrap();
    until("a new Secret", async || value(&secrets).await.as_deref() == Some("other")).await;
    let told: Api<events::Event> = all(&client);
    until("an event", async || {
        let told = told.list(&ListParams::default().fields("reason=Kept")).await.unwrap();
        told.iter().any(|event| event.regarding.as_ref().is_some_and(|of| of.name.as_deref() == Some("settings")))
    })
    .await;

    maps.delete("settings", &DeleteParams::default()).await.unwrap();
    until("the end of the ConfigMap", async || maps.get_opt("settings").await.unwrap().is_none()).await;
    assert!(!maps.get("outside").await.unwrap().data.unwrap().contains_key("settings"));
    // What is owned goes by the cluster's garbage collector.
    until("the end of the Secret", async || secrets.get_opt("settings").await.unwrap().is_none()).await;
    controller.abort();
}

/// Takes or renews a Lease as client-go's leader election does. Returns whether `holder` leads.
async fn campaign(leases: &Api<Lease>, holder: &str, now: Timestamp, lasts: Duration) -> bool {
    let spec = |transitions| LeaseSpec {
        holder_identity: Some(holder.into()),
        lease_duration_seconds: i32::try_from(lasts.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    let written = match leases.get_opt("leader").await.unwrap() {
        None => {
            let metadata = ObjectMeta { name: Some("leader".into()), ..ObjectMeta::default() };
            leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec(0)) }).await
        }
        Some(mut lease) => {
            let old = lease.spec.take().unwrap_or_default();
            let held = old.renew_time.is_some_and(|MicroTime(at)| now.duration_since(at).unsigned_abs() < lasts);
            if held && old.holder_identity.as_deref() != Some(holder) {
                return false;
            }
            let change = i32::from(old.holder_identity.as_deref() != Some(holder));
            lease.spec = Some(spec(old.lease_transitions.unwrap_or_default() + change));
            leases.replace("leader", &PostParams::default(), &lease).await
        }
    };
    match written {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_leads() {
    let (_cluster, client) = start().await;
    let leases: Api<Lease> = all(&client);
    let lasts = Duration::from_secs(15);
    // As many digits as a MicroTime has.
    let mut now = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap();
    for round in 0..20 {
        let candidates = (0..8).map(|number| {
            let leases = leases.clone();
            tokio::spawn(async move { campaign(&leases, &format!("candidate-{number}"), now, lasts).await })
        });
        let led = futures::future::join_all(candidates).await;
        let leaders = led.into_iter().filter(|leads| *leads.as_ref().unwrap()).count();
        assert_eq!(leaders, 1, "in round {round}");
        now += 2 * lasts;
    }
    let lease = leases.get("leader").await.unwrap().spec.unwrap();
    assert_eq!(lease.renew_time.unwrap().0, now - 2 * lasts, "microseconds are kept");
}
