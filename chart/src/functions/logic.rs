//! Comparisons, conditionals, lists, and `fail` and `required`.

use std::cmp::Ordering;

use super::mismatch;
use crate::{
    budget::{Budget, EvalError},
    value::{List, Value},
};

type Result = std::result::Result<Value, EvalError>;

pub fn not(values: &[Value], _: &Budget) -> Result {
    let [value] = values else { return mismatch() };
    Ok(Value::Bool(!value.is_true()))
}

/// Whether the first argument equals one of the others.
pub fn eq(values: &[Value], _: &Budget) -> Result {
    let [first, others @ ..] = values else { return mismatch() };
    if others.is_empty() {
        return Err(EvalError::failed("missing argument for comparison"));
    }
    for other in others {
        if equal(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

pub fn ne(values: &[Value], _: &Budget) -> Result {
    let [a, b] = values else { return mismatch() };
    Ok(Value::Bool(!equal(a, b)?))
}

/// Nil equals only nil; values of different basic types and collections can't be compared.
#[expect(clippy::float_cmp, reason = "Go's == on floats is exact")]
fn equal(a: &Value, b: &Value) -> std::result::Result<bool, EvalError> {
    Ok(match (a, b) {
        (Value::Nil, Value::Nil) => true,
        (Value::Nil, _) | (_, Value::Nil) => false,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => a == b,
        _ => return Err(incompatible(a, b)),
    })
}

fn incompatible(a: &Value, b: &Value) -> EvalError {
    EvalError::failed(format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name()))
}

pub fn gt(values: &[Value], _: &Budget) -> Result {
    let [a, b] = values else { return mismatch() };
    let order = match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        _ => return Err(incompatible(a, b)),
    };
    Ok(Value::Bool(order == Some(Ordering::Greater)))
}

pub fn len(values: &[Value], _: &Budget) -> Result {
    let [value] = values else { return mismatch() };
    let length = match value {
        Value::Str(text) => text.len(),
        Value::List(list) => list.items().len(),
        Value::Map(map) => map.borrow().len(),
        other => return Err(EvalError::failed(format!("len of type {}", other.type_name()))),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

/// `index x 1 "a"` is `x[1]["a"]`; a missing key is nil, an index out of range is an error.
pub fn index(values: &[Value], _: &Budget) -> Result {
    let [item, indexes @ ..] = values else { return mismatch() };
    if matches!(item, Value::Nil) {
        return Err(EvalError::failed("index of untyped nil"));
    }
    let mut item = item.clone();
    for index in indexes {
        item = match (&item, index) {
            (Value::Map(map), Value::Str(key)) => map.get(key).unwrap_or_default(),
            (Value::List(list), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| list.items().get(at));
                found.cloned().ok_or_else(|| EvalError::failed(format!("index out of range: {at}")))?
            }
            (Value::Map(_) | Value::List(_), index) => {
                return Err(EvalError::failed(format!("cannot index {} with {}", item.type_name(), index.type_name())));
            }
            (Value::Nil, _) => return Err(EvalError::failed("index of nil pointer")),
            _ => return Err(EvalError::failed(format!("can't index item of type {}", item.type_name()))),
        };
    }
    Ok(item)
}

/// Returns the first argument that is not empty.
#[expect(clippy::unnecessary_wraps, reason = "all functions in the table have this signature")]
pub fn coalesce(values: &[Value], _: &Budget) -> Result {
    Ok(values.iter().find(|value| value.is_true()).cloned().unwrap_or_default())
}

pub fn default(values: &[Value], _: &Budget) -> Result {
    let [fallback, given @ ..] = values else { return mismatch() };
    Ok(given.first().filter(|value| value.is_true()).unwrap_or(fallback).clone())
}

pub fn ternary(values: &[Value], _: &Budget) -> Result {
    let [yes, no, Value::Bool(condition)] = values else { return mismatch() };
    Ok(if *condition { yes } else { no }.clone())
}

pub fn fail(values: &[Value], _: &Budget) -> Result {
    let [Value::Str(message)] = values else { return mismatch() };
    Err(EvalError::Rejected(message.to_string()))
}

/// Returns the value; fails if it is nil or an empty string.
pub fn required(values: &[Value], _: &Budget) -> Result {
    let [Value::Str(message), value] = values else { return mismatch() };
    match value {
        Value::Nil => Err(EvalError::Rejected(message.to_string())),
        Value::Str(text) if text.is_empty() => Err(EvalError::Rejected(message.to_string())),
        value => Ok(value.clone()),
    }
}

/// Whether the list in the second argument contains the first argument.
pub fn has(values: &[Value], budget: &Budget) -> Result {
    let [needle, haystack] = values else { return mismatch() };
    match haystack {
        Value::Nil => Ok(Value::Bool(false)),
        Value::List(list) => {
            for item in list.items() {
                if needle.deep_equal(item, budget)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        other => Err(EvalError::failed(format!("Cannot find has on type {}", other.type_name()))),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "all functions in the table have this signature")]
pub fn list(values: &[Value], _: &Budget) -> Result {
    Ok(Value::List(List::new(values.to_vec())))
}
