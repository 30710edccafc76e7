use serde_json::{Map, Value, json};

use super::{Part, gv_path, parameters};
use crate::registry::Registry;
use crate::resource::{Resource, Subresource};
use crate::types::TypeId;

const OBJECT: [&str; 3] = ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
const LIST: [&str; 5] = [
    "application/json",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/yaml",
];
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const ANY: [&str; 1] = ["*/*"];

/// The end of the ids of lists over all namespaces.
const ALL: &str = "ForAllNamespaces";

/// Subresources that are connections and not objects.
const CONNECTIONS: [&str; 4] = ["attach", "exec", "portforward", "proxy"];

/// An operation: verb of the API, HTTP method, action, and the word that its id begins with.
type Operation = (&'static str, &'static str, &'static str, &'static str);
const COLLECTION: [Operation; 3] = [
    ("list", "get", "list", "list"),
    ("create", "post", "post", "create"),
    ("deletecollection", "delete", "deletecollection", "delete"),
];
const ITEM: [Operation; 5] = [
    ("get", "get", "get", "read"),
    ("create", "post", "post", "create"),
    ("update", "put", "put", "replace"),
    ("patch", "patch", "patch", "patch"),
    ("delete", "delete", "delete", "delete"),
];

/// What one path is about.
struct Place<'a> {
    resource: &'a Resource,
    subresource: Option<&'a Subresource>,
    /// The end of the ids of its operations.
    tail: &'static str,
}

/// Writes paths, and gathers the types that they need.
pub(super) struct Paths<'a> {
    registry: &'a Registry,
    out: &'a mut Part,
    pub(super) wanted: Vec<TypeId>,
}

impl<'a> Paths<'a> {
    pub(super) fn new(registry: &'a Registry, out: &'a mut Part) -> Self {
        Paths { registry, out, wanted: Vec::new() }
    }

    /// All paths of a document, by the document's own path: `api`, `apis/apps`, `apis/apps/v1`, `version`.
    pub(super) fn write(&mut self, document: &str) {
        let words: Vec<&str> = document.split('/').collect();
        match words.as_slice() {
            ["api"] => self.root(document, "getCoreAPIVersions", "APIVersions", "core"),
            ["apis"] => self.root(document, "getAPIVersions", "APIGroupList", "apis"),
            ["version"] => self.root(document, "getCodeVersion", "Info", "version"),
            ["apis", group] => {
                let (id, tag) = (format!("get{}APIGroup", capitals(group)), tag(group));
                self.root(document, &id, "APIGroup", &tag);
            }
            ["api", version] => self.version("", version),
            ["apis", group, version] => self.version(group, version),
            _ => {}
        }
    }

    /// A path of discovery.
    fn root(&mut self, document: &str, id: &str, kind: &str, tag: &str) {
        let package = if kind == "Info" { "pkg.version" } else { "apis.meta.v1" };
        let ty = self.named(&format!("{package}.{kind}"));
        let operation = json!({
            "tags": [tag],
            "description": format!("get {kind}"),
            "operationId": id,
            "responses": self.responses(&[200], ty, &OBJECT),
        });
        self.out.add(&format!("/{document}/"), json!({"get": operation}));
    }

    fn version(&mut self, group: &str, version: &str) {
        let names = format!("{}{}", capitals(group), capital(version));
        let tag = format!("{}_{version}", tag(group));
        self.root(&gv_path(group, version), &format!("get{names}APIResources"), "APIResourceList", &tag);
        let registry = self.registry;
        for shared in ["DeleteOptions", "WatchEvent"] {
            self.wanted.extend(registry.type_of("", "v1", shared));
        }
        for resource in registry.resources_of(group, version) {
            let base = format!("/{}", gv_path(group, version));
            let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
            let place = |subresource, tail| Place { resource, subresource, tail };
            let collection = format!("{base}{scope}/{}", resource.plural);
            self.path(&collection, &COLLECTION, &place(None, ""));
            if resource.namespaced && resource.has_verb("list") {
                self.path(&format!("{base}/{}", resource.plural), &COLLECTION[..1], &place(None, ALL));
            }
            let item = format!("{collection}/{{name}}");
            let operations: Vec<Operation> = ITEM.into_iter().filter(|operation| operation.0 != "create").collect();
            self.path(&item, &operations, &place(None, ""));
            for sub in &resource.subresources {
                let path = format!("{item}/{}", sub.name);
                self.path(&path, &ITEM, &place(Some(sub), ""));
                if sub.name == "proxy" {
                    self.path(&format!("{path}/{{path}}"), &ITEM, &place(Some(sub), "WithPath"));
                }
            }
        }
    }

    fn path(&mut self, path: &str, operations: &[Operation], place: &Place<'_>) {
        let verbs = place.subresource.map_or(&place.resource.verbs, |sub| &sub.verbs);
        let mut entry = Map::new();
        for operation in operations.iter().filter(|operation| verbs.iter().any(|verb| verb == operation.0)) {
            entry.insert(operation.1.to_owned(), self.operation(operation, place));
        }
        if entry.is_empty() {
            return;
        }
        let name = format!("name of the {}", place.subresource.map_or(&place.resource.kind, |sub| &sub.kind));
        let parts =
            [("name", name.as_str()), ("namespace", "the namespace of the objects"), ("path", "path to the resource")];
        let placed = parts.iter().filter(|(name, _)| path.contains(&format!("{{{name}}}")));
        entry.insert("parameters".to_owned(), placed.map(|(name, about)| parameters::placed(name, about)).collect());
        self.out.add(path, Value::Object(entry));
    }

