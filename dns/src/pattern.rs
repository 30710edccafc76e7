//! Regular expressions from a Corefile.

use regex::{Regex, RegexBuilder};

use crate::corefile::{Error, Word};

/// The longest expression, as in CoreDNS.
const LONGEST: usize = 10_000;

/// The most memory that one takes, in bytes.
const SIZE: usize = 1 << 20;

/// Compiles an expression.
pub(crate) fn pattern(word: &Word) -> Result<Regex, Error> {
    if word.text.len() > LONGEST {
        return Err(word.error(format!("regex pattern too long: {} > {LONGEST}", word.text.len())));
    }
    let regex = RegexBuilder::new(&word.text).size_limit(SIZE).dfa_size_limit(SIZE).build();
    regex.map_err(|error| word.error(format!("could not parse regex: {error}")))
}
