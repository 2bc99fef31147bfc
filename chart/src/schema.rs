//! The subset of JSON Schema that the charts' `values.schema.json` use. Other validation keywords are rejected when the
//! chart is loaded; annotations are ignored.

use regex::Regex;
use serde_json::{Map, Value};

/// The maximum depth of nested references.
const MAX_DEPTH: usize = 64;

/// Validation keywords that are not implemented.
const UNSUPPORTED: [&str; 21] = [
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "if",
    "maxContains",
    "minContains",
    "multipleOf",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// A parsed JSON schema.
#[derive(Debug)]
pub struct Schema {
    root: Value,
}

impl Schema {
    /// Parses a schema; fails if it has unsupported keywords.
    pub fn parse(text: &str) -> Result<Self, String> {
        let root: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let schema = Self { root };
        schema.check(&schema.root, "#", 0)?;
        Ok(schema)
    }

    fn check(&self, node: &Value, path: &str, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("{path}: nested deeper than {MAX_DEPTH} levels"));
        }
        let words = match node {
            Value::Bool(_) => return Ok(()),
            Value::Object(words) => words,
            _ => return Err(format!("{path}: a schema must be an object or a boolean")),
        };
        if let Some(word) = UNSUPPORTED.iter().find(|word| words.contains_key(**word)) {
            return Err(format!("{path}: keyword {word:?} is not supported"));
        }
        if let Some(Value::String(target)) = words.get("$ref") {
            self.resolve(target).ok_or_else(|| format!("{path}: $ref {target:?} not found in this file"))?;
        }
        if let Some(pattern) = words.get("pattern").and_then(Value::as_str) {
            Regex::new(pattern).map_err(|error| format!("{path}: pattern {pattern:?}: {error}"))?;
        }
        for word in ["properties", "$defs", "definitions"] {
            for (name, inner) in words.get(word).and_then(Value::as_object).into_iter().flatten() {
                self.check(inner, &format!("{path}/{word}/{name}"), depth + 1)?;
            }
        }
        for word in ["items", "additionalProperties", "not"] {
            if let Some(inner) = words.get(word) {
                self.check(inner, &format!("{path}/{word}"), depth + 1)?;
            }
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            for (index, inner) in words.get(word).and_then(Value::as_array).into_iter().flatten().enumerate() {
                self.check(inner, &format!("{path}/{word}/{index}"), depth + 1)?;
            }
        }
        Ok(())
    }

    fn resolve(&self, target: &str) -> Option<&Value> {
        self.root.pointer(target.strip_prefix('#')?)
    }

    /// Validates values; returns one sentence per violation.
    #[must_use]
    pub fn problems(&self, values: &Value) -> Vec<String> {
        let mut found = Validator { schema: self, list: Vec::new() };
        found.validate(&self.root, values, "", 0);
        found.list
    }

    fn fits(&self, schema: &Value, value: &Value, depth: usize) -> bool {
        let mut found = Validator { schema: self, list: Vec::new() };
        found.validate(schema, value, "", depth);
        found.list.is_empty()
    }
}

struct Validator<'s> {
    schema: &'s Schema,
    list: Vec<String>,
}

