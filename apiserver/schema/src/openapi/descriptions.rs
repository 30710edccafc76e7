use std::collections::HashMap;
use std::io::Read;

use flate2::read::ZlibDecoder;

/// Written by table/describe.py, which says what is in it.
pub(super) const PACKED: &[u8] = include_bytes!("../../table/descriptions.z");

/// What the built-in types and fields are for. Unpacked to make a document and dropped with it, so that a server at
/// rest holds 150 kB of them and not 600.
pub(super) struct Descriptions {
    lines: String,
}

/// The same, with the places of the lines.
pub(super) struct Index<'a> {
    texts: Vec<&'a str>,
    rows: HashMap<&'a str, &'a str>,
}

impl Descriptions {
    /// The table is part of the program and read by a test; if it is damaged, nothing is described.
    pub(super) fn unpack() -> Self {
        let mut lines = String::new();
        if ZlibDecoder::new(PACKED).read_to_string(&mut lines).is_err() {
            lines.clear();
        }
        Descriptions { lines }
    }

    pub(super) fn index(&self) -> Index<'_> {
        let mut lines = self.lines.lines().skip(1);
        let texts = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        Index { texts, rows: lines.filter_map(|line| line.split_once(' ')).collect() }
    }
}

impl<'a> Index<'a> {
    /// The text of a type, by its name in the table of kinds.
    pub(super) fn of(&self, ty: &str) -> Option<String> {
        self.text(self.rows.get(ty)?.split(' ').next()?)
    }

    /// The texts of its fields, by their names.
    pub(super) fn fields(&self, ty: &str) -> HashMap<&'a str, String> {
        let words = self.rows.get(ty).into_iter().flat_map(|row| row.split(' ').skip(1));
        words.filter_map(|word| word.split_once('=')).filter_map(|(name, at)| Some((name, self.text(at)?))).collect()
    }

    fn text(&self, at: &str) -> Option<String> {
        let text = self.texts.get(at.parse::<usize>().ok()?)?;
        Some(text.replace('\x01', "\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use crate::types::Form;

    #[test]
    fn nearly_everything_is_described() {
        let descriptions = Descriptions::unpack();
        let index = descriptions.index();
        let registry = Registry::builtin();
        let mut bare = Vec::new();
        // These have none in Kubernetes either.
        let exempt = ["JSONSchemaProps", "ExternalDocumentation", "Info", "WatchEvent"];
        for ty in registry.types().filter(|ty| ty.form == Form::Struct && !exempt.contains(&ty.go_name())) {
            let fields = index.fields(&ty.name);
            bare.extend(index.of(&ty.name).is_none().then(|| ty.name.to_string()));
            let without = ty.fields.iter().filter(|field| !fields.contains_key(field.name.as_ref()));
            bare.extend(without.map(|field| format!("{}.{}", ty.name, field.name)));
        }
        assert_eq!(bare, ["certificates.v1.CertificateSigningRequest.metadata", "networking.v1.IngressRule.http"]);
    }

    #[test]
    fn the_table_is_of_the_crate_in_use() {
        let descriptions = Descriptions::unpack();
        let lock = include_str!("../../../../Cargo.lock");
        let version = descriptions.lines.lines().next().unwrap().replace(' ', "\"\nversion = \"");
        assert!(lock.contains(&version), "apiserver/schema/table/describe.py has to be run again");
    }
}
