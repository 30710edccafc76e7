//! `auth-type`, `auth-secret`, `auth-secret-type` and `auth-realm`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use super::Complaint;
use crate::Users;
use crate::password::is_known;

/// What is said of users so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// `auth-type: basic`.
    pub(super) basic: bool,
    pub(super) secret: Option<String>,
    /// `auth-secret-type: auth-map`: a key for each user, and not a file of htpasswd in `auth`.
    pub(super) map: bool,
    pub(super) realm: Box<str>,
}

impl Draft {
    /// The users. Whatever is missing, nobody gets in by it.
    pub(super) fn finish(&self, secret: Option<&Secret>, complaints: &mut Vec<Complaint>) -> Option<Arc<Users>> {
        if !self.basic {
            return None;
        }
        let data = secret.and_then(|secret| secret.data.as_ref());
        let mut complain = |text: String| complaints.push(("MissingUsers", format!("{text}; nobody is let in")));
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let mut passwords = Vec::new();
        match (&self.secret, data) {
            (None, _) => complain("auth-type needs auth-secret, a Secret of the same namespace".into()),
            (Some(name), None) => {
                complain(format!("the Secret {name} of auth-secret does not exist in this namespace, or is empty"))
            }
            (_, Some(data)) if self.map => {
                let users = data.iter().filter_map(|(user, hash)| Some((user.as_str().into(), text(&hash.0)?)));
                passwords.extend(users.map(|(user, hash)| (user, hash.trim().into())));
            }
            (Some(name), Some(data)) => match data.get("auth").and_then(|file| text(&file.0)) {
                None => complain(format!("the Secret {name} of auth-secret has no text in the key auth")),
                Some(file) => passwords.extend(file.lines().filter_map(user)),
            },
        }
        if let Some((name, _)) = passwords.iter().find(|(_, hash)| !is_known(hash)) {
            let secret = self.secret.as_deref().unwrap_or_default();
            let text = format!(
                "the password of {name} in the Secret {secret} is hashed in no way that is known; see htpasswd -B"
            );
            complaints.push(("UnknownHash", text));
        }
        Some(Arc::new(Users { realm: self.realm.clone(), passwords }))
    }
}

/// A line of htpasswd: a name, a hash, and perhaps a comment.
fn user(line: &str) -> Option<(Box<str>, Box<str>)> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    Some((name.into(), fields.next()?.into()))
}
