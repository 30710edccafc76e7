use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use serde_json::{Map, Value, json};

use crate::registry::{self, Registry};

mod descriptions;
mod gnostic;
mod parameters;
mod part;
mod paths;
mod schemas;
mod v2;

use part::Part;
use paths::Paths;

/// How an OpenAPI document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// The messages of gnostic, Google's protobuf form of OpenAPI, as Kubernetes has it for both versions.
    Protobuf,
}

const INFO: (&str, &str) = ("Kubernetes", "v1.36.0");

/// Changes with the program text that makes documents, for clients keep a document as long as its hash stands.
const MAKERS: u64 = {
    let texts: [&[u8]; 7] = [
        include_bytes!("openapi.rs"),
        include_bytes!("openapi/gnostic.rs"),
        include_bytes!("openapi/parameters.rs"),
        include_bytes!("openapi/part.rs"),
        include_bytes!("openapi/paths.rs"),
        include_bytes!("openapi/schemas.rs"),
        include_bytes!("openapi/v2.rs"),
    ];
    let (mut hash, mut text) = (0_u64, 0);
    while text < texts.len() {
        let mut at = 0;
        while at < texts[text].len() {
            hash = (hash ^ texts[text][at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        text += 1;
    }
    hash
};

/// OpenAPI, made when it is asked for: what kubectl checks, explains and merges by, and what generators of clients
/// read. Nothing of it is kept.
impl Registry {
    /// `/openapi/v3`: the documents there are. The hash in each address changes with its content.
    pub fn openapi_index(&self) -> Value {
        let program = program();
        let paths = self.documents().into_iter().map(|path| {
            let url = format!("/openapi/v3/{path}?hash={}", self.hash(program.clone(), &path));
            (path, json!({"serverRelativeURL": url}))
        });
        json!({"paths": paths.collect::<Map<_, _>>()})
    }

    /// The document of OpenAPI v3 at `api/v1`, `apis/apps`, `apis/apps/v1` or another path of the index; None when
    /// nothing is there.
    pub fn openapi_v3(&self, path: &str, encoding: Encoding) -> Option<Vec<u8>> {
        self.openapi_hash(path)?;
        let head = json!({"openapi": "3.0.0", "info": {"title": INFO.0, "version": INFO.1}});
        let mut parts = Part::new(&gnostic::V3, encoding, "Paths");
        let mut paths = Paths::new(self, &mut parts);
        paths.write(path);
        let wanted = paths.wanted;
        let mut schemas = Part::new(&gnostic::V3, encoding, "SchemasOrReferences");
        self.openapi_schemas(wanted, |name, schema| schemas.add(name, schema));
        let security = json!({"securitySchemes": {"BearerToken": bearer_token()}});
        let components = part::document(&gnostic::V3, encoding, "Components", &security, vec![("schemas", schemas)]);
        let components = Part::of(&gnostic::V3, encoding, "Components", components);
        Some(part::document(
            &gnostic::V3,
            encoding,
            "Document",
            &head,
            vec![("paths", parts), ("components", components)],
        ))
    }

    /// `/openapi/v2`: all of it in one document.
    pub fn openapi_v2(&self, encoding: Encoding) -> Vec<u8> {
        let shared = parameters::shared().map(|(name, parameter)| (name.to_owned(), v2::parameter(parameter)));
        let head = json!({
            "swagger": "2.0",
            "info": {"title": INFO.0, "version": INFO.1},
            "parameters": shared.collect::<Map<_, _>>(),
            "securityDefinitions": {"BearerToken": bearer_token()},
            "security": [{"BearerToken": []}],
        });
        let mut parts = Part::new(&gnostic::V2, encoding, "Paths");
        parts.convert = Some(v2::path);
        let mut paths = Paths::new(self, &mut parts);
        self.documents().iter().for_each(|document| paths.write(document));
        let wanted = paths.wanted;
        let mut definitions = Part::new(&gnostic::V2, encoding, "Definitions");
        definitions.convert = Some(v2::schema);
        self.openapi_schemas(wanted, |name, schema| definitions.add(name, schema));
        let parts = vec![("paths", parts), ("definitions", definitions)];
        part::document(&gnostic::V2, encoding, "Document", &head, parts)
    }

    /// The hash of a document of OpenAPI v3, or of v2 where the path is ""; None when nothing is there.
    pub fn openapi_hash(&self, path: &str) -> Option<String> {
        let known = path.is_empty() || self.documents().iter().any(|document| document == path);
        known.then(|| self.hash(program(), path))
    }

    /// Built-in types change only with the program, so it and the rows of the resources stand for all of a document.
    fn hash(&self, mut hasher: DefaultHasher, path: &str) -> String {
        for resource in self.resources() {
            if gv_path(&resource.group, &resource.version).starts_with(path) {
                format!("{resource:?}{:?}", self.ty(resource.type_id)).hash(&mut hasher);
            }
        }
        format!("{:016X}", hasher.finish())
    }

    /// The paths of the documents: discovery, and each group version.
    fn documents(&self) -> Vec<String> {
        let mut documents = vec!["api".to_owned(), "apis".to_owned(), "version".to_owned()];
        for (group, versions) in self.groups() {
            documents.extend((!group.is_empty()).then(|| format!("apis/{group}")));
            documents.extend(versions.iter().map(|version| gv_path(group, version)));
        }
        documents
    }
}

/// `api/v1` or `apis/<group>/<version>`.
fn gv_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// What the program puts into documents.
fn program() -> DefaultHasher {
    let mut hasher = DefaultHasher::new();
    (MAKERS, registry::KINDS, descriptions::PACKED).hash(&mut hasher);
    hasher
}

fn bearer_token() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"})
}

#[cfg(test)]
mod tests;
