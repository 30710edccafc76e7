use std::fmt::{self, Display, Formatter};

use serde::Serialize;
use serde_json::Value;

use crate::path::Path;

/// What is wrong with one field, as `k8s.io/apimachinery/pkg/util/validation/field` has it.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The sort of fault.
    pub ty: ErrorType,
    /// Where: `spec.ports[0].port`.
    pub field: String,
    /// What was there.
    pub value: Value,
    /// What should be there; may be empty.
    pub detail: String,
}

/// The sorts of faults; [`ErrorType::reason`] is what stands in a Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// Something that is referred to is not there.
    NotFound,
    /// A field has to be given.
    Required,
    /// A value that has to be unique is there twice.
    Duplicate,
    /// The value breaks a rule.
    Invalid,
    /// The value is none of those that are known.
    NotSupported,
    /// The field may not be given or changed here.
    Forbidden,
    /// The text has too many bytes; it is not repeated.
    TooLong,
    /// The list has too many items.
    TooMany,
}

/// One entry of a Status' `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// `FieldValueRequired` and the like.
    pub reason: &'static str,
    /// The message without the field.
    pub message: String,
    /// Where: `spec.ports[0].port`.
    pub field: String,
}

impl ErrorType {
    /// The reason of the Status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
        }
    }
}

impl Display for ErrorType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
        })
    }
}

impl FieldError {
    /// An error of that sort at a field, with what was found there and what should be.
    pub fn new(ty: ErrorType, field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { ty, field: field.into(), value: value.into(), detail: detail.into() }
    }

    /// The value is none of the supported ones.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("supported values: {}", supported.join(", "));
        Self::new(ErrorType::NotSupported, field, value, detail)
    }

    /// The text has more than so many bytes.
    pub fn too_long(field: impl Into<String>, bytes: usize) -> Self {
        Self::new(ErrorType::TooLong, field, "", format!("may not be more than {bytes} bytes"))
    }

    /// The message without the field, as it stands in a Status cause.
    pub fn body(&self) -> String {
        let mut body = match self.ty {
            ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong => self.ty.to_string(),
            ty => format!("{ty}: {}", self.value),
        };
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }

    /// The entry of a Status' `details.causes`.
    pub fn cause(&self) -> Cause {
        Cause { reason: self.ty.reason(), message: self.body(), field: self.field.clone() }
    }
}

impl Display for FieldError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// The message of a Status with reason Invalid:
/// `Deployment.apps "x" is invalid: spec.selector: Required value`. `group_kind` is
/// [`Resource::group_kind`](crate::Resource::group_kind).
pub fn invalid_message(group_kind: &str, name: &str, errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let all = if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) };
    format!("{group_kind} {name:?} is invalid: {all}")
}

/// Gathers what a validation finds.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) errors: Vec<FieldError>,
}

impl Report {
    fn add(&mut self, ty: ErrorType, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.errors.push(FieldError::new(ty, path.to_string(), value, detail));
    }

    pub(crate) fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.add(ErrorType::Required, path, "", detail);
    }

    pub(crate) fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(ErrorType::Invalid, path, value, detail);
    }

    /// One error for each reason.
    pub(crate) fn invalid_all(&mut self, path: &Path<'_>, value: impl Into<Value>, reasons: Vec<String>) {
        if reasons.is_empty() {
            return;
        }
        let value = value.into();
        for reason in reasons {
            self.invalid(path, value.clone(), reason);
        }
    }

    pub(crate) fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.add(ErrorType::Duplicate, path, value, "");
    }

    pub(crate) fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.add(ErrorType::NotFound, path, value, "");
    }

    pub(crate) fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.add(ErrorType::Forbidden, path, "", detail);
    }

    pub(crate) fn too_long(&mut self, path: &Path<'_>, bytes: usize) {
        self.errors.push(FieldError::too_long(path.to_string(), bytes));
    }

    pub(crate) fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        self.errors.push(FieldError::not_supported(path.to_string(), value, supported));
    }

    /// The text has to be one of these; an empty one is required.
    pub(crate) fn one_of(&mut self, path: &Path<'_>, text: &str, supported: &[&str]) {
        if text.is_empty() {
            self.required(path, "");
        } else if !supported.contains(&text) {
            self.not_supported(path, text, supported);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_and_causes() {
        let range = "provided port is not in the valid range. The range of valid ports is 30000-32767";
        let port = FieldError::new(ErrorType::Invalid, "spec.ports[0].nodePort", 99999, range);
        assert_eq!(
            invalid_message("Service", "x", std::slice::from_ref(&port)),
            format!("Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 99999: {range}")
        );
        let required = FieldError::new(ErrorType::Required, "spec.selector", "", "");
        assert_eq!(
            invalid_message("Deployment.apps", "d", &[required.clone(), required.clone(), port]),
            format!(
                "Deployment.apps \"d\" is invalid: [spec.selector: Required value, \
                 spec.ports[0].nodePort: Invalid value: 99999: {range}]"
            )
        );
        assert_eq!(required.cause().reason, "FieldValueRequired");
        let policy = FieldError::not_supported("spec.restartPolicy", "Now", &["Always", "Never"]);
        assert_eq!(policy.cause().message, "Unsupported value: \"Now\": supported values: \"Always\", \"Never\"");
        let labels = FieldError::new(ErrorType::Invalid, "a", json!({"app": "x"}), "why");
        assert_eq!(labels.to_string(), "a: Invalid value: {\"app\":\"x\"}: why");
        assert_eq!(FieldError::too_long("a", 5).to_string(), "a: Too long: may not be more than 5 bytes");
    }
}
