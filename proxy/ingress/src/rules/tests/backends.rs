//! What stands behind a path: Services, canaries, and the policy.

use http::HeaderMap;

use super::*;

#[test]
fn services_and_what_is_wrong_with_them() {
    let mut index = Index::default();
    // HTTP/3 has the same number.
    let ports = json!([{"name": "quic", "port": 80, "protocol": "UDP"}, {"name": "http", "port": 80}, {"name": "metrics", "port": 9100}]);
    for (name, ip) in [("front", "10.96.0.1"), ("idle", "10.96.0.2")] {
        index.apply(service(name, json!({"clusterIP": ip, "ports": ports})));
    }
    index.apply(slice("front", "10.0.0.1"));
    let names = [("inside", "front.default.svc.cluster.local"), ("address", "192.0.2.7"), ("outside", "example.com")];
    for (name, target) in names {
        index.apply(service(name, json!({"type": "ExternalName", "externalName": target})));
    }
    let endpoints = |annotations: &[(&str, &str)], backend: &str| {
        let mut lab = Lab { objects: Objects { snapshot: index.snapshot(), ..Objects::default() }, ..Lab::default() };
        let plan = lab.ingress("app", annotations, &[&format!("app.com Prefix / {backend}")]).plan();
        let found = plan.table.find("app.com", "/").unwrap().backend.clone();
        let found = found.map(|found| found.endpoints().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        let remarks: Vec<_> =
            plan.remarks.iter().map(|remark| format!("{}: {}", remark.reason, remark.message)).collect();
        (found.unwrap_or("none".to_owned()), remarks.join("; "))
    };
    let cases = [
        ("front:80", "10.0.0.1:8080", ""),
        ("front:http", "10.0.0.1:8080", ""),
        ("gone:80", "none", "MissingService: the Service default/gone does not exist: its requests are answered 503"),
        (
            "front:81",
            "none",
            "MissingPort: the Service default/front has no port 81 (it has 80 (http), 9100 (metrics)): its requests are answered 503",
        ),
        (
            "idle:80",
            "",
            "NoEndpoints: the Service default/idle has no ready endpoints: until it has some, its requests are answered 503",
        ),
        ("inside:80", "10.0.0.1:8080", ""),
        ("address:8000", "192.0.2.7:8000", ""),
        (
            "outside:80",
            "",
            "UnsupportedBackend: the Service default/outside stands for example.com, which is neither an address nor a Service of this cluster that has endpoints: its requests are answered 503",
        ),
    ];
    for (backend, expected, remark) in cases {
        assert_eq!(endpoints(&[], backend), (expected.to_owned(), remark.to_owned()), "{backend}");
    }
    assert_eq!(endpoints(&[("service-upstream", "true")], "front:http").0, "10.96.0.1:80");
    let resource = json!({"resource": {"kind": "Bucket", "name": "x"}});
    let paths = json!([{"path": "/x", "pathType": "Prefix", "backend": resource}]);
    let mut lab = Lab::new(&[]);
    lab.object("app", &[], json!({"ingressClassName": "nginx", "rules": [{"host": "app.com", "http": {"paths": paths}}], "defaultBackend": resource}));
    assert_eq!(
        lab.remarks(),
        [
            "app UnsupportedBackend a backend is a resource, and only Services are known here",
            "app UnsupportedBackend path /x leads to a resource, and only Services are known; it is left out",
        ]
    );
}

#[test]
fn canaries_belong_to_a_path_of_another_ingress() {
    let mut lab = Lab::new(&["old", "new", "newer"]);
    let by = [("canary", "true"), ("canary-weight", "10")];
    let whole = json!({"service": {"name": "new", "port": {"number": 80}}});
    lab.object("all", &by, json!({"ingressClassName": "nginx", "defaultBackend": whole}));
    // It may be older than what it is a canary of, and other annotations of it do not count.
    lab.ingress(
        "new",
        &[by[0], by[1], ("rewrite-target", "/x")],
        &["app.com Prefix / new:80", "app.com Exact /only new:80"],
    );
    lab.ingress("old", &[], &["app.com Prefix / old:80", "app.com Prefix /x old:80"]);
    lab.ingress("newer", &by, &["app.com Prefix / newer:80", "none.com Prefix / newer:80"]);
    assert_eq!(
        lab.remarks(),
        [
            "all IgnoredCanary its defaultBackend diverts nothing: a canary names the paths that it is for",
            "new IgnoredCanary path /only of app.com: no other Ingress has this path with this type: there is nothing to divert",
            "newer IgnoredCanary path / of app.com: there is a canary already, an older one",
            "newer IgnoredCanary path / of none.com: no other Ingress has this path with this type: there is nothing to divert",
        ]
    );
    let plan = lab.plan();
    check(&plan.table, &[("app.com/", "old"), ("app.com/only", "old"), ("none.com/", "404")]);
    let canary = |path| {
        plan.table.find("app.com", path).unwrap().canary.as_ref().map(|canary| canary.backend.service.name.to_string())
    };
    assert_eq!((canary("/"), canary("/x")), (Some("new".to_owned()), None));
    assert_eq!(plan.served.len(), 4);
}

/// Host, path and headers lead to a backend; the number is thrown from 0 to 99.
#[test]
fn canaries_by_header_cookie_and_weight() {
    let by: [&[(&str, &str)]; 3] = [
        &[("canary", "true"), ("canary-by-header", "X-New"), ("canary-by-cookie", "new"), ("canary-weight", "20")],
        &[("canary", "true"), ("canary-by-header", "X-New"), ("canary-by-header-value", "blue")],
        &[("canary", "true"), ("canary-by-header", "X-New"), ("canary-by-header-pattern", "^bl")],
    ];
    let mut lab = Lab::new(&["old", "new"]);
    for (number, annotations) in by.iter().enumerate() {
        lab.ingress(&format!("old{number}"), &[], &[&format!("{number}.com Prefix / old:80")]);
        lab.ingress(&format!("new{number}"), annotations, &[&format!("{number}.com Prefix / new:80")]);
    }
    let table = lab.table();
    let cases = [
        ("0.com", "", "", 19, "new"),
        ("0.com", "", "", 20, "old"),
        ("0.com", "always", "never", 99, "new"),
        ("0.com", "never", "always", 0, "old"),
        ("0.com", "other", "always", 99, "new"),
        ("0.com", "", "never", 0, "old"),
        ("1.com", "blue", "", 99, "new"),
        ("1.com", "always", "", 99, "old"),
        ("2.com", "black", "", 99, "new"),
        ("2.com", "red", "", 0, "old"),
    ];
    for (host, header, cookie, roll, expected) in cases {
        let route = table.find(host, "/x").unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-new", header.to_owned()), ("cookie", format!("a=b; new={cookie}"))] {
            if !value.is_empty() && !value.ends_with('=') {
                headers.insert(name, value.parse().unwrap());
            }
        }
        let canary = route.canary.as_ref().filter(|canary| crate::canary::chosen(canary, &headers, roll));
        let found = canary.map(|canary| &canary.backend).or(route.backend.as_ref()).unwrap();
        assert_eq!(&*found.service.name, expected, "{host} {header} {cookie} {roll}");
    }
}

