//! Conversion from and to YAML and JSON.

use super::mismatch;
use crate::{
    budget::{Budget, EvalError},
    json,
    value::{Entries, Map, Value},
    yaml,
};

type Result = std::result::Result<Value, EvalError>;

/// Parses a YAML map. As in Helm, an error doesn't fail the template but is returned under the key `Error`.
pub fn from_yaml(text: &str, budget: &Budget) -> Result {
    budget.spend(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
    let problem = match yaml::parse(text) {
        Ok(serde_json::Value::Null) => return Ok(Value::Map(Map::default())),
        Ok(parsed @ serde_json::Value::Object(_)) => return Ok(Value::from_json(&parsed)),
        Ok(_) => "the document is not a map".to_owned(),
        Err(error) => error.to_string(),
    };
    Ok(Value::Map(Map::new(Entries::from([("Error".into(), Value::text(problem))]))))
}

pub fn to_yaml(values: &[Value], budget: &Budget) -> Result {
    let [value] = values else { return mismatch() };
    Ok(Value::text(yaml::to_yaml(value, budget)?))
}

pub fn to_pretty_json(values: &[Value], budget: &Budget) -> Result {
    let [value] = values else { return mismatch() };
    Ok(Value::text(json::pretty(value, budget)?))
}
