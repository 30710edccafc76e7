use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use schema::{FieldError, Resource, TypeId};
use serde_json::Value;
use store::Key;

use crate::hook::{self, Conversion};
use crate::identity::Identity;
use crate::media::Output;
use crate::query::Query;
use crate::server::ApiServer;
use crate::status::Status;
use crate::warning::Warnings;
use crate::{media, object};

/// One request for objects, authenticated and taken apart: what a verb works on.
pub(crate) struct Call {
    pub(crate) server: ApiServer,
    pub(crate) identity: Arc<Identity>,
    pub(crate) resource: Arc<Resource>,
    /// The resource whose objects are stored; not always `resource`'s own name.
    pub(crate) stored: Arc<str>,
    /// How stored objects become objects of `resource` and back, where they differ.
    pub(crate) conversion: Option<&'static Conversion>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    pub(crate) query: Query,
    pub(crate) output: Output,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What the answer warns of.
    pub(crate) warnings: Warnings,
}

/// The most unknown and repeated fields that are told.
const TOLD: usize = 100;

/// What `fieldValidation` asks to do about unknown and repeated fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validation {
    Ignore,
    Warn,
    Strict,
}

impl Call {
    /// The key of the named object.
    pub(crate) fn key(&self) -> Key {
        self.key_of(&self.name)
    }

    pub(crate) fn key_of(&self, name: &str) -> Key {
        Key::new(self.stored.clone(), self.namespace.as_str(), name)
    }

    /// The same call for one object of its collection.
    pub(crate) fn of(&self, key: &Key) -> Call {
        Call {
            server: self.server.clone(),
            identity: self.identity.clone(),
            resource: self.resource.clone(),
            stored: self.stored.clone(),
            conversion: self.conversion,
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            subresource: String::new(),
            query: Query::default(),
            output: self.output,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            warnings: self.warnings.clone(),
        }
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.resource, &self.name)
    }

    /// Whether the write is only to be tried.
    pub(crate) fn dry_run(&self) -> Result<bool, Status> {
        match self.query.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(self.bad_option(FieldError::not_supported("dryRun", vec![other], &["All"]))),
        }
    }

    /// The object in the body: decoded, of the right kind, pruned; and what to warn about.
    pub(crate) fn read_object(&self) -> Result<(Value, Vec<String>), Status> {
        let (mut value, duplicates) = media::decode(&self.server.registry, &self.headers, &self.body)?;
        let resource = &self.resource;
        self.check_kind(&mut value, &resource.api_version(), &resource.kind)?;
        let warnings = self.prune(&mut value, resource.type_id, duplicates)?;
        Ok((value, warnings))
    }

    /// A body of another kind than the resource's own, such as a Scale; None when it is empty.
    pub(crate) fn read_other(&self) -> Result<Option<Value>, Status> {
        if self.body.is_empty() {
            return Ok(None);
        }
        media::decode(&self.server.registry, &self.headers, &self.body).map(|(value, _)| Some(value))
    }

    /// Fills in the version and kind where they are missing; 400 where they are others.
    pub(crate) fn check_kind(&self, value: &mut Value, version: &str, kind: &str) -> Result<(), Status> {
        let Value::Object(fields) = value else {
            return Err(Status::bad_request("the request body is not an object"));
        };
        for (field, expected) in [("apiVersion", version), ("kind", kind)] {
            let found = fields.entry(field).or_insert_with(|| expected.into());
            if found.as_str() == Some("") || found.is_null() {
                *found = expected.into();
            }
        }
        let (found_version, found_kind) = (object::text(value, "/apiVersion"), object::text(value, "/kind"));
        if found_version != version {
            return Err(Status::bad_request(format!(
                "the API version in the data ({found_version}) does not match the expected API version ({version})"
            )));
        }
        if found_kind != kind {
            return Err(Status::bad_request(format!(
                "{found_kind} in version \"{version}\" cannot be handled as a {kind}: \
                 converting ({found_kind}) to ({kind}): unknown conversion"
            )));
        }
        Ok(())
    }

    /// Drops what the type does not know, and judges that as `fieldValidation` asks.
    pub(crate) fn prune(&self, value: &mut Value, type_id: TypeId, told: Vec<String>) -> Result<Vec<String>, Status> {
        self.prune_or(value, type_id, told, |why| {
            let (kind, version) = (&self.resource.kind, &self.resource.version);
            Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
        })
    }

    /// The same; `refuse` makes the Status of what cannot be.
    pub(crate) fn prune_or(
        &self,
        value: &mut Value,
        type_id: TypeId,
        mut told: Vec<String>,
        refuse: impl Fn(String) -> Status,
    ) -> Result<Vec<String>, Status> {
        let validation = match self.query.get("fieldValidation") {
            None | Some("Warn") => Validation::Warn,
            Some("Ignore") => Validation::Ignore,
            Some("Strict") => Validation::Strict,
            Some(other) => {
                let known = ["Ignore", "Strict", "Warn"];
                return Err(self.bad_option(FieldError::not_supported("fieldValidation", other, &known)));
            }
        };
        let unknown = self.server.registry.prune(value, type_id).map_err(|error| refuse(error.to_string()))?;
        told.extend(unknown);
        told.truncate(TOLD);
        match validation {
            Validation::Ignore => Ok(Vec::new()),
            Validation::Strict if !told.is_empty() => {
                Err(refuse(format!("strict decoding error: {}", told.join(", "))))
            }
            Validation::Warn | Validation::Strict => Ok(told),
        }
    }

    /// An option in the query that cannot be.
    pub(crate) fn bad_option(&self, error: FieldError) -> Status {
        let options = match (media::content_type(&self.headers), self.name.as_str()) {
            (ty, _) if ty.contains("-patch+") => "PatchOptions",
            (_, "") => "CreateOptions",
            _ => "UpdateOptions",
        };
        Status::invalid_options(options, &[error])
    }

    /// From the resource's form to the stored one.
    pub(crate) fn to_stored(&self, value: &mut Value) {
        if let Some(conversion) = self.conversion {
            (conversion.inward)(value);
        }
    }

    /// From the stored form to the resource's.
    pub(crate) fn to_shown(&self, value: &mut Value) {
        if let Some(conversion) = self.conversion {
            (conversion.outward)(value);
        }
    }

    pub(crate) fn hook(&self) -> &'static hook::Hook {
        hook::of(&self.stored)
    }
}
