//! What kubectl needs to reach the cluster.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// The name of cluster, user and context.
const NAME: &str = "coracle";

/// The parts of a kubeconfig.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// `https://127.0.0.1:6443`
    pub server: String,
    /// The certificate of the cluster's authority.
    pub authority_pem: String,
    /// The administrator's certificate.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: String,
}

impl Access {
    /// As YAML, in the format of client-go's clientcmd v1.
    pub(super) fn render(&self) -> String {
        let encoded = |pem: &str| BASE64_STANDARD.encode(pem);
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {NAME}\n  cluster:\n    server: {}\n    certificate-authority-data: {}\nusers:\n- name: {NAME}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\ncontexts:\n- name: {NAME}\n  context:\n    cluster: {NAME}\n    user: {NAME}\ncurrent-context: {NAME}\n",
            self.server,
            encoded(&self.authority_pem),
            encoded(&self.certificate_pem),
            encoded(&self.key_pem),
        )
    }

    /// Writes it where only its owner can read it.
    ///
    /// # Errors
    /// When the file cannot be written.
    #[cfg(feature = "node")]
    pub(super) fn write(&self, path: &std::path::Path) -> anyhow::Result<()> {
        use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _};

        use anyhow::Context as _;

        let incoming = path.with_extension("new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&incoming);
        file.and_then(|mut file| file.write_all(self.render().as_bytes()))
            .and_then(|()| std::fs::rename(&incoming, path))
            .with_context(|| format!("write {}", path.display()))
    }
}
