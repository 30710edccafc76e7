//! The schedules of CronJobs, and what is wrong with them in the words of the parser that Kubernetes uses
//! (robfig/cron).

/// Least and greatest value of each field, and names for its values from the least on.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];
const DESCRIPTORS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Reads a schedule: five fields, or a word such as `@daily`.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if let Some(every) = schedule.strip_prefix("@every ") {
        let starts = every.starts_with(|first: char| first.is_ascii_digit());
        return if starts {
            Ok(())
        } else {
            Err(format!("failed to parse duration {schedule}: time: invalid duration \"{every}\""))
        };
    }
    if schedule.starts_with('@') {
        let known = DESCRIPTORS.contains(&schedule);
        return if known { Ok(()) } else { Err(format!("unrecognized descriptor: {schedule}")) };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (field, bounds) in fields.into_iter().zip(FIELDS) {
        for part in field.split(',') {
            range(part, bounds)?;
        }
    }
    Ok(())
}

/// `*`, `5`, `1-5`, each with `/2` behind it or not.
fn range(part: &str, (least, most, names): (u32, u32, &[&str])) -> Result<(), String> {
    let number = |text: &str| match names.iter().zip(least..).find(|(name, _)| text.eq_ignore_ascii_case(name)) {
        Some((_, number)) => Ok(number),
        None => text
            .parse::<u32>()
            .map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing \"{text}\": invalid syntax")),
    };
    let mut slashes = part.split('/');
    let mut hyphens = slashes.next().unwrap_or_default().split('-');
    let (begin, step) = (hyphens.next().unwrap_or_default(), slashes.next());
    let (low, high) = match (begin, hyphens.next()) {
        ("*" | "?", _) => (least, most),
        (begin, Some(end)) => (number(begin)?, number(end)?),
        // With a step a single number is where it begins.
        (begin, None) => (number(begin)?, if step.is_some() { most } else { number(begin)? }),
    };
    if hyphens.next().is_some() {
        return Err(format!("too many hyphens: {part}"));
    }
    if slashes.next().is_some() {
        return Err(format!("too many slashes: {part}"));
    }
    let step = step.map_or(Ok(1), number)?;
    if low < least {
        Err(format!("beginning of range ({low}) below minimum ({least}): {part}"))
    } else if high > most {
        Err(format!("end of range ({high}) above maximum ({most}): {part}"))
    } else if low > high {
        Err(format!("beginning of range ({low}) beyond end of range ({high}): {part}"))
    } else if step == 0 {
        Err(format!("step of range should be a positive number: {part}"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-6,12 1,15 JAN-mar Mon", "0 3/2 ? * 0", "@daily", "@every 1h30m"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* 5-2 * * *", "beginning of range (5) beyond end of range (2): 5-2"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("*/1/2 * * * *", "too many slashes: */1/2"),
            ("@dayly", "unrecognized descriptor: @dayly"),
            ("@every day", "failed to parse duration @every day: time: invalid duration \"day\""),
        ] {
            assert_eq!(check(bad), Err(why.to_owned()), "{bad}");
        }
    }
}
