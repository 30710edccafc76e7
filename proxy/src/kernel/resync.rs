//! What the kernel has of our tables, compared with what they should be: the batch that would make them anew.
//!
//! Every attribute that we would send must be there with the same value; what the kernel adds of its own accord does
//! not matter. Rules must be the same ones in the same order, elements the same ones. Elements and chains are mended;
//! where a table, a set or a base chain's hook is another, the whole has to be replaced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use rustix::io::Errno;

use super::batch::{
    APPEND, Batch, CREATE, DELETE_CHAIN, DELETE_ELEMENT, DELETE_RULE, DELETE_TABLE, GET_CHAIN, GET_ELEMENT,
    GET_GENERATION, GET_RULE, GET_SET, GET_TABLE, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET, NEW_TABLE, kind,
};
use super::family::Family;
use super::table::{self, AFFINITY};
use crate::Error;
use crate::netlink::{Attrs, Buffer, Item, Socket};

/// How often the kernel is read anew because its rules changed in the meantime.
const TRIES: usize = 5;
/// All families.
const ALL: u8 = 0;
/// The part of a message's type that is not its subsystem.
const MESSAGE: u16 = 0xff;
/// How much NFTA_SET_ID takes.
const SET_ID: usize = 8;
/// The attributes of an element.
const KEY: u16 = 1;
const KEY_END: u16 = 10;

/// What was found.
#[derive(Default)]
pub(crate) struct Report {
    /// What differs, in words; empty if nothing does.
    pub(crate) differences: Vec<String>,
    /// What makes the tables right; None if they have to be replaced.
    pub(crate) mend: Option<Batch>,
    /// The families whose map of affinity is the one that we know.
    pub(crate) remembered: Vec<Family>,
}

/// The kernel's count of changes of its rules, whoever made them.
pub(crate) fn generation(socket: &mut Socket) -> Option<u32> {
    socket.get(kind(GET_GENERATION), ALL, |_| {}, |item| item.attrs.number(1)).ok().flatten().flatten()
}

/// Compares the kernel's tables of a name with those that a batch would make. Chains that were `retired` may be there
/// still; they are removed, too, but are no difference.
pub(crate) fn compare(
    socket: &mut Socket,
    table: &str,
    wanted: &Batch,
    retired: &BTreeSet<Name>,
) -> Result<Report, Error> {
    let named = |out: &mut Buffer| out.text(1, table);
    let mut is_there =
        |family: Family| matches!(socket.get(kind(GET_TABLE), family.number(), named, |_| ()), Ok(Some(())));
    if !Family::ALL.into_iter().any(&mut is_there) {
        return Ok(Report { differences: vec![format!("the tables {table} are gone")], ..Report::default() });
    }
    for _ in 0..TRIES {
        let before = generation(socket);
        let mut comparison = Comparison::new(table, wanted);
        let read = comparison.read(socket);
        if generation(socket) == before {
            let doing = format!("read the table {table}");
            read.map_err(|error| Error::from_kernel(error.raw_os_error().unwrap_or_default(), &doing, false))?;
            return Ok(comparison.report(retired));
        }
    }
    Err(Error::from_kernel(Errno::INTR.raw_os_error(), "read the rules of the kernel while others change them", false))
}

/// What one of a family's table is called.
pub(crate) type Name = (Family, String);

/// The rules of a chain, and how many of them were found.
type Rules<'a> = (Vec<Attrs<'a>>, usize);

/// A comparison under way: what was found and is right is crossed off.
#[derive(Default)]
struct Comparison<'a> {
    table: &'a str,
    tables: BTreeMap<Family, Attrs<'a>>,
    sets: BTreeMap<Name, Attrs<'a>>,
    chains: BTreeMap<Name, Attrs<'a>>,
    rules: BTreeMap<Name, Rules<'a>>,
    /// Elements by their (first) keys.
    elements: BTreeMap<Name, HashMap<&'a [u8], Attrs<'a>>>,
    /// The sets that are as they should be.
    known: Vec<Name>,
    /// The chains that should not be there, and those with other rules.
    strange: Vec<Name>,
    rewritten: BTreeSet<Name>,
    /// The keys of elements that should not be there, or have other data.
    wrong: BTreeMap<Name, Vec<Vec<u8>>>,
    /// What cannot be mended.
    broken: Vec<String>,
}

