//! The Corefile: text → server blocks of directives.
//!
//! The language is the Caddyfile's as CoreDNS takes it: corefile(5) and coredns-import(7).

mod key;
mod parser;
mod source;
mod token;
mod value;

use std::fmt;
use std::sync::Arc;

use hickory_proto::rr::Name;

use crate::chain;
use crate::server::Environment;

pub(crate) use key::zones;
use source::Source;
pub(crate) use value::Line;

/// The Corefile that a cluster has when nobody wrote another: kubeadm's, but for the TTL, and for `health` and `ready`,
/// whose ports other programs of the machine may want.
pub fn standard(cluster_domain: &str) -> String {
    format!(
        "\
.:53 {{
    errors
    kubernetes {cluster_domain} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }}
    prometheus :9153
    forward . /etc/resolv.conf {{
        max_concurrent 1000
    }}
    cache 30 {{
        disable success {cluster_domain}
        disable denial {cluster_domain}
    }}
    loop
    reload
    loadbalance
}}
"
    )
}

/// What is wrong with a Corefile, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct Error {
    /// The Corefile, or one that it imports.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl Error {
    fn new(file: &str, line: usize, message: impl fmt::Display) -> Self {
        Error { file: file.into(), line, message: message.to_string() }
    }
}

/// A word, without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    file: Arc<str>,
    /// From 1.
    pub(crate) line: usize,
}

impl Word {
    /// An error about this word.
    pub(crate) fn error(&self, message: impl fmt::Display) -> Error {
        Error::new(&self.file, self.line, message)
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

/// How questions come to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Transport {
    /// UDP and TCP.
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484).
    Https,
}

/// What a block answers for: `transport://zone:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) transport: Transport,
    /// In lower case.
    pub(crate) zone: Name,
    pub(crate) port: u16,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}://{}:{}", self.transport.name(), self.zone, self.port)
    }
}

/// A server block: `keys… { directives }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Never empty.
    pub(crate) keys: Vec<Key>,
    pub(crate) directives: Vec<Directive>,
}

/// Reads a Corefile. Variables are the process's; imported files are relative to its directory.
/// Every directive is one of [`chain::PLUGINS`].
pub(crate) fn parse(text: &str) -> Result<Vec<Block>, Error> {
    let source = Source { variable: &|name| std::env::var(name).ok(), files: &source::files };
    parser::parse("Corefile", text, &source)
}

/// Tries any text, for the sake of finding one that breaks something: no variable is set for it, no
/// file is there to import, and it is made into chains when it can't lead to other files either.
#[doc(hidden)]
pub fn try_corefile(text: &str) -> Result<(), Error> {
    let files = |_: &str| Err(std::io::ErrorKind::NotFound.into());
    let blocks = parser::parse("Corefile", text, &Source { variable: &|_| None, files: &files })?;
    let (_, snapshots) = tokio::sync::watch::channel(Arc::default());
    let snapshots: crate::Snapshots = Arc::new(move |_| snapshots.clone());
    let environment = Environment { snapshots, address: None, addresses: Vec::new(), metrics: Arc::default() };
    for block in blocks.iter().filter(|_| !text.contains('/')) {
        chain::build(block, &environment)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
