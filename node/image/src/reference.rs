//! Names of images, as Docker and Kubernetes read them.

use oci_client::Reference;

use crate::Error;

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
    let invalid = |reason: String| Error::Reference {
        reference: reference.to_owned(),
        reason,
    };
    let parsed = reference
        .trim()
        .parse::<Reference>()
        .map_err(|error| invalid(error.to_string()))?;
    if parsed
        .repository()
        .contains(|c: char| c.is_ascii_uppercase())
    {
        return Err(invalid("repository name must be lowercase".to_owned()));
    }
    Ok(parsed)
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
            (
                "index.docker.io/library/nginx",
                "docker.io/library/nginx:latest",
            ),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("127.0.0.1:5000/a:x", "127.0.0.1:5000/a:x"),
            ("quay.io/coreos/etcd:v3", "quay.io/coreos/etcd:v3"),
            ("coracle/echo", "docker.io/coracle/echo:latest"),
        ] {
            assert_eq!(normalize(given).expect(given), full, "{given}");
        }
        let digest = format!("nginx@sha256:{}", "a".repeat(64));
        assert_eq!(
            normalize(&digest).expect("digest"),
            format!("docker.io/library/{digest}")
        );
    }

    #[test]
    fn broken_names_are_refused_with_the_name() {
        for given in ["", "nginx:", "UPPER/case", "a b", "nginx@sha256:12"] {
            let error = normalize(given).expect_err(given).to_string();
            assert!(error.contains(&format!("{given:?}")), "{error}");
        }
    }
}
