//! Traces of questions, which are not made: a Corefile that asks for them works without.

use crate::chain::Setup;
use crate::corefile::{self, Directive};

/// `trace [TYPE] [ENDPOINT] { … }`.
pub(crate) fn setup(directive: &Directive, _: &mut Setup) -> Result<(), corefile::Error> {
    tracing::warn!("{}", directive.name.error("trace is ignored: no traces are made"));
    Ok(())
}
