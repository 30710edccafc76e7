//! Answers in another order each time.

mod weights;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use ipnet::IpNet;
use tower::ServiceExt;

use crate::chain::{Next, Plugin, Setup};
use crate::corefile::{self, Directive, Word};
use crate::file::File;
use crate::plugin::kubernetes;
use crate::request::{Body, Failure, Reply, Request};

use weights::Weights;

/// The odd number next to 2⁶⁴ divided by the golden ratio: its multiples are spread evenly.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Numbers that look random, from a counter (splitmix64). Plain turns would not do: clients ask for
/// A and AAAA in pairs, so that each type would always get the same turn of two.
struct Random(u64);

impl Random {
    fn of(turn: u64) -> Self {
        Random(turn.wrapping_mul(STEP))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// Every order is as likely as any other.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for first in 0..items.len() {
            let other = first + self.below(items.len() - first);
            items.swap(first, other);
        }
    }
}

struct Loadbalance {
    prefer: Vec<IpNet>,
    /// Every order is as likely as any other when there are none.
    weights: Option<Arc<RwLock<Weights>>>,
    turn: AtomicU64,
}

/// `loadbalance [round_robin | weighted WEIGHTFILE] { reload DURATION; prefer CIDR... }`: A, AAAA and
/// MX records come in another order each time, aliases before addresses, and addresses in the
/// preferred networks before others. With `weighted` only the first address changes, as the
/// file, looked at for changes every 30 s, has it.
pub(crate) fn setup(directive: &Directive, setup: &mut Setup) -> Result<(), corefile::Error> {
    directive.once(setup.block)?;
    let file = match &directive.arguments[..] {
        [] => None,
        [policy] if policy.text == "round_robin" => None,
        [policy, file] if policy.text == "weighted" => Some(file),
        [policy, ..] => return Err(policy.error(format!("unknown policy, or wrong arguments of it: {}", policy.text))),
    };
    let (mut prefer, mut reload) = (Vec::new(), Duration::from_secs(30));
    for line in directive.properties() {
        match line.name.text.as_str() {
            "reload" if file.is_some() => reload = line.one()?.duration()?,
            "prefer" => {
                let net =
                    |word: &Word| word.text.parse().map_err(|_| word.error(format!("invalid CIDR {:?}", word.text)));
                prefer.extend(line.arguments.iter().map(net).collect::<Result<Vec<IpNet>, _>>()?);
            }
            _ => return Err(line.unknown()),
        }
    }
    if !prefer.is_empty() {
        setup.slow(|_| true);
    }
    let weights = file.map(|file| weighted(file, reload, setup)).transpose()?;
    setup.push(Loadbalance { prefer, weights, turn: AtomicU64::new(0) });
    Ok(())
}

/// The weights of a file, kept as it has them.
fn weighted(word: &Word, reload: Duration, setup: &mut Setup) -> Result<Arc<RwLock<Weights>>, corefile::Error> {
    let mut file = File::new(&word.text);
    let text = file.changed();
    if text.is_none() {
        tracing::warn!("plugin/loadbalance: {} can't be read", word.text);
    }
    let first = Weights::parse(&text.map(|(text, _)| text).unwrap_or_default()).map_err(|error| word.error(error))?;
    let weights = Arc::new(RwLock::new(first));
    let (seen, kept) = (weights.clone(), weights.clone());
    setup.slow(move |name| seen.read().unwrap_or_else(PoisonError::into_inner).knows(name));
    if !reload.is_zero() {
        setup.background.push(Box::pin(async move {
            loop {
                tokio::time::sleep(reload).await;
                match file.changed().map(|(text, _)| Weights::parse(&text)) {
                    Some(Ok(new)) => *kept.write().unwrap_or_else(PoisonError::into_inner) = new,
                    Some(Err(error)) => tracing::error!("plugin/loadbalance: {error}"),
                    None => {}
                }
            }
        }));
    }
    Ok(weights)
}

impl Plugin for Loadbalance {
    async fn handle(self: Arc<Self>, request: Request, next: Next) -> Result<Reply, Failure> {
        let transfer = matches!(request.kind(), RecordType::AXFR | RecordType::IXFR);
        let mut reply = next.oneshot(request).await?;
        // The cluster's answers take turns already.
        let turned = reply.plugin == kubernetes::NAME && self.prefer.is_empty() && self.weights.is_none();
        if let Body::Message(message) = &mut reply.body
            && message.metadata.response_code == ResponseCode::NoError
            && !transfer
            && !turned
        {
            let random = Random::of(self.turn.fetch_add(1, Ordering::Relaxed));
            match &self.weights {
                None => arrange(message, &self.prefer, None, random),
                Some(weights) => {
                    let weights = weights.read().unwrap_or_else(PoisonError::into_inner);
                    arrange(message, &self.prefer, Some(&weights), random);
                }
            }
        }
        Ok(reply)
    }
}

