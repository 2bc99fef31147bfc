//! Dictionaries. As in sprig, `set`, `unset` and the merge functions change their first argument in place.

use std::sync::Arc;

use super::mismatch;
use crate::{
    budget::{Budget, EvalError},
    format,
    value::{Entries, List, Map, Value},
};

type Result = std::result::Result<Value, EvalError>;

/// Returns an empty map, like `helm template` without a cluster.
#[expect(clippy::unnecessary_wraps, reason = "all functions in the table have this signature")]
pub fn lookup(_: &[Value], _: &Budget) -> Result {
    Ok(Value::Map(Map::default()))
}

/// Takes alternating keys and values; a last key without a value gets an empty string.
pub fn dict(values: &[Value], budget: &Budget) -> Result {
    let mut entries = Entries::new();
    for pair in values.chunks(2) {
        let [key, value @ ..] = pair else { return mismatch() };
        let key = match key {
            Value::Str(key) => key.clone(),
            other => format::display(other, budget)?.into(),
        };
        entries.insert(key, value.first().cloned().unwrap_or_else(|| Value::text("")));
    }
    Ok(Value::Map(Map::new(entries)))
}

/// `dig "a" "b" fallback map`: keys first, map last.
pub fn dig(values: &[Value], _: &Budget) -> Result {
    let [keys @ .., fallback, Value::Map(map)] = values else {
        return Err(EvalError::failed("dig needs keys, a default and, as last argument, a map"));
    };
    let mut at = Value::Map(map.clone());
    if keys.is_empty() {
        return Err(EvalError::failed("dig needs at least three arguments"));
    }
    for key in keys {
        let (Value::Str(key), Value::Map(map)) = (key, &at) else {
            return Err(EvalError::failed(format!("dig can't look up a {} in a {}", key.type_name(), at.type_name())));
        };
        let Some(next) = map.get(key) else { return Ok(fallback.clone()) };
        at = next;
    }
    Ok(at)
}

pub fn deep_copy(values: &[Value], budget: &Budget) -> Result {
    let [value] = values else { return mismatch() };
    value.deep_copy(budget)
}

pub fn has_key(values: &[Value], _: &Budget) -> Result {
    let [Value::Map(map), Value::Str(key)] = values else { return mismatch() };
    Ok(Value::Bool(map.borrow().contains_key(&**key)))
}

/// Returns a new map with the given keys, if present; the values are shared.
pub fn pick(values: &[Value], _: &Budget) -> Result {
    let [Value::Map(map), keys @ ..] = values else { return mismatch() };
    let mut picked = Entries::new();
    for key in keys {
        let Value::Str(key) = key else { return mismatch() };
        if let Some(value) = map.get(key) {
            picked.insert(key.clone(), value);
        }
    }
    Ok(Value::Map(Map::new(picked)))
}

pub fn set(values: &[Value], budget: &Budget) -> Result {
    let [Value::Map(map), Value::Str(key), value] = values else { return mismatch() };
    map.set(key.clone(), value.clone(), budget)?;
    Ok(Value::Map(map.clone()))
}

pub fn unset(values: &[Value], _: &Budget) -> Result {
    let [Value::Map(map), Value::Str(key)] = values else { return mismatch() };
    map.remove(key);
    Ok(Value::Map(map.clone()))
}

pub fn merge(values: &[Value], budget: &Budget) -> Result {
    merge_all(values, false, budget)
}

pub fn merge_overwrite(values: &[Value], budget: &Budget) -> Result {
    merge_all(values, true, budget)
}

fn merge_all(values: &[Value], overwrite: bool, budget: &Budget) -> Result {
    let [Value::Map(target), sources @ ..] = values else { return mismatch() };
    for source in sources {
        let Value::Map(source) = source else { return mismatch() };
        merge_into(target, source, overwrite, budget)?;
    }
    Ok(Value::Map(target.clone()))
}

/// Merges like mergo, which sprig uses. With `overwrite`, the source wins, even with null and empty values; without it,
/// the source only fills missing or empty keys. Maps merge in place; lists are replaced.
fn merge_into(target: &Map, source: &Map, overwrite: bool, budget: &Budget) -> std::result::Result<(), EvalError> {
    let _level = budget.enter()?;
    // A copy: the source may be the target or nested in it.
    let entries: Vec<(Arc<str>, Value)> = source.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, value) in entries {
        budget.spend(1)?;
        let present = target.get(&key);
        let replace = match (&value, &present) {
            (Value::Nil, _) => overwrite,
            (Value::Map(from), Some(Value::Map(into))) => {
                merge_into(into, from, overwrite, budget)?;
                into.borrow().is_empty()
            }
            (_, None) => true,
            (_, Some(kept)) => overwrite || !kept.is_true(),
        };
        if replace {
            target.set(key, value, budget)?;
        }
    }
    Ok(())
}

/// Returns parts of a text as a map with keys `_0`, `_1` and so on.
pub fn numbered<'t>(parts: impl Iterator<Item = &'t str>) -> Value {
    let entries = parts.enumerate().map(|(at, part)| (format!("_{at}").into(), Value::text(part)));
    Value::Map(Map::new(entries.collect()))
}

/// Returns parts of a text as a list.
pub fn listed<'t>(parts: impl Iterator<Item = &'t str>) -> Value {
    Value::List(List::new(parts.map(Value::text).collect()))
}
