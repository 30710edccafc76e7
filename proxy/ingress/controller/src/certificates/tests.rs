use ingress::{Upstreams, plan};
use k8s_openapi::ByteString;
use k8s_openapi::api::networking::v1::{IngressRule, IngressSpec};
use k8s_openapi::jiff::Timestamp;
use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};

use super::*;

/// A Secret with a certificate of that common name for these names.
fn secret(algorithm: &'static SignatureAlgorithm, common: &str, names: &[&str]) -> Secret {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let pair = KeyPair::generate_for(algorithm).unwrap();
    data(&params.self_signed(&pair).unwrap().pem(), &pair.serialize_pem())
}

fn data(certificate: &str, key: &str) -> Secret {
    let parts = [("tls.crt", certificate), ("tls.key", key)].map(|(name, text)| (name.into(), ByteString(text.into())));
    Secret { data: Some(parts.into()), ..Secret::default() }
}

/// An Ingress with rules for hosts, and entries of TLS: hosts and a Secret.
fn ingress(rules: &[&str], tls: &[(&[&str], &str)], created: i64) -> Arc<Ingress> {
    let rule = |host: &&str| IngressRule { host: Some(host.to_string()), http: None };
    let entry = |(hosts, secret): &(&[&str], &str)| IngressTLS {
        hosts: Some(hosts.iter().map(ToString::to_string).collect()),
        secret_name: Some(secret.to_string()).filter(|name| !name.is_empty()),
    };
    let mut ingress = Ingress {
        spec: Some(IngressSpec {
            rules: Some(rules.iter().map(rule).collect()),
            tls: Some(tls.iter().map(entry).collect()),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    };
    ingress.metadata.creation_timestamp = Timestamp::from_second(created).ok().map(Into::into);
    Arc::new(ingress)
}

fn objects(ingresses: Vec<Arc<Ingress>>, secrets: Vec<(&str, Secret)>) -> Objects {
    let key = |number: usize| Key::new("default", format!("i{number}"));
    let secrets = secrets.into_iter().map(|(name, secret)| (Key::new("default", name), Arc::new(secret)));
    let ingresses = ingresses.into_iter().enumerate().map(|(number, ingress)| (key(number), ingress));
    Objects { ingresses: ingresses.collect(), secrets: secrets.collect(), ..Objects::default() }
}

/// Which Secret's certificate each host has, and the messages.
fn shown(objects: &Objects, now: i64) -> (Vec<(String, String)>, Vec<String>) {
    let mut read = Read::default();
    let (all, remarks) = read.all(objects, &plan(objects, &mut Upstreams::default()), now);
    assert!(all.default.is_some());
    let named = |key: &Arc<CertifiedKey>| {
        let same = |(_, certificate): &&(Arc<Secret>, Result<Certificate, String>)| {
            certificate.as_ref().is_ok_and(|certificate| Arc::ptr_eq(&certificate.key, key))
        };
        read.secrets.iter().find(|(_, read)| same(read)).map(|(name, _)| name.name.to_string()).unwrap()
    };
    let mut hosts: Vec<_> = all.hosts.iter().map(|(host, key)| (host.to_string(), named(key))).collect();
    hosts.sort();
    let message = |remark: Remark| format!("{} {}: {}", remark.ingress.name, remark.reason, remark.message);
    (hosts, remarks.into_iter().map(message).collect())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(host, secret)| (host.to_string(), secret.to_string())).collect()
}

#[test]
fn hosts_get_the_certificates_of_their_entries() {
    let secrets = || {
        vec![
            ("app", secret(&PKCS_ED25519, "x", &["app.com"])),
            ("wild", secret(&PKCS_ECDSA_P384_SHA384, "x", &["*.app.com"])),
            ("common", secret(&PKCS_ED25519, "Old.com", &[])),
        ]
    };
    for (rules, tls, expected) in [
        (&["app.com"][..], &[(&["app.com"][..], "app")][..], &[("app.com", "app")][..]),
        // An upper-case host, a common name, and a wildcard for itself and for a name below it.
        (&[], &[(&["OLD.com"], "common")], &[("old.com", "common")]),
        (&["a.app.com"], &[(&["*.app.com"], "wild")], &[("*.app.com", "wild"), ("a.app.com", "wild")]),
        // A host that no entry lists has the certificate with its name.
        (
            &["app.com", "b.app.com", "c.com"],
            &[(&[], "app"), (&[], "wild")],
            &[("app.com", "app"), ("b.app.com", "wild")],
        ),
        // Without a Secret the default is meant; without TLS nothing is.
        (&["app.com"], &[(&["app.com"], "")], &[]),
        (&["app.com"], &[], &[]),
    ] {
        let (hosts, messages) = shown(&objects(vec![ingress(rules, tls, 0)], secrets()), 0);
        assert_eq!((hosts, messages), (pairs(expected), Vec::new()), "{rules:?} {tls:?}");
    }
}

#[test]
fn other_names_of_a_host_have_its_certificate() {
    let mut app = ingress(&["app.com"], &[(&["app.com"], "s")], 0);
    let annotations = [("from-to-www-redirect", "true"), ("server-alias", "alias.com, other.com")];
    let annotations =
        annotations.map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), value.to_owned()));
    Arc::make_mut(&mut app).metadata.annotations = Some(annotations.into());
    let names = secret(&PKCS_ED25519, "x", &["app.com", "www.app.com", "alias.com"]);
    let (hosts, messages) = shown(&objects(vec![app], vec![("s", names)]), 0);
    assert_eq!(hosts, pairs(&[("alias.com", "s"), ("app.com", "s"), ("www.app.com", "s")]));
    assert_eq!(messages, [""; 0]);
}

