use serde_json::Value;

use super::Conversion;

/// `events.k8s.io/v1` events are stored as core ones.
pub(super) static CONVERSION: Conversion = Conversion { stored: ("", "v1", "Event"), inward, outward };

/// Fields by their names in the core group and in `events.k8s.io`.
const NAMES: &[(&str, &str)] = &[
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("involvedObject", "regarding"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
];

fn inward(event: &mut Value) {
    rename(event, "v1", NAMES.iter().map(|(core, other)| (*other, *core)));
    let Value::Object(fields) = event else { return };
    // The core type requires it.
    fields.entry("involvedObject").or_insert_with(|| Value::Object(Default::default()));
}

fn outward(event: &mut Value) {
    rename(event, "events.k8s.io/v1", NAMES.iter().copied());
}

fn rename<'a>(event: &mut Value, version: &str, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Value::Object(fields) = event else { return };
    fields.insert("apiVersion".into(), version.into());
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back() {
        let other = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
            "regarding": {"kind": "Pod"}, "note": "n", "reportingController": "c", "deprecatedCount": 2,
        });
        let mut event = other.clone();
        inward(&mut event);
        assert_eq!(event["apiVersion"], "v1");
        assert_eq!((&event["message"], &event["involvedObject"]["kind"]), (&json!("n"), &json!("Pod")));
        outward(&mut event);
        assert_eq!(event, other);
    }
}
