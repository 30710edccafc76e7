//! Counts of questions and answers, for Prometheus.

use crate::chain::Setup;
use crate::corefile::{self, Directive};
use crate::pages::Page;

/// `prometheus [ADDRESS] { runtime_metrics }`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    for line in directive.properties() {
        // The runtime that it is about is Go's.
        if line.name.text != "runtime_metrics" {
            return Err(line.unknown());
        }
    }
    let address = directive.line().address(([127, 0, 0, 1], 9153))?;
    setup.beside.pages.push(Page { directive: "prometheus", path: "/metrics", address });
    setup.beside.metered = true;
    Ok(())
}
