//! HTTP basic authentication (RFC 7617).

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};
use tokio::sync::Semaphore;

use crate::Users;
use crate::password::verify;
use crate::recent::Recent;

/// How many users are remembered who said a right password: the ones of the last requests.
const REMEMBERED: usize = 1 << 10;
/// How many passwords are verified at once, over all threads; it takes a processor for itself.
const AT_ONCE: usize = 2;
/// A password may be as long as this, in bytes.
const LONGEST: usize = 512;

/// Who said a right password lately, for all threads: verifying one again takes long, by intent.
#[derive(Debug)]
pub(crate) struct Known {
    /// Two hashes with secret keys of user, password and its hash; so nothing is kept that would be of use elsewhere.
    hashers: [RandomState; 2],
    right: Mutex<Recent<[u64; 2], ()>>,
    turns: Arc<Semaphore>,
}

impl Default for Known {
    fn default() -> Self {
        let hashers = [RandomState::new(), RandomState::new()];
        Known { hashers, right: Mutex::new(Recent::new(REMEMBERED)), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Known {
    /// Whether a request with these headers comes from one of the users.
    pub(crate) async fn admit(&self, users: &Arc<Users>, headers: &HeaderMap) -> bool {
        let Some((name, password)) = credentials(headers) else { return false };
        let Some(number) = users.passwords.iter().position(|(known, _)| **known == *name) else { return false };
        let said = (&name, &password, &users.passwords[number].1);
        let said = self.hashers.each_ref().map(|hasher| hasher.hash_one(said));
        if self.right.lock().unwrap_or_else(PoisonError::into_inner).get(&said).is_some() {
            return true;
        }
        let Ok(turn) = self.turns.clone().acquire_owned().await else { return false };
        let users = users.clone();
        let verifying = tokio::task::spawn_blocking(move || {
            // The work goes on when the client does not.
            let _turn = turn;
            verify(&password, &users.passwords[number].1)
        });
        let right = verifying.await.unwrap_or(false);
        if right {
            self.right.lock().unwrap_or_else(PoisonError::into_inner).insert(said, ());
        }
        right
    }
}

/// The user and password that were sent.
pub(crate) fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    (password.len() <= LONGEST).then(|| (name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use http::HeaderValue;

    use super::*;

    fn user(name: &str, hash: &str) -> (Box<str>, Box<str>) {
        (name.into(), hash.into())
    }

    fn says(scheme: &str, text: &str) -> HeaderMap {
        let value = HeaderValue::try_from(format!("{scheme}{}", STANDARD.encode(text))).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    #[tokio::test]
    async fn users() {
        let passwords = vec![user("ann", "{PLAIN}a:b"), user("bob", "$apr1$r31abcde$kl9eNjSys8oZ/nHjspdaj0")];
        let users = Arc::new(Users { realm: "app".into(), passwords });
        let known = Known::default();
        let cases = [
            ("Basic ", "ann:a:b", true),
            ("basic  ", "ann:a:b", true),
            ("Basic ", "ann:", false),
            ("Basic ", "ann", false),
            ("Bearer ", "ann:a:b", false),
            ("Basic ", "bob:myPassword", true),
            ("Basic ", "bob:myPassword", true),
            ("Basic ", "bob:a:b", false),
            ("Basic ", "eve:myPassword", false),
            ("Basic", "", false),
        ];
        for (scheme, text, expected) in cases {
            assert_eq!(known.admit(&users, &says(scheme, text)).await, expected, "{scheme}{text}");
        }
        assert!(!known.admit(&users, &HeaderMap::new()).await);
        let other = Arc::new(Users { realm: "app".into(), passwords: vec![user("bob", "{PLAIN}changed")] });
        let old = known.admit(&other, &says("Basic ", "bob:myPassword")).await;
        assert!(!old, "a password that was changed is not remembered");
    }

    /// Clients that ask and go leave no more work behind than is allowed at once.
    #[test]
    fn who_does_not_wait_keeps_the_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let users = Arc::new(Users { realm: "app".into(), passwords: vec![user("ann", "{PLAIN}a")] });
        let known = Known::default();
        let (free, busy) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            tokio::task::spawn_blocking(move || busy.recv());
            for _ in 0..AT_ONCE {
                let headers = says("Basic ", "ann:a");
                let mut asking = pin!(known.admit(&users, &headers));
                assert!(futures::poll!(&mut asking).is_pending());
            }
            assert_eq!(known.turns.available_permits(), 0);
            drop(free);
            assert!(known.admit(&users, &says("Basic ", "ann:a")).await);
        });
    }
}
