//! Whether the process is alive.

use crate::chain::Setup;
use crate::corefile::{self, Directive};
use crate::pages::Page;

/// `health [ADDRESS] { lameduck DURATION }`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    for line in directive.properties() {
        match &*line.name.text {
            "lameduck" => setup.beside.lameduck = line.one()?.duration()?,
            _ => return Err(line.unknown()),
        }
    }
    let address = directive.line().address(([0; 4], 8080))?;
    setup.beside.pages.push(Page { directive: "health", path: "/health", address });
    Ok(())
}
