use serde_json::{Map, Value, json};

use crate::registry::Registry;
use crate::resource::{Resource, api_version};
use crate::types::Text;

/// The discovery documents: what kubectl and the client libraries ask first.
impl Registry {
    /// `/api`: the versions of the core group. `server_address` is `host:port` of the server.
    pub fn api_versions(&self, server_address: &str) -> Value {
        let versions = self.groups().remove("").unwrap_or_default();
        json!({
            "kind": "APIVersions",
            "versions": versions,
            "serverAddressByClientCIDRs": [
                {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address},
            ],
        })
    }

    /// `/apis`: an APIGroupList.
    pub fn group_list(&self) -> Value {
        let groups: Vec<Value> = self.named_groups().map(|(name, versions)| api_group(name, &versions)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    /// `/apis/<group>`: an APIGroup; None when there is no such group.
    pub fn group(&self, name: &str) -> Option<Value> {
        let (name, versions) = self.named_groups().find(|(group, _)| *group == name)?;
        let mut group = api_group(name, &versions);
        group["kind"] = "APIGroup".into();
        group["apiVersion"] = "v1".into();
        Some(group)
    }

    /// `/api/v1` and `/apis/<group>/<version>`: an APIResourceList; None when nothing is there.
    pub fn resource_list(&self, group: &str, version: &str) -> Option<Value> {
        let mut rows = Vec::new();
        for resource in self.resources_of(group, version) {
            rows.push(api_resource(resource));
            for sub in &resource.subresources {
                let mut row = json!({
                    "name": format!("{}/{}", resource.plural, sub.name),
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": sub.kind,
                    "verbs": sub.verbs,
                });
                if (sub.group.as_ref(), sub.version.as_ref()) != (group, version) {
                    row["group"] = sub.group.as_ref().into();
                    row["version"] = sub.version.as_ref().into();
                }
                rows.push(row);
            }
        }
        if rows.is_empty() {
            return None;
        }
        Some(json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": api_version(group, version),
            "resources": rows,
        }))
    }

    /// `/api` as `apidiscovery.k8s.io/v2` APIGroupDiscoveryList.
    pub fn aggregated_api(&self) -> Value {
        let groups = self.groups();
        self.aggregated(groups.into_iter().filter(|(name, _)| name.is_empty()))
    }

    /// `/apis` as `apidiscovery.k8s.io/v2` APIGroupDiscoveryList.
    pub fn aggregated_apis(&self) -> Value {
        self.aggregated(self.named_groups())
    }

    fn named_groups(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.groups().into_iter().filter(|(name, _)| !name.is_empty())
    }

    fn aggregated<'a>(&self, groups: impl Iterator<Item = (&'a str, Vec<&'a str>)>) -> Value {
        let version = |group: &str, version: &str| {
            let resources = self.resources_of(group, version);
            json!({
                "version": version,
                "freshness": "Current",
                "resources": resources.map(|resource| discovered(resource)).collect::<Vec<_>>(),
            })
        };
        let items = groups.map(|(group, versions)| {
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            let versions: Vec<Value> = versions.into_iter().map(|v| version(group, v)).collect();
            json!({"metadata": metadata, "versions": versions})
        });
        json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": items.collect::<Vec<_>>(),
        })
    }
}

fn api_group(name: &str, versions: &[&str]) -> Value {
    let version = |version: &&str| json!({"groupVersion": api_version(name, version), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

fn api_resource(resource: &Resource) -> Value {
    let mut row = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    name_more(&mut row, resource);
    row
}

fn discovered(resource: &Resource) -> Value {
    let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
    let mut row = json!({
        "resource": resource.plural,
        "responseKind": response_kind(&resource.group, &resource.version, &resource.kind),
        "scope": scope,
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    name_more(&mut row, resource);
    if !resource.subresources.is_empty() {
        let subresources = resource.subresources.iter().map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": response_kind(&sub.group, &sub.version, &sub.kind),
                "verbs": sub.verbs,
            })
        });
        row["subresources"] = subresources.collect();
    }
    row
}

fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn name_more(row: &mut Value, resource: &Resource) {
    let row: Option<&mut Map<String, Value>> = row.as_object_mut();
    let Some(row) = row else { return };
    let mut add = |key: &str, names: &[Text]| {
        if !names.is_empty() {
            row.insert(key.to_owned(), names.iter().map(|name| Value::from(name.as_ref())).collect());
        }
    };
    add("shortNames", &resource.short_names);
    add("categories", &resource.categories);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_their_preferred_versions() {
        let registry = Registry::builtin();
        assert_eq!(registry.api_versions("10.0.0.1:6443")["versions"], json!(["v1"]));
        let autoscaling = registry.group("autoscaling").unwrap();
        assert_eq!(autoscaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert_eq!(registry.group_list()["groups"][0]["name"], "admissionregistration.k8s.io");
        assert_eq!(registry.group(""), None);
        assert_eq!(registry.group("nope"), None);
    }

    #[test]
    fn resources_of_a_group_version() {
        let registry = Registry::builtin();
        let list = registry.resource_list("apps", "v1").unwrap();
        assert_eq!(list["groupVersion"], "apps/v1");
        let rows = list["resources"].as_array().unwrap();
        let scale = rows.iter().find(|row| row["name"] == "deployments/scale").unwrap();
        assert_eq!(scale["group"], "autoscaling");
        let status = rows.iter().find(|row| row["name"] == "deployments/status").unwrap();
        assert_eq!(status.get("group"), None);
        assert_eq!(registry.resource_list("apps", "v9"), None);
    }

    #[test]
    fn aggregated_discovery_has_every_resource_once() {
        let registry = Registry::builtin();
        let count = |list: Value| -> usize {
            let groups = list["items"].as_array().unwrap().clone();
            let versions = groups.iter().flat_map(|group| group["versions"].as_array().unwrap());
            versions.map(|version| version["resources"].as_array().unwrap().len()).sum()
        };
        assert_eq!(count(registry.aggregated_api()) + count(registry.aggregated_apis()), 68);
        let pods = registry.aggregated_api().pointer("/items/0/versions/0/resources").unwrap().clone();
        let pods = pods.as_array().unwrap().iter().find(|row| row["resource"] == "pods").unwrap().clone();
        assert_eq!(pods["responseKind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
        assert_eq!(pods["shortNames"], json!(["po"]));
        assert_eq!(pods["scope"], "Namespaced");
    }
}
