//! Whole rollouts played against sets that obey at once, and single steps by table.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetStatus};
use serde_json::{Value, json};

use super::plan::{Plan, View, plan};
use super::sets::size;
use super::{strategy, template};

fn deployment(spec: Value) -> Deployment {
    let mut whole = json!({
        "replicas": 3,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        },
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
    });
    for (name, value) in spec.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    let object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": whole,
    });
    serde_json::from_value(object).expect("a deployment")
}

/// A Deployment and sets that do what they are told.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    now: Timestamp,
    events: Vec<String>,
    /// Pods of images with this name never become ready.
    broken: &'static str,
}

impl World {
    fn new(spec: Value) -> World {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        World { deployment: deployment(spec), sets: vec![], now, events: vec![], broken: "broken" }
    }

    fn plan(&self) -> Plan {
        let sets: Vec<Arc<ReplicaSet>> = self.sets.iter().cloned().map(Arc::new).collect();
        let pods: BTreeMap<String, usize> = sets
            .iter()
            .map(|set| (uid(set), set.status.as_ref().map_or(0, |status| status.replicas as usize)))
            .collect();
        plan(&View { deployment: &self.deployment, sets: &sets, pods: &pods, now: self.now })
    }

    /// One step; answers whether anything changed.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let mut changed = false;
        for slot in plan.sets {
            let from = slot.before.as_deref().map_or(0, size);
            if slot.delete {
                self.sets.retain(|set| set.metadata.name != slot.after.metadata.name);
                self.events.push(format!("delete {}", slot.name()));
                changed = true;
            } else if slot.before.is_none() {
                let mut set = slot.after.clone();
                set.metadata.uid = set.metadata.name.clone();
                let age = Timestamp::from_second(self.sets.len() as i64).expect("a time");
                set.metadata.creation_timestamp = Some(age.into());
                self.sets.push(set);
                changed = true;
            } else if slot.before.as_deref() != Some(&slot.after) {
                let set = self.sets.iter_mut().find(|set| set.metadata.name == slot.after.metadata.name);
                *set.expect("the set is there") = slot.after.clone();
                changed = true;
            }
            if from != slot.size() {
                self.events.push(format!("{from}->{}", slot.size()));
            }
        }
        changed |= self.deployment.status.as_ref() != Some(&plan.status);
        self.deployment.metadata.annotations = plan.annotations;
        self.deployment.status = Some(plan.status);
        changed
    }

    /// Every set has the pods it asks for; those of sound images are available.
    fn obey(&mut self) -> bool {
        let before = self.sets.clone();
        for set in &mut self.sets {
            let available = if image(set).contains(self.broken) { 0 } else { size(set) };
            set.status = Some(ReplicaSetStatus {
                replicas: size(set),
                ready_replicas: Some(available),
                available_replicas: Some(available),
                observed_generation: set.metadata.generation,
                ..Default::default()
            });
        }
        before != self.sets
    }

    /// Steps until nothing changes, checking the strategy's promises on the way.
    fn settle(&mut self) {
        for _ in 0..100 {
            let stepped = self.step();
            let total: i32 = self.sets.iter().map(size).sum();
            let most = strategy::replicas(&self.deployment) + strategy::max_surge(&self.deployment);
            assert!(total <= most.max(self.present()), "{total} pods asked for, {most} allowed");
            if !(self.obey() | stepped) {
                return;
            }
        }
        panic!("the rollout never settles: {:?}", self.events);
    }

    fn present(&self) -> i32 {
        self.sets.iter().filter_map(|set| set.status.as_ref()).map(|status| status.replicas).sum()
    }

    fn image(&mut self, image: &str) {
        let spec = self.deployment.spec.as_mut().expect("a spec");
        spec.template.spec.as_mut().expect("a pod spec").containers[0].image = Some(image.into());
        self.changed();
    }

    fn scale(&mut self, replicas: i32) {
        self.deployment.spec.as_mut().expect("a spec").replicas = Some(replicas);
        self.changed();
    }

    fn pause(&mut self, paused: bool) {
        self.deployment.spec.as_mut().expect("a spec").paused = Some(paused);
        self.changed();
    }

    fn changed(&mut self) {
        self.deployment.metadata.generation = self.deployment.metadata.generation.map(|n| n + 1);
        self.events.clear();
    }

    fn sizes(&self) -> Vec<(String, i32)> {
        self.sets.iter().map(|set| (image(set), size(set))).collect()
    }

    fn status(&self) -> DeploymentStatus {
        self.deployment.status.clone().expect("a status")
    }

    fn condition(&self, kind: &str) -> (String, String, String) {
        let conditions = self.status().conditions.unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition.type_ == kind).expect("the condition");
        (found.status, found.reason.unwrap_or_default(), found.message.unwrap_or_default())
    }

    fn revision(&self) -> String {
        let annotations = self.deployment.metadata.annotations.clone().unwrap_or_default();
        annotations.get("deployment.kubernetes.io/revision").cloned().unwrap_or_default()
    }
}

