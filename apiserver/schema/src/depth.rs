use serde_json::Value;

/// How deep objects may be nested. What reads JSON gives up at 128, and managed fields lie deeper than what they are
/// about.
pub(crate) const DEPTH: usize = 100;

/// Whether a value is nested deeper than what is stored may be. It looks no deeper than that.
pub fn is_too_deep(value: &Value) -> bool {
    deeper_than(value, DEPTH)
}

pub(crate) fn deeper_than(value: &Value, levels: usize) -> bool {
    let deeper = |value: &Value| levels == 0 || deeper_than(value, levels - 1);
    match value {
        Value::Array(items) => items.iter().any(deeper),
        Value::Object(fields) => fields.values().any(deeper),
        _ => false,
    }
}
