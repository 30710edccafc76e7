use std::cmp::Ordering;

/// What Kubernetes says of a quantity that it cannot read.
pub(crate) const FORMAT_ERROR: &str = "quantities must match the regular expression \
     '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// A resource quantity as a whole number of nano-units, rounded up: exact for all that
/// Kubernetes computes with, and saturating for what is larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity(i128);

/// How a quantity was written, and is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

const DECIMAL: [(i32, &str); 10] =
    [(18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "u"), (-9, "n")];
const BINARY: [(u32, &str); 6] = [(6, "Ei"), (5, "Pi"), (4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")];

const NANO: i128 = 1_000_000_000;

/// Reads `100m`, `1.5Gi`, `2e3` and the like; None when it is none.
pub(crate) fn parse(text: &str) -> Option<Quantity> {
    Some(read(text)?.0)
}

/// The form in which Kubernetes stores a quantity: no fraction, and the largest suffix that
/// leaves a whole number (`0.5` is `500m`, `1024Mi` is `1Gi`). None when it is no quantity.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let (Quantity(nano), format) = read(text)?;
    if nano.unsigned_abs() > i64::MAX.unsigned_abs().into() {
        let whole = nano / NANO;
        if i64::try_from(whole).is_err() {
            return Some(text.to_owned());
        }
    }
    let whole = nano / NANO + i128::from(nano % NANO > 0);
    if format == Format::Binary && whole.abs() >= 1024 {
        let divides = |power: u32| whole % 1024_i128.pow(power) == 0;
        let (power, suffix) = BINARY.into_iter().find(|(power, _)| divides(*power)).unwrap_or((0, ""));
        return Some(format!("{}{suffix}", whole / 1024_i128.pow(power)));
    }
    let unit = |tens: i32| 10_i128.pow((tens + 9).unsigned_abs());
    let (tens, suffix) = match nano {
        0 => (0, ""),
        _ => DECIMAL.into_iter().find(|(tens, _)| nano % unit(*tens) == 0)?,
    };
    let number = nano / unit(tens);
    Some(match format {
        Format::Exponent if tens != 0 => format!("{number}e{tens}"),
        _ => format!("{number}{suffix}"),
    })
}

fn read(text: &str) -> Option<(Quantity, Format)> {
    let digits_end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (negative, number) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let (base, exponent, format) = scale(suffix)?;
    let mut digits = whole.trim_start_matches('0').to_owned();
    digits.push_str(fraction);
    let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(i128::MAX) };
    let tens = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    let value = shift(mantissa.saturating_mul(base), tens);
    Some((Quantity(if negative { -value } else { value }), format))
}

/// The suffix as a binary factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32, Format)> {
    if let Some((tens, _)) = DECIMAL.iter().find(|(_, known)| *known == suffix) {
        return Some((1, *tens, Format::Decimal));
    }
    if let Some((power, _)) = BINARY.iter().find(|(_, known)| *known == suffix) {
        return Some((1024_i128.pow(*power), 0, Format::Binary));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((1, exponent.clamp(-64, 64), Format::Exponent))
}

fn shift(value: i128, tens: i32) -> i128 {
    let factor = 10_i128.checked_pow(tens.unsigned_abs()).unwrap_or(i128::MAX);
    match tens.cmp(&0) {
        Ordering::Less => value / factor + i128::from(value % factor != 0),
        _ => value.saturating_mul(factor),
    }
}

impl Quantity {
    /// Below zero.
    pub(crate) fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Has no part smaller than one.
    pub(crate) fn is_whole(self) -> bool {
        self.0 % NANO == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_by_value() {
        for (left, right) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            ("1Ki", "1024"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("1E", "1000P"),
            (".5", "0.5"),
            ("+2", "2"),
            ("-1", "-1000m"),
            ("0", "0Gi"),
            ("100u", "0.0001"),
        ] {
            assert_eq!(parse(left), parse(right), "{left} {right}");
            assert!(parse(left).is_some(), "{left}");
        }
        assert!(parse("200m") < parse("1") && parse("1Gi") > parse("1G"));
        assert!(parse("500m").unwrap() != parse("500").unwrap());
        assert!(!parse("500m").unwrap().is_whole() && parse("-3").unwrap().is_negative());
    }

    #[test]
    fn quantities_have_one_form() {
        for (text, form) in [
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1000Mi", "1000Mi"),
            ("1000", "1k"),
            ("0Gi", "0"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("-1.5", "-1500m"),
            ("128974848", "128974848"),
            ("1.5Gi", "1536Mi"),
            ("10E", "10E"),
            ("100E", "100E"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(form));
        }
        assert_eq!(canonical("x"), None);
    }

    #[test]
    fn what_is_no_quantity() {
        for text in ["", "abc", "1 Gi", "1Zi", "--1", "1.2.3", "m", "1e", ".", "1i"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
