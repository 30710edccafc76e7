//! Which addresses of a name come first, and how often.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::rr::{Name, Record};

use super::Random;

/// Weights of addresses, from 1 to 255, by the name that has them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Weights {
    names: HashMap<Name, HashMap<IpAddr, u8>>,
}

impl Weights {
    /// Reads a weight file: lines with a name, each followed by lines with an address and its
    /// weight. What is wrong is said with the number of its line, and without its words: who writes
    /// the Corefile may not be who can read the file.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut weights = Weights::default();
        let mut last: Option<Name> = None;
        for (index, line) in text.lines().enumerate() {
            let wrong = |what: &str| format!("{what} in line {}", index + 1);
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [] => {}
                [word, ..] if word.starts_with('#') => {}
                [name] if name.parse::<IpAddr>().is_err() => {
                    let mut name = Name::from_ascii(name.to_lowercase()).map_err(|_| wrong("wrong domain name"))?;
                    name.set_fqdn(true);
                    last = Some(name);
                }
                [address, weight] => {
                    let address = address.parse().map_err(|_| wrong("wrong IP address"))?;
                    let weight =
                        weight.parse().ok().filter(|weight| *weight > 0).ok_or_else(|| wrong("wrong weight"))?;
                    let name = last.clone().ok_or_else(|| wrong("missing domain name"))?;
                    weights.names.entry(name).or_default().insert(address, weight);
                }
                _ => return Err(wrong("no name, and no address with its weight")),
            }
        }
        Ok(weights)
    }

    /// True when there are weights for a name in lower case.
    pub(super) fn knows(&self, name: &Name) -> bool {
        self.names.contains_key(name)
    }

    /// Puts one of the addresses first, each as often as its weight is of all; the weight of others
    /// is 1.
    pub(super) fn lead(&self, addresses: &mut [Record], random: &mut Random) {
        let weight = |record: &Record| {
            let own = self.names.get(&record.name.to_lowercase());
            own.zip(record.data.ip_addr()).and_then(|(own, address)| own.get(&address)).map_or(1, |weight| *weight)
        };
        let weights: Vec<usize> = addresses.iter().map(|record| weight(record).into()).collect();
        let mut left = random.below(weights.iter().sum::<usize>().max(1));
        for (index, weight) in weights.into_iter().enumerate() {
            if left < weight {
                return addresses.swap(0, index);
            }
            left -= weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::RData;

    use super::*;

    #[test]
    fn each_is_first_as_often_as_its_weight_says() {
        let weights =
            Weights::parse("# all\n\nWww.example.org\n10.0.0.1 3\n 10.0.0.2 1 \n::1 5\nx.\n10.0.0.3 255").unwrap();
        assert!(weights.knows(&Name::from_ascii("www.example.org.").unwrap()));
        let table = [("www.Example.org.", [1800, 600, 600]), ("y.", [1000, 1000, 1000])];
        for (name, want) in table {
            let mut first = [0; 3];
            for turn in 0..3000 {
                let name = Name::from_ascii(name).unwrap();
                let record = |last| Record::from_rdata(name.clone(), 5, RData::A(Ipv4Addr::new(10, 0, 0, last).into()));
                let mut records: Vec<Record> = (1..=3).map(record).collect();
                weights.lead(&mut records, &mut Random::of(turn));
                let place = (1..=3).position(|last| records[0] == record(last)).unwrap();
                first[place] += 1;
            }
            for (got, want) in first.into_iter().zip(want) {
                assert!((want - 100..want + 100).contains(&got), "{name}: {first:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong() {
        let table =
            ["10.0.0.1 1", "x\n10.0.0.1", "x\n10.0.0.1 0", "x\n10.0.0.1 256", "x\n10.0.0 1", "x\n10.0.0.1 1 1", "a..b"];
        for text in table {
            assert!(Weights::parse(text).is_err(), "{text}");
        }
        assert_eq!(Weights::parse("x\ny z w").unwrap_err(), "no name, and no address with its weight in line 2");
    }
}
