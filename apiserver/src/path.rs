use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A path below `/api` or `/apis`, cut into its parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Path<'a> {
    /// `/api`
    Core,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(&'a str),
    /// `/api/v1` or `/apis/<group>/<version>`
    Version { group: &'a str, version: &'a str },
    /// Objects.
    Objects(Objects<'a>),
    /// Any other path, without a trailing slash.
    Other(&'a str),
}

/// What a path of objects names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Objects<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) plural: &'a str,
    /// "" for cluster-scoped ones and for lists over all namespaces.
    pub(crate) namespace: Cow<'a, str>,
    /// "" for a collection.
    pub(crate) name: Cow<'a, str>,
    /// "" for the object itself.
    pub(crate) subresource: &'a str,
    /// The path itself asks for a watch, as paths did before there was `?watch`.
    pub(crate) watch: bool,
    /// What follows the subresource `proxy`, as it came: "", or something that begins with a slash.
    pub(crate) rest: &'a str,
}

/// Cuts a path; None where no such path can be served.
pub(crate) fn parse(path: &str) -> Option<Path<'_>> {
    let (path, proxied) = proxied(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = path.split('/').skip(1);
    let (group, version) = match segments.next() {
        Some("api") => match segments.next() {
            None => return Some(Path::Core),
            Some(version) => ("", version),
        },
        Some("apis") => match (segments.next(), segments.next()) {
            (None, _) => return Some(Path::Groups),
            (Some(group), None) => return Some(Path::Group(group)),
            (Some(group), Some(version)) => (group, version),
        },
        _ => return Some(Path::Other(path)),
    };
    let rest: Vec<&str> = segments.collect();
    if rest.iter().any(|segment| segment.is_empty()) {
        return None;
    }
    let (watch, rest) = match rest.as_slice() {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let of = |plural, namespace, name, subresource| {
        let namespace = decode(namespace)?;
        let name = decode(name)?;
        Some(Path::Objects(Objects { group, version, plural, namespace, name, subresource, watch, rest: proxied }))
    };
    match rest {
        [] => Some(Path::Version { group, version }),
        // A namespace's own subresources; every other third segment is a resource inside it.
        ["namespaces", name, sub @ ("status" | "finalize")] if group.is_empty() => of("namespaces", "", name, sub),
        ["namespaces", namespace, plural] => of(plural, namespace, "", ""),
        ["namespaces", namespace, plural, name] => of(plural, namespace, name, ""),
        ["namespaces", namespace, plural, name, sub] => of(plural, namespace, name, sub),
        [plural] => of(plural, "", "", ""),
        [plural, name] => of(plural, "", name, ""),
        [plural, name, sub] => of(plural, "", name, sub),
        _ => None,
    }
}

/// A path up to the subresource `proxy`, and the rest, which is of another server.
fn proxied(path: &str) -> (&str, &str) {
    let parts: Vec<&str> = path.splitn(9, '/').collect();
    let place = match parts.as_slice() {
        ["", "api", _, "namespaces", _, "pods" | "services", _, "proxy", ..] => 7,
        ["", "api", _, "nodes", _, "proxy", ..] => 5,
        _ => return (path, ""),
    };
    path.split_at(parts[..=place].iter().map(|part| part.len() + 1).sum::<usize>() - 1)
}

fn decode(segment: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(segment).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let of = |group, plural, namespace: &'static str, name: &'static str, subresource| {
            Some(Path::Objects(Objects {
                group,
                version: "v1",
                plural,
                namespace: namespace.into(),
                name: name.into(),
                subresource,
                watch: false,
                rest: "",
            }))
        };
        let proxied = |plural, namespace, name, rest| match of("", plural, namespace, name, "proxy") {
            Some(Path::Objects(objects)) => Some(Path::Objects(Objects { rest, ..objects })),
            other => other,
        };
        let watched = |namespace, name| match of("", "pods", namespace, name, "") {
            Some(Path::Objects(objects)) => Some(Path::Objects(Objects { watch: true, ..objects })),
            other => other,
        };
        for (path, parts) in [
            ("/api", Some(Path::Core)),
            ("/apis/", Some(Path::Groups)),
            ("/apis/apps", Some(Path::Group("apps"))),
            ("/api/v1", Some(Path::Version { group: "", version: "v1" })),
            ("/api/v1/pods", of("", "pods", "", "", "")),
            ("/api/v1/nodes/a/status", of("", "nodes", "", "a", "status")),
            ("/api/v1/namespaces/a", of("", "namespaces", "", "a", "")),
            ("/api/v1/namespaces/a/finalize", of("", "namespaces", "", "a", "finalize")),
            ("/api/v1/namespaces/a/pods", of("", "pods", "a", "", "")),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", of("apps", "deployments", "a", "b", "scale")),
            ("/api/v1/nodes/a%3Ab", of("", "nodes", "", "a:b", "")),
            ("/api/v1/watch", of("", "watch", "", "", "")),
            ("/api/v1/watch/pods", watched("", "")),
            ("/api/v1/watch/namespaces/a/pods/b", watched("a", "b")),
            ("/api/v1/namespaces/a/pods/b:80/proxy", proxied("pods", "a", "b:80", "")),
            ("/api/v1/namespaces/a/services/b/proxy/", proxied("services", "a", "b", "/")),
            ("/api/v1/namespaces/a/services/b/proxy/c//d%2F/", proxied("services", "a", "b", "/c//d%2F/")),
            ("/api/v1/nodes/a/proxy/stats/summary", proxied("nodes", "", "a", "/stats/summary")),
            ("/api/v1//pods", None),
            ("/healthz", Some(Path::Other("/healthz"))),
            ("/", Some(Path::Other(""))),
        ] {
            assert_eq!(parse(path), parts, "{path}");
        }
    }
}
