//! The values of templates, with Go's reference semantics: copies of a map share their entries.

use std::{
    cell::{Ref, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
};

use crate::budget::{Budget, EvalError};

/// The entries of a map, in the order of Go's `range`.
pub type Entries = BTreeMap<Arc<str>, Value>;

/// A template value. As in Helm, numbers from YAML are floats; integers come from literals in templates and from
/// functions such as `int` and `len`.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Go's untyped nil; also the value of a missing key.
    #[default]
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    List(List),
    Map(Map),
    /// One of Helm's built-in objects, with fields and methods.
    Builtin(Builtin),
}

/// Helm's built-in objects that are no maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    Files,
    Capabilities,
    KubeVersion,
    ApiVersions,
}

impl Value {
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    /// The name of the type in Go's error messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Builtin(_) => "object",
        }
    }

    /// The truth value, for `if` and `with`; `default` and `coalesce` treat false as unset.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(value) => !value.is_empty(),
            Self::List(value) => !value.items().is_empty(),
            Self::Map(value) => !value.borrow().is_empty(),
            Self::Builtin(_) => true,
        }
    }

    /// Converts parsed JSON or YAML; as in Helm, every number becomes a float.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(value) => Self::Float(value.as_f64().unwrap_or_default()),
            serde_json::Value::String(value) => Self::text(value.as_str()),
            serde_json::Value::Array(items) => Self::List(List::new(items.iter().map(Self::from_json).collect())),
            serde_json::Value::Object(entries) => Self::Map(Map::new(
                entries.iter().map(|(key, value)| (Arc::from(key.as_str()), Self::from_json(value))).collect(),
            )),
        }
    }

    /// Returns a copy that shares no map or list with the original.
    pub fn deep_copy(&self, budget: &Budget) -> Result<Self, EvalError> {
        let _level = budget.enter()?;
        budget.spend(1)?;
        Ok(match self {
            Self::List(list) => {
                let items = list.items().iter().map(|item| item.deep_copy(budget)).collect::<Result<_, _>>()?;
                Self::List(List::new(items))
            }
            Self::Map(map) => {
                let copy = |(key, value): (&Arc<str>, &Self)| Ok((key.clone(), value.deep_copy(budget)?));
                Self::Map(Map::new(map.borrow().iter().map(copy).collect::<Result<_, EvalError>>()?))
            }
            scalar => scalar.clone(),
        })
    }

    /// Go's `reflect.DeepEqual`: an integer never equals a float.
    pub fn deep_equal(&self, other: &Self, budget: &Budget) -> Result<bool, EvalError> {
        let _level = budget.enter()?;
        budget.spend(1)?;
        Ok(match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            #[expect(clippy::float_cmp, reason = "Go's comparison is exact too")]
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Builtin(a), Self::Builtin(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                let (a, b) = (a.items(), b.items());
                a.len() == b.len() && all_equal(a.iter().zip(b), budget)?
            }
            (Self::Map(a), Self::Map(b)) => {
                let (a, b) = (a.borrow(), b.borrow());
                a.len() == b.len() && a.keys().eq(b.keys()) && all_equal(a.values().zip(b.values()), budget)?
            }
            _ => false,
        })
    }
}

fn all_equal<'v>(mut pairs: impl Iterator<Item = (&'v Value, &'v Value)>, budget: &Budget) -> Result<bool, EvalError> {
    pairs.try_fold(true, |equal, (a, b)| Ok(equal && a.deep_equal(b, budget)?))
}

/// A list, which no template function changes in place.
#[derive(Clone, Debug)]
pub struct List(Rc<Items>);

#[derive(Debug)]
struct Items(Vec<Value>);

impl List {
    pub fn new(items: Vec<Value>) -> Self {
        Self(Rc::new(Items(items)))
    }

    pub fn items(&self) -> &[Value] {
        &self.0.0
    }
}

/// A map with shared entries: a change is visible in all its clones.
#[derive(Clone, Debug, Default)]
pub struct Map(Rc<Cells>);

#[derive(Debug, Default)]
struct Cells(RefCell<Entries>);

