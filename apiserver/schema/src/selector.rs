mod field;
mod label;
mod lexer;

pub use field::FieldSelector;
pub use label::{LabelSelector, Operator, Requirement};
