mod field;
mod label;
mod lexer;
mod scan;

pub use field::FieldSelector;
pub use label::{LabelSelector, Operator, Requirement};
