//! The fields of the API as its schema has them: each object of ours a section, with what may be in it. Pure.

use serde_json::Value;

/// An object of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// Where it is, such as `spec.gateways[].service`.
    pub(super) path: String,
    /// What it is.
    pub(super) meaning: String,
    /// What must hold of its fields together.
    pub(super) rules: Vec<String>,
    /// What may be in it.
    pub(super) fields: Vec<Field>,
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: String,
    /// Its type, for people.
    pub(super) kind: String,
    /// Where its type is a [`Section`] of its own: that section's path.
    pub(super) section: Option<String>,
    /// Whether it has to be there.
    pub(super) required: bool,
    /// What the API server, or else the operator, takes where it isn't there.
    pub(super) default: Option<String>,
    /// What it is.
    pub(super) meaning: String,
    /// What its value must fit.
    pub(super) rules: Vec<String>,
}

/// The sections of a schema, each before those inside it.
pub(super) fn sections(path: &str, schema: &Value) -> Vec<Section> {
    let fields = fields(path, schema);
    let mut found = vec![Section {
        path: path.to_owned(),
        meaning: told(schema).0,
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

/// The fields of an object, each with the schema of the objects that it holds, if those are ours.
fn fields<'a>(path: &str, schema: &'a Value) -> Vec<(Field, Option<&'a Value>)> {
    let required = list(schema, "required");
    let properties = schema.get("properties").and_then(Value::as_object);
    let field = |(name, schema): (&String, &'a Value)| {
        let place = format!("{path}.{name}");
        let inner = match schema.get("items") {
            Some(items) => (format!("{place}[]"), items),
            None => (place, schema),
        };
        let inner = Some(inner).filter(|(_, schema)| is_ours(schema));
        let (meaning, written) = told(schema);
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

/// Whether a schema says of each of its fields what it is. Kubernetes' own types, such as a pod's affinity, don't: they
/// are documented where they come from.
fn is_ours(schema: &Value) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.is_some_and(|fields| fields.values().all(|field| field.get("description").is_some()))
}

/// A type, for people.
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

/// The type of a list's entries, for people.
fn plural(schema: &Value) -> String {
    match kind(schema).as_str() {
        "quantity" => "quantities".to_owned(),
        choices if choices.starts_with('`') => choices.to_owned(),
        kind => format!("{kind}s"),
    }
}

/// What the schema itself bounds, for people.
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
        Some("map") => Some(format!("no two with the same {}", keys.join(" and "))),
        Some("set") => Some("no entry twice".to_owned()),
        _ => None,
    };
    let pattern = schema.get("pattern").and_then(Value::as_str);
    [
        span("minimum", "maximum", ""),
        span("minLength", "maxLength", " characters"),
        span("minItems", "maxItems", " entries"),
        unique,
        pattern.map(|pattern| format!("fits `{pattern}`")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a broken rule says.
fn messages(schema: &Value) -> Vec<String> {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let message = |rule: &Value| rule.get("message")?.as_str().map(str::to_owned);
    rules.into_iter().flatten().filter_map(message).collect()
}

/// The default that the API server fills in; what is made of the defaults of its fields is told of at those.
fn default(schema: &Value) -> Option<String> {
    let default = schema.get("default").filter(|default| !default.is_object())?;
    Some(format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_owned)))
}

/// A description without its sentences of a default and an example, which have places of their own; and that default.
fn told(schema: &Value) -> (String, Option<String>) {
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

/// The sentences of a text. A full stop inside backticks or parentheses ends none.
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

/// The words of a list in a schema.
fn list<'a>(schema: &'a Value, word: &str) -> Vec<&'a str> {
    let values = schema.get(word).and_then(Value::as_array);
    values.into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sentences_end_at_full_stops_outside_code_and_parentheses() {
        let text = "One `a. b`. Two (see c. d). Default: `1.31`.";
        assert_eq!(sentences(text), ["One `a. b`.", "Two (see c. d).", "Default: `1.31`."]);
    }

    #[test]
    fn a_field_is_told_of_by_its_schema() {
        let schema = json!({"type": "object", "required": ["port"], "properties": {
            "port": {"type": "integer", "minimum": 1, "maximum": 65535, "description": "A port. Example: `80`."},
            "mode": {"type": "string", "enum": ["A", "B"], "default": "A", "description": "How."},
            "names": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "x-kubernetes-list-type": "set",
                "description": "Names. Default: none.", "x-kubernetes-validations": [{"rule": "x", "message": "m"}]},
        }});
        let [section] = &sections("spec", &schema)[..] else { panic!("one section is expected") };
        let [mode, names, port] = &section.fields[..] else { panic!("three fields are expected") };
        assert_eq!((mode.kind.as_str(), mode.default.as_deref()), ("`A`, `B`", Some("`A`")));
        assert_eq!((names.kind.as_str(), names.default.as_deref()), ("list of strings", Some("none")));
        assert_eq!(names.rules, ["at most 3 entries", "no entry twice", "m"]);
        assert_eq!(
            (port.meaning.as_str(), port.required, &port.rules[..]),
            ("A port.", true, &["1 to 65535".to_owned()][..])
        );
    }

    #[test]
    fn objects_of_ours_are_sections_and_kubernetes_own_are_not() {
        let ours = json!({"type": "object", "properties": {"a": {"type": "string", "description": "A."}}});
        let kubernetes = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let schema = json!({"properties": {
            "list": {"type": "array", "description": "L.", "items": ours}, "pod": kubernetes,
        }});
        let paths: Vec<String> = sections("spec", &schema).into_iter().map(|section| section.path).collect();
        assert_eq!(paths, ["spec", "spec.list[]"]);
    }
}
