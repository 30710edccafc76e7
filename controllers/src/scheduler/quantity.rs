//! Quantities of resources as thousandths, without floating point.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Suffixes and what they multiply by, in thousandths.
const SUFFIXES: [(&str, i128); 14] = [
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("", 1000),
];

/// The quantity in thousandths, rounded up and capped at 2^63; one that does not parse counts as zero, since the API
/// server lets none pass.
pub(super) fn thousandths(quantity: &Quantity) -> i128 {
    parse(&quantity.0).unwrap_or(0).clamp(-LARGEST, LARGEST)
}

const LARGEST: i128 = (i64::MAX as i128) * 1000;

fn parse(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let micro = match SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        Some((_, factor)) => return scaled(number, *factor, 0),
        // "n" and "u" are smaller than a thousandth.
        None if suffix == "u" => 3,
        None if suffix == "n" => 6,
        None => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = |n: i32| 10_i128.checked_pow(n.unsigned_abs());
            return if exponent >= 0 {
                scaled(number, power(exponent)?.checked_mul(1000)?, 0)
            } else {
                scaled(number, 1000, exponent.unsigned_abs())
            };
        }
    };
    scaled(number, 1, micro)
}

/// `number · factor / 10^down`, rounded up.
fn scaled(number: &str, factor: i128, down: u32) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = &fraction[..fraction.len().min(9)];
    let negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches(['+', '-']));
    let value: i128 = if digits.is_empty() {
        return None;
    } else {
        digits.parse().ok()?
    };
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()? + down)?;
    let product = value.checked_mul(factor)?;
    let rounded = product / divisor + i128::from(product % divisor != 0);
    Some(if negative { -rounded } else { rounded })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let cases = [
            ("0", 0),
            ("1", 1000),
            ("100m", 100),
            ("1.5", 1500),
            ("0.1m", 1),
            ("500u", 1),
            ("2k", 2_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("1e3", 1_000_000),
            ("25e-1", 2500),
            ("-1", -1000),
            ("12E", LARGEST),
            ("many", 0),
            ("", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(thousandths(&Quantity(text.into())), expected, "{text}");
        }
    }
}
