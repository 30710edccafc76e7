//! How often the Corefile is looked at for a change.

use std::time::Duration;

use crate::chain::Setup;
use crate::corefile::{self, Block, Directive};

/// The time between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reload {
    pub(crate) interval: Duration,
    /// The interval is longer or shorter by up to a half of that.
    pub(crate) jitter: Duration,
}

/// `reload [INTERVAL] [JITTER]`.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    Reload::of(directive).map(drop)
}

impl Reload {
    fn of(directive: &Directive) -> Result<Self, corefile::Error> {
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
        Ok(Reload { interval, jitter: jitter.min(interval / 2) })
    }

    /// What the first directive of the blocks says, if there is one.
    pub(crate) fn first(blocks: &[Block]) -> Option<Self> {
        let mut directives = blocks.iter().flat_map(|block| &block.directives);
        Reload::of(directives.find(|directive| directive.name.text == "reload")?).ok()
    }
}
