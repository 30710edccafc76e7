use serde_json::{Map, Value, json};

use super::gv_path;
use crate::registry::Registry;
use crate::resource::{Resource, Subresource};
use crate::types::TypeId;

/// Query parameters by name and type.
type Parameters = &'static [(&'static str, &'static str)];
const WRITE: Parameters = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const APPLY: Parameters =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const LIST: Parameters = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: Parameters = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const NONE: Parameters = &[];

const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// An operation: verb of the API, HTTP method, action and its query parameters.
type Operation = (&'static str, &'static str, &'static str, Parameters);
const COLLECTION: [Operation; 3] = [
    ("list", "get", "list", LIST),
    ("create", "post", "post", WRITE),
    ("deletecollection", "delete", "deletecollection", DELETE),
];
const ITEM: [Operation; 4] = [
    ("get", "get", "get", NONE),
    ("update", "put", "put", WRITE),
    ("patch", "patch", "patch", APPLY),
    ("delete", "delete", "delete", DELETE),
];
const SUBRESOURCE: [Operation; 5] = [
    ("get", "get", "get", NONE),
    ("create", "post", "post", WRITE),
    ("update", "put", "put", WRITE),
    ("patch", "patch", "patch", APPLY),
    ("delete", "delete", "delete", DELETE),
];

impl Registry {
    pub(super) fn openapi_paths(&self, group: &str, version: &str) -> Map<String, Value> {
        let mut paths = Map::new();
        for resource in self.resources_of(group, version) {
            let base = format!("/{}", gv_path(group, version));
            let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
            let collection = format!("{base}{scope}/{}", resource.plural);
            let ty = Some(resource.type_id);
            let kind = (resource.group.as_ref(), resource.version.as_ref(), resource.kind.as_ref());
            self.path(&mut paths, &collection, &COLLECTION, &resource.verbs, ty, kind);
            if resource.namespaced && resource.has_verb("list") {
                let all = format!("{base}/{}", resource.plural);
                self.path(&mut paths, &all, &COLLECTION[..1], &resource.verbs, ty, kind);
            }
            let item = format!("{collection}/{{name}}");
            self.path(&mut paths, &item, &ITEM, &resource.verbs, ty, kind);
            for sub in &resource.subresources {
                self.subresource(&mut paths, &item, resource, sub);
            }
        }
        paths
    }

    fn subresource(&self, paths: &mut Map<String, Value>, item: &str, resource: &Resource, sub: &Subresource) {
        let kind = (sub.group.as_ref(), sub.version.as_ref(), sub.kind.as_ref());
        let ty = self.type_of(kind.0, kind.1, kind.2).filter(|_| sub.kind != resource.kind || sub.name == "status");
        self.path(paths, &format!("{item}/{}", sub.name), &SUBRESOURCE, &sub.verbs, ty, kind);
    }

    fn path(
        &self,
        paths: &mut Map<String, Value>,
        path: &str,
        operations: &[Operation],
        verbs: &[crate::types::Text],
        ty: Option<TypeId>,
        kind: (&str, &str, &str),
    ) {
        let mut entry = Map::new();
        for (verb, method, action, parameters) in operations {
            if !verbs.iter().any(|served| served == verb) {
                continue;
            }
            let (group, version, kind) = kind;
            let answer = match *action {
                "list" => self.type_of(group, version, &format!("{kind}List")),
                _ => ty,
            };
            let mut operation = json!({
                "operationId": operation_id(action, path),
                "parameters": parameters.iter().map(|(name, ty)| query(name, ty)).collect::<Vec<_>>(),
                "responses": {"200": self.body(answer, &["application/json"], "OK")},
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
            });
            match *action {
                "post" | "put" => operation["requestBody"] = self.body(ty, &["application/json"], ""),
                "patch" => operation["requestBody"] = self.body(ty, &PATCHES, ""),
                _ => {}
            }
            entry.insert((*method).to_owned(), operation);
        }
        if entry.is_empty() {
            return;
        }
        let placed = ["name", "namespace"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
        let placed =
            placed.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
        entry.insert("parameters".to_owned(), placed.collect());
        paths.insert(path.to_owned(), Value::Object(entry));
    }

    fn body(&self, ty: Option<TypeId>, media: &[&str], description: &str) -> Value {
        let schema = ty.map_or_else(|| json!({"type": "string"}), |id| self.reference(id));
        let content: Map<String, Value> =
            media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
        let mut body = json!({"content": content});
        if !description.is_empty() {
            body["description"] = description.into();
        }
        body
    }
}

/// One that is unique in a document: the action and the words of the path.
fn operation_id(action: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    words.fold(action.to_owned(), |id, word| id + &capital(word))
}

fn query(name: &str, ty: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": ty, "uniqueItems": true}})
}
