/// A piece of a label selector, with the text it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    End,
    Comma,
    Open,
    Close,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Word,
    Unknown,
}

/// Symbols, the longest first.
const SYMBOLS: [(&str, Token); 9] = [
    ("==", Token::DoubleEquals),
    ("!=", Token::NotEquals),
    ("=", Token::Equals),
    ("!", Token::Not),
    ("(", Token::Open),
    (")", Token::Close),
    (",", Token::Comma),
    (">", Token::Greater),
    ("<", Token::Less),
];

/// Cuts a selector into tokens; the last one is always [`Token::End`].
pub(super) fn tokens(text: &str) -> Vec<(Token, &str)> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (token, length) = next(rest);
        tokens.push((token, &rest[..length]));
        rest = rest[length..].trim_start();
    }
    tokens.push((Token::End, ""));
    tokens
}

fn next(rest: &str) -> (Token, usize) {
    let is_symbol = |c: char| "=!(),><".contains(c);
    let run = rest.find(|c: char| !is_symbol(c)).unwrap_or(rest.len());
    if run > 0 {
        let found = SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol));
        return found.map_or((Token::Unknown, run), |(symbol, token)| (*token, symbol.len()));
    }
    let end = rest.find(|c: char| is_symbol(c) || c.is_whitespace()).unwrap_or(rest.len());
    let token = match &rest[..end] {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Word,
    };
    (token, end)
}
