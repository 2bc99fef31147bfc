//! Durations as Go's `time.ParseDuration` reads them.

/// Nanoseconds of a unit.
fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// The duration in nanoseconds; `None` for a text that Go does not accept.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (name, after) = after.split_at_checked(end)?;
        let unit = unit(name)?;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part = whole.checked_mul(unit)?.checked_add(fraction_of(fraction, unit))?;
        total = total.checked_add(part).filter(|total| *total <= 1 << 63)?;
        rest = after;
    }
    if is_negative {
        return Some(0_i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).ok()
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The nanoseconds of a fraction of a unit, cut off.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let mut nanoseconds = 0;
    let mut scale = u128::from(unit);
    for digit in digits.bytes().take(18) {
        // Digits count by their place: unit / 10, unit / 100, and so on, kept exact by multiplying first.
        nanoseconds = nanoseconds * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let divisor = scale / u128::from(unit);
    u64::try_from(nanoseconds * u128::from(unit) / divisor).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn parses_durations_like_go() {
        for (text, expected) in [
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("0", Some(0)),
            ("-2ms", Some(-2_000_000)),
            ("+.5s", Some(500_000_000)),
            ("1.0000000001s", Some(1_000_000_000)),
            ("3\u{b5}s", Some(3_000)),
            ("2562047h47m16.854775807s", Some(i64::MAX)),
            ("2562047h47m16.854775808s", None),
            ("10", None),
            ("", None),
            ("s", None),
            ("1 s", None),
            ("1d", None),
            (".s", None),
            ("5s ", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
