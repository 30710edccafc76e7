use super::*;
use crate::corefile;

/// The settings of a directive in the block of `example.org`.
fn settings(directive: &str) -> Result<Settings, Error> {
    let blocks = corefile::parse(&format!("example.org:53 {{\n{directive}\n}}\n"))?;
    read(&blocks[0].directives[0], &blocks[0])
}

fn class(capacity: usize, least: u32, most: u32) -> Class {
    Class { capacity, bounds: Bounds { least, most }, except: vec![] }
}

fn zones(text: &str) -> Vec<Box<[u8]>> {
    let names = text.split_whitespace().map(|name| Name::from_ascii(name).unwrap());
    wire(names.collect())
}

#[test]
fn classes() {
    let (success, denial) = (class(9984, 5, 3600), class(9984, 5, 1800));
    let table = [
        ("cache", "example.org.", success.clone(), denial.clone()),
        ("cache example.nl {\n success 10\n}", "example.nl.", class(10, 5, 3600), denial.clone()),
        ("cache {\n success 10 1800 30\n}", "example.org.", class(10, 30, 1800), denial.clone()),
        ("cache {\n denial 10 15 2\n}", "example.org.", success.clone(), class(10, 2, 15)),
        ("cache 25 b. A {\n success 10\n denial 10 15\n}", "b. a.", class(10, 5, 25), class(10, 5, 15)),
        ("cache aaa example.nl", "aaa. example.nl.", success.clone(), denial.clone()),
        (
            "cache {\n disable success\n disable denial a. b.\n}",
            "example.org.",
            Class { except: zones("."), ..success },
            Class { except: zones("a. b."), ..denial },
        ),
    ];
    for (directive, names, success, denial) in table {
        let settings = settings(directive).unwrap();
        assert_eq!((settings.zones, settings.success, settings.denial), (zones(names), success, denial), "{directive}");
        assert_eq!((settings.failure, settings.prefetch, settings.stale, settings.keep), (5, None, None, false));
    }
}

#[test]
fn prefetch_and_failures() {
    let prefetch = |amount, gap, percentage| Some(Prefetch { amount, gap: Duration::from_secs(gap), percentage });
    let table = [
        ("prefetch 10", prefetch(10, 60, 10), 5),
        ("prefetch 10 2m", prefetch(10, 120, 10), 5),
        ("prefetch 10 2m 90%", prefetch(10, 120, 90), 5),
        ("prefetch 0", None, 5),
        ("servfail 0", None, 0),
        ("servfail 5m", None, 300),
    ];
    for (line, prefetch, failure) in table {
        let settings = settings(&format!("cache {{\n{line}\n keepttl\n}}")).unwrap();
        assert_eq!((settings.prefetch, settings.failure, settings.keep), (prefetch, failure, true), "{line}");
    }
}

#[test]
fn serve_stale() {
    let (none, second, hour) = (Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3600));
    let stale = |period, verify, ttl, recheck| Some(Stale { period, verify, ttl, recheck, positive: false });
    let short = Some(Some(Duration::from_millis(100)));
    let table = [
        ("", stale(hour, None, 0, none)),
        ("1h20m", stale(4800 * second, None, 0, none)),
        ("0 verify", None),
        ("1h VERIFY", stale(hour, Some(None), 0, none)),
        ("1h verify 0 1m", stale(hour, Some(None), 60, none)),
        ("1h verify 100ms", stale(hour, short, 0, none)),
        ("1h verify 100ms 30s 1s", stale(hour, short, 30, second)),
        ("1h immediate 4294967295s", stale(hour, None, u32::MAX, none)),
        ("1h immediate 30s 5m", stale(hour, None, 30, 300 * second)),
    ];
    for (words, expected) in table {
        assert_eq!(settings(&format!("cache {{\nserve_stale {words}\n}}")).unwrap().stale, expected, "{words}");
    }
    let positive = settings("cache {\nserve_stale_policy PREFER_POSITIVE\nserve_stale\n}").unwrap().stale;
    assert!(positive.is_some_and(|stale| stale.positive));
}

#[test]
fn errors_name_their_line() {
    let lines = [
        "success",
        "success aaa",
        "success 1 0",
        "success 1 1 -1",
        "denial 1 1 1 1",
        "positive 0",
        "prefetch",
        "prefetch -1",
        "prefetch 0 blurp",
        "prefetch 1 1m 50",
        "prefetch 1 1m 9%",
        "prefetch 1 1m 91%",
        "serve_stale 20",
        "serve_stale -20m",
        "serve_stale 1m nono",
        "serve_stale 1h immediate 100ms",
        "serve_stale 1h immediate 4294967296s",
        "serve_stale 1h immediate 30s extra",
        "serve_stale 1h immediate 30s 30s extra",
        "serve_stale 1h verify 100ms 500ms",
        "serve_stale 1h verify 100ms 30s 5m1s",
        "serve_stale 1h verify 1s 1s 1s 1s",
        "serve_stale_policy prefer_positive",
        "serve_stale_policy",
        "serve_stale_policy other",
        "servfail",
        "servfail -1s",
        "servfail 301s",
        "disable",
        "disable error",
        "keepttl 1",
    ];
    for line in lines {
        let error = settings(&format!("cache {{\n{line}\n}}")).expect_err(line);
        assert_eq!(error.line, 3, "{line}: {error}");
    }
    for (directive, line) in [("cache 0 example.nl", 2), ("cache -1", 2), ("cache\ncache", 3)] {
        assert_eq!(settings(directive).expect_err(directive).line, line);
    }
}
