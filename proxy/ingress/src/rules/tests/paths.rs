//! Which path is for a request, and what becomes of it.

use super::*;

/// `TYPE PATH` of every rule, a request, and the number of the rule that it goes by.
type Case = (&'static [&'static str], &'static str, &'static str);

/// The examples of Kubernetes' documentation, all of them.
const KUBERNETES: &[Case] = &[
    (&["Prefix /"], "/any/path", "0"),
    (&["Exact /foo"], "/foo", "0"),
    (&["Exact /foo"], "/bar", "404"),
    (&["Exact /foo"], "/foo/", "404"),
    (&["Exact /foo/"], "/foo", "404"),
    (&["Prefix /foo"], "/foo", "0"),
    (&["Prefix /foo"], "/foo/", "0"),
    (&["Prefix /foo/"], "/foo", "0"),
    (&["Prefix /foo/"], "/foo/", "0"),
    (&["Prefix /aaa/bb"], "/aaa/bbb", "404"),
    (&["Prefix /aaa/bbb"], "/aaa/bbb", "0"),
    (&["Prefix /aaa/bbb/"], "/aaa/bbb", "0"),
    (&["Prefix /aaa/bbb"], "/aaa/bbb/", "0"),
    (&["Prefix /aaa/bbb"], "/aaa/bbb/ccc", "0"),
    (&["Prefix /aaa/bbb"], "/aaa/bbbxyz", "404"),
    (&["Prefix /", "Prefix /aaa"], "/aaa/ccc", "1"),
    (&["Prefix /", "Prefix /aaa", "Prefix /aaa/bbb"], "/aaa/bbb", "2"),
    (&["Prefix /", "Prefix /aaa", "Prefix /aaa/bbb"], "/ccc", "0"),
    (&["Prefix /aaa"], "/ccc", "404"),
    (&["Prefix /foo", "Exact /foo"], "/foo", "1"),
];

const OURS: &[Case] = &[
    // Case counts, and so does length.
    (&["Prefix /foo", "Exact /foo"], "/foo/", "0"),
    (&["Prefix /foo"], "/FOO", "404"),
    (&["Prefix /a/b", "Prefix /a", "Prefix /a/b/c"], "/a/b/d", "0"),
    (&["Prefix /foo", "Prefix /foo/"], "/foo", "0"),
    (&["Prefix /foo", "Prefix /foo/"], "/foo/", "1"),
    (&["Prefix /foo", "Prefix /foo/"], "/foo/bar", "1"),
    // ImplementationSpecific is what nginx takes for a prefix.
    (&["ImplementationSpecific /foo"], "/foobar", "0"),
    (&["ImplementationSpecific /foo"], "/fo", "404"),
    (&["ImplementationSpecific /foo", "Prefix /foobar"], "/foobar/x", "1"),
    (&["ImplementationSpecific "], "/foo", "0"),
    // However a path is spelt.
    (&["Prefix /", "Prefix /admin"], "/%61dmin/x", "1"),
    (&["Prefix /", "Prefix /admin"], "//admin", "1"),
    (&["Prefix /", "Prefix /admin"], "/x/../admin", "1"),
    (&["Exact /\u{fc}"], "/%c3%bc", "0"),
];

#[test]
fn types_of_paths() {
    for (paths, request, expected) in KUBERNETES.iter().chain(OURS) {
        let rule = |(number, path): (usize, &&str)| format!("app.com {path} {number}:80");
        let rules: Vec<String> = paths.iter().enumerate().map(rule).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let table = Lab::new(&["0", "1", "2"]).ingress("app", &[], &rules).table();
        assert_eq!(answer(&table, &format!("app.com{request}")), *expected, "{paths:?} {request}");
    }
}

