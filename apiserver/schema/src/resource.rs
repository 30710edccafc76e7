use crate::types::{Text, TypeId};

/// One row of the table of resources: what a REST path such as `apps/v1` `deployments` serves.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group; "" is the core group.
    pub group: Text,
    /// API version, such as `v1`.
    pub version: Text,
    /// The kind of its objects.
    pub kind: Text,
    /// The name in paths, lower case.
    pub plural: Text,
    /// The name for one, lower case.
    pub singular: Text,
    /// Its objects live in namespaces.
    pub namespaced: bool,
    /// What may be asked of it, sorted.
    pub verbs: Vec<Text>,
    /// Names that kubectl takes for it.
    pub short_names: Vec<Text>,
    /// Groups of resources that kubectl knows it by, such as `all`.
    pub categories: Vec<Text>,
    /// `status`, `scale` and the like.
    pub subresources: Vec<Subresource>,
    /// The type of its objects.
    pub type_id: TypeId,
    /// The printer of its Tables, a name in columns.txt; "" is name and creation time.
    pub printer: Text,
    /// A deletion is answered with the object, not with a Status.
    pub shows_deleted: bool,
}

/// A path below an object of a resource.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// The last segment of the path.
    pub name: Text,
    /// Group of the kind that is sent and answered; "" is the core group.
    pub group: Text,
    /// Version of that kind.
    pub version: Text,
    /// That kind.
    pub kind: Text,
    /// What may be asked of it, sorted.
    pub verbs: Vec<Text>,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// The kind of a list of it.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether that verb is served.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|has| has == verb)
    }

    /// The kind with its group, as Status messages have it: `Pod`, `Deployment.apps`.
    pub fn group_kind(&self) -> String {
        dotted(&self.kind, &self.group)
    }

    /// The plural with its group, as Status messages have it: `pods`, `deployments.apps`.
    pub fn group_resource(&self) -> String {
        dotted(&self.plural, &self.group)
    }
}

impl Subresource {
    /// `v1` or `autoscaling/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}
