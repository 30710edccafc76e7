//! What Coracle knows about the kinds of Kubernetes, as one table, and what follows from it:
//! discovery, OpenAPI, reading and pruning of JSON, defaults, validation, patches, selectors
//! and the Tables that kubectl prints. Pure: no I/O, and the time comes from outside.

mod apply;
mod decode;
mod defaults;
mod depth;
mod discovery;
mod error;
mod field_error;
mod names;
mod openapi;
mod patch;
mod path;
mod prune;
mod quantity;
mod registry;
mod resource;
mod selector;
mod table;
mod types;
mod validate;
mod warn;

pub use apply::{ApplyError, Ownership, View};
pub use decode::{parse, read};
pub use depth::is_too_deep;
pub use error::Error;
pub use field_error::{Cause, ErrorType, FieldError, invalid_message};
pub use openapi::Encoding;
pub use patch::{JsonPatch, merge_patch};
pub use registry::{Column, Registry};
pub use resource::{Resource, Subresource};
pub use selector::{FieldSelector, LabelSelector, Operator, Requirement};
pub use table::human_duration;
pub use types::{Field, Form, ListType, Merge, Shape, Text, Type, TypeId};
pub use validate::validate;
pub use warn::{deprecation, warnings};
