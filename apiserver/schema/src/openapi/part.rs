use serde_json::Value;

use super::Encoding;
use super::gnostic::{self, Messages};

/// A part of a document that has a member for each path or each type. They are written one by one, so that the
/// document never stands in memory as a tree.
pub(super) struct Part {
    messages: &'static Messages,
    encoding: Encoding,
    message: &'static str,
    /// What every member goes through first.
    pub(super) convert: Option<fn(&mut Value)>,
    bytes: Vec<u8>,
}

impl Part {
    /// An empty one; `message` is its protobuf message.
    pub(super) fn new(messages: &'static Messages, encoding: Encoding, message: &'static str) -> Self {
        let bytes = if encoding == Encoding::Json { b"{".to_vec() } else { Vec::new() };
        Part { messages, encoding, message, convert: None, bytes }
    }

    /// One that is written already.
    pub(super) fn of(
        messages: &'static Messages,
        encoding: Encoding,
        message: &'static str,
        mut bytes: Vec<u8>,
    ) -> Self {
        if encoding == Encoding::Json {
            bytes.pop();
        }
        Part { messages, encoding, message, convert: None, bytes }
    }

    pub(super) fn add(&mut self, name: &str, mut value: Value) {
        if let Some(convert) = self.convert {
            convert(&mut value);
        }
        match self.encoding {
            Encoding::Json => member(&mut self.bytes, name, value.to_string().as_bytes()),
            Encoding::Protobuf => gnostic::member(self.messages, self.message, name, &value, &mut self.bytes),
        }
    }
}

/// A whole message: the fields of `head`, and the parts under their names.
pub(super) fn document(
    messages: &'static Messages,
    encoding: Encoding,
    message: &'static str,
    head: &Value,
    parts: Vec<(&str, Part)>,
) -> Vec<u8> {
    match encoding {
        Encoding::Json => {
            let mut bytes = head.to_string().into_bytes();
            bytes.pop();
            for (name, mut part) in parts {
                part.bytes.push(b'}');
                member(&mut bytes, name, &part.bytes);
            }
            bytes.push(b'}');
            bytes
        }
        Encoding::Protobuf => {
            let mut bytes = Vec::new();
            gnostic::message(messages, message, head, &mut bytes);
            for (name, part) in parts {
                gnostic::nested(messages, message, name, &part.bytes, &mut bytes);
            }
            bytes
        }
    }
}

fn member(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    if bytes.last() != Some(&b'{') {
        bytes.push(b',');
    }
    bytes.extend_from_slice(Value::from(name).to_string().as_bytes());
    bytes.push(b':');
    bytes.extend_from_slice(value);
}