/// The rules and requests of the project's own conformance suite (path_rules and host_rules).
#[test]
fn conformance() {
    let mut lab = Lab::new(&["foo-exact", "foo-prefix", "aaa-bbb", "aaa", "aaa-bbb-slash", "foo-slash", "wild", "bar"]);
    let rules = [
        "exact Exact /foo foo-exact:80",
        "prefix Prefix /foo foo-prefix:80",
        "prefix Prefix /aaa/bbb aaa-bbb:80",
        "prefix Prefix /aaa aaa:80",
        "mixed Prefix /foo foo-prefix:80",
        "mixed Exact /foo foo-exact:80",
        "trailing-slash Prefix /aaa/bbb/ aaa-bbb-slash:80",
        "trailing-slash Exact /foo/ foo-slash:80",
        "*.foo.com Prefix / wild:80",
        "foo.bar.com Prefix / bar:http",
    ];
    let cases = [
        ("exact/foo", "foo-exact"),
        ("exact/foo/", "404"),
        ("exact/FOO", "404"),
        ("exact/bar", "404"),
        ("prefix/foo", "foo-prefix"),
        ("prefix/foo/", "foo-prefix"),
        ("prefix/FOO", "404"),
        ("prefix/aaa/bbb", "aaa-bbb"),
        ("prefix/aaa/bbb/ccc", "aaa-bbb"),
        ("prefix/aaa/ccc", "aaa"),
        ("prefix/aaaccc", "404"),
        ("mixed/foo", "foo-exact"),
        ("trailing-slash/aaa/bbb", "aaa-bbb-slash"),
        ("trailing-slash/aaa/bbb/", "aaa-bbb-slash"),
        ("trailing-slash/foo", "404"),
        ("foo.bar.com/", "bar"),
        ("subdomain.bar.com/", "404"),
        ("bar.foo.com/", "wild"),
        ("baz.bar.foo.com/", "404"),
        ("foo.com/", "404"),
    ];
    check(&lab.ingress("rules", &[], &rules).table(), &cases);
}

/// The lesson of the seed, and rewrites as ingress-nginx' documentation has them.
#[test]
fn rewrites_and_expressions() {
    let mut lab = Lab::new(&["front", "back", "admin"]);
    lab.ingress("web", &[], &["app.com Prefix / front:80", "admin.app.com Prefix / admin:http"]);
    lab.ingress("api", &[("rewrite-target", "/$2")], &["api.com ImplementationSpecific /api(/|$)(.*) back:80"]);
    lab.ingress("strip", &[("rewrite-target", "/")], &["one.com Prefix /old back:80", "two.com Prefix / back:80"]);
    lab.ingress(
        "regex",
        &[("use-regex", "true")],
        &[
            "re.com ImplementationSpecific /foo/[A-Z0-9]{3} back:80",
            "re.com Prefix /foo/bar/bar front:80",
            "re.com Exact /exact admin:80",
        ],
    );
    lab.ingress("swap", &[("rewrite-target", "$2/x/$1-$9")], &["swap.com ImplementationSpecific /(a+)/(b*) back:80"]);
    check(
        &lab.table(),
        &[
            ("app.com/", "front"),
            ("app.com/api", "front"),
            ("admin.app.com/x", "admin"),
            ("api.com/api", "back /"),
            ("api.com/api/", "back /"),
            ("api.com/api/v1/users", "back /v1/users"),
            ("api.com/API/V1", "back /V1"),
            ("api.com/apis", "404"),
            ("api.com/", "404"),
            ("api.com/api/a%20b", "back /a%20b"),
            ("api.com/api/%2e%2e/x", "404"),
            ("one.com/old/x", "back /"),
            ("one.com/oldest", "back /"),
            ("two.com/x", "back"),
            ("re.com/foo/abc", "back"),
            ("re.com/FOO/ABCD", "back"),
            ("re.com/foo/bar/bar", "back"),
            ("re.com/exact/more", "admin"),
            ("re.com/foo/a", "404"),
            ("swap.com/aa/bb", "back /bb/x/aa-"),
        ],
    );
}

