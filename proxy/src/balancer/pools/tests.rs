use super::*;

fn parse(pools: &[(&str, &str)]) -> Result<Pools, String> {
    let data = pools.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Pools::parse(&data.collect(), &["10.96.0.0/12".parse().unwrap(), "10.244.0.0/16".parse().unwrap()])
}

/// The first addresses that are given unasked.
fn given(text: &str) -> String {
    let pools = parse(&[("a", text)]).unwrap();
    let ranges = pools.0["a"].ranges.iter();
    let all: Vec<String> = ranges.flat_map(|range| range.addresses(0).take(3)).map(|ip| ip.to_string()).collect();
    all.join(" ")
}

#[test]
fn forms() {
    for (text, want) in [
        ("192.0.2.8/29", "192.0.2.9 192.0.2.10 192.0.2.11"),
        ("192.0.2.9/29", "192.0.2.9 192.0.2.10 192.0.2.11"),
        ("192.0.2.8/30", "192.0.2.9 192.0.2.10"),
        ("192.0.2.8/31", "192.0.2.8 192.0.2.9"),
        ("192.0.2.8/32", "192.0.2.8"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.0-192.0.2.1", "192.0.2.0 192.0.2.1"),
        ("192.0.2.255 - 192.0.3.0", "192.0.2.255 192.0.3.0"),
        ("2001:db8::/120", "2001:db8::1 2001:db8::2 2001:db8::3"),
        ("2001:db8::/126", "2001:db8::1 2001:db8::2 2001:db8::3"),
        ("2001:db8::/127", "2001:db8:: 2001:db8::1"),
        ("fd00::1:2-fd00::1:3", "fd00::1:2 fd00::1:3"),
        ("192.0.2.7, 192.0.2.9,\n 2001:db8::1", "192.0.2.7 192.0.2.9 2001:db8::1"),
        ("# the lab\n- 192.0.2.7 # printer\n\n- fd00::1\nautoAssign: true\n", "192.0.2.7 fd00::1"),
    ] {
        assert_eq!(given(text), want, "{text}");
    }
    let pools = parse(&[("a", "192.0.2.0/28\nautoAssign: false"), ("b", "192.0.2.16/28, fd00::/64")]).unwrap();
    assert_eq!(pools.auto().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
    for (ip, home) in [
        ("192.0.2.0", Some("a")),
        ("192.0.2.15", Some("a")),
        ("192.0.2.31", Some("b")),
        ("192.0.2.32", None),
        ("fd00::", Some("b")),
        ("::c000:201", None),
    ] {
        assert_eq!(pools.home(ip.parse().unwrap()).map(|name| &**name), home, "{ip}");
    }
    assert_eq!(parse(&[]), Ok(Pools::default()));
}

#[test]
fn what_is_wrong() {
    let no_range = "is no range of addresses, as 192.0.2.0/28, 192.0.2.10-192.0.2.20 or 192.0.2.7";
    for (text, want) in [
        ("", "no address is in it".to_owned()),
        ("autoAssign: false", "no address is in it".to_owned()),
        ("autoAssign: no\n192.0.2.1", "autoAssign is \"no\", and may be true or false".to_owned()),
        ("192.0.2.0/33", format!("\"192.0.2.0/33\" {no_range}")),
        ("192.0.2.9-192.0.2.1", format!("\"192.0.2.9-192.0.2.1\" {no_range}")),
        ("192.0.2.9-fd00::1", format!("\"192.0.2.9-fd00::1\" {no_range}")),
        ("addresses: many", format!("\"addresses: many\" {no_range}")),
        (
            "10.100.0.0/24",
            "10.100.0.0/24 overlaps with 10.96.0.0/12, which is the cluster's own, for pods or Services".to_owned(),
        ),
        ("127.0.0.2", "127.0.0.2 overlaps with 127.0.0.0/8, which is each machine's own".to_owned()),
        (
            "0.0.0.0/0",
            "0.0.0.0/0 overlaps with 10.96.0.0/12, which is the cluster's own, for pods or Services".to_owned(),
        ),
        ("::1", "::1 overlaps with ::/127, which is each machine's own".to_owned()),
        ("ff02::1", "ff02::1 overlaps with ff00::/8, which is for groups of machines".to_owned()),
    ] {
        assert_eq!(parse(&[("a", text)]), Err(format!("pool \"a\": {want}")), "{text}");
    }
    let overlap = "192.0.2.4 is in the pools \"a\" and \"b\": an address can be of one only";
    assert_eq!(parse(&[("a", "192.0.2.0/24"), ("b", "192.0.2.4")]), Err(overlap.into()));
    assert!(parse(&[("a", "192.0.2.0/24, 192.0.2.4"), ("b", "fd00::/64, 192.0.3.0/24")]).is_ok());
    let many: Vec<String> = (0..=RANGES).map(|n| format!("fd00::{n:x}")).collect();
    assert_eq!(parse(&[("a", &many.join(","))]), Err("257 ranges are more than 256, the most there may be".into()));
}
