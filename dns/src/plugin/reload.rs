//! How often the Corefile is looked at for a change.

use std::time::Duration;

use crate::chain::Setup;
use crate::corefile::{self, Block, Directive};

/// How often the file of these blocks is to be looked at, when one of them says so.
pub(crate) fn every(blocks: &[Block]) -> Option<Duration> {
    let mut directives = blocks.iter().flat_map(|block| &block.directives);
    interval(directives.find(|directive| directive.name.text == "reload")?).ok()
}

/// `reload [INTERVAL] [JITTER]`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    interval(directive).map(drop)
}

/// The interval. The jitter keeps servers with the same file apart, of which there is one here: it is only checked.
fn interval(directive: &Directive) -> Result<Duration, corefile::Error> {
    directive.bodiless()?;
    let words = directive.line().between(0, 2)?;
    let time =
        |index: usize, default| words.get(index).map_or(Ok(Duration::from_secs(default)), |word| word.duration());
    let (interval, jitter) = (time(0, 30)?, time(1, 15)?);
    if interval < Duration::from_secs(2) {
        return Err(directive.name.error("the interval of reload is 2s or more"));
    }
    if !jitter.is_zero() && jitter < Duration::from_secs(1) {
        return Err(directive.name.error("the jitter of reload is 0 or 1s or more"));
    }
    Ok(interval)
}
