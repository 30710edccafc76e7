use serde_json::Value;

use crate::error::Error;
use crate::quantity;
use crate::types::{Form, Shape};

/// Whether the JSON value is of the scalar's kind and range.
pub(super) fn fits(value: &Value, shape: &Shape) -> bool {
    match shape {
        Shape::String | Shape::Bytes => value.is_string(),
        Shape::Int32 => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Shape::Int64 => value.is_i64(),
        Shape::Double => value.is_number(),
        Shape::Bool => value.is_boolean(),
        Shape::Type(_) | Shape::List(_) | Shape::Map(_) => false,
    }
}

/// A number that does not fit such a shape is told with its digits.
pub(super) fn is_number(shape: &Shape) -> bool {
    matches!(shape, Shape::Int32 | Shape::Int64 | Shape::Double)
}

/// What has to hold beyond the JSON kind.
pub(super) fn check(value: &Value, shape: &Shape) -> Result<(), Error> {
    match (shape, value) {
        (Shape::Bytes, Value::String(text)) => match first_bad_base64(text) {
            Some(at) => Err(Error::Decode(format!("illegal base64 data at input byte {at}"))),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The types that read their JSON themselves.
pub(super) fn special(value: &mut Value, form: Form) -> Result<(), Error> {
    match form {
        Form::Quantity => {
            if let Value::Number(number) = value {
                *value = Value::String(number.to_string());
            }
            match value.as_str().and_then(quantity::canonical) {
                Some(form) => *value = Value::String(form),
                None => return Err(Error::Decode(quantity::FORMAT_ERROR.to_owned())),
            }
            Ok(())
        }
        Form::IntOrString => match value {
            Value::String(_) => Ok(()),
            Value::Number(_) if fits(value, &Shape::Int32) => Ok(()),
            Value::Number(number) => Err(go_value(&format!("number {number}"), "int32")),
            other => Err(go_value(kind_of(other), "int32")),
        },
        _ => match value {
            Value::String(text) => time(text, form),
            Value::Number(_) => Err(go_value("number", "string")),
            other => Err(go_value(kind_of(other), "string")),
        },
    }
}

/// Checks a time, and writes it as Kubernetes does: in UTC, in seconds or microseconds.
fn time(text: &mut String, form: Form) -> Result<(), Error> {
    let is_plain = text.len() == 20 && text.ends_with('Z');
    let parsed = match text.as_bytes().get(10) {
        Some(b'T') if text.len() >= 20 => text.parse::<jiff::Timestamp>().ok(),
        _ => None,
    };
    let Some(time) = parsed else {
        let layout = "2006-01-02T15:04:05Z07:00";
        let wrong = format!("parsing time {text:?} as \"{layout}\": cannot parse {text:?} as \"2006\"");
        return Err(Error::Decode(wrong));
    };
    match form {
        Form::MicroTime => *text = time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        _ if is_plain => {}
        _ => *text = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }
    Ok(())
}

fn go_value(found: &str, expected: &str) -> Error {
    Error::Decode(format!("json: cannot unmarshal {found} into Go value of type {expected}"))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Standard base64 with padding; line breaks are skipped, as Go does.
fn first_bad_base64(text: &str) -> Option<usize> {
    let mut digits = 0;
    let mut padding = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\r' | b'\n' => {}
            b'=' if digits % 4 + padding >= 2 && digits % 4 + padding < 4 => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => digits += 1,
            _ => return Some(at),
        }
    }
    ((digits + padding) % 4 != 0).then_some(text.len())
}
