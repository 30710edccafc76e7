//! Hashed passwords in the forms of htpasswd, and whether a password is the one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use sha_crypt::{Params, sha256_crypt, sha512_crypt};
use sha1::Sha1;

/// The highest cost of bcrypt that is computed: some seconds.
const COST: u32 = 16;

/// The most rounds of SHA-crypt that are computed, times the bytes of a password and a sum: two seconds. passlib's 656,000
/// rounds take a fifth of that.
const WORK: usize = 1 << 27;

/// How hashes begin that may be right.
const FORMS: [&str; 10] = ["$2y$", "$2a$", "$2b$", "$apr1$", "$1$", "$5$", "$6$", "{SHA}", "{SSHA}", "{PLAIN}"];

/// Whether a hash is of one of the forms that are understood.
pub(crate) fn is_known(hash: &str) -> bool {
    FORMS.iter().any(|form| hash.starts_with(form))
}

/// Whether `password` is the one of `hash`: bcrypt, Apache's and crypt's MD5, crypt's SHA-256 and SHA-512, SHA-1 with and
/// without salt, or plain after `{PLAIN}`.
pub(crate) fn verify(password: &str, hash: &str) -> bool {
    if let Some(cost) = ["$2y$", "$2a$", "$2b$"].iter().find_map(|magic| hash.strip_prefix(magic)) {
        let cost = cost.split('$').next().and_then(|cost| cost.parse().ok());
        return cost.is_some_and(|cost: u32| cost <= COST) && bcrypt::verify(password, hash).unwrap_or(false);
    }
    for magic in ["$apr1$", "$1$"] {
        if let Some((salt, sum)) = hash.strip_prefix(magic).and_then(|rest| rest.split_once('$')) {
            return same(md5(password.as_bytes(), magic, salt.as_bytes()).as_bytes(), sum.as_bytes());
        }
    }
    for (magic, sum) in [("$5$", sha256 as fn(&[u8], &[u8], Params) -> String), ("$6$", sha512)] {
        if let Some(rest) = hash.strip_prefix(magic) {
            return sha(password.as_bytes(), rest, sum).unwrap_or(false);
        }
    }
    if let Some(sum) = hash.strip_prefix("{SHA}") {
        return STANDARD.decode(sum).is_ok_and(|sum| same(&Sha1::digest(password), &sum));
    }
    if let Some(sum) = hash.strip_prefix("{SSHA}") {
        let sum = STANDARD.decode(sum).unwrap_or_default();
        let split = sum.split_at_checked(20);
        return split
            .is_some_and(|(sum, salt)| same(&Sha1::new().chain_update(password).chain_update(salt).finalize(), sum));
    }
    hash.strip_prefix("{PLAIN}").is_some_and(|plain| same(plain.as_bytes(), password.as_bytes()))
}

/// Compares in a time that does not tell where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (one, other)| differ | one ^ other) == 0
}

/// The MD5 of crypt(3), as Poul-Henning Kamp made it and Apache took it over.
fn md5(password: &[u8], magic: &str, salt: &[u8]) -> String {
    let salt = &salt[..salt.len().min(8)];
    let mut sum = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    password.chunks(16).for_each(|chunk| first.update(&sum[..chunk.len()]));
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    sum = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        next.update(if round % 2 == 1 { password } else { &sum[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round % 2 == 1 { &sum[..] } else { password });
        sum = next.finalize();
    }
    let places = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    digits(&sum, places) + &last(&[sum[11]])
}

/// Whether this is the password of SHA-crypt's `[rounds=NUMBER$]SALT$SUM`; none, if that is broken or takes too long.
fn sha(password: &[u8], hash: &str, sum: fn(&[u8], &[u8], Params) -> String) -> Option<bool> {
    let (rounds, rest) = match hash.strip_prefix("rounds=") {
        Some(rest) => rest.split_once('$').and_then(|(rounds, rest)| Some((rounds.parse().ok()?, rest)))?,
        None => (Params::RECOMMENDED_ROUNDS, hash),
    };
    let params = Params::new(rounds).ok().filter(|_| rounds as usize * (password.len() + 64) <= WORK)?;
    let (salt, expected) = rest.split_once('$')?;
    Some(same(sum(password, salt.as_bytes(), params).as_bytes(), expected.as_bytes()))
}

fn sha256(password: &[u8], salt: &[u8], params: Params) -> String {
    let sum = sha256_crypt(password, salt, params);
    digits(&sum, rotated(10, [0, 2, 1])) + &last(&[sum[31], sum[30]])
}

fn sha512(password: &[u8], salt: &[u8], params: Params) -> String {
    let sum = sha512_crypt(password, salt, params);
    digits(&sum, rotated(21, [0, 1, 2])) + &last(&[sum[63]])
}

/// SHA-crypt's order: one byte of each third of the sum, of which another third comes first each time.
fn rotated(third: usize, order: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..third).map(move |at| [0, 1, 2].map(|place| at + third * ((place + order[at % 3]) % 3)))
}

