//! Sets version, hub and tag in the charts of a source tree, as Istio's release build does. Pure.
//!
//! The text is edited, not parsed and serialized, so that comments and order stay and a stamped chart can be compared
//! with its source. Every edit is verified by parsing the result.

use serde_json::Value;

use super::yaml;

/// The version in the charts of Istio's source tree.
pub(super) const UNSTAMPED: &str = "1.0.0";

/// The key with the defaults of Istio's charts, which keeps Helm from merging them before the profile.
const WRAPPER: &str = "_internal_defaults_do_not_set";

/// A chart can't be stamped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// The file is not YAML.
    #[error("{file} is not valid YAML: {reason}")]
    Yaml { file: &'static str, reason: String },
    /// A field is missing.
    #[error("{file} has no {field}")]
    Missing { file: &'static str, field: String },
    /// The field's notation can't be edited safely.
    #[error("can't set {field} in {file}; write it on its own line, as `{last}: value`")]
    Shape {
        file: &'static str,
        field: String,
        /// The last segment of the field.
        last: String,
    },
}

const CHART: &str = "Chart.yaml";
const VALUES: &str = "values.yaml";

/// Returns the version in a `Chart.yaml`.
pub(super) fn chart_version(text: &str) -> Result<String, StampError> {
    let chart = parse(CHART, text)?;
    let version = chart.get("version").and_then(Value::as_str);
    version.map(str::to_owned).ok_or_else(|| StampError::Missing { file: CHART, field: "version".to_owned() })
}

/// Sets `version` and `appVersion` in a `Chart.yaml`.
pub(super) fn chart(text: &str, version: &str) -> Result<String, StampError> {
    let text = set(CHART, text, &["version"], version)?;
    set(CHART, &text, &["appVersion"], version)
}

/// Sets hub and tag in a `values.yaml` wherever it has a default, for all components (`global.hub`) or its own (`hub`).
/// An empty hub, which means the global one, stays empty.
pub(super) fn values(text: &str, hub: &str, tag: &str) -> Result<String, StampError> {
    let original = parse(VALUES, text)?;
    let mut stamped = text.to_owned();
    for (name, value) in [("hub", hub), ("tag", tag)] {
        for path in defaults(&original, name) {
            stamped = set(VALUES, &stamped, &path, value)?;
        }
    }
    Ok(stamped)
}

/// Returns the hub and tag in a `values.yaml`.
pub(super) fn images(text: &str) -> Result<(String, String), StampError> {
    let values = parse(VALUES, text)?;
    let first = |name: &str| {
        let path = defaults(&values, name).into_iter().next();
        let text = path.and_then(|path| values.pointer(&pointer(&path))).and_then(scalar);
        text.ok_or_else(|| StampError::Missing { file: VALUES, field: format!("{name} or global.{name}") })
    };
    Ok((first("hub")?, first("tag")?))
}

/// The paths at which a name has a value.
fn defaults<'a>(values: &Value, name: &'a str) -> Vec<Vec<&'a str>> {
    let paths = [vec![WRAPPER, "global", name], vec![WRAPPER, name], vec!["global", name], vec![name]];
    paths.into_iter().filter(|path| values.pointer(&pointer(path)).and_then(scalar).is_some()).collect()
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn pointer(path: &[&str]) -> String {
    format!("/{}", path.join("/"))
}

fn parse(file: &'static str, text: &str) -> Result<Value, StampError> {
    yaml::parse(text).map_err(|error| StampError::Yaml { file, reason: error.to_string() })
}

/// Sets one field and verifies that nothing else changed.
fn set(file: &'static str, text: &str, path: &[&str], value: &str) -> Result<String, StampError> {
    let field = path.join(".");
    let mut wanted = parse(file, text)?;
    let Some(target) = wanted.pointer_mut(&pointer(path)) else {
        return Err(StampError::Missing { file, field });
    };
    *target = Value::String(value.to_owned());
    let edited = edit(text, path, value);
    if parse(file, &edited).is_ok_and(|result| result == wanted) {
        Ok(edited)
    } else {
        let last = path.last().copied().unwrap_or_default().to_owned();
        Err(StampError::Shape { file, field, last })
    }
}

