//! What a server block answers without its chain.

use std::sync::Arc;

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinDecodable;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::fast;
use crate::plugin::cache;
use crate::plugin::kubernetes::{self, Zones};
use crate::plugin::ratelimit::Limit;
use crate::question::Question;

/// Picks the names, in lower case, that a plugin ahead of the ready answers has to see.
pub(crate) type Slow = Box<dyn Fn(&Name) -> bool + Send + Sync>;

/// The sources of ready answers, in the order in which they are tried: the cluster's names first,
/// so that nothing older is kept in their place.
#[derive(Default)]
pub(crate) struct Quick {
    pub(crate) kubernetes: Option<Arc<Zones>>,
    /// Whether names that do not exist are left to the chain, which tries others in their place.
    pub(crate) searches: bool,
    /// With how many of the `slow` are ahead of it.
    pub(crate) cache: Option<(Arc<Cache>, usize)>,
    /// What a client may ask by UDP.
    pub(crate) limit: Option<Arc<Limit>>,
    /// What is not answered here.
    pub(crate) slow: Vec<Slow>,
}

impl Quick {
    /// Writes the answer to a question into `out`, if there is a ready one, and returns its length
    /// and the name of the plugin; see [`fast::reply`] and [`Cache::reply`].
    pub(crate) fn reply(&self, question: &Question, out: &mut [u8], turn: usize) -> Option<(usize, &'static str)> {
        // Clients ask for A and AAAA in pairs: with plain turns each would always get the same one
        // of two. Multiples of this number, which is 2³² divided by the golden ratio, are spread.
        let turn = (turn as u32).wrapping_mul(0x9e37_79b9) as usize >> 8;
        let slow = self.slow(question);
        if slow.is_none()
            && let Some(zones) = &self.kubernetes
            && let Some(length) = zones.read(|zone| fast::reply(zone, question, out, turn))
        {
            return (!self.searches || !fast::absent(out)).then_some((length, kubernetes::NAME));
        }
        let (cache, ahead) = self.cache.as_ref()?;
        if slow.is_some_and(|first| first < *ahead) {
            return None;
        }
        Some((cache.reply(question, out, turn, Instant::now())?, cache::NAME))
    }

    /// The first of the plugins that have to see the question.
    fn slow(&self, question: &Question) -> Option<usize> {
        if self.slow.is_empty() {
            return None;
        }
        Name::from_bytes(question.name()).map_or(Some(0), |name| self.slow.iter().position(|slow| slow(&name)))
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;

    use crate::fixture;
    use crate::question::UDP_SIZE;

    #[tokio::test]
    async fn what_plugins_ahead_do_not_touch() {
        let (cluster, kept) = ("web.default.svc.cluster.local.", "a.example.");
        let base = "kubernetes cluster.local\n cache\n hosts {\n 192.0.2.1 a.example\n fallthrough\n}";
        // (more directives, whether both are answered here)
        let table = [
            ("", [true, true]),
            ("loadbalance", [true, true]),
            ("errors", [true, true]),
            ("log", [false, false]),
            ("log example", [true, false]),
            ("acl cluster.local {\n block net 192.0.2.0/24\n}", [false, true]),
            // Behind the cache, so that what it keeps is right, and ahead of the cluster.
            ("header {\n response set ra\n}", [false, true]),
        ];
        for (more, expected) in table {
            let directives = format!("{base}\n{more}");
            let servers = std::sync::Arc::new(fixture::servers(&directives, fixture::cluster().snapshot()));
            let quick = |name: &str| {
                let packet = fixture::request(name, RecordType::A, &servers).question().to_vec().unwrap();
                servers.quick(&packet, &mut [0; UDP_SIZE], 0).is_some()
            };
            assert!(!quick(kept), "{more}: it is not known yet");
            fixture::message(kept, RecordType::A, &servers).await;
            fixture::message(cluster, RecordType::A, &servers).await;
            assert_eq!([cluster, kept].map(quick), expected, "{more}");
        }
    }
}