impl<'a> Comparison<'a> {
    fn new(table: &'a str, wanted: &'a Batch) -> Self {
        let mut new = Comparison { table, ..Comparison::default() };
        wanted.messages().for_each(|item| new.want(&item));
        new
    }

    fn want(&mut self, item: &Item<'a>) {
        let Some(family) = Family::numbered(item.family) else {
            return;
        };
        let name = |attribute| (family, item.attrs.text(attribute).unwrap_or_default().to_owned());
        match item.kind & MESSAGE {
            NEW_TABLE => _ = self.tables.insert(family, item.attrs),
            DELETE_TABLE => _ = self.tables.remove(&family),
            // NFTA_SET_ID, which comes last, is for the batch only.
            NEW_SET => _ = self.sets.insert(name(2), Attrs(&item.attrs.0[..item.attrs.0.len().saturating_sub(SET_ID)])),
            NEW_CHAIN => {
                self.rules.insert(name(3), Rules::default());
                self.chains.insert(name(3), item.attrs);
            }
            NEW_RULE => self.rules.entry(name(2)).or_default().0.push(item.attrs),
            NEW_ELEMENT => {
                let set = self.elements.entry(name(2)).or_default();
                let elements = item.attrs.inner(3).each().map(|(.., element)| Attrs(element));
                set.extend(elements.map(|element| (element.get(KEY).unwrap_or_default(), element)));
            }
            _ => {}
        }
    }

    /// Reads what the kernel has.
    fn read(&mut self, socket: &mut Socket) -> io::Result<()> {
        let table = self.table;
        for list in [GET_TABLE, GET_SET, GET_CHAIN] {
            socket.dump(kind(list), ALL, |_| {}, |item| self.cross(&item))?;
        }
        for family in Family::ALL {
            socket.dump(kind(GET_RULE), family.number(), |out| out.text(1, table), |item| self.cross(&item))?;
        }
        self.broken.extend(self.tables.keys().map(|family| format!("the {family} table is gone")));
        self.broken.extend(self.sets.keys().map(|(family, set)| format!("the {family} set {set} is gone")));
        if !self.broken.is_empty() {
            return Ok(());
        }
        for (family, set) in self.known.clone().into_iter().filter(|(_, set)| set != AFFINITY) {
            let which = |out: &mut Buffer| {
                out.text(1, table);
                out.text(2, &set);
            };
            socket.dump(kind(GET_ELEMENT), family.number(), which, |item| self.cross(&item))?;
        }
        Ok(())
    }

    /// Crosses off what is as it should be, and notes what is not.
    fn cross(&mut self, item: &Item<'_>) {
        let family = Family::numbered(item.family).filter(|_| item.attrs.text(1) == Some(self.table));
        let Some(family) = family else {
            return;
        };
        let name = |attribute| (family, item.attrs.text(attribute).unwrap_or_default().to_owned());
        let is = |wanted: Option<Attrs<'_>>| wanted.is_some_and(|wanted| same(wanted, item.attrs));
        match item.kind & MESSAGE {
            NEW_TABLE if !is(self.tables.remove(&family)) => self.broken.push(format!("the {family} table is another")),
            NEW_SET if is(self.sets.remove(&name(2))) => self.known.push(name(2)),
            NEW_SET => self.broken.push(format!("the {family} set {} is another", name(2).1)),
            NEW_CHAIN if !self.chains.contains_key(&name(3)) => self.strange.push(name(3)),
            NEW_CHAIN if !is(self.chains.remove(&name(3))) => {
                self.broken.push(format!("the {family} chain {} is another", name(3).1));
            }
            // The rules of a strange chain go with it.
            NEW_RULE => {
                if let Some((rules, found)) = self.rules.get_mut(&name(2)) {
                    if !is(rules.get(*found).copied()) {
                        self.rewritten.insert(name(2));
                    }
                    *found += 1;
                }
            }
            NEW_ELEMENT => self.cross_elements(name(2), item.attrs.inner(3)),
            _ => {}
        }
    }

    fn cross_elements(&mut self, set: Name, elements: Attrs<'_>) {
        let mut wanted = self.elements.get_mut(&set);
        for (.., element) in elements.each() {
            let element = Attrs(element);
            let key = element.get(KEY).unwrap_or_default();
            match wanted.as_mut().filter(|wanted| wanted.get(key).is_some_and(|wanted| same(*wanted, element))) {
                Some(wanted) => drop(wanted.remove(key)),
                None => self.wrong.entry(set.clone()).or_default().push(keys(element)),
            }
        }
    }

