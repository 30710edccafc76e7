//! Which host is for a request: names, classes, certificates.

use super::*;

#[test]
fn hosts_exact_wildcard_and_none() {
    let mut lab = Lab::new(&["exact", "wild", "any", "rest", "own"]);
    lab.ingress("a", &[], &["bar.foo.com Prefix /x exact:80", "*.foo.com Prefix / wild:80", "- Prefix /any any:80"]);
    let own = json!({"service": {"name": "own", "port": {"number": 80}}});
    lab.object(
        "b",
        &[],
        json!({"ingressClassName": "nginx", "defaultBackend": own, "rules": [rule("own.com Exact /x any:80")]}),
    );
    let rest = json!({"service": {"name": "rest", "port": {"name": "http"}}});
    lab.object("c", &[], json!({"ingressClassName": "nginx", "defaultBackend": rest}));
    lab.object("d", &[], json!({"ingressClassName": "nginx", "rules": [{"host": "bare.com"}]}));
    check(
        &lab.table(),
        &[
            ("bar.foo.com/x", "exact"),
            // A host of its own is not the wildcard's, too.
            ("bar.foo.com/y", "rest"),
            ("baz.foo.com/x", "wild"),
            ("baz.foo.com./x", "wild"),
            ("baz.bar.foo.com/", "rest"),
            ("foo.com/", "rest"),
            (".foo.com/", "rest"),
            ("other.com/any", "any"),
            ("/any", "any"),
            ("other.com/", "rest"),
            ("own.com/x", "any"),
            ("own.com/y", "own"),
            // Nor is it anyone's while its rules have no paths.
            ("bare.com/any", "rest"),
        ],
    );
}

#[test]
fn other_names_of_a_host() {
    let mut lab = Lab::new(&["front", "back"]);
    lab.ingress(
        "a",
        &[("server-alias", "alias.com, taken.com"), ("rewrite-target", "/$1")],
        &["app.com ImplementationSpecific /x/(.*) front:80"],
    );
    lab.ingress(
        "b",
        &[("from-to-www-redirect", "true")],
        &["site.com Prefix / front:80", "www.other.com Prefix / back:80"],
    );
    lab.ingress("c", &[], &["taken.com Prefix / back:80", "other.com Prefix / back:80"]);
    assert_eq!(lab.remarks(), ["a DuplicateHost server-alias taken.com is a host of its own already"]);
    let table = lab.plan().table;
    check(&table, &[("alias.com/x/y", "front /y"), ("taken.com/x/y", "back"), ("other.com/", "back")]);
    assert_eq!(table.find("www.site.com", "/x").unwrap().policy.other_host.as_deref(), Some("site.com"));
    assert!(table.find("site.com", "/x").unwrap().policy.other_host.is_none());
}

#[test]
fn classes() {
    let class = |name: &str, controller: &str, default: &str| {
        let meta = json!({"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": default}});
        let class = from_value(json!({"metadata": meta, "spec": {"controller": controller}})).unwrap();
        (name.to_owned(), Arc::new(class))
    };
    let nginx = || class("nginx", "k8s.io/ingress-nginx", "false");
    let other = |default| class("other", "example.com/other", default);
    let cases = [
        // The class in the spec, the one in the annotation, the IngressClasses, and whether it is ours.
        (Some("nginx"), None, vec![], true),
        (Some("coracle"), None, vec![], true),
        (Some("other"), None, vec![], false),
        (Some("mine"), None, vec![class("mine", CONTROLLERS[1], "false")], true),
        (Some("nginx"), None, vec![class("nginx", "nginx.org/ingress-controller", "false")], false),
        (Some("other"), Some("nginx"), vec![other("false")], false),
        (None, Some("nginx"), vec![other("true")], true),
        (None, Some("coracle"), vec![], true),
        (None, Some("traefik"), vec![nginx()], false),
        (None, None, vec![], true),
        (None, None, vec![nginx()], true),
        (None, None, vec![nginx(), other("false")], false),
        (None, None, vec![nginx(), other("true")], false),
        (None, None, vec![class("nginx", CONTROLLERS[0], "true"), other("false")], true),
    ];
    for (class, old, classes, expected) in cases {
        let shown = format!("{class:?} {old:?} {:?}", classes.iter().map(|(name, _)| name).collect::<Vec<_>>());
        let mut lab = Lab::new(&["front"]);
        lab.objects.classes = classes.into_iter().collect();
        let annotations: Vec<_> = old.map(|old| ("kubernetes.io/ingress.class", old)).into_iter().collect();
        lab.object(
            "app",
            &annotations,
            json!({"ingressClassName": class, "rules": [rule("app.com Prefix / front:80")]}),
        );
        let plan = lab.plan();
        assert_eq!((plan.served.len(), plan.table.hosts.len()), if expected { (1, 1) } else { (0, 0) }, "{shown}");
    }
}

#[test]
fn certificates_belong_to_hosts() {
    let mut lab = Lab::new(&["front"]);
    let rules = [
        "app.com Prefix / front:80",
        "plain.com Prefix / front:80",
        "a.wild.com Prefix / front:80",
        "bare.com Prefix / front:80",
    ];
    let tls = json!([{"hosts": ["App.com"], "secretName": "app"}, {"hosts": ["*.wild.com"], "secretName": "wild"}, {"hosts": ["bare.com"]}]);
    let rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
    lab.object("a", &[], json!({"ingressClassName": "nginx", "rules": rules, "tls": tls}));
    let spec =
        json!({"ingressClassName": "nginx", "rules": [rule("- Prefix / front:80")], "tls": [{"secretName": "all"}]});
    lab.object("b", &[], spec);
    let table = lab.table();
    let tls = |host| table.find(host, "/").unwrap().tls;
    assert!(tls("app.com") && tls("a.wild.com") && tls("bare.com") && tls("any.com") && !tls("plain.com"));
}
