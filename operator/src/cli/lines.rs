//! How one field changes, in lines of text. Pure.

use anstyle::Style;
use meshwright_chart::yaml_text;
use serde_json::Value;
use similar::TextDiff;

use super::text::{BAD, CARE, GOOD, LABEL, PLAIN, paint};
use crate::mesh::fields::{FieldAction, FieldChange};

/// Values that are longer than this, together, have lines of their own.
const INLINE: usize = 120;
/// Unchanged lines shown around those that change.
const CONTEXT: usize = 3;

/// The lines of one change: its place, and what changes there. Values of several lines are shown as a difference of lines.
pub(super) fn lines(change: &FieldChange) -> Vec<String> {
    let (sign, style) = look(change.action);
    let head = format!("{} {}", paint(style, sign), plain(&change.path));
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let short: Vec<String> = [old, new].into_iter().flatten().map(inline).collect();
    if short.iter().map(String::len).sum::<usize>() <= INLINE && short.iter().all(|text| !text.contains('\n')) {
        return vec![format!("{head}: {}", short.join(" -> "))];
    }
    let (old, new) = (block(old), block(new));
    let difference = TextDiff::from_lines(&old, &new);
    let text = difference.unified_diff().context_radius(CONTEXT).missing_newline_hint(false).to_string();
    // Of what is all new or all gone the place of the lines says nothing.
    let whole = old.is_empty() || new.is_empty();
    let shown = text.lines().filter(|line| !(whole && line.starts_with("@@")));
    std::iter::once(format!("{head}:")).chain(shown.map(|line| format!("    {}", coloured(line)))).collect()
}

/// The sign of a change, and its colour.
pub(super) fn look(action: FieldAction) -> (&'static str, Style) {
    match action {
        FieldAction::Added => ("+", GOOD),
        FieldAction::Changed => ("~", CARE),
        FieldAction::Removed => ("-", BAD),
    }
}

fn coloured(line: &str) -> String {
    let style = match line.chars().next() {
        Some('+') => GOOD,
        Some('-') => BAD,
        Some('@') => LABEL,
        _ => PLAIN,
    };
    paint(style, plain(line).trim_end())
}

/// Texts as they are, where that can't be mistaken for something else; all else as JSON.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('\n') => text.clone(),
        Value::String(text) if !text.is_empty() && text.trim() == text && plain(text) == *text => text.clone(),
        other => plain(&other.to_string()),
    }
}

fn block(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::String(text)) => format!("{}\n", text.trim_end_matches('\n')),
        Some(other) => yaml_text(other),
    }
}

/// Without what a terminal would obey: live objects can hold anything.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(action: FieldAction, old: Option<Value>, new: Option<Value>) -> String {
        let lines = lines(&FieldChange { path: "spec.x".into(), action, old, new });
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn short_values_stand_on_the_line_of_their_place() {
        assert_eq!(shown(FieldAction::Changed, Some(json!(1)), Some(json!(2))), "~ spec.x: 1 -> 2");
        assert_eq!(shown(FieldAction::Changed, Some(json!("")), Some(json!("a:b"))), "~ spec.x: \"\" -> a:b");
        assert_eq!(shown(FieldAction::Added, None, Some(json!({"name": "A"}))), "+ spec.x: {\"name\":\"A\"}");
        assert_eq!(shown(FieldAction::Removed, Some(json!("y")), None), "- spec.x: y");
    }

    #[test]
    fn of_a_text_of_many_lines_only_those_around_a_change_are_shown() {
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
    fn large_tables_and_lists_are_compared_as_yaml() {
        let list =
            |last: &str| json!((1..=30).map(|n| format!("verb-{n}")).chain([last.to_owned()]).collect::<Vec<_>>());
        let text = shown(FieldAction::Changed, Some(list("get")), Some(list("list")));
        assert!(text.contains("-- get\n") && text.contains("+- list") && text.lines().count() == 7, "{text}");
        let added = shown(FieldAction::Added, None, Some(list("get")));
        assert!(!added.contains("@@") && added.lines().skip(1).all(|line| line.starts_with("    +")), "{added}");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let text = shown(FieldAction::Changed, Some(json!("a\u{1b}[2J\nb")), Some(json!("c\u{9b}\nb")));
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
        let text = shown(FieldAction::Added, None, Some(json!("a\u{9b}b")));
        assert!(!text.contains('\u{9b}'), "{text:?}");
    }
}
