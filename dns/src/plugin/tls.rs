//! The certificates of blocks that are asked over TLS or HTTPS.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::chain::Setup;
use crate::corefile::{self, Directive, Word};

/// `tls CERT KEY [CA] { client_auth MODE }`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    setup.tls = Some(Arc::new(config(directive)?));
    Ok(())
}

fn config(directive: &Directive) -> Result<ServerConfig, corefile::Error> {
    let files = directive.line().between(2, 3)?;
    let mut mode = None;
    for line in directive.properties() {
        match &line.name.text[..] {
            "client_auth" => mode = Some(line.one()?),
            _ => return Err(line.unknown()),
        }
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| directive.name.error(error))?;
    let builder = match mode.map(|mode| (&mode.text[..], mode)) {
        // Who shows a certificate that nobody checks shows nothing.
        None | Some(("nocert" | "request", _)) => builder.with_no_client_auth(),
        Some((mode @ ("verify_if_given" | "require_and_verify"), word)) => {
            let [_, _, authority] = files else {
                return Err(word.error(format!("{mode} needs a CA")));
            };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(authority)? {
                roots.add(certificate).map_err(|error| wrong(authority, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = if mode == "verify_if_given" { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(authority, error))?)
        }
        Some((mode, word)) => return Err(word.error(format!("unknown authentication type '{mode}'"))),
    };
    let key = PrivateKeyDer::from_pem_file(&files[1].text).map_err(|error| wrong(&files[1], error))?;
    builder.with_single_cert(certificates(&files[0])?, key).map_err(|error| wrong(&files[0], error))
}

/// The certificates in a file of PEM.
pub(crate) fn certificates(file: &Word) -> Result<Vec<CertificateDer<'static>>, corefile::Error> {
    let all = CertificateDer::pem_file_iter(&file.text).and_then(Iterator::collect);
    all.map_err(|error| wrong(file, error))
}

/// The error about a file.
pub(crate) fn wrong(file: &Word, error: impl std::fmt::Display) -> corefile::Error {
    file.error(format!("{}: {error}", file.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let folder = std::env::temp_dir().join(format!("coracle-dns-tls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let own = rcgen::generate_simple_self_signed(["dns.example".to_owned()]).unwrap();
        let file = |name: &str, text: String| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name).to_str().unwrap().to_owned()
        };
        let (cert, key) = (file("cert", own.cert.pem()), file("key", own.signing_key.serialize_pem()));
        let (other, empty) = (rcgen::KeyPair::generate().unwrap().serialize_pem(), file("empty", String::new()));
        let other = file("other", other);
        let table = [
            (format!("tls {cert} {key}"), None),
            (format!("tls {cert} {key} {cert} {{\n client_auth require_and_verify\n}}"), None),
            (format!("tls {cert} {key} {cert} {{\n client_auth verify_if_given\n}}"), None),
            (format!("tls {cert} {key} {{\n client_auth nocert\n}}"), None),
            (format!("tls {cert} {key} {{\n client_auth verify_if_given\n}}"), Some((3, "verify_if_given needs a CA"))),
            (
                format!("tls {cert} {key} {{\n client_auth require\n}}"),
                Some((3, "unknown authentication type 'require'")),
            ),
            (format!("tls {cert} {key} {{\n keylog /tmp/keys\n}}"), Some((3, "unknown property 'keylog'"))),
            (format!("tls {cert}"), Some((2, "wrong argument count or unexpected line ending after"))),
            (format!("tls {empty} {key}"), Some((2, "/empty: "))),
            (format!("tls {cert} {empty}"), Some((2, "/empty: "))),
            (format!("tls {cert} {other}"), Some((2, "/cert: "))),
            (format!("tls {folder}/none {key}", folder = folder.display()), Some((2, "/none: "))),
        ];
        for (text, want) in table {
            let blocks = corefile::parse(&format!("tls://. {{\n {text}\n}}")).unwrap();
            let got = config(&blocks[0].directives[0]).map(drop);
            match (&got, want) {
                (Ok(()), None) => {}
                (Err(error), Some((line, message))) if error.line == line && error.message.contains(message) => {}
                _ => panic!("{text}: {got:?} {want:?}"),
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
