//! Names of images, as Docker and Kubernetes read them.
//!
//! Parsed by hand: compiling the regular expression that `oci-client` has for it leaves some 12 MB
//! resident, more than all else that the cluster allocates while it rests.

use crate::Error;

/// The registry of names that do not say one.
const HUB: &str = "docker.io";
/// The longest name, with registry and without tag, in bytes.
const NAME_BYTES: usize = 255;
/// The longest tag in bytes.
const TAG_BYTES: usize = 128;

/// The full form of an image's name: `nginx` → `docker.io/library/nginx:latest`.
///
/// A name with a digest keeps it and gets no tag.
///
/// # Errors
/// [`Error::Reference`] when the name breaks the grammar of the distribution specification.
pub fn normalize(reference: &str) -> Result<String, Error> {
    parse(reference).map(|reference| reference.whole())
}

/// [`normalize`], parsed.
pub(crate) fn parse(reference: &str) -> Result<Reference, Error> {
    Reference::parse(reference.trim())
        .map_err(|reason| Error::Reference { reference: reference.to_owned(), reason: reason.to_owned() })
}

/// A name in its parts, the distribution specification's `reference`.
#[derive(Debug)]
pub(crate) struct Reference {
    /// `docker.io`, `localhost:5000`
    pub(crate) registry: String,
    /// `library/nginx`
    pub(crate) repository: String,
    /// `latest`; there is a tag or a digest, or both.
    pub(crate) tag: Option<String>,
    /// `sha256:<hex>`
    pub(crate) digest: Option<String>,
}

impl Reference {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (text, digest) = match text.split_once('@') {
            Some((text, digest)) if is_digest(digest) => (text, Some(digest.to_owned())),
            Some(_) => return Err("invalid digest"),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; before it, a port.
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (text, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err("invalid tag");
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => (HUB, name),
        };
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let official = registry == HUB && !path.contains('/');
        let repository = if official { format!("library/{path}") } else { path.to_owned() };
        if repository.contains(|c: char| c.is_ascii_uppercase()) {
            return Err("repository name must be lowercase");
        }
        if !repository.split('/').all(is_component) {
            return Err("invalid repository name");
        }
        if registry.len() + 1 + repository.len() > NAME_BYTES {
            return Err("repository name must not be more than 255 characters");
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// All of it again, in full.
    pub(crate) fn whole(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{}/{}{tag}{digest}", self.registry, self.repository)
    }
}

/// The first part of a name is a registry when it cannot be part of a repository on the hub.
fn is_registry(first: &str) -> bool {
    let (host, port) = first.split_once(':').map_or((first, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        let edge = |c: char| c.is_ascii_alphanumeric();
        label.starts_with(edge) && label.ends_with(edge) && label.chars().all(|c| edge(c) || c == '-')
    };
    let shaped = host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok());
    shaped && (first.contains(['.', ':']) || first == "localhost" || first.contains(|c: char| c.is_ascii_uppercase()))
}

/// Letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between = |gap: &str| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-');
    text.starts_with(word) && text.ends_with(word) && text.split(word).all(between)
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= TAG_BYTES && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
    hex.is_some_and(|hex| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (given, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("127.0.0.1:5000/a:x", "127.0.0.1:5000/a:x"),
            ("quay.io/coreos/etcd:v3", "quay.io/coreos/etcd:v3"),
            ("coracle/echo", "docker.io/coracle/echo:latest"),
            ("a__b/c---d.e_f:T_a.g-1", "docker.io/a__b/c---d.e_f:T_a.g-1"),
        ] {
            assert_eq!(normalize(given).expect(given), full, "{given}");
        }
        let digest = format!("nginx@sha256:{}", "a".repeat(64));
        assert_eq!(normalize(&digest).expect("digest"), format!("docker.io/library/{digest}"));
        let both = format!("quay.io/a:1@sha256:{}", "b".repeat(64));
        assert_eq!(normalize(&both).expect("both"), both);
    }

    #[test]
    fn broken_names_are_refused_with_the_name() {
        let long = format!("a/{}", "x".repeat(250));
        for (given, reason) in [
            ("", "invalid repository name"),
            ("nginx:", "invalid tag"),
            ("nginx:-x", "invalid tag"),
            ("docker.io/UPPER/case", "must be lowercase"),
            ("Nginx", "must be lowercase"),
            ("a b", "invalid repository name"),
            ("a//b", "invalid repository name"),
            ("a/", "invalid repository name"),
            ("-a", "invalid repository name"),
            ("a..b", "invalid repository name"),
            ("../a", "invalid repository name"),
            ("quay.io:x/a", "invalid repository name"),
            ("nginx@sha256:12", "invalid digest"),
            (&long, "more than 255"),
        ] {
            let error = normalize(given).expect_err(given).to_string();
            assert!(error.contains(&format!("{given:?}")) && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_is_parsed_is_what_oci_client_parses() {
        for given in ["nginx", "a.b/c:d", "localhost/x/y:1", "x/y", "h:1/r", "a--b__c/d.e"] {
            let theirs: oci_client::Reference = given.parse().expect(given);
            assert_eq!(normalize(given).expect(given), theirs.whole(), "{given}");
        }
    }
}
