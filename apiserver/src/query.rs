use percent_encoding::percent_decode_str;

use crate::status::Status;

/// The query of a request, decoded. Empty pieces are skipped: some clients begin it with `?&`.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pieces = query.split('&').filter(|piece| !piece.is_empty());
        Query(
            pieces
                .map(|piece| {
                    let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of that name that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(key, value)| key == name && !value.is_empty());
        values.next().map(|(_, value)| value.as_str())
    }

    /// Go's notion of a true boolean: `true`, `1`, or the bare name.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.bool(name).unwrap_or(false)
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(!matches!(value.as_str(), "0" | "false" | "False" | "f"))
    }

    /// A number, or 400 for what is none.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Status> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value
            .parse()
            .map_err(|_| Status::bad_request(format!("invalid value for query parameter {name}: \"{value}\"")))?;
        Ok(Some(number))
    }
}

/// A query as it is, but for one name.
pub(crate) fn without(query: &str, name: &str) -> String {
    let named = |piece: &&str| piece.split('=').next() != Some(name);
    query.split('&').filter(|piece| !piece.is_empty()).filter(named).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding() {
        let query = Query::parse("&labelSelector=a%3Db%2Cc&limit=5&watch&dry=1&x=a+b&follow=false&n=x");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.number("limit").unwrap(), Some(5));
        assert_eq!(query.number::<u64>("none").unwrap(), None);
        assert!(query.number::<u64>("n").is_err());
        assert!(query.is_true("watch") && query.is_true("dry") && !query.is_true("follow"));
        assert_eq!(query.get("x"), Some("a b"));
        assert_eq!(without("&container=a&follow=true&containers=b", "container"), "follow=true&containers=b");
    }
}
