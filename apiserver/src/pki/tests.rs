use std::os::unix::fs::PermissionsExt;

use super::*;

fn names(extra: &str) -> Vec<String> {
    let mut names = server_names("cluster.local", "10.96.0.1".parse().unwrap());
    names.push(extra.to_owned());
    names
}

#[test]
fn kept_until_the_names_change() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path()).unwrap();
    let first = pki.server(&names("10.0.0.1")).unwrap();
    let again = Pki::open(dir.path()).unwrap();
    assert_eq!(again.authority_pem(), pki.authority_pem());
    assert_eq!(again.server(&names("10.0.0.1")).unwrap().certificate_pem, first.certificate_pem);
    let other = again.server(&names("example.com")).unwrap();
    assert_ne!(other.certificate_pem, first.certificate_pem);
    let seen = certificate::read_pem(&other.certificate_pem).unwrap();
    for name in ["example.com", "10.96.0.1", "localhost", "kubernetes.default.svc.cluster.local"] {
        assert!(seen.names.iter().any(|seen| seen == name), "{name}");
    }
    assert!(again.server_config(&other).is_ok());
    for key in ["ca.key", "apiserver.key"] {
        let mode = fs::metadata(dir.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn clients_are_users_in_groups() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path()).unwrap();
    let admin = pki.admin().unwrap();
    assert_eq!(pki.admin().unwrap().certificate_pem, admin.certificate_pem);
    let der = CertificateDer::from_pem_slice(admin.certificate_pem.as_bytes()).unwrap();
    let identity = identity(&der).unwrap();
    assert_eq!(identity.user, "kubernetes-admin");
    assert_eq!(identity.groups, ["system:masters", "system:authenticated"]);
}

#[test]
fn a_lost_authority_takes_its_certificates_along() {
    let dir = tempfile::tempdir().unwrap();
    let before = Pki::open(dir.path()).unwrap().admin().unwrap();
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    let after = Pki::open(dir.path()).unwrap().admin().unwrap();
    assert_ne!(before.certificate_pem, after.certificate_pem);
}
