use std::cmp::Ordering;

/// What Kubernetes says of a quantity that it cannot read.
pub(crate) const FORMAT_ERROR: &str = "quantities must match the regular expression \
     '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// A resource quantity as a whole number of nano-units, rounded up: exact for all that
/// Kubernetes computes with, and saturating for what is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity(i128);

const NANO: i128 = 1_000_000_000;

/// Reads `100m`, `1.5Gi`, `2e3` and the like; None when it is none.
pub(crate) fn parse(text: &str) -> Option<Quantity> {
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
    let (base, exponent) = scale(suffix)?;
    let mut digits = whole.trim_start_matches('0').to_owned();
    digits.push_str(fraction);
    let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(i128::MAX) };
    let tens = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    let value = shift(mantissa.saturating_mul(base), tens);
    Some(Quantity(if negative { -value } else { value }))
}

/// The suffix as a binary factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let tens = |exponent| Some((1, exponent));
    let binary = |power: u32| Some((1024_i128.pow(power), 0));
    match suffix {
        "" => tens(0),
        "n" => tens(-9),
        "u" => tens(-6),
        "m" => tens(-3),
        "k" => tens(3),
        "M" => tens(6),
        "G" => tens(9),
        "T" => tens(12),
        "P" => tens(15),
        "E" => tens(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            tens(exponent.parse::<i32>().ok()?.clamp(-64, 64))
        }
    }
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
    fn what_is_no_quantity() {
        for text in ["", "abc", "1 Gi", "1Zi", "--1", "1.2.3", "m", "1e", ".", "1i"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
