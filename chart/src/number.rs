//! Formats numbers like Go: `%v` and `'g'` for floats, and encoding/json.

/// The shortest decimal that parses as the same float: `0.d1d2d3... * 10^point`.
struct ShortestDecimal {
    negative: bool,
    digits: String,
    point: i32,
}

fn shortest(value: f64) -> ShortestDecimal {
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.replace('.', "");
    ShortestDecimal {
        negative: value.is_sign_negative(),
        digits,
        point: exponent.parse::<i32>().unwrap_or_default() + 1,
    }
}

fn scientific(number: &ShortestDecimal) -> String {
    let mut out = String::from(if number.negative { "-" } else { "" });
    let (first, rest) = number.digits.split_at_checked(1).unwrap_or((&number.digits, ""));
    out.push_str(first);
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    let exponent = number.point - 1;
    let sign = if exponent < 0 { '-' } else { '+' };
    out + &format!("e{sign}{:02}", exponent.abs())
}

/// Formats a float like `fmt.Print` and go-yaml: with an exponent from seven digits before the point, so one million is
/// `1e+06`.
pub fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let number = shortest(value);
    let exponent = number.point - 1;
    if value != 0.0 && !(-4..6).contains(&exponent) { scientific(&number) } else { format!("{value}") }
}

/// Formats a float like encoding/json: plain digits below 1e21, and no padded exponent. `None` for infinity and NaN.
pub fn json_float(value: f64) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return Some(format!("{value}"));
    }
    Some(scientific(&shortest(value)).replace("e-0", "e-"))
}

/// Formats a float like `toYaml`: through JSON, where whole numbers that fit in 64 bits become integers.
pub fn yaml_float(value: f64) -> Option<String> {
    let json = json_float(value)?;
    let whole = json.parse::<i64>().is_ok() || json.parse::<u64>().is_ok();
    Some(match json.as_str() {
        "-0" => "0".into(),
        _ if whole => json,
        _ => go_float(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_floats_like_go() {
        for (value, text) in [
            (0.0, "0"),
            (15020.0, "15020"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e21, "1e+21"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (-3.25e-7, "-3.25e-07"),
        ] {
            assert_eq!(go_float(value), text);
        }
    }

    #[test]
    fn json_writes_large_numbers_without_exponent() {
        for (value, text) in [(1e6, "1000000"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1e-7, "1e-7")] {
            assert_eq!(json_float(value).as_deref(), Some(text));
        }
        assert_eq!(json_float(f64::NAN), None);
    }

    #[test]
    fn yaml_writes_whole_numbers_as_integers() {
        for (value, text) in
            [(1e6, "1000000"), (1e20, "1e+20"), (0.5, "0.5"), (1_234_567.5, "1.2345675e+06"), (-0.0, "0")]
        {
            assert_eq!(yaml_float(value).as_deref(), Some(text));
        }
    }
}
