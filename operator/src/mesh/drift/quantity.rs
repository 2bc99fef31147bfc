//! Resource quantities, compared by amount: `2048Mi` equals `2Gi`, `1000m` equals `1`, the number 1 equals the string
//! "1".

use serde_json::Value;

/// The amount in billionths, the precision of Kubernetes, which also rounds smaller amounts away from zero. `None` if
/// the value isn't a quantity or is too large.
pub(super) fn nano(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => parse(&number.to_string()),
        Value::String(text) => parse(text),
        _ => None,
    }
}

fn parse(text: &str) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let (factor, exponent) = scale(suffix)?;
    let exponent = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    let amount = shift(digits.checked_mul(factor)?, exponent)?;
    Some(if negative { -amount } else { amount })
}

/// A suffix as a factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    match suffix {
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "" => Some((1, 0)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => Some((1, suffix.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?.into())),
    }
}

fn shift(amount: i128, exponent: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    if exponent >= 0 {
        return if amount == 0 { Some(0) } else { amount.checked_mul(power?) };
    }
    // The unit is so small that any amount rounds to one billionth.
    let Some(power) = power else { return Some(i128::from(amount != 0)) };
    Some(amount / power + i128::from(amount % power != 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn same(left: &Value, right: &Value) {
        assert!(nano(left).is_some(), "{left} is not a quantity");
        assert_eq!(nano(left), nano(right), "{left} and {right}");
    }

    #[test]
    fn equal_amounts_in_different_notations() {
        same(&json!("2048Mi"), &json!("2Gi"));
        same(&json!("1000m"), &json!("1"));
        same(&json!("1000m"), &json!(1));
        same(&json!(0.5), &json!("500m"));
        same(&json!("0.1"), &json!("100m"));
        same(&json!("1.50"), &json!("1500m"));
        same(&json!("1e3"), &json!("1k"));
        same(&json!("1E3"), &json!("1k"));
        same(&json!("12e-3"), &json!("12m"));
        same(&json!("1E"), &json!("1e18"));
        same(&json!("0.5Gi"), &json!("512Mi"));
        same(&json!(".5"), &json!("500m"));
        same(&json!("5."), &json!("+5"));
        same(&json!("1n"), &json!("0.1n"));
        same(&json!("128974848"), &json!("123Mi"));
        same(&json!("0"), &json!("0Mi"));
    }

    #[test]
    fn different_amounts_differ() {
        assert_ne!(nano(&json!("1G")), nano(&json!("1Gi")));
        assert_ne!(nano(&json!("1m")), nano(&json!("1M")));
        assert_ne!(nano(&json!("-1")), nano(&json!("1")));
        assert_ne!(nano(&json!("1.000000001")), nano(&json!("1")));
    }

    #[test]
    fn rejects_malformed_quantities() {
        for text in ["", ".", "-", "Mi", "1 Gi", "1gi", "1K", "1.2.3", "0x1", "1e", "1e3Mi", "ä", "1ä"] {
            assert_eq!(nano(&json!(text)), None, "{text}");
        }
        assert_eq!(nano(&json!(true)), None);
        assert_eq!(nano(&json!("99999999999999999999999999999999999999999Ei")), None);
    }

    proptest! {
        #[test]
        fn formatting_does_not_change_amount(milli in 0_i64..1_000_000_000_000, zeros in 0_usize..5) {
            let plain = json!(format!("{milli}m"));
            let zeros = "0".repeat(zeros);
            let decimal = format!("{}.{:03}{zeros}", milli / 1000, milli % 1000);
            prop_assert_eq!(nano(&plain), nano(&json!(decimal)));
            prop_assert_eq!(nano(&plain), nano(&json!(format!("{zeros}{milli}e-3"))));
            prop_assert_eq!(nano(&plain), nano(&json!(format!("{milli}000u"))));
            prop_assert_eq!(nano(&plain), nano(&json!(format!("+{milli}000000n"))));
        }

        #[test]
        fn binary_suffixes_are_powers_of_1024(count in 0_i64..1_000_000) {
            prop_assert_eq!(nano(&json!(format!("{count}Gi"))), nano(&json!(format!("{}Mi", count * 1024))));
            prop_assert_eq!(nano(&json!(format!("{count}Ki"))), nano(&json!(count * 1024)));
        }

        #[test]
        fn other_amounts_are_never_equal(left in 0_i64..1_000_000, right in 0_i64..1_000_000) {
            let equal = nano(&json!(format!("{left}m"))) == nano(&json!(format!("{right}m")));
            prop_assert_eq!(equal, left == right);
        }
    }
}
