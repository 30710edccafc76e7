//! The Corefile: text → server blocks of directives.

use std::fmt;

use hickory_proto::rr::Name;

use crate::chain;

/// The Corefile that a cluster has when nobody wrote another.
pub fn standard(cluster_domain: &str) -> String {
    format!(
        ".:53 {{\n    kubernetes {cluster_domain} in-addr.arpa ip6.arpa {{\n        pods insecure\n        \
         fallthrough in-addr.arpa ip6.arpa\n    }}\n    forward . /etc/resolv.conf\n}}\n"
    )
}

/// What is wrong with a Corefile, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Corefile:{line}: {message}")]
pub struct Error {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// A word, without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: usize,
}

impl Word {
    /// An error about this word.
    pub(crate) fn error(&self, message: impl fmt::Display) -> Error {
        Error { line: self.line, message: message.to_string() }
    }
}

/// A plugin's directive: `name arguments… { body }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) name: Word,
    pub(crate) arguments: Vec<Word>,
    /// The lines in braces; none of them is empty.
    pub(crate) body: Vec<Vec<Word>>,
}

/// What a block answers for: `zone:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) zone: Name,
    pub(crate) port: u16,
}

/// A server block: `keys… { directives }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) keys: Vec<Key>,
    pub(crate) directives: Vec<Directive>,
}

/// Reads a Corefile. Every directive is one of [`chain::PLUGINS`].
pub(crate) fn parse(text: &str) -> Result<Vec<Block>, Error> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut depth = 0;
    for (index, line) in text.lines().enumerate() {
        let line_of = |text: &str| Word { text: text.into(), line: index + 1 };
        let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        let mut words: Vec<Word> = words.map(line_of).collect();
        let opens = words.pop_if(|word| word.text == "{").is_some();
        match (depth, &words[..]) {
            (_, []) => {}
            (1.., [Word { text, .. }]) if text == "}" => depth -= 1,
            (0, _) => blocks.push(Block { keys: keys(&words)?, directives: Vec::new() }),
            (1, [name, arguments @ ..]) => {
                if !chain::PLUGINS.iter().any(|row| row.name == name.text) {
                    return Err(name.error(format!("unknown plugin {:?}", name.text)));
                }
                let directive = Directive { name: name.clone(), arguments: arguments.into(), body: Vec::new() };
                blocks.last_mut().into_iter().for_each(|block| block.directives.push(directive.clone()));
            }
            _ => {
                let last = blocks.last_mut().and_then(|block| block.directives.last_mut());
                last.into_iter().for_each(|directive| directive.body.push(words.clone()));
            }
        }
        depth += usize::from(opens);
    }
    Ok(blocks)
}

fn keys(words: &[Word]) -> Result<Vec<Key>, Error> {
    let key = |word: &Word| {
        let (zone, port) = word.text.rsplit_once(':').unwrap_or((&word.text, "53"));
        let port = port.parse().map_err(|_| word.error(format!("{port:?} is not a port")))?;
        let mut zone = Name::from_ascii(zone).map_err(|error| word.error(error))?.to_lowercase();
        zone.set_fqdn(true);
        Ok(Key { zone, port })
    };
    words.iter().map(key).collect()
}
