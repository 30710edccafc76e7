use serde_json::Value;

use super::Row;
use super::age::since;
use super::cells::or;

/// Events are core/v1 ones and events.k8s.io/v1 ones: the same object with other field names.
pub(super) fn cells(row: &Row<'_>) -> Vec<Value> {
    let either = |core: &'static str, events: &'static str| or(row.text(core, ""), row.text(events, ""));
    let ago = |time: &str| since(time, row.now);
    let unknown = || "<unknown>".to_owned();
    let first = either("/firstTimestamp", "/deprecatedFirstTimestamp");
    let first = ago(or(first, row.text("/eventTime", ""))).unwrap_or_else(unknown);
    let last = either("/lastTimestamp", "/deprecatedLastTimestamp");
    let mut last = ago(last).unwrap_or_else(|| first.clone());
    let mut count = row.int("/count").max(row.int("/deprecatedCount")).max(1);
    if row.at("/series").is_some() {
        count = row.int("/series/count");
        last = ago(row.text("/series/lastObservedTime", "")).unwrap_or_else(unknown);
    }
    let kind = either("/involvedObject/kind", "/regarding/kind").to_lowercase();
    let object = match either("/involvedObject/name", "/regarding/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = or(
        either("/source/component", "/deprecatedSource/component"),
        either("/reportingComponent", "/reportingController"),
    );
    let host = either("/source/host", "/deprecatedSource/host");
    let host = or(host, row.text("/reportingInstance", ""));
    let source = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    vec![
        last.into(),
        row.text("/type", "").into(),
        row.text("/reason", "").into(),
        object.into(),
        either("/involvedObject/fieldPath", "/regarding/fieldPath").into(),
        source.into(),
        either("/message", "/note").trim().into(),
        first.into(),
        count.into(),
        row.name().into(),
    ]
}
