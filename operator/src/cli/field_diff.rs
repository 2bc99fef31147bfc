//! Formats the change of one field as lines of text. Pure.

use anstyle::Style;
use meshwright_chart::yaml_text;
use serde_json::Value;
use similar::TextDiff;

use super::text::{BAD, GOOD, LABEL, PLAIN, WARNING, paint};
use crate::mesh::fields::{FieldAction, FieldChange};

/// Old and new value share a line up to this total length.
const INLINE: usize = 120;
/// Unchanged lines of context around a change.
const CONTEXT: usize = 3;

/// The lines of one change: the field path with old and new value. Multi-line values are shown as a unified diff.
pub(super) fn format_change(change: &FieldChange) -> Vec<String> {
    let (sign, style) = sign(change.action);
    let header = format!("{} {}", paint(style, sign), without_control(&change.path));
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let short: Vec<String> = [old, new].into_iter().flatten().map(inline).collect();
    if short.iter().map(String::len).sum::<usize>() <= INLINE && short.iter().all(|text| !text.contains('\n')) {
        return vec![format!("{header}: {}", short.join(" -> "))];
    }
    let (old, new) = (block(old), block(new));
    let difference = TextDiff::from_lines(&old, &new);
    let text = difference.unified_diff().context_radius(CONTEXT).missing_newline_hint(false).to_string();
    // Hunk headers carry no information if the whole value is new or removed.
    let whole = old.is_empty() || new.is_empty();
    let shown = text.lines().filter(|line| !(whole && line.starts_with("@@")));
    std::iter::once(format!("{header}:")).chain(shown.map(|line| format!("    {}", colored(line)))).collect()
}

/// The sign of a change and its color.
pub(super) fn sign(action: FieldAction) -> (&'static str, Style) {
    match action {
        FieldAction::Added => ("+", GOOD),
        FieldAction::Changed => ("~", WARNING),
        FieldAction::Removed => ("-", BAD),
    }
}

fn colored(line: &str) -> String {
    let style = match line.chars().next() {
        Some('+') => GOOD,
        Some('-') => BAD,
        Some('@') => LABEL,
        _ => PLAIN,
    };
    paint(style, without_control(line).trim_end())
}

/// Plain strings without quotes if that is unambiguous; everything else as JSON.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('\n') => text.clone(),
        Value::String(text) if !text.is_empty() && text.trim() == text && without_control(text) == *text => {
            text.clone()
        }
        other => without_control(&other.to_string()),
    }
}

fn block(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::String(text)) => format!("{}\n", text.trim_end_matches('\n')),
        Some(other) => yaml_text(other),
    }
}

/// Replaces control characters: live resources can contain terminal escape sequences.
fn without_control(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(action: FieldAction, old: Option<Value>, new: Option<Value>) -> String {
        let lines = format_change(&FieldChange { path: "spec.x".into(), action, old, new });
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn shows_short_values_on_one_line() {
        assert_eq!(shown(FieldAction::Changed, Some(json!(1)), Some(json!(2))), "~ spec.x: 1 -> 2");
        assert_eq!(shown(FieldAction::Changed, Some(json!("")), Some(json!("a:b"))), "~ spec.x: \"\" -> a:b");
        assert_eq!(shown(FieldAction::Added, None, Some(json!({"name": "A"}))), "+ spec.x: {\"name\":\"A\"}");
        assert_eq!(shown(FieldAction::Removed, Some(json!("y")), None), "- spec.x: y");
    }

    #[test]
    fn shows_context_of_changed_lines() {
        let line = |changed: &str| {
            (1..=20)
                .map(|n| if n == 10 { changed.to_owned() } else { format!("line {n}") })
                .collect::<Vec<_>>()
                .join("\n")
        };
        let expected = "\
~ spec.x:
    @@ -7,7 +7,7 @@
     line 7
     line 8
     line 9
    -old
    +new
     line 11
     line 12
     line 13";
        assert_eq!(shown(FieldAction::Changed, Some(json!(line("old"))), Some(json!(line("new")))), expected);
    }

    #[test]
    fn diffs_large_values_as_yaml() {
        let list =
            |last: &str| json!((1..=30).map(|n| format!("verb-{n}")).chain([last.to_owned()]).collect::<Vec<_>>());
        let text = shown(FieldAction::Changed, Some(list("get")), Some(list("list")));
        assert!(text.contains("-- get\n") && text.contains("+- list") && text.lines().count() == 7, "{text}");
        let added = shown(FieldAction::Added, None, Some(list("get")));
        assert!(!added.contains("@@") && added.lines().skip(1).all(|line| line.starts_with("    +")), "{added}");
    }

    #[test]
    fn removes_terminal_control_characters() {
        let text = shown(FieldAction::Changed, Some(json!("a\u{1b}[2J\nb")), Some(json!("c\u{9b}\nb")));
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
        let text = shown(FieldAction::Added, None, Some(json!("a\u{9b}b")));
        assert!(!text.contains('\u{9b}'), "{text:?}");
    }
}
