//! Reads and writes YAML like Helm. Pure.

mod emit;
mod parse;
mod scalar;

pub use emit::to_yaml;
pub use parse::{YamlError, parse};

use crate::Limits;
use crate::budget::Budget;
use crate::value::{Entries, List, Map, Value};

/// Parses one YAML document as Go's libraries do (YAML 1.1: `yes` is a boolean); an empty one is null.
pub fn parse_yaml(text: &str) -> Result<serde_json::Value, YamlError> {
    parse(text)
}

/// Formats a manifest as YAML, quoted for tools that read YAML 1.1, such as kubectl: `"on"` and `"0644"` stay strings.
/// Ends with a line break. Extremely deep values are written as JSON, which is valid YAML.
#[must_use]
pub fn yaml_text(value: &serde_json::Value) -> String {
    let budget = Budget::new(&Limits { max_output_bytes: usize::MAX, max_steps: u64::MAX });
    let text = to_yaml(&with_integers(value), &budget).unwrap_or_else(|_| value.to_string());
    format!("{text}\n")
}

/// Converts integers to integers, not to floats: large ones would be written with an exponent.
fn with_integers(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Number(number) => number.as_i64().map_or_else(|| Value::from_json(value), Value::Int),
        serde_json::Value::Array(items) => Value::List(List::new(items.iter().map(with_integers).collect())),
        serde_json::Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.as_str().into(), with_integers(value)));
            Value::Map(Map::new(entries.collect::<Entries>()))
        }
        _ => Value::from_json(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn manifest_round_trips() {
        let manifest = json!({
            "data": {"on": "off", "mode": "0644", "n": "1e3", "text": "a: b\n# c\n", "empty": "", "null": "~"},
            "spec": {"port": 15021, "limit": 4_294_967_295_u64, "ratio": 0.5, "none": null, "list": [], "map": {}},
        });
        assert_eq!(parse(&yaml_text(&manifest)).unwrap(), manifest);
        assert!(yaml_text(&manifest).contains("limit: 4294967295\n"));
    }
}