/// Replaces the scalar of the first key with this path and keeps a trailing comment. Tracks block mappings by
/// indentation; leaves everything else unchanged.
fn edit(text: &str, path: &[&str], value: &str) -> String {
    let mut parents: Vec<(usize, &str)> = Vec::new();
    let mut done = false;
    let mut edited = String::with_capacity(text.len() + value.len());
    for line in text.split_inclusive('\n') {
        if let Some((indent, key, rest)) = entry(line) {
            parents.retain(|(outer, _)| *outer < indent);
            parents.push((indent, key));
            if !done && parents.iter().map(|(_, key)| key).eq(path) {
                let end = if line.ends_with('\n') { "\n" } else { "" };
                let comment = rest.trim_end().split_once(" #").map(|(_, text)| format!(" #{text}"));
                let comment = comment.unwrap_or_default();
                edited.extend([&*" ".repeat(indent), key, ": ", value, &comment, end]);
                done = true;
                continue;
            }
        }
        edited.push_str(line);
    }
    edited
}

/// Splits a line into indentation, key, and the rest after the colon.
fn entry(line: &str) -> Option<(usize, &str, &str)> {
    let content = line.trim_start_matches(' ');
    let (key, rest) = content.split_once(':')?;
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    let separated = rest.is_empty() || rest.starts_with([' ', '\n', '\r']);
    (plain && separated).then_some((line.len() - content.len(), key, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRAPPED: &str = "# a chart\n_internal_defaults_do_not_set:\n  hub: \"\"\n  tag: \"\"\n  list:\n  - hub: no\n\
                           \x20 global:\n    # where images are\n    hub: dev.example.com/testing # for now\n    tag: latest\n\
                           \x20   proxy:\n      tag: its own\n";

    #[test]
    fn sets_hub_and_tag_only_where_defined() {
        let stamped = values(WRAPPED, "registry.example.com/release", "1.31.2").unwrap();
        let wanted = WRAPPED
            .replace("dev.example.com/testing", "registry.example.com/release")
            .replace("tag: latest", "tag: 1.31.2");
        assert_eq!(stamped, wanted);
        assert_eq!(images(&stamped), Ok(("registry.example.com/release".to_owned(), "1.31.2".to_owned())));
    }

    #[test]
    fn sets_hub_of_chart_without_global() {
        let text = "_internal_defaults_do_not_set:\n  hub: a\n  tag: latest";
        assert_eq!(values(text, "b", "1.31.2").unwrap(), "_internal_defaults_do_not_set:\n  hub: b\n  tag: 1.31.2");
    }

    #[test]
    fn sets_defaults_at_top_level_in_older_charts() {
        assert_eq!(values("global:\n  hub: a\n  tag: latest\n", "b", "c").unwrap(), "global:\n  hub: b\n  tag: c\n");
    }

    #[test]
    fn refuses_to_edit_block_scalars() {
        let text = "note: |\nglobal:\n";
        assert!(values(text, "b", "c").is_ok(), "nothing to set");
        let text = "global:\n  note: |\n    x\n  text:\n    |\n    y\n  hub:\n    a\n  tag: t\n";
        let error = values(text, "b", "c").unwrap_err();
        assert_eq!(error.to_string(), "can't set global.hub in values.yaml; write it on its own line, as `hub: value`");
    }

    #[test]
    fn sets_both_versions_and_keeps_missing_newline() {
        let text = "name: gateway\n# replaced by the release build\nversion: 1.0.0\nappVersion: 1.0.0";
        let stamped = chart(text, "1.32.0-alpha.eed52ebb66ad").unwrap();
        assert_eq!(stamped, text.replace("1.0.0", "1.32.0-alpha.eed52ebb66ad"));
        assert_eq!(chart_version(&stamped).unwrap(), "1.32.0-alpha.eed52ebb66ad");
    }

    #[test]
    fn refuses_version_that_parses_as_number() {
        assert!(matches!(chart("version: a\nappVersion: b\n", "1.31"), Err(StampError::Shape { .. })));
    }

    #[test]
    fn names_missing_fields() {
        assert_eq!(chart("version: 1.0.0\n", "1.31.2").unwrap_err().to_string(), "Chart.yaml has no appVersion");
        assert_eq!(images("a: 1\n").unwrap_err().to_string(), "values.yaml has no hub or global.hub");
    }
}
