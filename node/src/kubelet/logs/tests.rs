use super::*;

const OLD: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n\
                   2026-01-01T00:00:01.000000001Z stderr F two\n";
const NEW: &str = "2026-01-01T00:00:02.000000001Z stdout P thr\n\
                   2026-01-01T00:00:02.000000002Z stdout F ee\n\
                   2026-01-01T00:00:03.000000001Z stdout F \n";

fn shown(query: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    std::fs::write(dir.path().join("0.log.1"), OLD).unwrap();
    std::fs::write(&log, NEW).unwrap();
    let now = "2026-01-01T00:00:04Z".parse().unwrap();
    let (mut filter, lines) = options(&Query::parse(query), now).unwrap();
    let mut reader = Reader::open(&log, lines).unwrap();
    let mut out = Vec::new();
    while !filter.full() && reader.read(&mut filter, &mut out).unwrap() {}
    String::from_utf8(out).unwrap()
}

#[test]
fn lines_come_from_all_files_and_as_asked_for() {
    for (query, text) in [
        ("", "one\ntwo\nthree\n\n"),
        ("tailLines=1", "\n"),
        ("tailLines=3", "three\n\n"),
        ("tailLines=4", "two\nthree\n\n"),
        ("tailLines=99", "one\ntwo\nthree\n\n"),
        ("tailLines=0", ""),
        ("limitBytes=5", "one\nt"),
        ("sinceTime=2026-01-01T00:00:01Z", "two\nthree\n\n"),
        ("sinceSeconds=2", "three\n\n"),
        ("tailLines=3&timestamps=true", "2026-01-01T00:00:02.000000001Z three\n2026-01-01T00:00:03.000000001Z \n"),
    ] {
        assert_eq!(shown(query), text, "{query}");
    }
}

#[test]
fn wrong_options_are_refused() {
    for query in ["tailLines=x", "sinceTime=yesterday", "limitBytes=-1"] {
        assert!(options(&Query::parse(query), Timestamp::now()).is_err(), "{query}");
    }
}

#[test]
fn rotation_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    std::fs::write(&log, OLD).unwrap();
    let mut reader = Reader::open(&log, Some(0)).unwrap();
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    assert!(!reader.read(&mut filter, &mut out).unwrap());
    std::fs::rename(&log, dir.path().join("0.log.1")).unwrap();
    std::fs::write(&log, NEW).unwrap();
    while reader.read(&mut filter, &mut out).unwrap() {}
    assert_eq!(out, b"three\n\n");
}

#[test]
fn the_tail_of_a_long_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("0.log");
    let line = |n: usize| format!("2026-01-01T00:00:00Z stdout F {n:0>100}\n");
    std::fs::write(&log, (0..2000).map(line).collect::<String>()).unwrap();
    let last = tail(&log, 1500, usize::MAX);
    assert_eq!(last.lines().count(), 1500);
    assert!(last.starts_with(&format!("{:0>100}\n", 500)));
    assert_eq!(tail(&log, 80, 202), format!("{:0>100}\n{:0>100}\n", 1998, 1999));
    assert_eq!(tail(&dir.path().join("none"), 1, 1), "");
}