impl Validator<'_> {
    fn add(&mut self, path: &str, problem: impl std::fmt::Display) {
        let location = if path.is_empty() { "the values" } else { path };
        self.list.push(format!("{location}: {problem}"));
    }

    fn validate(&mut self, schema: &Value, value: &Value, path: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return self.add(path, "the schema's references are recursive");
        }
        let words = match schema {
            Value::Object(words) => words,
            Value::Bool(false) => return self.add(path, "not allowed"),
            _ => return,
        };
        if let Some(target) = words.get("$ref").and_then(Value::as_str).and_then(|target| self.schema.resolve(target)) {
            self.validate(target, value, path, depth + 1);
        }
        self.kind(words, value, path);
        self.choices(words, value, path, depth);
        match value {
            Value::Object(entries) => self.object(words, entries, path, depth),
            Value::Array(items) => self.array(words, items, path, depth),
            Value::String(text) => self.text(words, text, path),
            Value::Number(number) => self.number(words, number.as_f64().unwrap_or_default(), path),
            _ => {}
        }
    }

    fn kind(&mut self, words: &Map<String, Value>, value: &Value, path: &str) {
        let wanted: Vec<&str> = match words.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !wanted.is_empty() && !wanted.iter().any(|kind| is_kind(value, kind)) {
            self.add(path, format_args!("must be of type {}, but is {value}", wanted.join(" or ")));
        }
        if let Some(Value::Array(allowed)) = words.get("enum")
            && !allowed.iter().any(|other| same(other, value))
        {
            let allowed: Vec<_> = allowed.iter().map(Value::to_string).collect();
            self.add(path, format_args!("must be one of {}, but is {value}", allowed.join(", ")));
        }
        if let Some(only) = words.get("const")
            && !same(only, value)
        {
            self.add(path, format_args!("must be {only}, but is {value}"));
        }
    }

    fn choices(&mut self, words: &Map<String, Value>, value: &Value, path: &str, depth: usize) {
        let inner = |word: &str| words.get(word).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for schema in inner("allOf") {
            self.validate(schema, value, path, depth + 1);
        }
        let fitting = |word| inner(word).iter().filter(|one| self.schema.fits(one, value, depth + 1)).count();
        let (any, one) = (fitting("anyOf"), fitting("oneOf"));
        if !inner("anyOf").is_empty() && any == 0 {
            self.add(path, format_args!("must match one of the allowed forms, but is {value}"));
        }
        if !inner("oneOf").is_empty() && one != 1 {
            self.add(path, format_args!("must match exactly one of the allowed forms, but matches {one}"));
        }
        if words.get("not").is_some_and(|not| self.schema.fits(not, value, depth + 1)) {
            self.add(path, format_args!("must not be {value}"));
        }
    }

    fn object(&mut self, words: &Map<String, Value>, entries: &Map<String, Value>, path: &str, depth: usize) {
        self.count(words, ("minProperties", "maxProperties"), entries.len(), "entries", path);
        for key in words.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !entries.contains_key(key) {
                self.add(path, format_args!("{key} is required"));
            }
        }
        let properties = words.get("properties").and_then(Value::as_object);
        for (key, value) in entries {
            let key_path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (properties.and_then(|known| known.get(key)), words.get("additionalProperties")) {
                (None, Some(Value::Bool(false))) => {
                    let known: Vec<_> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
                    self.add(&key_path, format_args!("unknown field; known fields: {}", known.join(", ")));
                }
                (Some(schema), _) | (None, Some(schema)) => self.validate(schema, value, &key_path, depth + 1),
                (None, None) => {}
            }
        }
    }

    fn array(&mut self, words: &Map<String, Value>, items: &[Value], path: &str, depth: usize) {
        self.count(words, ("minItems", "maxItems"), items.len(), "entries", path);
        if words.get("uniqueItems") == Some(&Value::Bool(true)) {
            let duplicate =
                items.iter().enumerate().any(|(at, item)| items.iter().take(at).any(|other| same(item, other)));
            if duplicate {
                self.add(path, "has duplicate entries");
            }
        }
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = words.get("items") {
                self.validate(schema, item, &format!("{path}[{index}]"), depth + 1);
            }
        }
    }

    fn text(&mut self, words: &Map<String, Value>, text: &str, path: &str) {
        self.count(words, ("minLength", "maxLength"), text.chars().count(), "characters", path);
        if let Some(pattern) = words.get("pattern").and_then(Value::as_str)
            && !Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
        {
            self.add(path, format_args!("must match {pattern:?}, but is {text:?}"));
        }
    }

    fn number(&mut self, words: &Map<String, Value>, number: f64, path: &str) {
        if let Some(least) = words.get("minimum").and_then(Value::as_f64).filter(|least| number < *least) {
            self.add(path, format_args!("must be at least {least}, but is {number}"));
        }
        if let Some(most) = words.get("maximum").and_then(Value::as_f64).filter(|most| number > *most) {
            self.add(path, format_args!("must be at most {most}, but is {number}"));
        }
    }

    fn count(&mut self, words: &Map<String, Value>, (min, max): (&str, &str), count: usize, what: &str, path: &str) {
        let limit = |word| words.get(word).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
        if let Some(least) = limit(min).filter(|least| count < *least) {
            self.add(path, format_args!("must have at least {least} {what}, but has {count}"));
        }
        if let Some(most) = limit(max).filter(|most| count > *most) {
            self.add(path, format_args!("must have at most {most} {what}, but has {count}"));
        }
    }
}

/// Compares numbers by value, so that 1 equals 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn is_kind(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(schema: &Value, value: &Value) -> Vec<String> {
        Schema::parse(&schema.to_string()).unwrap().problems(value)
    }

    #[test]
    fn names_path_and_expected_value() {
        let schema = json!({
            "$defs": {"port": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}}},
            "properties": {"service": {"properties": {"ports": {"items": {"$ref": "#/$defs/port"}}}}}
        });
        let found = problems(&schema, &json!({"service": {"ports": [{"port": 80}, {"port": "http"}, {}]}}));
        assert_eq!(
            found,
            ["service.ports[1].port: must be of type integer, but is \"http\"", "service.ports[2]: port is required",]
        );
    }

    #[test]
    fn validates_each_keyword() {
        for (schema, good, bad) in [
            (json!({"type": ["string", "null"]}), json!(null), json!(1)),
            (json!({"type": "integer"}), json!(80.0), json!(80.5)),
            (json!({"enum": ["", "Always"]}), json!("Always"), json!("always")),
            (json!({"const": 1}), json!(1.0), json!(2)),
            (json!({"additionalProperties": false, "properties": {"a": true}}), json!({"a": 1}), json!({"b": 1})),
            (json!({"additionalProperties": {"type": "string"}}), json!({"a": "x"}), json!({"a": 1})),
            (json!({"minProperties": 1, "maxProperties": 1}), json!({"a": 1}), json!({"a": 1, "b": 1})),
            (json!({"minimum": 1, "maximum": 2}), json!(2), json!(3)),
            (json!({"minItems": 1, "uniqueItems": true}), json!([1, 2]), json!([1, 1])),
            (json!({"maxLength": 2, "pattern": "^a"}), json!("ab"), json!("b")),
            (json!({"anyOf": [{"type": "string"}, {"minimum": 5}]}), json!(6), json!(4)),
            (json!({"oneOf": [{"type": "number"}, {"minimum": 5}]}), json!(4), json!(6)),
            (json!({"allOf": [{"minimum": 1}, {"maximum": 3}]}), json!(2), json!(4)),
            (json!({"not": {"type": "string"}}), json!(1), json!("x")),
        ] {
            assert!(problems(&schema, &good).is_empty(), "{schema} {good}");
            assert_eq!(problems(&schema, &bad).len(), 1, "{schema} {bad}");
        }
    }

    #[test]
    fn rejects_unsupported_keywords() {
        for schema in [json!({"properties": {"a": {"if": {}}}}), json!({"$ref": "http://x/y"}), json!({"pattern": "("})]
        {
            assert!(Schema::parse(&schema.to_string()).is_err(), "{schema}");
        }
        assert!(Schema::parse(r#"{"description": "x", "defaults": {}}"#).is_ok());
    }

    #[test]
    fn reports_recursive_references() {
        assert!(!problems(&json!({"$ref": "#"}), &json!({})).is_empty());
    }
}
