use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Response, header};

use crate::body::Body;

/// From so many characters on, all warnings of an answer are cut to [`ITEM`], as in Kubernetes.
const TOTAL: usize = 4 << 10;
const ITEM: usize = 256;

/// What an answer warns of, each text once; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    pub(crate) fn add<'a>(&self, texts: impl IntoIterator<Item = &'a String>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            if !told.contains(text) {
                told.push(text.clone());
            }
        }
    }

    /// Writes them as headers, with the code and agent that Kubernetes gives them.
    pub(crate) fn write(&self, response: &mut Response<Body>) {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for text in bounded(&told) {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
    }
}

/// The warnings that fit, cut where they are too many.
fn bounded(told: &[String]) -> Vec<String> {
    let total: usize = told.iter().map(|text| text.chars().count()).sum();
    if total <= TOTAL {
        return told.to_vec();
    }
    let mut written = 0;
    let cut = told.iter().map(|text| text.chars().take(ITEM).collect::<String>());
    cut.take_while(|text| {
        let fits = written < TOTAL;
        written += text.chars().count();
        fits
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let short = vec!["a".repeat(4096)];
        assert_eq!(bounded(&short), short);
        let cut = bounded(&["é".repeat(4096), "b".to_owned()]);
        assert_eq!(cut, ["é".repeat(256), "b".to_owned()]);
        let many: Vec<String> = (0..100).map(|at| format!("{at}{}", "x".repeat(254))).collect();
        assert_eq!(bounded(&many).len(), 17);
    }

    #[test]
    fn each_once_and_quoted() {
        let warnings = Warnings::default();
        warnings.add(&["unknown field \"a\"".to_owned(), "b".to_owned(), "b".to_owned()]);
        let mut response = Response::new(crate::body::full(""));
        warnings.write(&mut response);
        let values: Vec<_> =
            response.headers().get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, [r#"299 - "unknown field \"a\"""#, r#"299 - "b""#]);
    }
}
