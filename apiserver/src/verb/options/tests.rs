use super::*;

fn read(query: &str, watch: bool) -> Result<ListOptions, String> {
    ListOptions::read(&Query::parse(query), watch).map_err(|status| status.message)
}

#[test]
fn of_lists() {
    let token = Token { v: TOKEN_VERSION.into(), rv: 7, start: "a/b\0".into() };
    let text = token.write();
    assert_eq!(text, "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6Nywic3RhcnQiOiJhL2JcdTAwMDAifQ");
    let any = ListOptions { initial: true, ..ListOptions::default() };
    for (query, expected) in [
        ("", any),
        ("limit=0", ListOptions { initial: true, ..ListOptions::default() }),
        ("limit=-1", ListOptions { initial: true, ..ListOptions::default() }),
        ("limit=5", ListOptions { limit: Some(5), initial: true, ..ListOptions::default() }),
        ("limit=5&resourceVersion=0", ListOptions { version: Some(0), initial: true, ..ListOptions::default() }),
        ("resourceVersion=9", ListOptions { version: Some(9), ..ListOptions::default() }),
        (
            "limit=5&resourceVersion=9",
            ListOptions { version: Some(9), exact: true, limit: Some(5), ..ListOptions::default() },
        ),
        (
            "limit=5&resourceVersion=9&resourceVersionMatch=NotOlderThan",
            ListOptions { version: Some(9), limit: Some(5), ..ListOptions::default() },
        ),
        (
            "resourceVersion=9&resourceVersionMatch=Exact",
            ListOptions { version: Some(9), exact: true, ..ListOptions::default() },
        ),
        (
            &format!("limit=5&continue={text}&resourceVersion=0"),
            ListOptions {
                version: Some(0),
                exact: true,
                limit: Some(5),
                token: Some(token),
                initial: true,
                ..ListOptions::default()
            },
        ),
    ] {
        assert_eq!(read(query, false), Ok(expected), "{query}");
    }
}

#[test]
fn what_does_not_go_together() {
    let of = |wrong: &str| format!("ListOptions.meta.k8s.io \"\" is invalid: {wrong}");
    let forbidden = |why: &str| of(&format!("resourceVersionMatch: Forbidden: {why}"));
    for (query, watch, message) in [
        (
            "resourceVersionMatch=Exact",
            false,
            forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            false,
            forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""),
        ),
        (
            "resourceVersionMatch=Any&resourceVersion=1",
            false,
            of("resourceVersionMatch: Unsupported value: \"Any\": supported values: \"Exact\", \"NotOlderThan\", \"\""),
        ),
        ("sendInitialEvents=false", false, of("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list")),
        (
            "sendInitialEvents=true",
            true,
            forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        ),
        (
            "resourceVersionMatch=NotOlderThan",
            true,
            forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"),
        ),
        (
            "resourceVersionMatch=NotOlderThan&sendInitialEvents=true&continue=x",
            true,
            forbidden("resourceVersionMatch is forbidden when continue is provided"),
        ),
        (
            "resourceVersion=x",
            false,
            "invalid resource version: resourceVersion: Invalid value: \"x\": \
             strconv.ParseUint: parsing \"x\": invalid syntax"
                .to_owned(),
        ),
        ("limit=x", false, "invalid value for query parameter limit: \"x\"".to_owned()),
    ] {
        assert_eq!(read(query, watch), Err(message), "{query}");
    }
}

#[test]
fn bad_tokens() {
    let token = |json: &str| format!("continue={}", URL_SAFE_NO_PAD.encode(json));
    for (query, why) in [
        ("continue=%21".to_owned(), "continue key is not valid: "),
        (token("{}"), "continue key is not valid: "),
        (token(r#"{"v":"v9","rv":1,"start":"a"}"#), "does not recognize this encoded version"),
        (token(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#), "incorrect encoded start resourceVersion"),
        (token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#), "encoded start key empty"),
        (token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a"}"#) + "&resourceVersion=5", "is not allowed when using"),
    ] {
        let message = read(&query, false).unwrap_err();
        assert!(message.contains(why), "{query}: {message}");
    }
}

#[test]
fn of_watches() {
    for (query, version, initial) in [
        ("", None, true),
        ("resourceVersion=0", Some(0), true),
        ("resourceVersion=5", Some(5), false),
        ("resourceVersion=5&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", Some(5), true),
        ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", None, false),
    ] {
        let options = read(query, true).unwrap();
        assert_eq!((options.version, options.initial), (version, initial), "{query}");
    }
    assert_eq!(read("timeoutSeconds=5", true).unwrap().timeout, Some(Duration::from_secs(5)));
    assert_eq!(read("timeoutSeconds=0", true).unwrap().timeout, None);
}