    fn report(mut self, retired: &BTreeSet<Name>) -> Report {
        let known = self.known.iter().filter(|(_, set)| set == AFFINITY);
        let remembered = known.map(|(family, _)| *family).collect();
        if !self.broken.is_empty() {
            return Report { differences: self.broken, mend: None, remembered };
        }
        let short =
            self.rules.iter().filter(|(name, (all, found))| *found < all.len() && !self.chains.contains_key(name));
        self.rewritten.extend(short.map(|(name, _)| name.clone()));
        self.elements.retain(|_, absent| !absent.is_empty());
        let mut differences = Vec::new();
        let mut say = |(family, name): &Name, how: &str| differences.push(format!("the {family} {how} {name}"));
        let strange = self.strange.iter().filter(|name| !retired.contains(name));
        strange.for_each(|name| say(name, "tables have a strange chain"));
        self.chains.keys().for_each(|name| say(name, "tables lack the chain"));
        self.rewritten.iter().for_each(|name| say(name, "tables have other rules in the chain"));
        self.wrong.iter().for_each(|(name, keys)| say(name, &format!("tables have {} wrong elements in", keys.len())));
        self.elements.iter().for_each(|(name, absent)| say(name, &format!("tables lack {} elements in", absent.len())));
        Report { differences, mend: Some(self.mend()), remembered }
    }

    fn mend(&self) -> Batch {
        let mut batch = Batch::default();
        for ((family, set), keys) in &self.wrong {
            let raw = |keys: &Vec<u8>, out: &mut Buffer| out.raw(keys);
            table::elements(&mut batch, DELETE_ELEMENT, *family, self.table, set, keys, raw);
        }
        for (family, chain) in self.strange.iter().chain(&self.rewritten) {
            batch.push(*family, DELETE_RULE, 0, format!("empty the chain {chain}"), |out| {
                out.text(1, self.table);
                out.text(2, chain);
            });
        }
        for (family, chain) in &self.strange {
            batch.push(*family, DELETE_CHAIN, 0, format!("remove the chain {chain}"), |out| {
                out.text(1, self.table);
                out.text(3, chain);
            });
        }
        for ((family, chain), attrs) in &self.chains {
            batch.push(*family, NEW_CHAIN, CREATE, format!("add the chain {chain}"), |out| out.raw(attrs.0));
        }
        for name in self.chains.keys().chain(&self.rewritten) {
            for rule in &self.rules[name].0 {
                let doing = format!("add a rule to the chain {}", name.1);
                batch.push(name.0, NEW_RULE, CREATE | APPEND, doing, |out| out.raw(rule.0));
            }
        }
        for ((family, set), absent) in &self.elements {
            let absent: Vec<Attrs<'_>> = absent.values().copied().collect();
            let raw = |element: &Attrs<'_>, out: &mut Buffer| out.raw(element.0);
            table::elements(&mut batch, NEW_ELEMENT, *family, self.table, set, &absent, raw);
        }
        batch
    }
}

/// The attributes of an element that name it.
fn keys(element: Attrs<'_>) -> Vec<u8> {
    let mut out = Buffer::default();
    for (kind, _, value) in element.each().filter(|(kind, ..)| [KEY, KEY_END].contains(kind)) {
        out.nest(kind, |out| out.raw(value));
    }
    out.bytes().to_vec()
}

/// True if the kernel has each attribute of ours with the same value, and no more in lists.
fn same(wanted: Attrs<'_>, found: Attrs<'_>) -> bool {
    let all = |attrs: Attrs<'_>, kind: u16| attrs.each().filter(|(other, ..)| *other == kind).count();
    wanted.each().enumerate().all(|(at, (kind, nested, value))| {
        let before = wanted.each().take(at).filter(|(other, ..)| *other == kind).count();
        let twin = found.each().filter(|(other, ..)| *other == kind).nth(before);
        match twin {
            Some((.., twin)) if nested => same(Attrs(value), Attrs(twin)) && all(wanted, kind) == all(found, kind),
            Some((.., twin)) => value == twin,
            // Flags of which none is set, and what has no attributes of its own, are not said.
            None => value.iter().all(|byte| *byte == 0),
        }
    })
}
