use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::lexer::{Token, tokens};
use crate::error::Error;
use crate::names;

/// Which objects are meant, by their labels: all requirements have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// None of them selects everything.
    pub requirements: Vec<Requirement>,
    nothing: bool,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The condition.
    pub operator: Operator,
    /// What its value is compared with.
    pub values: BTreeSet<String>,
}

/// How a label's value is compared; `=` and `!=` are [`Operator::In`] and [`Operator::NotIn`]
/// with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there and has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is a whole number above the value.
    Gt,
    /// The label is a whole number below the value.
    Lt,
}

impl LabelSelector {
    /// Reads the `labelSelector` of a query: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let requirements = Parser { tokens: tokens(text), at: 0 }.parse();
        let requirements = requirements.map_err(Error::Selector)?;
        Ok(Self { requirements, nothing: false })
    }

    /// Reads a `metav1.LabelSelector`; absent selects nothing, empty everything.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, Error> {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else {
            return Ok(Self { requirements: Vec::new(), nothing: true });
        };
        let mut requirements = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
            requirements.extend(labels.iter().map(|(key, value)| equals(key, value)));
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            requirements.push(self::expression(expression)?);
        }
        Ok(Self { requirements, nothing: false })
    }

    /// Reads a plain map of labels, as Services and ReplicationControllers select with.
    pub fn from_map(labels: &Map<String, Value>) -> Self {
        let requirements = labels.iter().map(|(key, value)| equals(key, value)).collect();
        Self { requirements, nothing: false }
    }

    /// Whether an object with these labels is meant; `label` looks one up.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Whether an object with these `metadata.labels` is meant.
    pub fn matches_labels(&self, labels: Option<&Value>) -> bool {
        self.matches(|key| labels?.get(key)?.as_str())
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let limit = || self.values.first().and_then(|value| number(value));
        match (self.operator, value) {
            (Operator::In, Some(value)) => self.values.contains(value),
            (Operator::NotIn, Some(value)) => !self.values.contains(value),
            (Operator::Exists, Some(_)) | (Operator::NotIn | Operator::DoesNotExist, None) => true,
            (Operator::Gt, Some(value)) => number(value).zip(limit()).is_some_and(|(a, b)| a > b),
            (Operator::Lt, Some(value)) => number(value).zip(limit()).is_some_and(|(a, b)| a < b),
            _ => false,
        }
    }
}

fn equals(key: &str, value: &Value) -> Requirement {
    let value = value.as_str().unwrap_or_default().to_owned();
    Requirement { key: key.to_owned(), operator: Operator::In, values: BTreeSet::from([value]) }
}

fn expression(expression: &Value) -> Result<Requirement, Error> {
    let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
    let values = expression.get("values").and_then(Value::as_array);
    let values: BTreeSet<String> =
        values.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect();
    let operator = match text("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            let message = format!("{other:?} is not a valid label selector operator");
            return Err(Error::Selector(message));
        }
    };
    Requirement { key: text("key").to_owned(), operator, values }.checked().map_err(Error::Selector)
}

