//! The router against an oracle that looks at every rule for every request.

use super::*;

/// Marsaglia's xorshift, so that every run asks the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn path(&mut self) -> String {
        let segments: String = (0..self.below(4)).map(|_| format!("/{}", self.pick(&["a", "b", "ab"]))).collect();
        let end = if segments.is_empty() || self.below(4) == 0 { "/" } else { "" };
        format!("{segments}{end}")
    }
}

/// A rule as it is written: host, type, path, and the Service.
type Written = (String, &'static str, String, String);

/// Which rules of `rules`, the oldest first, a host has: those of its own name, or of its wildcard, or without a name.
fn of_host<'a>(rules: &'a [Written], host: &str) -> Vec<&'a Written> {
    let wildcard = host.split_once('.').map_or(String::new(), |(_, rest)| format!("*.{rest}"));
    let with = |name: &str| rules.iter().filter(|rule| rule.0 == name).collect::<Vec<_>>();
    [host, &wildcard, "-"].into_iter().map(with).find(|rules| !rules.is_empty()).unwrap_or_default()
}

/// How well a rule is for a path: not at all, or exactly best, and then the longer the better.
fn worth(rule: &Written, siblings: &[&Written], path: &str) -> Option<(bool, usize, bool)> {
    let (_, kind, text, _) = rule;
    let elements = |text: &str| text.split('/').filter(|one| !one.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    // With and without a slash are one, unless there are both.
    let same = |other: &&Written| other.1 == "Prefix" && format!("{}/", other.2) == *text;
    let both = siblings.iter().any(same);
    let (found, length) = match *kind {
        "Exact" => (path == text, 0),
        "Prefix" if !both => (elements(path).starts_with(&elements(text)), text.trim_end_matches('/').len()),
        _ => (path.starts_with(text.as_str()), text.len()),
    };
    found.then_some((*kind == "Exact", length, *kind == "Prefix" && !both))
}

fn expected(rules: &[Written], host: &str, path: &str) -> String {
    let rules = of_host(rules, host);
    let worth = |rule: &&Written| worth(rule, &rules, path);
    let best =
        rules.iter().copied().filter_map(|rule| Some((worth(&rule)?, rule))).rev().max_by_key(|(worth, _)| *worth);
    best.map_or("404".to_owned(), |(_, rule)| rule.3.clone())
}

#[test]
fn the_router_is_as_good_as_a_slow_one() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for round in 0..300 {
        let services: Vec<String> = (0..12).map(|number| format!("s{number}")).collect();
        let names: Vec<&str> = services.iter().map(String::as_str).collect();
        let mut lab = Lab::new(&names);
        let mut rules: Vec<Written> = Vec::new();
        for service in services.iter().take(2 + dice.below(10)) {
            let host = dice.pick(&["x.com", "y.x.com", "*.x.com", "-"]);
            let kind = dice.pick(&["Exact", "Prefix", "Prefix", "ImplementationSpecific"]);
            let path = dice.path();
            lab.ingress(service, &[], &[&format!("{host} {kind} {path} {service}:80")]);
            if !rules.iter().any(|rule| (rule.0.as_str(), rule.1, &rule.2) == (host, kind, &path)) {
                rules.push((host.to_owned(), kind, path, service.clone()));
            }
        }
        let table = lab.plan().table;
        for _ in 0..60 {
            let (host, path) = (dice.pick(&["x.com", "y.x.com", "z.x.com", "z.y.x.com", "w.org"]), dice.path());
            let (found, expected) = (answer(&table, &format!("{host}{path}")), expected(&rules, host, &path));
            assert_eq!(found, expected, "round {round}: {host}{path} by {rules:#?}");
        }
    }
}