#[test]
fn policies_are_of_their_own_paths() {
    let mut lab = Lab::new(&["front", "errors"]);
    lab.ingress("a", &[("affinity", "cookie")], &["app.com Prefix /a front:80", "app.com Prefix /b front:80"]);
    lab.ingress(
        "b",
        &[("custom-http-errors", "404, 503"), ("default-backend", "errors")],
        &["app.com Prefix /c front:80"],
    );
    lab.ingress("c", &[("limit-rps", "5")], &["app.com Prefix /d front:80", "app.com Prefix /e front:80"]);
    lab.ingress("d", &[("app-root", "/a")], &["root.com Prefix /a front:80"]);
    let table = lab.table();
    let root = |path| table.find("root.com", path).map(|route| route.policy.app_root.is_some());
    assert_eq!((root("/"), root("/a"), root("/b")), (Some(true), Some(true), None));
    let policy = |path| table.find("app.com", path).unwrap().policy.clone();
    let cookie = |path| policy(path).affinity.as_ref().unwrap().attributes.to_string();
    assert_eq!((cookie("/a"), cookie("/b")), ("; Path=/a; HttpOnly".to_owned(), "; Path=/b; HttpOnly".to_owned()));
    let errors = policy("/c").errors.clone().unwrap();
    assert_eq!((errors.codes.len(), &*errors.backend.as_ref().unwrap().service.name), (2, "errors"));
    assert!(policy("/a").errors.is_none() && policy("/a").limits.is_none());
    assert!(Arc::ptr_eq(&policy("/d").limits.clone().unwrap(), &policy("/e").limits.clone().unwrap()));
}

#[test]
fn secrets_of_other_namespaces_are_not_used() {
    let mut lab = Lab::new(&["front"]);
    let users = |name| [("auth-type", "basic"), ("auth-secret", name)];
    lab.ingress("a", &users("users"), &["app.com Prefix /a front:80"]);
    lab.ingress("b", &users("default/users"), &["app.com Prefix /b front:80"]);
    lab.ingress("c", &users("kube-system/users"), &["app.com Prefix /c front:80"]);
    let users: Arc<Secret> = Arc::new(from_value(json!({"data": {"auth": "YTp7UExBSU59Yg=="}})).unwrap());
    for namespace in ["default", "kube-system"] {
        lab.objects.secrets.insert(Key::new(namespace, "users"), users.clone());
    }
    assert_eq!(lab.remarks().len(), 1);
    let plan = lab.plan();
    let known = |path| plan.table.find("app.com", path).unwrap().policy.auth.as_ref().unwrap().passwords.len();
    assert_eq!((known("/a"), known("/b"), known("/c")), (1, 1, 0));
}
