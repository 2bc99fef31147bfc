//! Values as they count: in whatever form the API server or we have written them.

use serde_json::{Number, Value};

use super::place::Place;
use super::quantity::nano;

/// A value without what its form adds.
#[derive(Debug, PartialEq)]
pub(super) enum Canonical<'v> {
    /// Not there, or there and empty.
    Nothing,
    /// An amount in billionths.
    Amount(i128),
    /// A whole number, `1.0` included.
    Integer(i128),
    /// Everything else, as it is.
    Plain(&'v Value),
}

/// Whether two values at a place are the same to the API server.
pub(super) fn equal(place: &Place<'_>, left: Option<&Value>, right: Option<&Value>) -> bool {
    left == right || canonical(place, left) == canonical(place, right)
}

pub(super) fn canonical<'v>(place: &Place<'_>, value: Option<&'v Value>) -> Canonical<'v> {
    let Some(value) = value.filter(|value| !is_empty(value)) else { return Canonical::Nothing };
    if place.is_quantity()
        && let Some(amount) = nano(value)
    {
        return Canonical::Amount(amount);
    }
    match value {
        Value::Bool(false) if place.drops_zero() => Canonical::Nothing,
        Value::Number(number) => match integer(number) {
            Some(0) if place.drops_zero() => Canonical::Nothing,
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

/// Whether the API server may leave the value out, since nothing is in it.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
