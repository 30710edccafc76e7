use super::scan;
use crate::error::Error;
use crate::resource::Resource;

/// Which objects are meant, by some of their fields: all terms have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    path: String,
    /// What the field counts as when it is absent.
    absent: &'static str,
    equal: bool,
    value: String,
}

/// Resources that can be selected by more than name and namespace: the field, and what it
/// counts as when it is absent.
type Fields = &'static [(&'static str, &'static str)];
const FIELDS: &[(&str, Fields)] = &[
    (
        "pods",
        &[
            ("spec.nodeName", ""),
            ("spec.restartPolicy", ""),
            ("spec.schedulerName", ""),
            ("spec.serviceAccountName", ""),
            ("spec.hostNetwork", "false"),
            ("status.phase", ""),
            ("status.podIP", ""),
            ("status.nominatedNodeName", ""),
        ],
    ),
    (
        "events",
        &[
            ("involvedObject.kind", ""),
            ("involvedObject.namespace", ""),
            ("involvedObject.name", ""),
            ("involvedObject.uid", ""),
            ("involvedObject.apiVersion", ""),
            ("involvedObject.resourceVersion", ""),
            ("involvedObject.fieldPath", ""),
            ("reason", ""),
            ("reportingComponent", ""),
            ("source", ""),
            ("type", ""),
        ],
    ),
    ("nodes", &[("spec.unschedulable", "false")]),
    ("namespaces", &[("status.phase", "")]),
    ("secrets", &[("type", "")]),
    ("services", &[("spec.clusterIP", ""), ("spec.type", "")]),
    ("replicationcontrollers", &[("status.replicas", "0")]),
    ("replicasets.apps", &[("status.replicas", "0")]),
    ("jobs.batch", &[("status.successful", "0")]),
    ("certificatesigningrequests.certificates.k8s.io", &[("spec.signerName", "")]),
];

impl FieldSelector {
    /// Reads the `fieldSelector` of a query on that resource: `a.b=c,d!=e`; a comma, an equals
    /// sign or a backslash in a value has a backslash before it.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, Error> {
        let mut terms = Vec::new();
        for part in split(text).into_iter().filter(|part| !part.is_empty()) {
            let Some((path, equal, value)) = operator(part) else {
                let message = format!("invalid selector: '{text}'; can't understand '{part}'");
                return Err(Error::Selector(message));
            };
            let value = unescape(value).map_err(Error::Selector)?;
            terms.push(Term { path: path.to_owned(), absent: known(path, resource)?, equal, value });
        }
        Ok(Self { terms })
    }

    /// Whether the object is meant, given its JSON and the fields of it that are known already.
    pub fn matches<'a>(&self, json: &[u8], known: impl Fn(&str) -> Option<&'a str>) -> bool {
        let mut unknown = Vec::new();
        for term in &self.terms {
            match known(&term.path) {
                Some(found) if (found == term.value) != term.equal => return false,
                Some(_) => {}
                None => unknown.push(term),
            }
        }
        if unknown.is_empty() {
            return true;
        }
        let paths: Vec<&str> = unknown.iter().map(|term| term.stored()).collect();
        let found = scan::texts(json, &paths);
        unknown
            .iter()
            .zip(found)
            .all(|(term, found)| (found.as_deref().unwrap_or(term.absent) == term.value) == term.equal)
    }

    /// The value that this field has to have, when the selector asks for one.
    pub fn exactly(&self, path: &str) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.equal && term.path == path)?;
        Some(&term.value)
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }
}

impl Term {
    /// Where the field is in the object.
    fn stored(&self) -> &str {
        match self.path.as_str() {
            "source" => "source.component",
            "status.successful" => "status.succeeded",
            path => path,
        }
    }
}

fn known(path: &str, resource: &Resource) -> Result<&'static str, Error> {
    if path == "metadata.name" || (path == "metadata.namespace" && resource.namespaced) {
        return Ok("");
    }
    let name = resource.group_resource();
    let name = if name == "events.events.k8s.io" { "events" } else { &name };
    let fields = FIELDS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, fields)| fields);
    match fields.iter().find(|(field, _)| *field == path) {
        Some((_, absent)) => Ok(absent),
        None => Err(Error::Selector(format!("field label not supported: {path}"))),
    }
}

/// Cuts at the commas that have no backslash before them.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        if byte == b',' && !escaped {
            parts.push(&text[start..at]);
            start = at + 1;
        }
        escaped = byte == b'\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn operator(part: &str) -> Option<(&str, bool, &str)> {
    let at = part.find('=')?;
    let (before, value) = (&part[..at], &part[at + 1..]);
    Some(match before.strip_suffix('!') {
        Some(path) => (path, false, value),
        None => (before, true, value.strip_prefix('=').unwrap_or(value)),
    })
}

fn unescape(value: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                Some(c) => {
                    return Err(format!("invalid field selector: invalid escape sequence: \\{c}"));
                }
                None => {
                    return Err("invalid field selector: invalid escape sequence: \\".to_owned());
                }
            },
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {c}"));
            }
            _ => plain.push(c),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn parse(group: &str, plural: &str, text: &str) -> Result<FieldSelector, Error> {
        FieldSelector::parse(text, Registry::builtin().resource(group, "v1", plural).unwrap())
    }

    #[test]
    fn fields_and_objects() {
        let pod = br#"{"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "x"}}"#;
        for (text, expected) in [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name==a,metadata.namespace=n", true),
            ("spec.nodeName!=x", false),
            ("status.phase!=Running", true),
            ("spec.hostNetwork=false", true),
            ("spec.nodeName=", false),
        ] {
            let selector = parse("", "pods", text).unwrap();
            assert_eq!(selector.matches(pod, |_| None), expected, "{text}");
            let known = |path: &str| (path == "spec.nodeName").then_some("x");
            assert_eq!(selector.matches(pod, known), expected, "{text}");
        }
        let known = |path: &str| (path == "spec.nodeName").then_some("y");
        assert!(!parse("", "pods", "spec.nodeName=x").unwrap().matches(pod, known));
        let node = br#"{"spec": {"unschedulable": true}}"#;
        assert!(parse("", "nodes", "spec.unschedulable=true").unwrap().matches(node, |_| None));
        let event = br#"{"type": "a,b=c", "source": {"component": "kubelet"}}"#;
        assert!(parse("", "events", r"type=a\,b\=c,source=kubelet").unwrap().matches(event, |_| None));
        let exact = parse("", "pods", "metadata.name=a").unwrap();
        assert_eq!(exact.exactly("metadata.name"), Some("a"));
    }

    #[test]
    fn what_cannot_be_read() {
        for (plural, text, message) in [
            ("pods", "foo=bar", "field label not supported: foo"),
            ("nodes", "metadata.namespace=a", "field label not supported: metadata.namespace"),
            ("configmaps", "spec.nodeName=a", "field label not supported: spec.nodeName"),
            ("pods", "metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
            ("pods", r"metadata.name=\a", r"invalid field selector: invalid escape sequence: \a"),
        ] {
            assert_eq!(parse("", plural, text), Err(Error::Selector(message.to_owned())));
        }
    }
}
