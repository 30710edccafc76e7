use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A span of seconds as kubectl shows ages: two units while the second one matters
/// (`k8s.io/apimachinery/pkg/util/duration`).
pub fn human_duration(seconds: i64) -> String {
    let two = |(unit, name): (i64, &str), (part, part_name): (i64, &str)| match seconds % unit / part {
        0 => format!("{}{name}", seconds / unit),
        rest => format!("{}{name}{rest}{part_name}", seconds / unit),
    };
    let one = |unit: i64, name: &str| format!("{}{name}", seconds / unit);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 2 * MINUTE => one(1, "s"),
        _ if seconds < 10 * MINUTE => two((MINUTE, "m"), (1, "s")),
        _ if seconds < 3 * HOUR => one(MINUTE, "m"),
        _ if seconds < 8 * HOUR => two((HOUR, "h"), (MINUTE, "m")),
        _ if seconds < 2 * DAY => one(HOUR, "h"),
        _ if seconds < 8 * DAY => two((DAY, "d"), (HOUR, "h")),
        _ if seconds < 2 * YEAR => one(DAY, "d"),
        _ if seconds < 8 * YEAR => two((YEAR, "y"), (DAY, "d")),
        _ => one(YEAR, "y"),
    }
}

/// The time since an RFC 3339 text; None when it is absent or none.
pub(super) fn since(time: &str, now: Timestamp) -> Option<String> {
    let time: Timestamp = time.parse().ok()?;
    Some(human_duration(now.duration_since(time).as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 90, "3h1m"),
            (8 * HOUR, "8h"),
            (47 * HOUR, "47h"),
            (48 * HOUR, "2d"),
            (50 * HOUR, "2d2h"),
            (8 * DAY, "8d"),
            (729 * DAY, "729d"),
            (2 * YEAR, "2y"),
            (2 * YEAR + 3 * DAY, "2y3d"),
            (9 * YEAR + DAY, "9y"),
        ] {
            assert_eq!(human_duration(seconds), text);
        }
    }
}