impl Requirement {
    fn checked(self) -> Result<Self, String> {
        let number = self.values.iter().all(|value| value.parse::<i64>().is_ok());
        match self.operator {
            Operator::In | Operator::NotIn if self.values.is_empty() => {
                Err("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".to_owned())
            }
            Operator::Exists | Operator::DoesNotExist if !self.values.is_empty() => {
                Err("values: Invalid value: values set must be empty for exists and does not exist".to_owned())
            }
            Operator::Gt | Operator::Lt if !number => {
                let value = self.values.first().map_or("", String::as_str);
                Err(format!(
                    "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                ))
            }
            _ => match self.values.iter().find_map(|value| invalid(value, names::label_value)) {
                Some(wrong) => Err(format!("values[0][{}]: {wrong}", self.key)),
                None => Ok(self),
            },
        }
    }
}

fn invalid(text: &str, rule: fn(&str) -> Vec<String>) -> Option<String> {
    let wrong = rule(text);
    (!wrong.is_empty()).then(|| format!("Invalid value: {text:?}: {}", wrong.join("; ")))
}

struct Parser<'a> {
    tokens: Vec<(Token, &'a str)>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> (Token, &'a str) {
        self.tokens.get(self.at).copied().unwrap_or((Token::End, ""))
    }

    /// Where values are read, `in` and `notin` are words like others.
    fn peek_value(&self) -> (Token, &'a str) {
        match self.peek() {
            (Token::In | Token::NotIn, text) => (Token::Word, text),
            other => other,
        }
    }

    fn take(&mut self) -> (Token, &'a str) {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn take_value(&mut self) -> (Token, &'a str) {
        let token = self.peek_value();
        self.at += 1;
        token
    }

    fn parse(mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek_value() {
                (Token::Word | Token::Not, _) => {
                    let requirement = self.requirement();
                    requirements.push(requirement.map_err(|wrong| format!("unable to parse requirement: {wrong}"))?);
                }
                (Token::End, _) => return Ok(requirements),
                (_, found) => {
                    return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
                }
            }
            match self.take_value() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.peek_value() {
                    (Token::Word | Token::Not, _) => {}
                    (_, found) => {
                        return Err(format!("found '{found}', expected: identifier after ','"));
                    }
                },
                (_, found) => {
                    return Err(format!("found '{found}', expected: ',' or 'end of string'"));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (token, mut text) = self.take_value();
        let absent = token == Token::Not;
        let token = if absent { self.take_value() } else { (token, text) };
        text = token.1;
        if token.0 != Token::Word {
            return Err(format!("found '{text}', expected: identifier"));
        }
        if let Some(wrong) = invalid(text, names::qualified_name) {
            return Err(format!("<nil>: {wrong}"));
        }
        let ends = matches!(self.peek_value().0, Token::End | Token::Comma);
        let (operator, values) = match (ends, absent) {
            (_, true) => (Operator::DoesNotExist, BTreeSet::new()),
            (true, false) => (Operator::Exists, BTreeSet::new()),
            (false, false) => self.comparison()?,
        };
        Requirement { key: text.to_owned(), operator, values }.checked()
    }

    fn comparison(&mut self) -> Result<(Operator, BTreeSet<String>), String> {
        let (operator, many) = match self.take() {
            (Token::In, _) => (Operator::In, true),
            (Token::NotIn, _) => (Operator::NotIn, true),
            (Token::Equals | Token::DoubleEquals, _) => (Operator::In, false),
            (Token::NotEquals, _) => (Operator::NotIn, false),
            (Token::Greater, _) => (Operator::Gt, false),
            (Token::Less, _) => (Operator::Lt, false),
            (_, found) => {
                return Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt"));
            }
        };
        Ok((operator, if many { self.values()? } else { self.value()? }))
    }

    fn value(&mut self) -> Result<BTreeSet<String>, String> {
        if matches!(self.peek_value().0, Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.take_value() {
            (Token::Word, text) => Ok(BTreeSet::from([text.to_owned()])),
            (_, found) => Err(format!("found '{found}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let (open, found) = self.take_value();
        if open != Token::Open {
            return Err(format!("found '{found}' expected: '('"));
        }
        let mut values = BTreeSet::new();
        if self.peek_value().0 == Token::Close {
            self.at += 1;
            return Ok(values);
        }
        loop {
            match self.take_value() {
                (Token::Word, text) => {
                    values.insert(text.to_owned());
                    match self.take_value() {
                        (Token::Comma, _) if self.peek_value().0 != Token::Close => {}
                        (Token::Comma, _) => drop(values.insert(String::new())),
                        (Token::Close, _) => return Ok(values),
                        (_, found) => return Err(format!("found '{found}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => drop(values.insert(String::new())),
                (Token::Close, _) => return Ok(values),
                (_, found) => {
                    return Err(format!("found '{found}', expected: ',', ')' or identifier"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
