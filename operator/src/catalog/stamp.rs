//! Puts version, hub and tag into the charts of a source tree, as Istio's release build does. Pure.
//!
//! The text is edited rather than parsed and written anew, so that comments and order stay and a
//! stamped chart can be compared with its origin. Every edit is proved by parsing the result.

use serde_json::Value;

use super::yaml;

/// What the charts of Istio's source tree have for a version.
pub(super) const UNSTAMPED: &str = "1.0.0";

/// Istio's charts keep their defaults below this key, so that Helm doesn't merge profiles too early.
const WRAPPER: &str = "_internal_defaults_do_not_set";

/// A chart's text can't be stamped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// It is no YAML.
    #[error("{file} is no YAML: {reason}")]
    Yaml {
        /// The file.
        file: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// A field is missing.
    #[error("{file} has no {field}")]
    Missing {
        /// The file.
        file: &'static str,
        /// What it lacks.
        field: String,
    },
    /// The field is there, but written in a way that can't be edited safely.
    #[error("can't set {field} in {file}: write it on a line of its own, as `{last}: value`")]
    Shape {
        /// The file.
        file: &'static str,
        /// What can't be set.
        field: String,
        /// The last part of the field's name.
        last: String,
    },
}

const CHART: &str = "Chart.yaml";
const VALUES: &str = "values.yaml";

/// The version that a `Chart.yaml` states.
pub(super) fn chart_version(text: &str) -> Result<String, StampError> {
    let chart = parse(CHART, text)?;
    let version = chart.get("version").and_then(Value::as_str);
    version.map(str::to_owned).ok_or_else(|| StampError::Missing { file: CHART, field: "version".to_owned() })
}

/// `Chart.yaml` with this version, both as the chart's and as the application's.
pub(super) fn chart(text: &str, version: &str) -> Result<String, StampError> {
    let text = set(CHART, text, &["version"], version)?;
    set(CHART, &text, &["appVersion"], version)
}

/// `values.yaml` with this hub and tag wherever the chart names a default of its own: for all
/// components (`global.hub`) or for its own (`hub`). An empty hub means "the global one" and stays.
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

/// The hub and the tag that `values.yaml` names.
pub(super) fn images(text: &str) -> Result<(String, String), StampError> {
    let values = parse(VALUES, text)?;
    let first = |name: &str| {
        let path = defaults(&values, name).into_iter().next();
        let text = path.and_then(|path| values.pointer(&pointer(&path))).and_then(scalar);
        text.ok_or_else(|| StampError::Missing { file: VALUES, field: format!("{name} or global.{name}") })
    };
    Ok((first("hub")?, first("tag")?))
}

/// Where a name has a value of its own.
fn defaults<'a>(values: &Value, name: &'a str) -> Vec<Vec<&'a str>> {
    let places = [vec![WRAPPER, "global", name], vec![WRAPPER, name], vec!["global", name], vec![name]];
    places.into_iter().filter(|path| values.pointer(&pointer(path)).and_then(scalar).is_some()).collect()
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

/// Sets one field and proves that nothing else has changed.
fn set(file: &'static str, text: &str, path: &[&str], value: &str) -> Result<String, StampError> {
    let field = path.join(".");
    let mut wanted = parse(file, text)?;
    let Some(place) = wanted.pointer_mut(&pointer(path)) else {
        return Err(StampError::Missing { file, field });
    };
    *place = Value::String(value.to_owned());
    let edited = edit(text, path, value);
    if parse(file, &edited).is_ok_and(|result| result == wanted) {
        Ok(edited)
    } else {
        let last = path.last().copied().unwrap_or_default().to_owned();
        Err(StampError::Shape { file, field, last })
    }
}

/// Replaces the scalar behind the first key with this path, keeping a comment behind it. Follows
/// block mappings by their indentation; whatever it doesn't understand it leaves.
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

/// Indentation, key, and what follows the colon.
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
    fn hub_and_tag_are_set_where_the_chart_names_them_and_nowhere_else() {
        let stamped = values(WRAPPED, "registry.example.com/release", "1.31.2").unwrap();
        let wanted = WRAPPED
            .replace("dev.example.com/testing", "registry.example.com/release")
            .replace("tag: latest", "tag: 1.31.2");
        assert_eq!(stamped, wanted);
        assert_eq!(images(&stamped), Ok(("registry.example.com/release".to_owned(), "1.31.2".to_owned())));
    }

    #[test]
    fn a_chart_with_its_own_hub_is_stamped_there() {
        let text = "_internal_defaults_do_not_set:\n  hub: a\n  tag: latest";
        assert_eq!(values(text, "b", "1.31.2").unwrap(), "_internal_defaults_do_not_set:\n  hub: b\n  tag: 1.31.2");
    }

    #[test]
    fn older_charts_keep_their_defaults_at_the_top() {
        assert_eq!(values("global:\n  hub: a\n  tag: latest\n", "b", "c").unwrap(), "global:\n  hub: b\n  tag: c\n");
    }

    #[test]
    fn a_look_alike_in_a_block_of_text_is_noticed_rather_than_edited() {
        let text = "note: |\nglobal:\n";
        assert!(values(text, "b", "c").is_ok(), "nothing to set");
        let text = "global:\n  note: |\n    x\n  text:\n    |\n    y\n  hub:\n    a\n  tag: t\n";
        let error = values(text, "b", "c").unwrap_err();
        assert_eq!(
            error.to_string(),
            "can't set global.hub in values.yaml: write it on a line of its own, as `hub: value`"
        );
    }

    #[test]
    fn both_versions_of_a_chart_are_set_and_the_missing_end_of_line_stays_missing() {
        let text = "name: gateway\n# replaced by the release build\nversion: 1.0.0\nappVersion: 1.0.0";
        let stamped = chart(text, "1.32.0-alpha.eed52ebb66ad").unwrap();
        assert_eq!(stamped, text.replace("1.0.0", "1.32.0-alpha.eed52ebb66ad"));
        assert_eq!(chart_version(&stamped).unwrap(), "1.32.0-alpha.eed52ebb66ad");
    }

    #[test]
    fn a_version_that_would_read_as_a_number_is_refused() {
        assert!(matches!(chart("version: a\nappVersion: b\n", "1.31"), Err(StampError::Shape { .. })));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(chart("version: 1.0.0\n", "1.31.2").unwrap_err().to_string(), "Chart.yaml has no appVersion");
        assert_eq!(images("a: 1\n").unwrap_err().to_string(), "values.yaml has no hub or global.hub");
    }
}
