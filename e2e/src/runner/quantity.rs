//! Parser for Kubernetes quantities in `resourceFieldRef`.

/// Divides `amount` by `divisor` and rounds up, like the kubelet. `None` if either isn't a quantity.
pub(super) fn divided(amount: &str, divisor: &str) -> Option<i128> {
    let divisor = match parse(divisor)? {
        // The API server defaults an unset divisor to "0".
        0 => NANO,
        divisor => divisor,
    };
    Some((parse(amount)? + divisor - 1) / divisor)
}

const NANO: i128 = 1_000_000_000;

/// Parses a quantity into billionths, the smallest unit.
fn parse(text: &str) -> Option<i128> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(split)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    digits.checked_mul(unit(suffix)?)?.checked_div(scale)
}

fn unit(suffix: &str) -> Option<i128> {
    let power = |base: i128, exponent: u32| NANO.checked_mul(base.checked_pow(exponent)?);
    match suffix {
        "n" => Some(1),
        "u" => Some(1_000),
        "m" => Some(1_000_000),
        "" => Some(NANO),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up() {
        assert_eq!(divided("500m", "1"), Some(1));
        assert_eq!(divided("2", "0"), Some(2));
        assert_eq!(divided("1.5", "1m"), Some(1500));
        assert_eq!(divided("2Gi", "1Mi"), Some(2048));
        assert_eq!(divided("two", "1"), None);
    }
}