#[test]
fn what_is_wrong_is_said() {
    let good = secret(&PKCS_ED25519, "x", &["app.com"]);
    let text = |secret: &Secret, name: &str| String::from_utf8(secret.data.as_ref().unwrap()[name].0.clone()).unwrap();
    let other = secret(&PKCS_ED25519, "x", &["app.com"]);
    let (certificate, key) = (text(&good, "tls.crt"), text(&other, "tls.key"));
    for (secrets, expected) in [
        (vec![], "MissingSecret: Secret \"default/s\" was not found"),
        (
            vec![("s", Secret::default())],
            "InvalidCertificate: Secret \"default/s\" has no usable certificate: it has no tls.crt",
        ),
        (
            vec![("s", data("nonsense", &key))],
            "InvalidCertificate: Secret \"default/s\" has no usable certificate: tls.crt has no certificate",
        ),
        (
            vec![("s", data(&certificate, "nonsense"))],
            "InvalidCertificate: Secret \"default/s\" has no usable certificate: tls.key: no items found",
        ),
        (
            vec![("s", data(&certificate, &key))],
            "InvalidCertificate: Secret \"default/s\" has no usable certificate: tls.key is not the key of tls.crt",
        ),
        (
            vec![("s", secret(&PKCS_ED25519, "x", &["*.app.com"]))],
            "InvalidCertificate: The certificate in Secret \"default/s\" is for *.app.com, x, not for this host",
        ),
    ] {
        let (hosts, messages) = shown(&objects(vec![ingress(&[], &[(&["app.com"], "s")], 0)], secrets), 0);
        assert_eq!(hosts, []);
        assert_eq!(messages, [format!("i0 {expected}. Using default certificate for app.com")]);
    }
    let late = Timestamp::from_second(2_000_000_000).unwrap().as_second();
    let (hosts, messages) = shown(&objects(vec![ingress(&[], &[(&["app.com"], "s")], 0)], vec![("s", good)]), late);
    assert_eq!(hosts, pairs(&[("app.com", "s")]));
    assert_eq!(messages, ["i0 ExpiredCertificate: The certificate has expired. It is shown for app.com"]);
}

#[test]
fn the_older_ingress_has_a_host() {
    let secrets = ["a", "b"].map(|name| (name, secret(&PKCS_ED25519, "x", &["app.com"])));
    let ingresses = [("a", 20), ("b", 10)].map(|(name, created)| ingress(&[], &[(&["app.com"], name)], created));
    let (hosts, messages) = shown(&objects(ingresses.into(), secrets.into()), 0);
    assert_eq!((hosts, messages), (pairs(&[("app.com", "b")]), Vec::new()));
}

#[test]
fn a_secret_is_read_again_when_it_is_another() {
    let mut objects =
        objects(vec![ingress(&[], &[(&["app.com"], "s")], 0)], vec![("s", secret(&PKCS_ED25519, "x", &["app.com"]))]);
    let (mut read, plan) = (Read::default(), plan(&objects, &mut Upstreams::default()));
    let mut find = |objects: &Objects| read.all(objects, &plan, 0).0.find(Some("app.com")).unwrap();
    let first = find(&objects);
    assert!(Arc::ptr_eq(&first, &find(&objects)));
    let renewed = Arc::new(secret(&PKCS_ED25519, "x", &["app.com"]));
    objects.secrets.insert(Key::new("default", "s"), renewed);
    assert!(!Arc::ptr_eq(&first, &find(&objects)));
    objects.secrets.clear();
    let fake = find(&objects);
    let (_, parsed) = X509Certificate::from_der(&fake.cert[0]).unwrap();
    assert_eq!(parsed.subject().iter_common_name().next().unwrap().as_str().unwrap(), FAKE);
}
