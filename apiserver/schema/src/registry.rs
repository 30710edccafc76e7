use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::resource::Resource;
use crate::types::{Type, TypeId};

mod parse;

pub(crate) use parse::KINDS;

/// The table of kinds: types and resources. A value, so that rows can be added at run time.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    types: Vec<Arc<Type>>,
    kinds: HashMap<String, TypeId>,
    resources: BTreeMap<String, Arc<Resource>>,
    columns: HashMap<&'static str, Vec<Column>>,
    /// How many types the built-in table has; those of run time come after them.
    builtin: usize,
}

/// A column of a Table, as `meta.k8s.io/v1` TableColumnDefinition has it.
#[derive(Clone, Debug)]
pub struct Column {
    /// The heading, upper-cased by kubectl.
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub ty: &'static str,
    /// 0 is always shown, 1 with `-o wide` only.
    pub priority: u8,
    /// `name` marks the column that names the object.
    pub format: &'static str,
}

impl Registry {
    /// The built-in kinds of Kubernetes v1.36.
    pub fn builtin() -> Self {
        parse::builtin()
    }

    /// The resource of that group ("" is core), version and plural name.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&key(group, version, plural))
    }

    /// The resource whose objects are of that kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.resources_of(group, version).find(|resource| resource.kind == kind)
    }

    /// All resources, ordered by group, version and plural name.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// The resources of one group and version, ordered by plural name.
    pub fn resources_of(&self, group: &str, version: &str) -> impl Iterator<Item = &Arc<Resource>> {
        let prefix = key(group, version, "");
        self.resources
            .range(prefix.clone()..)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(_, resource)| resource)
    }

    /// Each group with its versions, the preferred one first; the core group "" comes first.
    pub fn groups(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for resource in self.resources() {
            let versions = groups.entry(&resource.group).or_default();
            if !versions.contains(&resource.version.as_ref()) {
                versions.push(&resource.version);
            }
        }
        for versions in groups.values_mut() {
            versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        }
        groups
    }

    /// Adds a resource or replaces the one of the same group, version and plural name.
    pub fn insert(&mut self, resource: Resource) {
        let key = key(&resource.group, &resource.version, &resource.plural);
        self.resources.insert(key, Arc::new(resource));
    }

    /// Takes a resource out.
    pub fn remove(&mut self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.resources.remove(&key(group, version, plural))
    }

    /// The type of a kind, also of those that are no resource (Scale, Eviction, DeleteOptions).
    pub fn type_of(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        self.kinds.get(&key(group, version, kind)).copied()
    }

    /// The type behind an id of this registry.
    pub fn ty(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    /// Adds a type, for a resource that is inserted afterwards; its fields have to be sorted by
    /// name.
    pub fn insert_type(&mut self, ty: Type) -> TypeId {
        let id = TypeId(self.types.len() as u32);
        for (group, version, kind) in &ty.kinds {
            self.kinds.insert(key(group, version, kind), id);
        }
        self.types.push(Arc::new(ty));
        id
    }

    /// The type is of the built-in table: Kubernetes has a struct for it, which strategic merge patches need.
    pub fn is_builtin(&self, id: TypeId) -> bool {
        (id.0 as usize) < self.builtin
    }

    pub(crate) fn types(&self) -> impl Iterator<Item = &Type> {
        self.types.iter().map(Arc::as_ref)
    }

    pub(crate) fn printer_columns(&self, printer: &str) -> Option<&[Column]> {
        self.columns.get(printer).map(Vec::as_slice)
    }
}

/// Sorts by group, then version, then name.
fn key(group: &str, version: &str, name: &str) -> String {
    [group, version, name].join("/")
}

/// Kubernetes' order of versions: v2 before v1 before v1beta1 before v1alpha1, others last.
fn priority(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse::<u32>().ok();
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    for (stage, rank) in [("beta", 2), ("alpha", 1)] {
        if let Some((major, minor)) = rest.split_once(stage)
            && let (Some(major), Some(minor)) = (number(major), number(minor))
        {
            return (rank, major, minor);
        }
    }
    number(rest).map_or((0, 0, 0), |major| (3, major, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Form;

    #[test]
    fn the_newest_stable_version_is_preferred() {
        let mut versions = ["v1beta1", "v1", "foo", "v2", "v2alpha1", "v2beta2"];
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        assert_eq!(versions, ["v2", "v1", "v2beta2", "v1beta1", "v2alpha1", "foo"]);
    }

    #[test]
    fn lookups() {
        let registry = Registry::builtin();
        let deployments = registry.resource("apps", "v1", "deployments").unwrap();
        assert_eq!(deployments.kind, "Deployment");
        assert_eq!(deployments.short_names, ["deploy"]);
        assert_eq!(deployments.subresource("scale").unwrap().api_version(), "autoscaling/v1");
        assert!(deployments.has_verb("watch"));
        assert_eq!(registry.ty(deployments.type_id).name, "apps.v1.Deployment");
        assert_eq!(registry.kind("", "v1", "Pod").unwrap().plural, "pods");
        assert!(registry.type_of("autoscaling", "v1", "Scale").is_some());
        assert!(registry.resource("", "v1", "deployments").is_none());
        assert_eq!(registry.resources().count(), 68);
        assert_eq!(registry.groups()["autoscaling"], ["v2", "v1"]);
    }

    #[test]
    fn rows_can_be_added_and_taken_out() {
        let mut registry = Registry::builtin();
        let mut ty = Type::new("example.com.v1.Boat", Form::Object);
        ty.kinds.push(("example.com".into(), "v1".into(), "Boat".into()));
        let type_id = registry.insert_type(ty);
        let pods = registry.resource("", "v1", "pods").unwrap().as_ref().clone();
        let boats = Resource {
            group: "example.com".into(),
            kind: "Boat".into(),
            plural: "boats".into(),
            singular: "boat".into(),
            printer: "".into(),
            type_id,
            ..pods
        };
        registry.insert(boats);
        assert_eq!(registry.type_of("example.com", "v1", "Boat"), Some(type_id));
        assert_eq!(registry.groups()["example.com"], ["v1"]);
        assert!(registry.openapi_v3("apis/example.com/v1", crate::Encoding::Json).is_some());
        assert!(!registry.is_builtin(type_id) && registry.is_builtin(registry.type_of("", "v1", "Pod").unwrap()));
        let mut boat = serde_json::json!({"kind": "Boat", "any": {"thing": [1]}});
        assert_eq!(registry.prune(&mut boat, type_id), Ok(Vec::new()));
        assert!(registry.remove("example.com", "v1", "boats").is_some());
        assert!(registry.resource_list("example.com", "v1").is_none());
    }
}
