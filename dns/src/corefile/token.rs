//! Text → words.

use std::sync::Arc;

use super::{Error, Word};

/// A word, and whether it is the first of its line.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) word: Word,
    pub(super) first: bool,
}

impl Token {
    pub(super) fn is(&self, text: &str) -> bool {
        self.word.text == text
    }
}

/// Words are apart by white space. One that begins with a double quote goes to the next quote,
/// over lines; there `\"` is a quote, and nothing else is escaped. What follows a `#` outside of
/// quotes is a comment.
pub(super) fn tokens(file: &Arc<str>, text: &str) -> Result<Vec<Token>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut tokens, mut line, mut first) = (Vec::new(), 1, true);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let mut word = Word { text: String::new(), file: file.clone(), line };
        match character {
            '\n' => (line, first) = (line + 1, true),
            _ if character.is_whitespace() => {}
            '#' => while characters.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                loop {
                    match characters.next().ok_or_else(|| word.error("a quote that is not closed"))? {
                        '"' => break,
                        '\\' if characters.next_if_eq(&'"').is_some() => word.text.push('"'),
                        // A backslash that another one precedes escapes nothing.
                        '\\' if characters.next_if_eq(&'\\').is_some() => word.text.push_str(r"\\"),
                        other => word.text.push(other),
                    }
                }
                line += word.text.matches('\n').count();
                tokens.push(Token { word, first: std::mem::take(&mut first) });
            }
            _ => {
                word.text.push(character);
                while let Some(next) = characters.next_if(|c| !c.is_whitespace() && *c != '#') {
                    word.text.push(next);
                }
                tokens.push(Token { word, first: std::mem::take(&mut first) });
            }
        }
    }
    Ok(tokens)
}
