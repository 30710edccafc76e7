use std::collections::HashMap;

use serde_json::json;

use super::*;

fn selects(selector: &LabelSelector, labels: &str) -> bool {
    let labels: HashMap<&str, &str> = labels.split(',').filter_map(|pair| pair.split_once('=')).collect();
    selector.matches(|key| labels.get(key).copied())
}

#[test]
fn selectors_and_labels() {
    for (selector, yes, no) in [
        ("", &["", "a=b"][..], &[][..]),
        ("a=b", &["a=b"], &["", "a=c"]),
        ("a==b", &["a=b,x=y"], &["b=a"]),
        ("a!=b", &["", "a=c"], &["a=b"]),
        ("a", &["a=", "a=b"], &["b=a"]),
        ("!a", &["", "b=a"], &["a=", "a=b"]),
        ("a in (b, c)", &["a=b", "a=c"], &["", "a=d"]),
        ("a notin (b,c)", &["", "a=d"], &["a=b"]),
        ("a=b,c in (d),!e", &["a=b,c=d"], &["a=b", "a=b,c=d,e=f"]),
        ("a=", &["a="], &["a=b", ""]),
        ("a in (,b)", &["a=", "a=b"], &["a=c"]),
        ("a>3", &["a=4"], &["a=3", "a=x", ""]),
        ("a<3", &["a=2"], &["a=3"]),
        ("in in (in)", &["in=in"], &["in=x"]),
        ("example.com/a=b", &["example.com/a=b"], &["a=b"]),
    ] {
        let parsed = LabelSelector::parse(selector).unwrap();
        yes.iter().for_each(|labels| assert!(selects(&parsed, labels), "{selector} {labels}"));
        no.iter().for_each(|labels| assert!(!selects(&parsed, labels), "{selector} {labels}"));
    }
}

#[test]
fn what_cannot_be_read() {
    for (selector, message) in [
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("!=b", "found '!=', expected: !, identifier, or 'end of string'"),
        (
            "a in ()",
            "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
        ),
    ] {
        assert_eq!(LabelSelector::parse(selector), Err(Error::Selector(message.to_owned())), "{selector}");
    }
    let Err(Error::Selector(message)) = LabelSelector::parse("-a=b") else { panic!("was read") };
    assert!(message.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part"));
    let Err(Error::Selector(message)) = LabelSelector::parse("a=b/c") else { panic!("was read") };
    assert!(message.contains("values[0][a]: Invalid value: \"b/c\": a valid label"), "{message}");
}

#[test]
fn objects() {
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]});
    let selector = LabelSelector::from_object(Some(&selector)).unwrap();
    assert!(selects(&selector, "a=b,c=d") && !selects(&selector, "a=b"));
    assert!(!selects(&LabelSelector::from_object(None).unwrap(), "a=b"));
    assert!(selects(&LabelSelector::from_object(Some(&json!({}))).unwrap(), "a=b"));
    let wrong = json!({"matchExpressions": [{"key": "c", "operator": "Near"}]});
    let message = "\"Near\" is not a valid label selector operator".to_owned();
    assert_eq!(LabelSelector::from_object(Some(&wrong)), Err(Error::Selector(message)));
}
