use schema::{Cause, ErrorType, FieldError, Resource};
use serde::Serialize;

/// What went wrong, as it crosses the wire: a `meta.k8s.io/v1` Status.
#[derive(Clone, Debug, thiserror::Error, Serialize)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct Status {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata,
    status: &'static str,
    /// For people.
    pub message: String,
    /// For programs, one of the words of the API conventions, such as `NotFound`; may be empty.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'static str,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP code.
    pub code: u16,
}

/// The ListMeta of a Status: only a list that has expired fills it.
#[derive(Clone, Debug, Default, Serialize)]
struct Metadata {
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    next: Option<Box<str>>,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind, or its resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl Status {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Status {
            kind: "Status",
            api_version: "v1",
            metadata: Metadata::default(),
            status: "Failure",
            message: message.into(),
            reason,
            details: None,
            code,
        }
    }

    /// The answer of a verb that worked and has no object to show.
    pub(crate) fn success(details: Details) -> Self {
        Status { status: "Success", details: Some(Box::new(details)), ..Self::new(200, "", "") }
    }

    /// The answer of a subresource that was created and has no object to show.
    pub(crate) fn created() -> Self {
        Status { code: 201, ..Self::success(Details::default()) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// A path that nothing is served at.
    pub(crate) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with(Details::default())
    }

    pub(crate) fn method_not_allowed(resource: &Resource, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{}\"", resource.group_resource());
        Self::new(405, "MethodNotAllowed", message).about(resource, "")
    }

    pub(crate) fn not_acceptable(accepted: &str) -> Self {
        let message = format!("only the following media types are accepted: {accepted}");
        Self::new(406, "NotAcceptable", message)
    }

    pub(crate) fn unsupported_media(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.group_resource());
        Self::new(404, "NotFound", message).about(resource, name)
    }

    pub(crate) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.group_resource());
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.group_resource());
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// Optimistic locking has failed.
    pub(crate) fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", resource.group_resource());
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// The object breaks rules; one cause for each.
    pub(crate) fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        let message = schema::invalid_message(&resource.group_kind(), name, errors);
        Self::new(422, "Invalid", message).with(Details {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.kind.to_string(),
            causes: errors.iter().map(FieldError::cause).collect(),
            ..Details::default()
        })
    }

    /// The options of a request, of that kind, do not go together.
    pub(crate) fn invalid_options(kind: &str, errors: &[FieldError]) -> Self {
        Self::of_fields(&format!("{kind}.meta.k8s.io"), "", errors)
    }

    /// The same for what is no object of a resource, such as a Scale: its kind and group with a dot between.
    pub(crate) fn of_fields(kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let message = schema::invalid_message(kind, name, errors);
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        Self::new(422, "Invalid", message).with(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes: errors.iter().map(FieldError::cause).collect(),
            ..Details::default()
        })
    }

    /// The history that was asked for is gone; the client has to list again.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// A revision that has not come yet.
    pub(crate) fn too_new(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", message).with(Details {
            causes: vec![Cause {
                reason: "ResourceVersionTooLarge",
                message: "Too large resource version".into(),
                field: String::new(),
            }],
            retry_after_seconds: Some(1),
            ..Details::default()
        })
    }

    pub(crate) fn with(self, details: Details) -> Self {
        Status { details: Some(Box::new(details)), ..self }
    }

    /// The token that a list which has expired can be gone on with.
    pub(crate) fn with_continue(mut self, token: String) -> Self {
        self.metadata.next = Some(token.into());
        self
    }

    pub(crate) fn because(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    fn about(self, resource: &Resource, name: &str) -> Self {
        self.with(Details {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.plural.to_string(),
            ..Details::default()
        })
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A field that may not be changed.
pub(crate) fn forbidden(field: &str, why: &str) -> FieldError {
    FieldError::new(ErrorType::Forbidden, field, "", why)
}

/// A field that is missing.
pub(crate) fn required(field: &str, why: &str) -> FieldError {
    FieldError::new(ErrorType::Required, field, "", why)
}

/// A value that breaks a rule.
pub(crate) fn invalid(
    field: impl Into<String>,
    value: impl Into<serde_json::Value>,
    why: impl Into<String>,
) -> FieldError {
    FieldError::new(ErrorType::Invalid, field, value, why)
}
