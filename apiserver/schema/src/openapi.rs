use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use serde_json::{Map, Value, json};

use crate::registry::Registry;

mod paths;
mod schemas;

/// OpenAPI v3, made when it is asked for: what kubectl checks, explains and merges by.
impl Registry {
    /// `/openapi/v3`: the documents there are. The hash in each address changes with its content.
    pub fn openapi_index(&self) -> Value {
        let mut paths = Map::new();
        for (group, versions) in self.groups() {
            for version in versions {
                let path = gv_path(group, version);
                let url = format!("/openapi/v3/{path}?hash={:016X}", self.hash(group, version));
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        json!({"paths": paths})
    }

    /// `/openapi/v3/api/v1` and `/openapi/v3/apis/<group>/<version>`: the document of one group
    /// version; None when nothing is there.
    pub fn openapi(&self, group: &str, version: &str) -> Option<Value> {
        self.resources_of(group, version).next()?;
        Some(json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "v1.36.0"},
            "paths": self.openapi_paths(group, version),
            "components": {"schemas": self.openapi_schemas(group, version)},
        }))
    }

    /// Built-in types never change while the program runs, so the rows and the number of types
    /// stand for all of the document.
    fn hash(&self, group: &str, version: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        self.types().count().hash(&mut hasher);
        for resource in self.resources_of(group, version) {
            format!("{resource:?}").hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// `api/v1` or `apis/<group>/<version>`.
fn gv_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

#[cfg(test)]
mod tests;
