//! Extracts sections and fields from the API's schema. Pure.

use serde_json::Value;

/// The fields of one object in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReferenceSection {
    /// Path of the object, such as `spec.gateways[].service`.
    pub(super) path: String,
    /// Description without default and examples.
    pub(super) meaning: String,
    /// Messages of its validation rules.
    pub(super) rules: Vec<String>,
    /// Fields of the object.
    pub(super) fields: Vec<Field>,
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Name of the field.
    pub(super) name: String,
    /// Type, as text for the reference.
    pub(super) kind: String,
    /// Path of the [`ReferenceSection`] that describes its type, if it has its own.
    pub(super) section: Option<String>,
    /// Whether the field is required.
    pub(super) required: bool,
    /// Default value set by the API server or used by the operator.
    pub(super) default: Option<String>,
    /// Description without default and examples.
    pub(super) meaning: String,
    /// Constraints and messages of validation rules.
    pub(super) rules: Vec<String>,
}

/// The sections of a schema, parents first.
pub(super) fn sections(path: &str, schema: &Value) -> Vec<ReferenceSection> {
    let fields = fields(path, schema);
    let mut found = vec![ReferenceSection {
        path: path.to_owned(),
        meaning: parse_description(schema).0,
        rules: messages(schema),
        fields: fields.iter().map(|(field, _)| field.clone()).collect(),
    }];
    for (field, inner) in fields {
        if let (Some(path), Some(inner)) = (field.section, inner) {
            found.extend(sections(&path, inner));
        }
    }
    found
}

/// The fields of an object, with the schema of nested objects that have their own section.
fn fields<'a>(path: &str, schema: &'a Value) -> Vec<(Field, Option<&'a Value>)> {
    let required = list(schema, "required");
    let properties = schema.get("properties").and_then(Value::as_object);
    let field = |(name, schema): (&String, &'a Value)| {
        let place = format!("{path}.{name}");
        let inner = match schema.get("items") {
            Some(items) => (format!("{place}[]"), items),
            None => (place, schema),
        };
        let inner = Some(inner).filter(|(_, schema)| has_descriptions(schema));
        let (meaning, written) = parse_description(schema);
        let field = Field {
            name: name.clone(),
            kind: kind(schema),
            section: inner.as_ref().map(|(path, _)| path.clone()),
            required: required.contains(&name.as_str()),
            default: default(schema).or(written),
            meaning,
            rules: bounds(schema).into_iter().chain(messages(schema)).collect(),
        };
        (field, inner.map(|(_, schema)| schema))
    };
    properties.into_iter().flatten().map(field).collect()
}

/// Whether all fields of a schema have descriptions. Kubernetes' own types, such as a pod's affinity, don't; they are
/// documented in Kubernetes.
fn has_descriptions(schema: &Value) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.is_some_and(|fields| fields.values().all(|field| field.get("description").is_some()))
}

/// The type as text.
fn kind(schema: &Value) -> String {
    let choices = list(schema, "enum");
    if !choices.is_empty() {
        return choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    let is = |word: &str| schema.get(word) == Some(&Value::Bool(true));
    if is("x-kubernetes-int-or-string") {
        return "quantity".to_owned();
    }
    match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
        "array" => format!("list of {}", plural(schema.get("items").unwrap_or(&Value::Null))),
        "object" if is("x-kubernetes-preserve-unknown-fields") => "any fields".to_owned(),
        "object" => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => format!("map of {}", plural(values)),
            _ => "object".to_owned(),
        },
        "string" if schema.get("format").is_some_and(|format| format == "date-time") => "time".to_owned(),
        "" => "any value".to_owned(),
        other => other.to_owned(),
    }
}

/// The plural of a type, for lists and maps.
fn plural(schema: &Value) -> String {
    match kind(schema).as_str() {
        "quantity" => "quantities".to_owned(),
        choices if choices.starts_with('`') => choices.to_owned(),
        kind => format!("{kind}s"),
    }
}

