//! What a server block answers without its chain.

use std::sync::Arc;

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinDecodable;

use crate::fast;
use crate::plugin::kubernetes::Zones;
use crate::question::Question;

/// Picks the names, in lower case, that a plugin ahead of the ready answers has to see.
pub(crate) type Slow = Box<dyn Fn(&Name) -> bool + Send + Sync>;

/// The sources of ready answers, in the order in which they are tried.
#[derive(Default)]
pub(crate) struct Quick {
    pub(crate) kubernetes: Option<Arc<Zones>>,
    /// Whether names that do not exist are left to the chain, which tries others in their place.
    pub(crate) searches: bool,
    /// What is not answered here.
    pub(crate) slow: Vec<Slow>,
}

impl Quick {
    /// Writes the answer to `packet` into `out` and returns its length, if there is a ready one;
    /// see [`fast::reply`].
    pub(crate) fn reply(&self, packet: &[u8], out: &mut [u8], turn: usize) -> Option<usize> {
        let question = Question::parse(packet)?;
        if self.slow(&question) {
            return None;
        }
        let zones = self.kubernetes.as_ref()?;
        let length = fast::reply(&zones.zone(), &question, out, turn)?;
        (!self.searches || !fast::absent(out)).then_some(length)
    }

    /// True when a plugin has to see the question.
    fn slow(&self, question: &Question) -> bool {
        !self.slow.is_empty()
            && Name::from_bytes(question.name()).map_or(true, |name| self.slow.iter().any(|slow| slow(&name)))
    }
}
