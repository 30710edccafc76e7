//! Hashed passwords in the forms of htpasswd, and whether a password is the one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use sha1::Sha1;

/// The highest cost of bcrypt that is computed: some seconds.
const COST: u32 = 16;

/// Whether `password` is the one of `hash`: bcrypt, Apache's and crypt's MD5, SHA-1 with and without salt, or plain
/// after `{PLAIN}`.
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
    let digits = |value: u32, count: usize| {
        const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        (0..count).map(move |digit| char::from(DIGITS[(value >> (6 * digit) & 63) as usize]))
    };
    let triples = [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)];
    let value = |(high, middle, low): (usize, usize, usize)| {
        u32::from(sum[high]) << 16 | u32::from(sum[middle]) << 8 | u32::from(sum[low])
    };
    triples.into_iter().flat_map(|triple| digits(value(triple), 4)).chain(digits(sum[11].into(), 2)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_other_programs() {
        // Made by `openssl passwd`, glibc's crypt(3), and `openssl sha1`.
        let long = "a longer password than sixteen bytes, and than thirty-two";
        let cases = [
            ("myPassword", "$apr1$r31abcde$kl9eNjSys8oZ/nHjspdaj0"),
            ("", "$apr1$ab$S8K6Sgp3W8c9Jb6LxgywZ."),
            (long, "$1$saltsalt$ncmXlexCj/Ie1EPK79cOa/"),
            ("myPassword", "$2b$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW"),
            ("myPassword", "$2y$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW"),
            ("myPassword", "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="),
            ("myPassword", "{SSHA}4UtOIanPatl20tn1j9k62a3ycDlwZXBwZXI="),
            ("myPassword", "{PLAIN}myPassword"),
        ];
        for (password, hash) in cases {
            assert!(verify(password, hash), "{hash}");
            assert!(!verify("another", hash), "{hash}");
        }
        let never =
            ["", "myPassword", "$apr1$", "$apr1$$", "$2y$", "$2y$31$abc", "{SHA}", "{SSHA}", "{SSHA}AAAA", "$9$x$y"];
        for hash in never {
            assert!(!verify("myPassword", hash), "{hash}");
        }
    }
}
