//! Canonical forms of values, in which equivalent notations are equal.

use serde_json::{Number, Value};

use super::path::FieldPath;
use super::quantity::nano;

/// A value without the differences of its notation.
#[derive(Debug, PartialEq)]
pub(super) enum Canonical<'v> {
    /// Absent, null or empty.
    Empty,
    /// A quantity in billionths.
    Amount(i128),
    /// An integer, including `1.0`.
    Integer(i128),
    /// Any other value, unchanged.
    Plain(&'v Value),
}

/// Whether the API server treats two values at a path as equal.
pub(super) fn equal(path: &FieldPath<'_>, left: Option<&Value>, right: Option<&Value>) -> bool {
    left == right || canonical(path, left) == canonical(path, right)
}

pub(super) fn canonical<'v>(path: &FieldPath<'_>, value: Option<&'v Value>) -> Canonical<'v> {
    let Some(value) = value.filter(|value| !is_empty(value)) else { return Canonical::Empty };
    if path.is_quantity()
        && let Some(amount) = nano(value)
    {
        return Canonical::Amount(amount);
    }
    match value {
        Value::Bool(false) if path.omits_zero() => Canonical::Empty,
        Value::Number(number) => match integer(number) {
            Some(0) if path.omits_zero() => Canonical::Empty,
            Some(integer) => Canonical::Integer(integer),
            None => Canonical::Plain(value),
        },
        _ => Canonical::Plain(value),
    }
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i128().or_else(|| {
        let text = number.to_string();
        let (whole, fraction) = text.split_once('.')?;
        if fraction.bytes().all(|digit| digit == b'0') { whole.parse().ok() } else { None }
    })
}

/// Whether the API server may omit the value, since it is empty.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
