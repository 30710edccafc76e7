//! The directive.

use std::time::Duration;

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinEncodable;

use crate::cache::{Bounds, Class, Prefetch, Settings, Stale};
use crate::corefile::{Block, Directive, Error, Line, Word};

/// The longest that SERVFAIL may be kept (RFC 2308 §7.1), and that a failed refresh may keep others back.
const FAILURE: Duration = Duration::from_secs(300);

/// How many answers of each kind are kept, unless the directive says so.
const CAPACITY: usize = 9984;

/// Reads `cache [TTL] [ZONES...] { ... }`.
pub(super) fn read(directive: &Directive, block: &Block) -> Result<Settings, Error> {
    directive.once(block)?;
    let (ttl, zones) = match &directive.arguments[..] {
        [first, zones @ ..] if first.text.parse::<i64>().is_ok() => (Some(seconds(first, 1)?), zones),
        zones => (None, zones),
    };
    let class = |most: u32| Class {
        capacity: CAPACITY,
        bounds: Bounds { least: 5, most: ttl.unwrap_or(most) },
        except: Vec::new(),
    };
    let mut settings = Settings {
        zones: wire(block.zones(zones)?),
        success: class(3600),
        denial: class(1800),
        failure: 5,
        prefetch: None,
        stale: None,
        keep: false,
    };
    let mut policy = None;
    for line in directive.properties() {
        match &line.name.text[..] {
            "success" => bounds(line, &mut settings.success)?,
            "denial" => bounds(line, &mut settings.denial)?,
            "prefetch" => settings.prefetch = prefetch(line)?,
            "serve_stale" => settings.stale = stale(line)?,
            "serve_stale_policy" => policy = Some(line.one()?),
            "servfail" => settings.failure = limited(line.one()?)?.as_secs() as u32,
            "disable" => disable(line, block, &mut settings)?,
            "keepttl" => settings.keep = line.exactly::<0>().map(|_| true)?,
            _ => return Err(line.unknown()),
        }
    }
    if let Some(policy) = policy {
        if !policy.text.eq_ignore_ascii_case("prefer_positive") {
            return Err(policy.error(format!("invalid serve_stale_policy: {}", policy.text)));
        }
        let stale = settings.stale.as_mut().ok_or_else(|| policy.error("serve_stale_policy requires serve_stale"))?;
        stale.positive = true;
    }
    Ok(settings)
}

/// Zones as they are in packets.
fn wire(zones: Vec<Name>) -> Vec<Box<[u8]>> {
    zones.iter().filter_map(|zone| zone.to_lowercase().to_bytes().ok()).map(Into::into).collect()
}

fn seconds(word: &Word, least: u32) -> Result<u32, Error> {
    word.number(least..=u32::MAX)
}

/// `success|denial CAPACITY [TTL] [MINTTL]`.
fn bounds(line: Line, class: &mut Class) -> Result<(), Error> {
    let words = line.between(1, 3)?;
    class.capacity = words[0].number(0..=u32::MAX)? as usize;
    if let Some(word) = words.get(1) {
        class.bounds.most = seconds(word, 1)?;
    }
    if let Some(word) = words.get(2) {
        class.bounds.least = seconds(word, 0)?;
    }
    Ok(())
}

/// `prefetch AMOUNT [DURATION [PERCENTAGE%]]`.
fn prefetch(line: Line) -> Result<Option<Prefetch>, Error> {
    let words = line.between(1, 3)?;
    let amount = seconds(&words[0], 0)?;
    let gap = words.get(1).map_or(Ok(Duration::from_secs(60)), Word::duration)?;
    let percentage = words.get(2).map_or(Ok(10), |word| {
        let number = word.text.strip_suffix('%').and_then(|number| number.parse().ok());
        number
            .filter(|number| (10..=90).contains(number))
            .ok_or_else(|| word.error(format!("'{}' is not a percentage from 10% to 90%", word.text)))
    })?;
    Ok(Some(Prefetch { amount, gap, percentage }).filter(|prefetch| prefetch.amount > 0))
}

/// `serve_stale [DURATION] [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]]`.
fn stale(line: Line) -> Result<Option<Stale>, Error> {
    let mut words = line.between(0, 5)?.iter();
    let period = words.next().map_or(Ok(Duration::from_secs(3600)), Word::duration)?;
    let verify = match words.next() {
        None => None,
        Some(mode) if mode.text.eq_ignore_ascii_case("immediate") => None,
        Some(mode) if mode.text.eq_ignore_ascii_case("verify") => {
            Some(words.next().map(Word::duration).transpose()?.filter(|time| !time.is_zero()))
        }
        Some(mode) => return Err(mode.error(format!("invalid value for serve_stale refresh mode: {}", mode.text))),
    };
    let ttl = words.next().map_or(Ok(0), |word| {
        let time = word.duration()?;
        let whole = time.subsec_nanos() == 0;
        let seconds = u32::try_from(time.as_secs()).ok().filter(|_| whole);
        seconds.ok_or_else(|| word.error("serve_stale response TTL must be a whole number of seconds, of 32 bits"))
    })?;
    let recheck = words.next().map_or(Ok(Duration::ZERO), limited)?;
    if let Some(word) = words.next() {
        return Err(word.error(format!("unexpected '{}'", word.text)));
    }
    Ok(Some(Stale { period, verify, ttl, recheck, positive: false }).filter(|_| !period.is_zero()))
}

/// A duration up to [`FAILURE`].
fn limited(word: &Word) -> Result<Duration, Error> {
    let time = word.duration()?;
    if time > FAILURE {
        return Err(word.error(format!("{} is more than 5 minutes", word.text)));
    }
    Ok(time)
}

/// `disable success|denial [ZONES...]`.
fn disable(line: Line, block: &Block, settings: &mut Settings) -> Result<(), Error> {
    let Some((kind, zones)) = line.arguments.split_first() else {
        return Err(line.one().err().unwrap_or_else(|| line.unknown()));
    };
    let class = match &kind.text[..] {
        "success" => &mut settings.success,
        "denial" => &mut settings.denial,
        _ => return Err(kind.error("cache type for disable must be \"success\" or \"denial\"")),
    };
    class.except = match zones {
        [] => wire(vec![Name::root()]),
        zones => wire(block.zones(zones)?),
    };
    Ok(())
}

#[cfg(test)]
mod tests;
