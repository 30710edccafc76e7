//! Words → server blocks.

use std::collections::HashMap;
use std::sync::Arc;

use super::source::{DEPTH, SIZE, Source, TOKENS, WORD, ZONES, beside, substitute};
use super::token::{Token, tokens};
use super::{Block, Directive, Error, Key, Word, key};
use crate::chain;

/// CoreDNS's own plugins, to tell those that are not here from what does not exist.
const COREDNS: &str = "root metadata geoip cancel proxyproto quic grpc_server https https3 timeouts multisocket reload \
    nsid bufsize bind debug trace ready health pprof shed prometheus errors log dnstap local dns64 any chaos \
    loadbalance tsig rewrite autopath acl cache header dnssec tls minimal template transfer hosts route53 azure \
    clouddns k8s_external kubernetes file auto secondary etcd loop forward grpc erratic whoami on sign view nomad";

/// Reads a Corefile, named `file`. Every directive is one of [`chain::PLUGINS`].
pub(super) fn parse(file: &str, text: &str, source: &Source) -> Result<Vec<Block>, Error> {
    let last = Word { text: String::new(), file: file.into(), line: 1 };
    let mut parser = Parser {
        source,
        frames: vec![],
        snippets: HashMap::new(),
        size: 0,
        taken: 0,
        last,
        served: HashMap::new(),
        zones: 0,
    };
    let all = parser.lex(file, text)?;
    parser.frames.push(Frame { tokens: all.into(), next: 0, arguments: vec![] });
    parser.blocks()
}

/// Words that are being read: the Corefile's, or in place of an import.
struct Frame {
    tokens: Arc<[Token]>,
    next: usize,
    /// Of the import.
    arguments: Vec<String>,
}

struct Parser<'a> {
    source: &'a Source<'a>,
    /// The innermost import is the last.
    frames: Vec<Frame>,
    snippets: HashMap<String, Arc<[Token]>>,
    /// How many bytes were read.
    size: usize,
    /// How many words were taken.
    taken: usize,
    /// The word that was taken last.
    last: Word,
    /// The keys of all blocks, each with the addresses that it is bound to, or an empty one.
    served: HashMap<Key, Vec<String>>,
    /// How many addresses all of them have.
    zones: usize,
}