    fn operation(&mut self, &(_, method, action, word): &Operation, place: &Place<'_>) -> Value {
        let Place { resource, subresource, .. } = place;
        let sub = subresource.map_or("", |sub| &sub.name);
        let action = if CONNECTIONS.contains(&sub) { "connect" } else { action };
        let (group, version, kind) = match subresource {
            Some(sub) => (&sub.group, &sub.version, &sub.kind),
            None => (&resource.group, &resource.version, &resource.kind),
        };
        let own = self.registry.type_of(group, version, kind);
        let shared = |kind| self.registry.type_of("", "v1", kind);
        let mut operation = json!({
            "tags": [format!("{}_{}", tag(&resource.group), resource.version)],
            "description": description(action, method, sub, &resource.kind),
            "operationId": place.id(action, method, word),
            "parameters": parameters::of(action, sub),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let body = match action {
            "post" | "put" => Some((own, &ANY[..], true)),
            "patch" => Some((self.named("apis.meta.v1.Patch"), &PATCHES[..], true)),
            "delete" | "deletecollection" => Some((shared("DeleteOptions"), &ANY[..], false)),
            _ => None,
        };
        if let Some((ty, media, required)) = body {
            operation["requestBody"] = json!({"content": self.content(ty, media)});
            if required {
                operation["requestBody"]["required"] = true.into();
            }
        }
        operation["responses"] = match action {
            "connect" => self.responses(&[200], None, &ANY),
            "list" => {
                let list = self.registry.type_of(group, version, &resource.list_kind());
                self.responses(&[200], list, &LIST)
            }
            "get" if sub == "log" => self.responses(&[200], None, &["text/plain"]),
            "post" => self.responses(&[200, 201, 202], own, &OBJECT),
            "put" | "patch" => self.responses(&[200, 201], own, &OBJECT),
            "delete" if resource.shows_deleted => self.responses(&[200, 202], own, &OBJECT),
            "delete" => self.responses(&[200, 202], shared("Status"), &OBJECT),
            "deletecollection" => self.responses(&[200], shared("Status"), &OBJECT),
            _ => self.responses(&[200], own, &OBJECT),
        };
        operation
    }

    fn named(&self, name: &str) -> Option<TypeId> {
        self.registry.types().position(|ty| ty.name == name).map(|at| TypeId(at as u32))
    }

    fn responses(&mut self, codes: &[u16], ty: Option<TypeId>, media: &[&str]) -> Value {
        let content = self.content(ty, media);
        let mut responses = Map::new();
        for code in codes {
            let description = match code {
                200 => "OK",
                201 => "Created",
                _ => "Accepted",
            };
            responses.insert(code.to_string(), json!({"description": description, "content": content}));
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        Value::Object(responses)
    }

    fn content(&mut self, ty: Option<TypeId>, media: &[&str]) -> Value {
        self.wanted.extend(ty);
        let schema = ty.map_or_else(|| json!({"type": "string"}), |id| self.registry.reference(id));
        media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
    }
}

impl Place<'_> {
    /// The name of an operation, as Kubernetes makes it: `listCoreV1NamespacedPod`,
    /// `readAppsV1NamespacedDeploymentScale`, `connectCoreV1PostNamespacedPodExec`.
    fn id(&self, action: &str, method: &str, word: &str) -> String {
        let Resource { group, version, kind, namespaced, .. } = self.resource;
        let word = if action == "connect" { action } else { word };
        let middle = match action {
            "connect" => capital(method),
            "deletecollection" => "Collection".to_owned(),
            _ => String::new(),
        };
        let scope = if *namespaced && self.tail != ALL { "Namespaced" } else { "" };
        let sub = self.subresource.map_or(String::new(), |sub| capital(&sub.name));
        format!("{word}{}{}{middle}{scope}{kind}{sub}{}", capitals(group), capital(version), self.tail)
    }
}

fn description(action: &str, method: &str, sub: &str, kind: &str) -> String {
    let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    let of = if sub.is_empty() { String::new() } else { format!("{sub} of ") };
    match action {
        "connect" => format!("connect {} requests to {of}{kind}", method.to_uppercase()),
        "list" => format!("list or watch objects of kind {kind}"),
        "post" => format!("create {of}{article} {kind}"),
        "deletecollection" => format!("delete collection of {kind}"),
        "delete" => format!("delete {article} {kind}"),
        "put" => format!("replace {of}the specified {kind}"),
        "patch" => format!("partially update {of}the specified {kind}"),
        _ => format!("read {of}the specified {kind}"),
    }
}

/// The words of a group, without the domain of Kubernetes: `rbac`, `authorization`.
fn words(group: &str) -> impl Iterator<Item = &str> {
    let group = if group.is_empty() { "core" } else { group };
    group.strip_suffix(".k8s.io").unwrap_or(group).split('.')
}

fn capitals(group: &str) -> String {
    words(group).map(capital).collect()
}

/// The same with a small first letter: `rbacAuthorization`.
fn tag(group: &str) -> String {
    let mut words = words(group);
    words.next().unwrap_or_default().to_owned() + &words.map(capital).collect::<String>()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