fn uid(set: &ReplicaSet) -> String {
    set.metadata.uid.clone().unwrap_or_default()
}

fn image(set: &ReplicaSet) -> String {
    let spec = set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.spec.as_ref());
    spec.and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default()
}

fn at(sizes: &[(&str, i32)]) -> Vec<(String, i32)> {
    sizes.iter().map(|(image, size)| ((*image).to_owned(), *size)).collect()
}

#[test]
fn a_new_deployment_makes_one_set_and_completes() {
    let mut world = World::new(json!({}));
    world.step();
    assert_eq!(world.events, ["0->3"]);
    assert_eq!(world.condition("Available").1, "MinimumReplicasUnavailable");
    assert_eq!(world.status().unavailable_replicas, Some(3));
    let set = world.sets[0].clone();
    let hash = set.metadata.labels.as_ref().and_then(|l| l.get("pod-template-hash")).expect("a hash");
    assert_eq!(set.metadata.name.as_deref(), Some(format!("web-{hash}").as_str()));
    let selector = set.spec.expect("a spec").selector.match_labels.expect("labels");
    assert_eq!(selector.get("pod-template-hash"), Some(hash));
    world.settle();
    let name = world.sets[0].metadata.name.clone().expect("a name");
    let done = format!("ReplicaSet {name:?} has successfully progressed.");
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into(), done));
    let minimum = "Deployment has minimum availability.".into();
    assert_eq!(world.condition("Available"), ("True".into(), "MinimumReplicasAvailable".into(), minimum));
    assert_eq!(world.revision(), "1");
    assert_eq!(world.status().unavailable_replicas, None);
}

#[test]
fn a_rolling_update_keeps_its_promises() {
    let mut world = World::new(json!({"replicas": 4}));
    world.settle();
    world.image("web:2");
    world.settle();
    assert_eq!(world.sizes(), at(&[("web:1", 0), ("web:2", 4)]));
    assert_eq!(world.events, ["0->1", "4->3", "1->2", "3->1", "2->4", "1->0"]);
    assert_eq!(world.revision(), "2");
}

#[test]
fn a_broken_version_stops_where_availability_would_suffer() {
    let mut world = World::new(json!({"replicas": 4}));
    world.settle();
    world.image("broken");
    world.settle();
    assert_eq!(world.sizes(), at(&[("web:1", 3), ("broken", 2)]));
    assert_eq!(world.condition("Available").0, "True");
    assert_eq!(world.condition("Progressing").1, "ReplicaSetUpdated");
    let wait = world.plan().recheck.expect("a deadline");
    assert_eq!(wait.as_secs(), 601);
    world.now = Timestamp::from_second(world.now.as_second() + 601).expect("a time");
    world.settle();
    let progressing = world.condition("Progressing");
    assert_eq!((progressing.0.as_str(), progressing.1.as_str()), ("False", "ProgressDeadlineExceeded"));
    assert!(progressing.2.ends_with("has timed out progressing."));
    assert_eq!(world.plan().recheck, None);
}

