use serde_json::{Map, Value};

use super::Row;
use super::age::since;

/// One cell of a row; the texts are JSON pointers into the object.
pub(super) enum Cell {
    Name,
    Age,
    /// A text, and what stands there when it is absent.
    Text(&'static str, &'static str),
    /// A number; 0 when it is absent.
    Int(&'static str),
    /// true or false; false when it is absent.
    Bool(&'static str),
    /// How many there are in a list or a map.
    Count(&'static str),
    /// Labels as `a=b,c=d`.
    Labels(&'static str),
    /// A label selector in words.
    Selector(&'static str),
    /// The names of the containers of a pod spec.
    Containers(&'static str),
    /// Their images.
    Images(&'static str),
    By(fn(&Row<'_>) -> Value),
}

impl Cell {
    pub(super) fn value(&self, row: &Row<'_>) -> Value {
        match self {
            Self::Name => row.name().into(),
            Self::Age => row.age("/metadata/creationTimestamp").into(),
            Self::Text(pointer, absent) => row.text(pointer, absent).into(),
            Self::Int(pointer) => row.int(pointer).into(),
            Self::Bool(pointer) => row.flag(pointer).into(),
            Self::Count(pointer) => row.count(pointer).into(),
            Self::Labels(pointer) => labels(row.at(pointer)).into(),
            Self::Selector(pointer) => selector(row.at(pointer)).into(),
            Self::Containers(pointer) => row.each(pointer, "name").into(),
            Self::Images(pointer) => row.each(pointer, "image").into(),
            Self::By(cell) => cell(row),
        }
    }
}

impl<'a> Row<'a> {
    pub(super) fn at(&self, pointer: &str) -> Option<&'a Value> {
        self.object.pointer(pointer).filter(|value| !value.is_null())
    }

    pub(super) fn name(&self) -> &'a str {
        self.text("/metadata/name", "")
    }

    pub(super) fn text(&self, pointer: &str, absent: &'a str) -> &'a str {
        self.at(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or(absent)
    }

    pub(super) fn int(&self, pointer: &str) -> i64 {
        self.at(pointer).and_then(Value::as_i64).unwrap_or(0)
    }

    pub(super) fn flag(&self, pointer: &str) -> bool {
        self.at(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(super) fn list(&self, pointer: &str) -> &'a [Value] {
        self.at(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(super) fn map(&self, pointer: &str) -> Option<&'a Map<String, Value>> {
        self.at(pointer).and_then(Value::as_object)
    }

    pub(super) fn count(&self, pointer: &str) -> usize {
        match self.at(pointer) {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(entries)) => entries.len(),
            _ => 0,
        }
    }

    /// The time since then, or `<unknown>`.
    pub(super) fn age(&self, pointer: &str) -> String {
        since(self.text(pointer, ""), self.now).unwrap_or_else(|| "<unknown>".to_owned())
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.at("/metadata/deletionTimestamp").is_some()
    }

    /// A field of each item of a list, joined by commas.
    fn each(&self, pointer: &str, field: &str) -> String {
        let texts = self.list(pointer).iter().map(|item| text(item, field));
        texts.collect::<Vec<_>>().join(",")
    }
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn or<'a>(text: &'a str, absent: &'a str) -> &'a str {
    if text.is_empty() { absent } else { text }
}

/// The first three, and how many more; `count` is of all.
pub(super) fn first_three(list: &[String], count: usize) -> String {
    const SHOWN: usize = 3;
    let shown = list.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    if count > SHOWN { format!("{shown} + {} more...", count - SHOWN) } else { shown }
}

pub(super) fn labels(labels: Option<&Value>) -> String {
    let pairs = labels.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    or(&pairs.join(","), "<none>").to_owned()
}

/// A label selector as the query of a list would have it.
pub(super) fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return "<none>".to_owned() };
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let key = text(expression, "key");
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        let mut values: Vec<&str> = values.filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key.to_owned(), part));
    }
    parts.sort();
    let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
    or(&parts.join(","), "<none>").to_owned()
}