/// From ingress-nginx' page on the matching of paths: one rewrite makes expressions of all the host's paths.
#[test]
fn one_rewrite_makes_expressions_of_a_hosts_paths() {
    let mut lab = Lab::new(&["one", "two", "three"]);
    lab.ingress("first", &[], &["test.com Prefix /foo/bar one:80", "test.com Prefix /foo/bar/ two:80"]);
    lab.ingress("second", &[("rewrite-target", "/$1")], &["test.com ImplementationSpecific /foo/bar/(.+) three:80"]);
    check(
        &lab.table(),
        &[
            ("test.com/foo/bar/1", "three /1"),
            ("test.com/foo/bar/", "two"),
            ("test.com/foo/bar", "one"),
            ("test.com/FOO/BAR", "one"),
        ],
    );
}

#[test]
fn expressions_that_are_none_are_left_out() {
    let mut lab = Lab::new(&["front"]);
    let long = format!("app.com ImplementationSpecific /{}", "a".repeat(2000));
    lab.ingress(
        "bad",
        &[("use-regex", "true")],
        &[
            "app.com ImplementationSpecific /(?!api)(.*)",
            "app.com ImplementationSpecific /(open",
            "app.com ImplementationSpecific /(a{100}){100}",
            &long,
            "app.com ImplementationSpecific /good",
        ],
    );
    let plan = lab.plan();
    let reasons: Vec<_> = plan.remarks.iter().map(|remark| remark.reason).collect();
    assert_eq!(reasons, ["InvalidPath"; 4]);
    assert!(plan.remarks.iter().any(|remark| remark.message.contains("look-around")), "{:?}", plan.remarks);
    check(&plan.table, &[("app.com/good", "front"), ("app.com/api", "404")]);
}

#[test]
fn expressions_without_use_regex_are_remarked_on() {
    let mut lab = Lab::new(&["front"]);
    lab.ingress(
        "app",
        &[],
        &["app.com Prefix /api(/|$)(.*)", "app.com ImplementationSpecific /x/*", "app.com Prefix /"],
    );
    assert_eq!(
        lab.remarks(),
        [
            "app InvalidPath path /x/* is taken as it is written: use-regex would make it an expression",
            "app InvalidPath path /api(/|$)(.*) is taken as it is written: use-regex would make it an expression",
        ]
    );
}

/// What a path must begin with is looked at before its expression, and must never be more than that one asks for.
#[test]
fn expressions_begin_in_many_ways() {
    let cases = [
        ("/ab?c", "/AC"),
        ("/a(b|c)d", "/acd"),
        ("/a|/b", "/b"),
        ("(/x|/y)/z", "/Y/z"),
        ("(?i-u)/abc", "/ABC"),
        ("/a{2,3}", "/aa"),
        ("/a{0}b", "/b"),
        ("/[a-c]+", "/C"),
        ("/\\.git", "/.GIT"),
        (".*\\.php", "/x/y.php"),
        ("/(?:api)?/v1", "//v1"),
        ("$", "/"),
    ];
    for (expression, request) in cases {
        let rule = format!("app.com ImplementationSpecific {expression}");
        let table = Lab::new(&["front"]).ingress("app", &[("use-regex", "true")], &[&rule]).table();
        let alone =
            regex::Regex::new(&format!("(?i)^(?:{expression})")).unwrap().is_match(&crate::path::canonical(request));
        let expected = if alone { "front" } else { "404" };
        assert_eq!(answer(&table, &format!("app.com{request}")), expected, "{expression} {request}");
    }
}

#[test]
fn the_older_ingress_is_right() {
    let mut lab = Lab::new(&["old", "new"]);
    lab.ingress("b", &[], &["app.com Prefix / old:80", "App.com Exact /x old:80"]);
    lab.ingress("a", &[], &["app.com Prefix / new:80", "app.com Prefix /x new:80", "app.com Prefix /more new:80"]);
    assert_eq!(lab.remarks(), ["a DuplicatePath path / of app.com is in default/b already, which is older"]);
    check(
        &lab.plan().table,
        &[("app.com/", "old"), ("app.com/x", "old"), ("app.com/x/y", "new"), ("app.com/more", "new")],
    );
}
