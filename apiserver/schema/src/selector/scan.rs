use std::fmt::{self, Display, Formatter};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The texts at some paths of a JSON object, such as `status.phase`; numbers and booleans count as their text. Everything
/// else is passed over, and nothing is read behind the last of them.
pub(super) fn texts(json: &[u8], paths: &[&str]) -> Vec<Option<String>> {
    let mut found = vec![None; paths.len()];
    let wanted = paths.iter().copied().enumerate().collect();
    // It also ends with an error when all are found; what is not JSON has no texts.
    let _ = Scan { wanted, found: &mut found }.deserialize(&mut serde_json::Deserializer::from_slice(json));
    found
}

/// One value on the way to what is wanted: the place of each and what is left of its path.
struct Scan<'a, 'f> {
    wanted: Vec<(usize, &'a str)>,
    found: &'f mut [Option<String>],
}

impl Scan<'_, '_> {
    fn leaf<E: Error>(self, value: impl Display) -> Result<(), E> {
        for (at, _) in self.wanted.iter().filter(|(_, path)| path.is_empty()) {
            self.found[*at] = Some(value.to_string());
        }
        if self.found.iter().all(Option::is_some) { Err(E::custom("all found")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Scan<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let mut wanted = self.wanted.clone();
            wanted.retain_mut(|(_, path)| {
                let (first, rest) = path.split_once('.').unwrap_or((path, ""));
                *path = rest;
                first == key
            });
            if wanted.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Scan { wanted, found: self.found })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.leaf(value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.leaf(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.leaf(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.leaf(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.leaf(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let json =
            br#"{"a":{"b":"x","bc":null,"d":[1,{"e":2}],"f":{"g":true}},"ab":7,"h":-1.5,"a.b":"no","k":{"n":1}}"#;
        let paths = ["a.b", "a.bc", "a.f.g", "ab", "h", "a.d.e", "a.f", "k.n", "a", "z"];
        let expected = [Some("x"), None, Some("true"), Some("7"), Some("-1.5"), None, None, Some("1"), None, None];
        assert_eq!(texts(json, &paths).iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        assert_eq!(texts(br#"{"a":"1","b":garbage"#, &["a"]), [Some("1".to_owned())], "nothing is read behind");
        assert_eq!(texts(b"[", &["a"]), [None]);
        assert_eq!(texts(b"{}", &[]), Vec::<Option<String>>::new());
    }
}
