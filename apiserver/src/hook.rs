//! What kinds do that the table of kinds cannot say: one row of small functions for each kind with behaviour.

use schema::{FieldError, Resource};
use serde_json::Value;

use crate::call::Call;
use crate::object::list;
use crate::server::ApiServer;
use crate::status::Status;

mod autoscaler;
mod event;
mod ingress;
pub(crate) mod namespace;
pub(crate) mod pod;
pub(crate) mod service;

/// The behaviour of one kind.
pub(crate) struct Hook {
    /// Completes a new object by what else is stored, or refuses it.
    pub(crate) admit: fn(&Call, &mut Value) -> Result<(), Status>,
    /// Completes a new object, after the defaults.
    pub(crate) create: fn(&mut Value),
    /// Completes the next version of an object, given the old one.
    pub(crate) update: fn(&Value, &mut Value),
    /// What is wrong with a new version (with its old one, if there is one).
    pub(crate) check: fn(Option<&Value>, &Value) -> Vec<FieldError>,
    /// Takes what the new version (of an old one, if there is one) holds of the server's ranges, and writes it into it.
    pub(crate) reserve: fn(&ApiServer, Option<&Value>, &mut Value) -> Reserved,
    /// The seconds that a deletion waits, given those asked for.
    pub(crate) grace: fn(&Value, Option<i64>) -> i64,
    /// Completes an object whose deletion begins.
    pub(crate) deleting: fn(&mut Value),
    /// Names that cannot be deleted.
    pub(crate) lasting: &'static [&'static str],
    /// Unless a deletion says otherwise, what the object owns stays.
    pub(crate) orphans: bool,
}

/// What a write has taken, or why it cannot be had.
pub(crate) type Reserved = Result<Option<service::Reservation>, Vec<FieldError>>;

/// A kind without behaviour of its own.
const PLAIN: Hook = Hook {
    admit: |_, _| Ok(()),
    create: |_| {},
    update: |_, _| {},
    check: |_, _| Vec::new(),
    reserve: |_, _, _| Ok(None),
    grace: |_, _| 0,
    deleting: |_| {},
    lasting: &[],
    orphans: false,
};

static NONE: Hook = PLAIN;

/// By the resource that objects are stored under.
static HOOKS: &[(&str, Hook)] = &[
    (
        "/namespaces",
        Hook {
            create: namespace::create,
            update: namespace::update,
            deleting: namespace::deleting,
            lasting: &["default", "kube-public", "kube-system"],
            ..PLAIN
        },
    ),
    ("/pods", Hook { admit: pod::admit, create: pod::create, check: pod::check, grace: pod::grace, ..PLAIN }),
    ("/services", Hook { create: service::create, update: service::update, reserve: service::reserve, ..PLAIN }),
    ("/replicationcontrollers", Hook { orphans: true, ..PLAIN }),
    ("networking.k8s.io/ingresses", Hook { admit: ingress::admit, check: ingress::check, ..PLAIN }),
    ("batch/jobs", Hook { orphans: true, ..PLAIN }),
];

/// The behaviour of the objects stored under that resource.
pub(crate) fn of(stored: &str) -> &'static Hook {
    HOOKS.iter().find(|(resource, _)| *resource == stored).map_or(&NONE, |(_, hook)| hook)
}

impl Hook {
    pub(crate) fn deletable(&self, resource: &Resource, name: &str) -> Result<(), Status> {
        if self.lasting.contains(&name) {
            return Err(Status::forbidden(resource, name, "this namespace may not be deleted"));
        }
        Ok(())
    }
}

/// Whether finalizers keep the object.
pub(crate) fn waits(stored: &str, object: &Value) -> bool {
    !list(object, "/metadata/finalizers").is_empty()
        || (stored == "/namespaces" && !list(object, "/spec/finalizers").is_empty())
}

/// How the objects of one resource are stored as those of another.
pub(crate) struct Conversion {
    /// Group, version and kind of what is stored.
    pub(crate) stored: (&'static str, &'static str, &'static str),
    /// To the stored form.
    pub(crate) inward: fn(&mut Value),
    /// From it.
    pub(crate) outward: fn(&mut Value),
}

/// The conversion that a resource needs; None when its objects are stored as they are.
pub(crate) fn conversion(resource: &Resource) -> Option<&'static Conversion> {
    match (&*resource.group, &*resource.plural) {
        ("events.k8s.io", "events") => Some(&event::CONVERSION),
        ("autoscaling", "horizontalpodautoscalers") if resource.version == "v1" => Some(&autoscaler::CONVERSION),
        _ => None,
    }
}
