//! Kubernetes quantities as numbers: `500m`, `1.5`, `64Mi`, `1e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The suffixes, each with its factor in thousandths; from apimachinery's `resource` package.
const SUFFIXES: [(&str, f64); 14] = [
    ("Ki", 1024.0 * 1e3),
    ("Mi", 1_048_576.0 * 1e3),
    ("Gi", 1_073_741_824.0 * 1e3),
    ("Ti", 1_099_511_627_776.0 * 1e3),
    ("Pi", 1_125_899_906_842_624.0 * 1e3),
    ("n", 1e-6),
    ("u", 1e-3),
    ("m", 1.0),
    ("k", 1e6),
    ("M", 1e9),
    ("G", 1e12),
    ("T", 1e15),
    ("P", 1e18),
    ("", 1e3),
];

/// In thousandths, rounded up; `None` when it is no quantity or negative.
pub(crate) fn milli(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.trim();
    SUFFIXES.iter().find_map(|(suffix, factor)| {
        let number: f64 = text.strip_suffix(suffix)?.parse().ok()?;
        (number >= 0.0 && number.is_finite()).then(|| (number * factor).ceil() as u64)
    })
}

/// In whole units, rounded up.
pub(crate) fn units(quantity: &Quantity) -> Option<u64> {
    milli(quantity).map(|milli| milli.div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        for (text, expected) in [
            ("500m", Some(500)),
            ("1", Some(1000)),
            ("0.5", Some(500)),
            ("1.5", Some(1500)),
            ("2k", Some(2_000_000)),
            ("64Mi", Some(64 * 1_048_576 * 1000)),
            ("1e3", Some(1_000_000)),
            ("100n", Some(1)),
            ("x", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(milli(&Quantity(text.into())), expected, "{text}");
        }
        assert_eq!(units(&Quantity("1500m".into())), Some(2));
    }
}