impl Parser<'_> {
    fn lex(&mut self, file: &str, text: &str) -> Result<Vec<Token>, Error> {
        self.size += text.len();
        if self.size > SIZE {
            return Err(self.last.error(format!("more than {SIZE} bytes")));
        }
        tokens(&file.into(), text)
    }

    fn peek(&self) -> Option<&Token> {
        self.frames.iter().rev().find_map(|frame| frame.tokens.get(frame.next))
    }

    /// The next word as it was written.
    fn take(&mut self) -> Result<Word, Error> {
        while self.frames.pop_if(|frame| frame.next == frame.tokens.len()).is_some() {}
        let Some(frame) = self.frames.last_mut() else {
            return Err(self.last.error("unexpected end of the file"));
        };
        self.last = frame.tokens[frame.next].word.clone();
        frame.next += 1;
        self.taken += 1;
        if self.taken > TOKENS {
            return Err(self.last.error(format!("more than {TOKENS} words")));
        }
        Ok(self.last.clone())
    }

    /// The next word, with its variables filled in.
    fn next(&mut self) -> Result<Word, Error> {
        let mut word = self.take()?;
        if word.text.contains('{') {
            let arguments = self.frames.last().map_or(&[][..], |frame| &frame.arguments);
            word.text = substitute(&word.text, arguments, self.source.variable);
            if word.text.len() > WORD {
                return Err(self.last.error(format!("a word of more than {WORD} bytes")));
            }
        }
        Ok(word)
    }

    fn unexpected<T>(&mut self) -> Result<T, Error> {
        let word = self.take()?;
        Err(word.error(format!("unexpected '{}'", word.text)))
    }

    fn blocks(&mut self) -> Result<Vec<Block>, Error> {
        let mut blocks = Vec::new();
        while self.peek().is_some() {
            let words = self.keys()?;
            match &words[..] {
                // An import of nothing.
                [] if self.peek().is_none() => {}
                [] => return self.unexpected(),
                [word, ..] if words.len() > ZONES => return Err(word.error(format!("more than {ZONES} zones"))),
                [word] if word.text.starts_with('(') && word.text.ends_with(')') => self.snippet(word)?,
                _ => {
                    let keys = words.iter().map(key::keys).collect::<Result<Vec<_>, _>>()?;
                    let directives = self.directives()?;
                    for (word, keys) in words.iter().zip(&keys) {
                        keys.iter().try_for_each(|key| self.serve(word, key, &directives))?;
                    }
                    blocks.push(Block { keys: keys.concat(), directives });
                }
            }
        }
        match blocks[..] {
            [] => Err(self.last.error("there is no server block")),
            _ => Ok(blocks),
        }
    }

    /// What stands before a block: words up to a brace or to the end of a line. After a comma they
    /// go on in the next line.
    fn keys(&mut self) -> Result<Vec<Word>, Error> {
        let (mut keys, mut comma) = (Vec::new(), false);
        while let Some(token) = self.peek() {
            if token.is("{") || token.is("}") || token.first && !comma && !keys.is_empty() {
                break;
            }
            if token.first && token.is("import") {
                self.import()?;
                continue;
            }
            let mut word = self.next()?;
            comma = word.text.ends_with(',');
            word.text.truncate(word.text.len() - usize::from(comma));
            if !word.text.is_empty() {
                keys.push(word);
            }
        }
        match comma {
            true => Err(self.last.error("expected another address: there is a comma too many")),
            false => Ok(keys),
        }
    }

    /// Notes that a key is served, which no other block may do (corefile(5)).
    fn serve(&mut self, word: &Word, key: &Key, directives: &[Directive]) -> Result<(), Error> {
        let mut addresses = Vec::new();
        for bind in directives.iter().filter(|directive| directive.name.text == "bind") {
            let except = |word: &&Word| !bind.body.iter().flatten().any(|other| other.text == word.text);
            addresses.extend(bind.arguments.iter().filter(except).map(|word| word.text.clone()));
        }
        if addresses.is_empty() {
            addresses.push(String::new());
        }
        let on = |address: &str| if address.is_empty() { String::new() } else { format!(" on {address}") };
        self.zones += addresses.len();
        if self.zones > ZONES {
            return Err(word.error(format!("more than {ZONES} zones on as many addresses")));
        }
        let served = self.served.entry(key.clone()).or_default();
        for address in addresses {
            for other in served.iter() {
                if *other == address {
                    return Err(word.error(format!("cannot serve {key}{}: it is already defined", on(&address))));
                }
                if other.is_empty() || address.is_empty() {
                    let (this, other) = (on(&address), on(other));
                    return Err(word.error(format!("cannot serve {key}{this}: it overlaps with {key}{other}")));
                }
            }
            served.push(address);
        }
        Ok(())
    }

    /// Keeps `(name) { words }` for imports.
    fn snippet(&mut self, name: &Word) -> Result<(), Error> {
        if !self.peek().is_some_and(|token| token.is("{")) {
            return Err(name.error("a snippet has to be in braces"));
        }
        let (mut tokens, mut depth) = (Vec::new(), 0);
        loop {
            let Some(&Token { first, .. }) = self.peek() else {
                return Err(unclosed(name));
            };
            let word = self.take()?;
            match &word.text[..] {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            tokens.push(Token { word, first });
            if depth == 0 {
                break;
            }
        }
        let inner = tokens[1..tokens.len() - 1].into();
        match self.snippets.insert(name.text[1..name.text.len() - 1].to_owned(), inner) {
            Some(_) => Err(name.error(format!("the snippet {} is declared twice", name.text))),
            None => Ok(()),
        }
    }

    /// Puts the words of a snippet or of files in place of `import NAME [ARGUMENTS...]`.
    fn import(&mut self) -> Result<(), Error> {
        let import = self.next()?;
        let mut words = Vec::new();
        while self.peek().is_some_and(|token| !token.first) {
            match self.peek() {
                Some(token) if token.is("{") || token.is("}") => return self.unexpected(),
                _ => words.push(self.next()?),
            }
        }
        let mut words = words.into_iter();
        let Some(target) = words.next().filter(|word| !word.text.is_empty()) else {
            return Err(import.error("import needs the name of a snippet or a file"));
        };
        let tokens = match self.snippets.get(&target.text) {
            Some(tokens) => tokens.clone(),
            None => self.files(&target)?.into(),
        };
        if self.frames.len() > DEPTH {
            return Err(
                target.error(format!("imports are nested more than {DEPTH} deep: {} leads to itself", target.text))
            );
        }
        self.frames.push(Frame { tokens, next: 0, arguments: words.map(|word| word.text).collect() });
        Ok(())
    }

    /// The words of the files that a pattern names.
    fn files(&mut self, pattern: &Word) -> Result<Vec<Token>, Error> {
        let path = beside(&pattern.file, &pattern.text);
        let files = (self.source.files)(&path).map_err(|error| pattern.error(format!("import {path}: {error}")))?;
        let mut all = Vec::new();
        for (name, text) in files {
            all.append(&mut self.lex(&name, &text)?);
        }
        Ok(all)
    }

    /// What follows the keys: directives in braces; the braces of the only or last block may be
    /// left out.
    fn directives(&mut self) -> Result<Vec<Directive>, Error> {
        let open = match self.peek() {
            Some(token) if token.is("{") => Some(self.take()?),
            _ => None,
        };
        let mut directives = Vec::new();
        loop {
            match (self.peek(), &open) {
                (None, None) => return Ok(directives),
                (None, Some(open)) => return Err(unclosed(open)),
                (Some(token), Some(_)) if token.is("}") => return self.take().map(|_| directives),
                (Some(token), None) if token.is("}") => return self.unexpected(),
                (Some(token), _) if token.is("import") => self.import()?,
                _ => directives.push(self.directive()?),
            }
        }
    }

    fn directive(&mut self) -> Result<Directive, Error> {
        let name = self.next()?;
        if !chain::PLUGINS.iter().any(|row| row.name == name.text) {
            let text = &name.text;
            return Err(name.error(match COREDNS.split_whitespace().any(|known| known == text) {
                true => format!("plugin \"{text}\" of CoreDNS is not part of coracle"),
                false => format!("unknown plugin {text:?}"),
            }));
        }
        let (mut arguments, mut body) = (Vec::new(), Vec::new());
        while let Some(token) = self.peek() {
            if token.is("{") {
                body = self.body()?;
                break;
            }
            if token.first {
                break;
            }
            if token.is("}") {
                return self.unexpected();
            }
            arguments.push(self.next()?);
        }
        // The brace that ends a body ends its line too.
        match self.peek() {
            Some(token) if !token.first => self.unexpected(),
            _ => Ok(Directive { name, arguments, body }),
        }
    }

    fn body(&mut self) -> Result<Vec<Vec<Word>>, Error> {
        let open = self.take()?;
        let (mut lines, mut fresh): (Vec<Vec<Word>>, _) = (Vec::new(), true);
        loop {
            match self.peek() {
                None => return Err(unclosed(&open)),
                Some(token) if token.is("}") => return self.take().map(|_| lines),
                Some(token) if token.is("{") => return self.unexpected(),
                Some(token) if token.is("import") && (token.first || fresh) => {
                    self.import()?;
                    fresh = true;
                }
                Some(token) => {
                    let new = std::mem::take(&mut fresh) | token.first;
                    let word = self.next()?;
                    match lines.last_mut().filter(|_| !new) {
                        Some(line) => line.push(word),
                        None => lines.push(vec![word]),
                    }
                }
            }
        }
    }
}

fn unclosed(open: &Word) -> Error {
    open.error("unexpected end of the file: the '{' of this line is not closed")
}
