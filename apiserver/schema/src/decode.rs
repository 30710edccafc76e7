use std::fmt::{self, Formatter};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::Error;
use crate::path::Path;

/// Reads JSON and tells each key that an object has twice, as
/// `duplicate field "spec.replicas"`; the last one wins, as in Kubernetes.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = read(&mut reader).and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| Error::Decode(error.to_string()))
}

/// The same from any other format, such as YAML.
pub fn read<'de, D: Deserializer<'de>>(reader: D) -> Result<(Value, Vec<String>), D::Error> {
    let mut duplicates = Vec::new();
    let value = Node { path: &Path::Root, duplicates: &mut duplicates }.deserialize(reader)?;
    Ok((value, duplicates))
}

struct Node<'a> {
    path: &'a Path<'a>,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        self.deserialize(reader)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = self.path.item(list.len());
            match items.next_element_seed(Node { path: &path, duplicates: self.duplicates })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = self.path.field(&key);
            if map.contains_key(&key) {
                self.duplicates.push(format!("duplicate field \"{path}\""));
            }
            let value = entries.next_value_seed(Node { path: &path, duplicates: self.duplicates })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicates_are_told_with_their_path() {
        let text = br#"{"a":1,"spec":{"list":[{"x":1},{"x":2,"x":3}],"y":null},"a":2}"#;
        let (value, duplicates) = parse(text).unwrap();
        assert_eq!(value, json!({"a": 2, "spec": {"list": [{"x": 1}, {"x": 3}], "y": null}}));
        assert_eq!(duplicates, ["duplicate field \"spec.list[1].x\"", "duplicate field \"a\""]);
    }

    #[test]
    fn broken_json_is_an_error() {
        for text in [&b"{"[..], b"", b"{} x", b"{\"a\":01}", b"\xff"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