#[test]
fn going_back_makes_the_old_set_the_new_one() {
    let mut world = World::new(json!({}));
    world.settle();
    world.image("web:2");
    world.settle();
    world.image("web:1");
    world.settle();
    assert_eq!(world.sizes(), at(&[("web:1", 3), ("web:2", 0)]));
    assert_eq!(world.revision(), "3");
}

#[test]
fn old_sets_beyond_the_limit_are_deleted_lowest_revision_first() {
    let mut world = World::new(json!({"revisionHistoryLimit": 1}));
    for image in ["web:1", "web:2", "web:3", "web:4"] {
        world.image(image);
        world.settle();
    }
    assert_eq!(world.sizes(), at(&[("web:3", 0), ("web:4", 3)]));
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new(json!({"strategy": {"type": "Recreate"}}));
    world.settle();
    world.image("web:2");
    world.step();
    assert_eq!(world.sizes(), at(&[("web:1", 0)]));
    world.step();
    assert_eq!(world.sizes(), at(&[("web:1", 0)]), "the old pods still run");
    world.settle();
    assert_eq!(world.sizes(), at(&[("web:1", 0), ("web:2", 3)]));
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(json!({}));
    world.settle();
    world.pause(true);
    world.image("web:2");
    world.scale(5);
    world.settle();
    assert_eq!(world.sizes(), at(&[("web:1", 5)]));
    assert_eq!(world.condition("Progressing").1, "DeploymentPaused");
    world.pause(false);
    world.settle();
    assert_eq!(world.sizes(), at(&[("web:1", 0), ("web:2", 5)]));
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_shared() {
    let mut world = World::new(json!({"replicas": 10}));
    world.settle();
    world.image("broken");
    world.settle();
    let before = world.sizes();
    assert_eq!(before, at(&[("web:1", 8), ("broken", 5)]));
    world.scale(20);
    world.settle();
    assert_eq!(world.sizes(), at(&[("web:1", 15), ("broken", 10)]));
    world.scale(0);
    world.settle();
    assert_eq!(world.sizes(), at(&[("web:1", 0), ("broken", 0)]));
}

#[test]
fn surge_rounds_up_and_unavailability_down() {
    let cases = [
        (3, json!("25%"), json!("25%"), (1, 0)),
        (10, json!("25%"), json!("25%"), (3, 2)),
        (1, json!("25%"), json!("25%"), (1, 0)),
        (4, json!(0), json!("10%"), (0, 1)),
        (4, json!(2), json!(10), (2, 4)),
        (0, json!("25%"), json!("25%"), (0, 0)),
        (2, json!("100%"), json!("100%"), (2, 2)),
    ];
    for (replicas, surge, unavailable, expected) in cases {
        let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let d = deployment(json!({
            "replicas": replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        }));
        assert_eq!((strategy::max_surge(&d), strategy::max_unavailable(&d)), expected, "{replicas} {surge}");
    }
}

#[test]
fn the_hash_is_stable_and_moves_with_the_template_and_collisions() {
    let template = |image: &str| {
        let d = deployment(json!({"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}));
        d.spec.expect("a spec").template
    };
    let hash = template::hash(&template("web:1"), None);
    assert_eq!(hash, template::hash(&template("web:1"), None));
    assert_ne!(hash, template::hash(&template("web:2"), None));
    assert_ne!(hash, template::hash(&template("web:1"), Some(1)));
    assert!(hash.len() <= 10 && hash.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
}

#[test]
fn a_deployment_being_deleted_only_counts() {
    let mut world = World::new(json!({}));
    world.settle();
    world.image("web:2");
    world.deployment.metadata.deletion_timestamp = Some(world.now.into());
    world.settle();
    assert_eq!(world.sizes(), at(&[("web:1", 3)]));
}