/// The constraints in the schema as text.
fn bounds(schema: &Value) -> Vec<String> {
    let number = |word: &str| schema.get(word).and_then(Value::as_f64);
    let span = |least: &str, most: &str, unit: &str| match (number(least), number(most)) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    };
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let unique = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("map") => Some(format!("unique by {}", keys.join(" and "))),
        Some("set") => Some("unique entries".to_owned()),
        _ => None,
    };
    let pattern = schema.get("pattern").and_then(Value::as_str);
    [
        span("minimum", "maximum", ""),
        span("minLength", "maxLength", " characters"),
        span("minItems", "maxItems", " entries"),
        unique,
        pattern.map(|pattern| format!("matches `{pattern}`")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The messages of the validation rules.
fn messages(schema: &Value) -> Vec<String> {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let message = |rule: &Value| rule.get("message")?.as_str().map(str::to_owned);
    rules.into_iter().flatten().filter_map(message).collect()
}

/// The default in the schema. Defaults of objects are shown at their fields.
fn default(schema: &Value) -> Option<String> {
    let default = schema.get("default").filter(|default| !default.is_object())?;
    Some(format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_owned)))
}

/// Splits a description into the text without its `Default:` and `Example:` sentences, and the default.
fn parse_description(schema: &Value) -> (String, Option<String>) {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let mut default = None;
    let mut meaning = Vec::new();
    for sentence in sentences(text) {
        if let Some(rest) = sentence.strip_prefix("Default: ") {
            default = Some(rest.trim_end_matches('.').to_owned());
        } else if !sentence.starts_with("Example: ") {
            meaning.push(sentence);
        }
    }
    (meaning.join(" "), default)
}

/// Splits a text into sentences, ignoring full stops in backticks or parentheses.
fn sentences(text: &str) -> Vec<&str> {
    let (mut code, mut depth, mut begin) = (false, 0_usize, 0_usize);
    let mut found = Vec::new();
    for (place, c) in text.char_indices() {
        let after = place + c.len_utf8();
        match c {
            '`' => code = !code,
            '(' if !code => depth += 1,
            ')' if !code => depth = depth.saturating_sub(1),
            '.' if !code && depth == 0 && text.get(after..).is_some_and(|rest| rest.starts_with(' ')) => {
                found.extend(text.get(begin..after));
                begin = after + 1;
            }
            _ => {}
        }
    }
    found.extend(text.get(begin..).filter(|rest| !rest.is_empty()));
    found
}

/// The strings in a list of the schema.
fn list<'a>(schema: &'a Value, word: &str) -> Vec<&'a str> {
    let values = schema.get(word).and_then(Value::as_array);
    values.into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn splits_sentences_outside_code_and_parentheses() {
        let text = "One `a. b`. Two (see c. d). Default: `1.31`.";
        assert_eq!(sentences(text), ["One `a. b`.", "Two (see c. d).", "Default: `1.31`."]);
    }

    #[test]
    fn reads_fields_from_schema() {
        let schema = json!({"type": "object", "required": ["port"], "properties": {
            "port": {"type": "integer", "minimum": 1, "maximum": 65535, "description": "A port. Example: `80`."},
            "mode": {"type": "string", "enum": ["A", "B"], "default": "A", "description": "How."},
            "names": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "x-kubernetes-list-type": "set",
                "description": "Names. Default: none.", "x-kubernetes-validations": [{"rule": "x", "message": "m"}]},
        }});
        let [section] = &sections("spec", &schema)[..] else { panic!("expected one section") };
        let [mode, names, port] = &section.fields[..] else { panic!("expected three fields") };
        assert_eq!((mode.kind.as_str(), mode.default.as_deref()), ("`A`, `B`", Some("`A`")));
        assert_eq!((names.kind.as_str(), names.default.as_deref()), ("list of strings", Some("none")));
        assert_eq!(names.rules, ["at most 3 entries", "unique entries", "m"]);
        assert_eq!(
            (port.meaning.as_str(), port.required, &port.rules[..]),
            ("A port.", true, &["1 to 65535".to_owned()][..])
        );
    }

    #[test]
    fn only_described_objects_become_sections() {
        let ours = json!({"type": "object", "properties": {"a": {"type": "string", "description": "A."}}});
        let kubernetes = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let schema = json!({"properties": {
            "list": {"type": "array", "description": "L.", "items": ours}, "pod": kubernetes,
        }});
        let paths: Vec<String> = sections("spec", &schema).into_iter().map(|section| section.path).collect();
        assert_eq!(paths, ["spec", "spec.list[]"]);
    }
}
