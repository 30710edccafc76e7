use serde_json::{Value, json};

use super::*;

/// Who writes, to which subresource, and when.
#[derive(Clone, Copy)]
struct Writer<'a> {
    name: &'a str,
    subresource: &'a str,
    now: &'a str,
}

fn writer(name: &str) -> Writer<'_> {
    Writer { name, subresource: "", now: "2026-01-01T00:00:00Z" }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"app": "d"}}, "spec": spec})
}

fn containers(containers: Value) -> Value {
    json!({"replicas": 2, "template": {"spec": {"containers": containers}}})
}

struct Table {
    registry: Registry,
    ty: TypeId,
}

impl Table {
    fn new(group: &str, kind: &str) -> Self {
        let registry = Registry::builtin();
        let ty = registry.type_of(group, "v1", kind).unwrap();
        Table { registry, ty }
    }

    fn with<T>(&self, writer: Writer<'_>, act: impl FnOnce(Ownership<'_>) -> T) -> T {
        act(Ownership {
            registry: &self.registry,
            manager: writer.name,
            version: "apps/v1",
            subresource: writer.subresource,
            now: writer.now,
            view: &|object, _| Some((self.ty, Cow::Borrowed(object))),
        })
    }

    fn apply(&self, live: Option<&Value>, config: &Value, name: &str) -> Result<Value, ApplyError> {
        self.with(writer(name), |ownership| ownership.apply(live, config, self.ty, false))
    }

    fn own(&self, live: Option<&Value>, mut new: Value, writer: Writer<'_>) -> Value {
        let metadata = new["metadata"].as_object_mut().unwrap();
        let given = metadata.remove("managedFields");
        if let Some(owners) = self.with(writer, |ownership| ownership.update(live, &new, given.as_ref())) {
            new["metadata"]["managedFields"] = owners;
        }
        new
    }
}

/// The fields of the only manager of that name.
fn fields(object: &Value, manager: &str) -> Value {
    let all = object["metadata"]["managedFields"].as_array().unwrap();
    let mut of = all.iter().filter(|entry| entry["manager"] == manager);
    let entry = of.next().unwrap_or_else(|| panic!("no {manager} in {all:?}"));
    assert!(of.next().is_none(), "{all:?}");
    entry["fieldsV1"].clone()
}

#[test]
fn who_creates_owns_what_is_added() {
    let table = Table::new("apps", "Deployment");
    let new = deployment(json!({
        "replicas": 1,
        "selector": {"matchLabels": {"app": "d"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {}, "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}},
    }));
    let new = table.own(None, new, writer("kubectl-create"));
    assert_eq!(
        fields(&new, "kubectl-create"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                            ".": {}, "f:containerPort": {}, "f:protocol": {}}},
                    }}},
                },
            },
        })
    );
}

#[test]
fn who_changes_takes_over_and_who_changes_nothing_takes_nothing() {
    let table = Table::new("apps", "Deployment");
    let live = table.own(None, deployment(containers(json!([{"name": "c", "image": "1"}]))), writer("a"));
    let mut new = live.clone();
    new["spec"]["replicas"] = 3.into();
    let new = table.own(Some(&live), new, writer("b"));
    assert_eq!(fields(&new, "b"), json!({"f:spec": {"f:replicas": {}}}));
    assert!(fields(&new, "a")["f:spec"].get("f:replicas").is_none());
    let later = Writer { now: "2026-02-02T00:00:00Z", ..writer("c") };
    assert_eq!(table.own(Some(&new), new.clone(), later), new);
    let mut bare = new.clone();
    bare["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(table.own(Some(&new), bare, later), new);
    let mut cleared = new.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(table.own(Some(&new), cleared, later)["metadata"].get("managedFields"), None);
}

#[test]
fn status_is_owned_by_writes_of_it() {
    let table = Table::new("apps", "Deployment");
    let live = table.own(None, deployment(json!({"replicas": 1})), writer("a"));
    let mut new = live.clone();
    new["status"] = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    let new = table.own(Some(&live), new, Writer { subresource: "status", ..writer("controller") });
    let owned = json!({"f:status": {"f:replicas": {}, "f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}}});
    assert_eq!(fields(&new, "controller"), owned);
    assert_eq!(new["metadata"]["managedFields"][1]["subresource"], "status");
}

#[test]
fn what_is_applied_is_owned_and_what_is_given_up_goes() {
    let table = Table::new("", "ConfigMap");
    let config =
        |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
    let first = table.apply(None, &config(json!({"a": "1", "b": "2"})), "one").unwrap();
    assert_eq!(fields(&first, "one"), json!({"f:data": {"f:a": {}, "f:b": {}}}));
    let both = table.apply(Some(&first), &config(json!({"b": "2", "c": "3"})), "two").unwrap();
    let less = table.apply(Some(&both), &config(json!({"a": "1"})), "one").unwrap();
    assert_eq!(less["data"], json!({"a": "1", "b": "2", "c": "3"}));
    let less = table.apply(Some(&less), &config(json!({})), "two").unwrap();
    assert_eq!(less["data"], json!({"a": "1"}));
    assert_eq!(table.apply(Some(&less), &config(json!({"a": "1"})), "one").unwrap(), less);
    let none = table.apply(Some(&less), &json!({"apiVersion": "v1", "kind": "ConfigMap"}), "one").unwrap();
    assert_eq!(none.get("data"), None);
}

#[test]
fn conflicts_name_the_owners() {
    let table = Table::new("apps", "Deployment");
    let of = |replicas: u32, image: &str| {
        let mut all = containers(json!([{"name": "c", "image": image}]));
        all["replicas"] = replicas.into();
        deployment(all)
    };
    let live = table.own(None, of(2, "1"), writer("kubectl-create"));
    let Err(ApplyError::Conflict { message, causes }) = table.apply(Some(&live), &of(3, "1"), "me") else { panic!() };
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"kubectl-create\" using apps/v1: .spec.replicas");
    assert_eq!((causes[0].reason, &*causes[0].field), ("FieldManagerConflict", ".spec.replicas"));
    assert_eq!(causes[0].message, "conflict with \"kubectl-create\" using apps/v1");
    let Err(ApplyError::Conflict { message, .. }) = table.apply(Some(&live), &of(3, "2"), "me") else { panic!() };
    let two = "Apply failed with 2 conflicts: conflicts with \"kubectl-create\" using apps/v1:\n- .spec.replicas\n\
               - .spec.template.spec.containers[name=\"c\"].image";
    assert_eq!(message, two);
    let forced =
        table.with(writer("me"), |ownership| ownership.apply(Some(&live), &of(3, "2"), table.ty, true)).unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    assert!(fields(&forced, "kubectl-create")["f:spec"].get("f:replicas").is_none());
    let same = table.apply(Some(&live), &of(2, "1"), "me").unwrap();
    assert!(fields(&same, "kubectl-create")["f:spec"].get("f:replicas").is_some(), "owned by both");
}

#[test]
fn lists_merge_by_their_keys() {
    let table = Table::new("apps", "Deployment");
    let of = |items: Value| deployment(containers(items));
    let live = table.own(None, of(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])), writer("x"));
    let config = of(json!([{"name": "c", "image": "1"}, {"name": "b", "env": [{"name": "E", "value": "1"}]}]));
    let new = table.apply(Some(&live), &config, "me").unwrap();
    let expected = json!([{"name": "a", "image": "1"}, {"name": "c", "image": "1"},
        {"name": "b", "image": "1", "env": [{"name": "E", "value": "1"}]}]);
    assert_eq!(new["spec"]["template"]["spec"]["containers"], expected);
    let new = table.apply(Some(&new), &of(json!([{"name": "b"}])), "me").unwrap();
    let expected = json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]);
    assert_eq!(new["spec"]["template"]["spec"]["containers"], expected);
}