fn arrange(message: &mut Message, prefer: &[IpNet], weights: Option<&Weights>, mut random: Random) {
    for records in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        let place = |record: &Record| match record.record_type() {
            RecordType::CNAME => 0,
            RecordType::A | RecordType::AAAA => 2,
            RecordType::MX => 3,
            _ => 1,
        };
        records.sort_by_key(place);
        for run in records.chunk_by_mut(|a, b| place(a) == place(b)) {
            match (place(&run[0]), weights) {
                (2 | 3, None) => random.shuffle(run),
                (2, Some(weights)) => weights.lead(run, &mut random),
                _ => {}
            }
        }
        if !prefer.is_empty() {
            let rank = |address: IpAddr| prefer.iter().position(|net| net.contains(&address)).unwrap_or(prefer.len());
            records.sort_by_key(|record| (place(record), record.data.ip_addr().map(rank)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;

    use hickory_proto::op::Query;
    use hickory_proto::rr::rdata::{CNAME, MX, TXT};
    use hickory_proto::rr::{Name, RData};

    use super::*;
    use crate::fixture;

    /// A message whose answers are these: addresses, `cname`, `mx N` or text.
    fn message(answers: &str) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::root(), RecordType::A));
        message.answers = answers.split(' ').map(|text| Record::from_rdata(Name::root(), 0, data(text))).collect();
        message
    }

    fn data(text: &str) -> RData {
        match (text.parse(), text.strip_prefix("mx")) {
            (Ok(IpAddr::V4(address)), _) => RData::A(address.into()),
            (Ok(IpAddr::V6(address)), _) => RData::AAAA(address.into()),
            (_, Some(preference)) => RData::MX(MX::new(preference.parse().unwrap(), Name::root())),
            _ if text == "cname" => RData::CNAME(CNAME(Name::root())),
            _ => RData::TXT(TXT::new(vec![text.into()])),
        }
    }

    fn orders(answers: &str, prefer: &[&str]) -> BTreeSet<Vec<String>> {
        let prefer: Vec<IpNet> = prefer.iter().map(|net| net.parse().unwrap()).collect();
        let order = |turn: u64| {
            let mut message = message(answers);
            arrange(&mut message, &prefer, None, Random::of(turn));
            message.answers.iter().map(|record| record.data.to_string()).collect()
        };
        (0..200).map(order).collect()
    }

    #[test]
    fn all_orders_come_and_kinds_stay_together() {
        let table = [
            ("10.0.0.1", 1),
            ("10.0.0.1 10.0.0.2", 2),
            ("10.0.0.1 10.0.0.2 10.0.0.3", 6),
            ("10.0.0.1 ::1 cname", 2),
            ("10.0.0.1 ::1 mx1 mx2 x y cname", 4),
            ("x y z", 1),
        ];
        for (answers, count) in table {
            assert_eq!(orders(answers, &[]).len(), count, "{answers}");
        }
        for order in orders("mx1 10.0.0.1 x ::1 cname y", &[]) {
            assert_eq!(
                (order[0].as_str(), &order[1..3], order[5].as_str()),
                (".", &["x".into(), "y".into()][..], "1 .")
            );
        }
    }

    #[test]
    fn preferred_networks_are_first() {
        for order in orders("10.0.0.1 192.0.2.1 10.1.0.1 192.0.2.2 cname", &["10.1.0.0/16", "10.0.0.0/8"]) {
            assert_eq!(order[..3], [".", "10.1.0.1", "10.0.0.1"]);
        }
        assert_eq!(orders("10.0.0.1 192.0.2.1 10.1.0.1 192.0.2.2", &["10.0.0.0/8"]).len(), 4);
    }

    #[tokio::test]
    async fn what_the_corefile_says() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "web.default.svc.cluster.local\n10.96.0.20 2").unwrap();
        let weighted = format!("loadbalance weighted {} {{\nreload 1s\n}}", file.path().display());
        let wrong = concat!("loadbalance weighted ", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let table = [
            (weighted.as_str(), Ok(false)),
            ("loadbalance weighted /nowhere", Ok(true)),
            (wrong, Err("Corefile:2: wrong domain name in line 1")),
            ("loadbalance {\nreload 1s\n}", Err("Corefile:3: unknown property 'reload'")),
            ("loadbalance", Ok(true)),
            ("loadbalance round_robin", Ok(true)),
            ("loadbalance round_robin {\nprefer 10.0.0.0/8\n}", Ok(false)),
            ("loadbalance best", Err("Corefile:2: unknown policy, or wrong arguments of it: best")),
            ("loadbalance {\nprefer 10.0.0.0\n}", Err("Corefile:3: invalid CIDR \"10.0.0.0\"")),
            ("loadbalance {\nlike 10.0.0.0/8\n}", Err("Corefile:3: unknown property 'like'")),
        ];
        for (text, want) in table {
            let text = format!("{text}\nkubernetes cluster.local");
            let quick = fixture::try_servers(&text, fixture::cluster().snapshot()).map(|servers| {
                let servers = Arc::new(servers);
                let request = fixture::request("web.default.svc.cluster.local.", RecordType::A, &servers);
                servers.quick(&request.question().to_vec().unwrap(), &mut [0; 512], 0).is_some()
            });
            assert_eq!(quick.map_err(|error| error.to_string()), want.map_err(str::to_owned), "{text}");
        }
    }
}
