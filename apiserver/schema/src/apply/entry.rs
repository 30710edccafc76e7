use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::field_set::FieldSet;

/// How many managers may have updated an object before the oldest are put together, as in Kubernetes.
const UPDATERS: usize = 10;
/// The manager that stands for those put together.
const ANCIENT: &str = "ancient-changes";

/// Who owns fields: what tells one entry of `managedFields` from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    /// By apply; else by any other write.
    pub(super) applied: bool,
    pub(super) manager: String,
    /// The version that was written; "" for appliers, who keep one entry for all versions.
    pub(super) version: String,
    pub(super) subresource: String,
}

/// What one owner owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    /// The version that the fields are of, such as `apps/v1`.
    pub(super) version: String,
    /// RFC 3339.
    pub(super) time: Option<String>,
    pub(super) fields: FieldSet,
}

/// The entries of `managedFields`.
pub(super) type Owners = BTreeMap<Owner, Owned>;

impl Owner {
    pub(super) fn new(applied: bool, manager: &str, version: &str, subresource: &str) -> Self {
        let version = if applied { "" } else { version };
        let manager = if manager.is_empty() { "unknown" } else { manager };
        Owner { applied, manager: manager.into(), version: version.into(), subresource: subresource.into() }
    }

    /// As messages about conflicts have it.
    pub(super) fn spoken(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if !self.applied {
            text += &format!(" using {}", self.version);
        }
        text
    }
}

/// Reads `metadata.managedFields`; None when an entry is not valid.
pub(super) fn read(list: Option<&Value>) -> Option<Owners> {
    let mut owners = Owners::new();
    let Some(list) = list else { return Some(owners) };
    for entry in list.as_array()? {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let applied = match text("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
            return None;
        }
        let version = text("apiVersion");
        let owner = Owner { manager: text("manager").into(), ..Owner::new(applied, "", version, text("subresource")) };
        let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
        let fields = entry.get("fieldsV1").map_or(Some(FieldSet::default()), FieldSet::parse)?;
        owners.insert(owner, Owned { version: version.into(), time, fields });
    }
    Some(owners)
}

/// A list that a client sends to have none: empty, or with one empty entry.
pub(super) fn resets(list: &Value) -> bool {
    list.as_array().is_some_and(|list| match &list[..] {
        [] => true,
        [entry] => entry.as_object().is_some_and(|entry| entry.values().all(|value| value == "" || value.is_null())),
        _ => false,
    })
}

/// The list for `metadata.managedFields`: appliers first, then by time.
pub(super) fn write(owners: Owners) -> Value {
    let mut all: Vec<(Owner, Owned)> = owners.into_iter().collect();
    all.sort_by(|(a, of_a), (b, of_b)| {
        let key = |owner: &Owner| !owner.applied;
        (key(a), &of_a.time, &a.manager, &of_a.version, &a.subresource).cmp(&(
            key(b),
            &of_b.time,
            &b.manager,
            &of_b.version,
            &b.subresource,
        ))
    });
    let entries = all.into_iter().map(|(owner, owned)| {
        let mut entry = json!({
            "apiVersion": owned.version,
            "fieldsType": "FieldsV1",
            "fieldsV1": owned.fields.into_value(),
            "operation": if owner.applied { "Apply" } else { "Update" },
        });
        for (field, text) in
            [("manager", Some(owner.manager)), ("subresource", Some(owner.subresource)), ("time", owned.time)]
        {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                entry[field] = text.into();
            }
        }
        entry
    });
    Value::Array(entries.collect())
}

/// Puts the oldest updaters of each version together while there are too many.
pub(super) fn cap(owners: &mut Owners) {
    let mut updaters: Vec<Owner> = owners.keys().filter(|owner| !owner.applied).cloned().collect();
    let mut count = updaters.len();
    updaters.sort_by(|a, b| (&owners[a].time, a).cmp(&(&owners[b].time, b)));
    let mut first: BTreeMap<String, Owner> = BTreeMap::new();
    for owner in updaters {
        if count <= UPDATERS {
            return;
        }
        let bucket = Owner::new(false, ANCIENT, &owner.version, "");
        let Some(before) = first.get(&owner.version) else {
            first.insert(owner.version.clone(), owner);
            continue;
        };
        let Some(later) = owners.remove(&owner) else { continue };
        let mut together = owners.remove(before).unwrap_or_else(|| later.clone());
        first.insert(owner.version.clone(), bucket.clone());
        together.fields.union(later.fields);
        // The later one's time is the nearer.
        together.time = later.time;
        if let Some(older) = owners.remove(&bucket) {
            together.fields.union(older.fields);
        }
        owners.insert(bucket, together);
        count -= 1;
    }
}