#[test]
fn sets_and_atomic_lists() {
    let table = Table::new("", "Pod");
    let of = |finalizers: Value, args: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": finalizers},
            "spec": {"containers": [{"name": "c", "args": args}]}})
    };
    let live = table.apply(None, &of(json!(["e.com/a"]), json!(["1"])), "one").unwrap();
    let new = table.apply(Some(&live), &of(json!(["e.com/b"]), json!(["1"])), "two").unwrap();
    assert_eq!(new["metadata"]["finalizers"], json!(["e.com/a", "e.com/b"]));
    assert_eq!(fields(&new, "two")["f:metadata"], json!({"f:finalizers": {"v:\"e.com/b\"": {}}}));
    let Err(ApplyError::Conflict { message, .. }) = table.apply(Some(&new), &of(json!([]), json!(["1", "2"])), "two")
    else {
        panic!()
    };
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"one\": .spec.containers[name=\"c\"].args");
}

#[test]
fn what_is_not_of_its_type() {
    let table = Table::new("apps", "Deployment");
    let untyped = |spec: Value| match table.apply(None, &deployment(spec), "me") {
        Err(ApplyError::Untyped(faults)) => faults.join("; "),
        other => panic!("{other:?}"),
    };
    assert_eq!(untyped(json!({"replica": 1})), ".spec.replica: field not declared in schema");
    let twice = containers(json!([{"name": "c"}, {"name": "c"}]));
    assert_eq!(untyped(twice), ".spec.template.spec.containers: duplicate entries for key [name=\"c\"]");
}

#[test]
fn kubectl_goes_on_from_client_side_apply() {
    let table = Table::new("", "ConfigMap");
    let config =
        |a: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": a}});
    let mut live = config("1");
    live["metadata"]["annotations"] = json!({LAST_APPLIED: config("1").to_string()});
    let live = table.own(None, live, writer("kubectl-client-side-apply"));
    assert!(table.apply(Some(&live), &config("2"), "other").is_err());
    let new = table.apply(Some(&live), &config("2"), "kubectl").unwrap();
    assert_eq!(new["data"]["a"], "2");
    let kept: Value = serde_json::from_str(new["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap()).unwrap();
    assert_eq!(kept, config("2"));
}

#[test]
fn old_updaters_are_thrown_together() {
    let table = Table::new("", "ConfigMap");
    let names: Vec<String> = (0..13).map(|number| format!("m{number:02}")).collect();
    let start = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"m00": ""}});
    let start = table.own(None, start, writer(&names[0]));
    let live = names.iter().enumerate().fold(start, |live, (number, name)| {
        let mut new = live.clone();
        new["data"][name] = "x".into();
        let now = format!("2026-01-01T00:00:{number:02}Z");
        table.own(Some(&live), new, Writer { name, now: &now, ..writer("") })
    });
    assert_eq!(live["metadata"]["managedFields"].as_array().unwrap().len(), 10);
    let ancient = fields(&live, "ancient-changes");
    assert_eq!(ancient, json!({"f:data": {".": {}, "f:m00": {}, "f:m01": {}, "f:m02": {}, "f:m03": {}}}));
}
