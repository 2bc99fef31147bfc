//! Strings and numbers.

use regex::RegexBuilder;

use super::{maps, mismatch};
use crate::{
    budget::{Budget, EvalError},
    format,
    value::Value,
};

type Result = std::result::Result<Value, EvalError>;

/// The size limit of compiled patterns, in bytes.
const MAX_PATTERN: usize = 1 << 20;

pub fn print(values: &[Value], budget: &Budget) -> Result {
    Ok(Value::text(format::sprint(values, budget)?))
}

pub fn printf(values: &[Value], budget: &Budget) -> Result {
    let [Value::Str(format), values @ ..] = values else { return mismatch() };
    Ok(Value::text(format::sprintf(format, values, budget)?))
}

/// Joins the arguments with spaces; skips nil.
pub fn cat(values: &[Value], budget: &Budget) -> Result {
    joined(values, |value| format::display(value, budget))
}

/// Quotes each argument; skips nil.
pub fn quote(values: &[Value], budget: &Budget) -> Result {
    joined(values, |value| match value {
        Value::Str(text) => Ok(format::quote(text)),
        other => Ok(format::quote(&format::display(other, budget)?)),
    })
}

fn joined(values: &[Value], text: impl Fn(&Value) -> std::result::Result<String, EvalError>) -> Result {
    let shown = values.iter().filter(|value| !matches!(value, Value::Nil));
    Ok(Value::text(shown.map(text).collect::<std::result::Result<Vec<_>, _>>()?.join(" ")))
}

pub fn to_string(values: &[Value], budget: &Budget) -> Result {
    match values {
        [Value::Str(text)] => Ok(Value::Str(text.clone())),
        [value] => Ok(Value::text(format::display(value, budget)?)),
        _ => mismatch(),
    }
}

pub fn contains(values: &[Value], _: &Budget) -> Result {
    let [Value::Str(part), Value::Str(whole)] = values else { return mismatch() };
    Ok(Value::Bool(whole.contains(&**part)))
}

pub fn indent(values: &[Value], budget: &Budget) -> Result {
    indented(values, String::new(), budget)
}

/// Like `indent`, after a line break.
pub fn nindent(values: &[Value], budget: &Budget) -> Result {
    indented(values, "\n".into(), budget)
}

fn indented(values: &[Value], start: String, budget: &Budget) -> Result {
    let [Value::Int(spaces), Value::Str(text)] = values else { return mismatch() };
    let spaces = not_negative(*spaces)?;
    let lines = text.split('\n').count();
    budget.fits(text.len().saturating_add(lines.saturating_mul(spaces)))?;
    let pad = " ".repeat(spaces);
    let mut out = start;
    out.reserve(text.len() + lines * spaces + 1);
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        out.push_str(&pad);
        out.push_str(line);
    }
    Ok(Value::text(out))
}

fn not_negative(count: i64) -> std::result::Result<usize, EvalError> {
    usize::try_from(count).map_err(|_| EvalError::failed(format!("the count must not be negative, but is {count}")))
}

pub fn repeat(values: &[Value], budget: &Budget) -> Result {
    let [Value::Int(count), Value::Str(text)] = values else { return mismatch() };
    let count = not_negative(*count)?;
    budget.fits(text.len().saturating_mul(count))?;
    Ok(Value::text(text.repeat(count)))
}

pub fn replace(values: &[Value], budget: &Budget) -> Result {
    let [Value::Str(old), Value::Str(new), Value::Str(text)] = values else { return mismatch() };
    let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(&**old).count() };
    budget.fits(text.len().saturating_add(found.saturating_mul(new.len())))?;
    Ok(Value::text(text.replace(&**old, new)))
}

pub fn split(values: &[Value], _: &Budget) -> Result {
    let [Value::Str(separator), Value::Str(text)] = values else { return mismatch() };
    Ok(maps::numbered(parts(text, separator)))
}

pub fn split_list(values: &[Value], _: &Budget) -> Result {
    let [Value::Str(separator), Value::Str(text)] = values else { return mismatch() };
    Ok(maps::listed(parts(text, separator)))
}

/// Like Go, splits at an empty separator into characters, without empty parts at the ends.
fn parts<'t>(text: &'t str, separator: &'t str) -> impl Iterator<Item = &'t str> {
    let whole = separator.is_empty();
    text.split(separator).filter(move |part| !(whole && part.is_empty()))
}

pub fn trim(values: &[Value], _: &Budget) -> Result {
    let [Value::Str(text)] = values else { return mismatch() };
    Ok(Value::text(text.trim()))
}

pub fn trim_prefix(values: &[Value], _: &Budget) -> Result {
    let [Value::Str(prefix), Value::Str(text)] = values else { return mismatch() };
    Ok(Value::text(text.strip_prefix(&**prefix).unwrap_or(text)))
}

pub fn trim_suffix(values: &[Value], _: &Budget) -> Result {
    let [Value::Str(suffix), Value::Str(text)] = values else { return mismatch() };
    Ok(Value::text(text.strip_suffix(&**suffix).unwrap_or(text)))
}

/// Keeps the first `count` bytes, or the last if negative, without partial characters.
pub fn trunc(values: &[Value], _: &Budget) -> Result {
    let [Value::Int(count), Value::Str(text)] = values else { return mismatch() };
    let length = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if length >= text.len() {
        return Ok(Value::Str(text.clone()));
    }
    let cut = if *count < 0 {
        text.get(text.ceil_char_boundary(text.len() - length)..)
    } else {
        text.get(..text.floor_char_boundary(length))
    };
    Ok(Value::text(cut.unwrap_or_default()))
}

pub fn regex_match(values: &[Value], _: &Budget) -> Result {
    let [Value::Str(pattern), Value::Str(text)] = values else { return mismatch() };
    // An invalid pattern matches nothing, as in sprig.
    let regex = RegexBuilder::new(pattern).size_limit(MAX_PATTERN).build();
    Ok(Value::Bool(regex.is_ok_and(|regex| regex.is_match(text))))
}

/// Converts a number or numeric string to an integer without its fraction; zero for other values.
pub fn int(values: &[Value], _: &Budget) -> Result {
    let [value] = values else { return mismatch() };
    Ok(Value::Int(match value {
        Value::Int(number) => *number,
        #[expect(clippy::cast_possible_truncation, reason = "the function truncates")]
        Value::Float(number) => *number as i64,
        Value::Bool(value) => i64::from(*value),
        Value::Str(text) => parse_int(without_fraction(text)).unwrap_or_default(),
        _ => 0,
    }))
}

fn without_fraction(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => match whole {
            "" | "-" | "+" => "0",
            whole => whole,
        },
        _ => text,
    }
}

/// Parses a Go integer literal: sign, `0x`, `0o`, `0b` or a leading zero, and underscores between digits.
pub fn parse_int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((radix, lower.strip_prefix(prefix)?)))
        .unwrap_or(if lower.len() > 1 && lower.starts_with('0') { (8, &lower) } else { (10, &lower) });
    let misplaced = digits.ends_with('_') || digits.contains("__") || (radix == 10 && digits.starts_with('_'));
    if misplaced || !digits.starts_with(|c: char| c.is_ascii_hexdigit() || c == '_') {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix).ok()
}
