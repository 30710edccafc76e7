//! Whether questions can be answered.

use crate::chain::Setup;
use crate::corefile::{self, Directive};
use crate::pages::Page;

/// `ready [ADDRESS] { monitor until-ready|continuously }`. What has become ready here stays so:
/// both ways to watch come to the same.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    for line in directive.properties() {
        match (&*line.name.text, line.arguments) {
            ("monitor", [how]) if ["until-ready", "continuously"].contains(&&*how.text) => {}
            ("monitor", _) => return Err(line.name.error("monitor is until-ready or continuously")),
            _ => return Err(line.unknown()),
        }
    }
    let address = directive.line().address(([0; 4], 8181))?;
    setup.beside.pages.push(Page { directive: "ready", path: "/ready", address });
    Ok(())
}