impl Map {
    pub fn new(entries: Entries) -> Self {
        Self(Rc::new(Cells(RefCell::new(entries))))
    }

    /// Borrows the entries. Setting a key while they are borrowed panics.
    pub fn borrow(&self) -> Ref<'_, Entries> {
        self.0.0.borrow()
    }

    pub fn get(&self, key: &str) -> Option<Value> {
        self.borrow().get(key).cloned()
    }

    pub fn remove(&self, key: &str) {
        self.0.0.borrow_mut().remove(key);
    }

    /// Sets a key. Rejects a value that contains this map: a cycle could be neither printed nor freed.
    pub fn set(&self, key: Arc<str>, value: Value, budget: &Budget) -> Result<(), EvalError> {
        if value.reaches(self, budget)? {
            return Err(EvalError::failed(format!("setting {key:?} would make the map contain itself")));
        }
        self.0.0.borrow_mut().insert(key, value);
        Ok(())
    }

    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Value {
    fn reaches(&self, target: &Map, budget: &Budget) -> Result<bool, EvalError> {
        let mut pending: Vec<Value> = vec![self.clone()];
        while let Some(value) = pending.pop() {
            budget.spend(1)?;
            match value {
                Value::Map(map) if map.is(target) => return Ok(true),
                Value::Map(map) => pending.extend(map.borrow().values().filter(|v| v.is_collection()).cloned()),
                Value::List(list) => pending.extend(list.items().iter().filter(|v| v.is_collection()).cloned()),
                _ => {}
            }
        }
        Ok(false)
    }

    fn is_collection(&self) -> bool {
        matches!(self, Self::List(_) | Self::Map(_))
    }
}

/// Frees nested collections iteratively, because recursion would overflow the stack for very deep values.
fn free(first: impl IntoIterator<Item = Value>) {
    let mut pending: Vec<Value> = first.into_iter().filter(Value::is_collection).collect();
    while let Some(value) = pending.pop() {
        match value {
            Value::Map(map) => {
                if let Some(cells) = Rc::into_inner(map.0) {
                    pending.extend(cells.0.take().into_values().filter(Value::is_collection));
                }
            }
            Value::List(list) => {
                if let Some(mut items) = Rc::into_inner(list.0) {
                    pending.extend(std::mem::take(&mut items.0).into_iter().filter(Value::is_collection));
                }
            }
            _ => {}
        }
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        free(std::mem::take(&mut self.0));
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        free(self.0.take().into_values());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_map_share_entries() {
        let map = Map::default();
        let same = map.clone();
        same.set("a".into(), Value::Int(1), &Budget::default()).unwrap();
        assert!(matches!(map.get("a"), Some(Value::Int(1))));
    }

    #[test]
    fn rejects_map_that_contains_itself() {
        let (outer, inner) = (Map::default(), Map::default());
        let budget = Budget::default();
        outer.set("inner".into(), Value::Map(inner.clone()), &budget).unwrap();
        let list = List::new(vec![Value::Map(outer.clone())]);
        assert!(inner.set("outer".into(), Value::List(list), &budget).is_err());
    }

    #[test]
    fn frees_deep_values_without_recursion() {
        let mut chain = Value::Nil;
        for level in 0..200_000 {
            chain = if level % 2 == 0 {
                Value::List(List::new(vec![chain]))
            } else {
                Value::Map(Map::new(Entries::from([("next".into(), chain)])))
            };
        }
        drop(chain);
    }

    #[test]
    fn deep_copy_shares_nothing() {
        let budget = Budget::default();
        let inner = Map::default();
        let copy = Value::Map(Map::new(Entries::from([("inner".into(), Value::Map(inner.clone()))])))
            .deep_copy(&budget)
            .unwrap();
        inner.set("a".into(), Value::Bool(true), &budget).unwrap();
        let Value::Map(copy) = copy else { panic!("a map stays a map") };
        let Some(Value::Map(copied)) = copy.get("inner") else { panic!("the inner map is copied") };
        assert!(copied.borrow().is_empty());
    }
}
