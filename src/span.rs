//! Spans of time as people read them: two digits where they are few, and no more than tell.

use std::fmt;
use std::time::Duration;

/// Writes a span rounded: 4.917 s as `4.9s`, 834.123 ms as `834ms`, 10 s as `10s`.
pub(crate) struct Rounded(pub(crate) Duration);

/// In nanoseconds, the largest first.
const UNITS: [(u128, &str); 4] = [
    (1_000_000_000, "s"),
    (1_000_000, "ms"),
    (1_000, "µs"),
    (1, "ns"),
];

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        // Rounded to the next smaller unit it must be one at least: 999.9 ms are a second.
        let fits = |unit: u128| nanos + unit / 2000 >= unit;
        let (unit, name) = UNITS
            .into_iter()
            .find(|(unit, _)| fits(*unit))
            .unwrap_or((1, "ns"));
        let tenths = (nanos * 10 + unit / 2) / unit;
        if tenths < 100 && tenths % 10 != 0 {
            write!(f, "{}.{}{name}", tenths / 10, tenths % 10)
        } else {
            write!(f, "{}{name}", (nanos + unit / 2) / unit)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(span: Duration) -> String {
        Rounded(span).to_string()
    }

    #[test]
    fn it_is_rounded_as_a_person_would() {
        let nanos = |n| said(Duration::from_nanos(n));
        for (span, text) in [
            (0, "0s"),
            (1, "1ns"),
            (999, "999ns"),
            (1_500, "1.5µs"),
            (80_000_000, "80ms"),
            (834_123_000, "834ms"),
            (960_000_000, "960ms"),
            (999_499_999, "999ms"),
            (999_500_000, "1s"),
            (1_040_000_000, "1s"),
            (1_250_000_000, "1.3s"),
            (2_960_000_000, "3s"),
            (4_917_292_899, "4.9s"),
            (9_949_999_999, "9.9s"),
            (9_950_000_000, "10s"),
            (10_000_000_000, "10s"),
            (10_499_999_999, "10s"),
            (90_000_000_000, "90s"),
            (3_600_000_000_000, "3600s"),
        ] {
            assert_eq!(nanos(span), text, "{span}");
        }
        assert_eq!(said(Duration::MAX), "18446744073709551616s");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: crate::testing::cases(), ..ProptestConfig::default() })]

        /// What is read back differs by a twentieth of the unit below ten, by half above.
        #[test]
        fn it_is_never_far_off(nanos in prop_oneof![1..u64::MAX, 1..20_000_000_000u64, 1..20_000u64]) {
            let text = said(Duration::from_nanos(nanos));
            let (unit, name) = UNITS
                .into_iter()
                .find(|(_, name)| text.strip_suffix(name).is_some_and(|n| n.parse::<f64>().is_ok()))
                .unwrap();
            let number = text.strip_suffix(name).unwrap();
            let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
            let told = (whole.parse::<u128>().unwrap() * 10 + tenth.parse::<u128>().unwrap()) * unit / 10;
            let off = told.abs_diff(nanos.into());
            let most = if told < 10 * unit { unit / 20 } else { unit / 2 };
            prop_assert!(off <= most, "{nanos} ns as {text}");
            prop_assert!(name == "s" || told < 1000 * unit, "{nanos} ns as {text}");
        }
    }
}
