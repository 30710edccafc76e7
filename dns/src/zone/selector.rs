//! Label selectors, as `kubectl -l` takes them.

use std::sync::Arc;

/// What labels have to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    label: String,
    /// The values that count; with none, any does.
    values: Option<Vec<String>>,
    /// Whether the label has such a value, or else is absent or has another.
    has: bool,
}

impl Selector {
    /// Reads `a=b, c!=d, e in (f, g), h notin (i), j, !k`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mut parts, mut within) = (vec![String::new()], false);
        for letter in text.chars() {
            match letter {
                ',' if !within => parts.push(String::new()),
                _ => parts.last_mut()?.push(letter),
            }
            within = letter == '(' || within && letter != ')';
        }
        parts.iter().map(|part| requirement(part.trim())).collect::<Option<_>>().map(Selector)
    }

    /// True when sorted labels are as they have to be.
    pub(crate) fn matches(&self, labels: &[(Arc<str>, Arc<str>)]) -> bool {
        self.0.iter().all(|wanted| {
            let value = labels.iter().find(|(label, _)| **label == *wanted.label).map(|(_, value)| value);
            let counts = |value: &Arc<str>| wanted.values.as_ref().is_none_or(|v| v.iter().any(|v| **v == **value));
            value.is_some_and(counts) == wanted.has
        })
    }
}

fn requirement(text: &str) -> Option<Requirement> {
    let word = |text: &str| {
        let text = text.trim();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        text.bytes().all(plain).then(|| text.to_owned())
    };
    let label = |text: &str| word(text).filter(|label| !label.is_empty());
    if let Some((head, list)) = text.split_once('(') {
        let (name, operator) = head.trim().rsplit_once(char::is_whitespace)?;
        let values = list.trim_end().strip_suffix(')')?.split(',').map(word).collect::<Option<_>>()?;
        let has = match operator {
            "in" => true,
            "notin" => false,
            _ => return None,
        };
        return Some(Requirement { label: label(name)?, values: Some(values), has });
    }
    for (operator, has) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((name, value)) = text.split_once(operator) {
            return Some(Requirement { label: label(name)?, values: Some(vec![word(value)?]), has });
        }
    }
    let (name, has) = text.strip_prefix('!').map_or((text, true), |name| (name, false));
    Some(Requirement { label: label(name)?, values: None, has })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_kubectl_takes_them() {
        let labels: Vec<(Arc<str>, Arc<str>)> = vec![("a".into(), "1".into()), ("k8s.io/b".into(), "".into())];
        for (text, want) in [
            ("a", Some(true)),
            ("!a", Some(false)),
            ("c", Some(false)),
            ("!c", Some(true)),
            ("a=1", Some(true)),
            ("a == 1,k8s.io/b=", Some(true)),
            ("a=2", Some(false)),
            ("a!=2, c != 1", Some(true)),
            ("a in (2, 1),!c", Some(true)),
            ("a notin (2,1)", Some(false)),
            ("c notin (x)", Some(true)),
            ("", None),
            ("a,", None),
            ("a in 1", None),
            ("a of (1)", None),
            ("a in (1", None),
            ("a b", None),
        ] {
            assert_eq!(Selector::parse(text).map(|selector| selector.matches(&labels)), want, "{text:?}");
        }
    }
}