/// The bytes at these places in crypt's digits: of three bytes, the last one's bits come first.
fn digits(sum: &[u8], places: impl IntoIterator<Item = [usize; 3]>) -> String {
    places.into_iter().map(|places| last(&places.map(|place| sum[place]))).collect()
}

/// The last bytes, which may be less than three.
fn last(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let value = bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
    (0..=bytes.len()).map(|digit| char::from(DIGITS[(value >> (6 * digit) & 63) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_other_programs() {
        // Made by `openssl passwd`, crypt(3), and `openssl sha1`.
        let long = "a longer password than sixteen bytes, and than thirty-two";
        let cases = [
            ("myPassword", "$apr1$r31abcde$kl9eNjSys8oZ/nHjspdaj0"),
            ("", "$apr1$ab$S8K6Sgp3W8c9Jb6LxgywZ."),
            (long, "$1$saltsalt$ncmXlexCj/Ie1EPK79cOa/"),
            ("myPassword", "$5$saltstring$MkP5qKcKBbjj8bsVcXLwsVnoyIfhVxvKRnDs04znYE3"),
            ("myPassword", "$5$rounds=10000$saltstring$R8UNKifs1Sl1G7865N11WU5qLd7apUPxwxhNPwqpNE9"),
            ("", "$5$salt$HrcUzzoef72uxM/YhTU5BAi419Fblqlq//zyM.rIOG0"),
            (long, "$5$salt$96NyVv97Mr0AuhyylYGgrbWZuJNXaPnRhUPk3jCFbvC"),
            (
                "myPassword",
                "$6$saltstring$yrgUIlOJWK3OC/JndpXBztq8EQRRmKpDrP7qooKJH3.xzzwFiERNtfwXrr7p9zwxoynqwD6kq/zg0QrS8jKUP1",
            ),
            (
                "myPassword",
                "$6$rounds=1400$anotherlongsalts$UAG4Zrbf04oLbHDaj.44y7IOIFK13XOvYZhtRA.FBqzhYvR2S2VvPD2EIs4vWEguMhaXe1eDWzl68xzcKNqTo0",
            ),
            (
                "a longer password than sixty-four bytes, which is the length of a sum of SHA-512, so",
                "$6$salt$UZbezt0V6xlYvXgIs4e58xhs1yOtIxpBkiLW59s9Xicw9zceQuBl8fD9E/KABgchCWMQ7qAQsyfsBmPjXsRGt0",
            ),
            ("myPassword", "$2b$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW"),
            ("myPassword", "$2y$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW"),
            ("myPassword", "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="),
            ("myPassword", "{SSHA}4UtOIanPatl20tn1j9k62a3ycDlwZXBwZXI="),
            ("myPassword", "{PLAIN}myPassword"),
        ];
        for (password, hash) in cases {
            assert!(is_known(hash) && verify(password, hash), "{hash}");
            assert!(!verify("another", hash), "{hash}");
        }
        let never = [
            "",
            "$5$",
            "$6$a$",
            "$6$rounds=1000$",
            "$5$rounds=999$a$",
            "$6$rounds=999999999$saltstring$yrgU",
            "myPassword",
            "$apr1$",
            "$apr1$$",
            "$2y$",
            "$2y$31$abc",
            "{SHA}",
            "{SSHA}",
            "{SSHA}AAAA",
            "$9$x$y",
        ];
        for hash in never {
            assert!(!verify("myPassword", hash), "{hash}");
        }
        assert!(!is_known("rqXexS6ZhobKA"), "crypt's DES");
    }
}
