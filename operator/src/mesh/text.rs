//! Text fragments for messages: abbreviated lists, shortened texts, and numbers with their unit.

use std::fmt::Display;

/// Number of elements that [`abbreviate`] lists.
const LISTED: usize = 5;

/// The first elements of a list, such as `a, b, c, d, e and 2 more`.
#[must_use]
pub fn abbreviate(all: &[impl Display]) -> String {
    let listed = all.iter().take(LISTED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(LISTED) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

/// A number with its unit in singular or plural, such as `1 Secret` or `2 Secrets`.
#[must_use]
pub fn pluralize(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The end of a text that was shortened.
const TRUNCATED: &str = "... (truncated)";

/// Shortens a text to `limit` bytes, counted as JSON, so that control characters can't make a status longer.
pub fn shorten(text: &mut String, limit: usize) {
    if let Some(end) = end_within(text, limit) {
        text.truncate(end);
        text.push_str(TRUNCATED);
    }
}

/// As [`shorten`], for a borrowed text.
#[must_use]
pub fn shortened(text: &str, limit: usize) -> String {
    end_within(text, limit).map_or_else(|| text.to_owned(), |end| format!("{}{TRUNCATED}", text.split_at(end).0))
}

/// Where to cut a text that is longer than `limit`; `None` if it is not.
fn end_within(text: &str, limit: usize) -> Option<usize> {
    let room = limit.saturating_sub(TRUNCATED.len());
    let (mut length, mut end) = (0, 0);
    for (at, character) in text.char_indices() {
        if length <= room {
            end = at;
        }
        length += json_length(character);
        if length > limit {
            return Some(end);
        }
    }
    None
}

/// The bytes of a character in a JSON string, at most.
fn json_length(character: char) -> usize {
    match character {
        '"' | '\\' => 2,
        control if u32::from(control) < 0x20 => 6,
        other => other.len_utf8(),
    }
}

/// Shortens a list to `limit` elements, of which the last says how many are missing.
pub fn shorten_list(list: &mut Vec<String>, limit: usize) {
    if list.len() > limit {
        let kept = limit.saturating_sub(1);
        let missing: usize = list.drain(kept..).map(|element| missing_elements(&element).unwrap_or(1)).sum();
        list.push(format!("and {missing} more"));
    }
}

/// How many elements the last element of a shortened list stands for.
fn missing_elements(element: &str) -> Option<usize> {
    element.strip_prefix("and ")?.strip_suffix(" more")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_first_elements_only() {
        let names: Vec<String> = (1..=7).map(|n| format!("n{n}")).collect();
        assert_eq!(abbreviate(&names), "n1, n2, n3, n4, n5 and 2 more");
        assert_eq!(abbreviate(&names[..2]), "n1, n2");
    }

    #[test]
    fn pluralizes_all_but_one() {
        assert_eq!(
            (pluralize(1, "pod"), pluralize(0, "pod"), pluralize(2, "pod")),
            ("1 pod".into(), "0 pods".into(), "2 pods".into())
        );
    }

    #[test]
    fn shortens_at_character_boundaries() {
        for text in ["x".repeat(99), "é".repeat(99), "🦀".repeat(99), "\u{1}\"\\".repeat(99)] {
            let short = shortened(&text, 60);
            assert!(serde_json::to_string(&short).unwrap().len() <= 60 + 2, "{short}");
            assert!(short.strip_suffix(TRUNCATED).is_some_and(|start| text.starts_with(start)), "{short}");
            assert_eq!(shortened(&short, 60), short, "a shortened text stays as it is");
        }
        assert_eq!(shortened("short", 60), "short");
        assert_eq!(shortened(&"x".repeat(60), 60), "x".repeat(60));
    }

    #[test]
    fn counts_missing_elements_of_shortened_list() {
        let mut list: Vec<String> = (1..=9).map(|n| format!("n{n}")).collect();
        shorten_list(&mut list, 4);
        assert_eq!(list, ["n1", "n2", "n3", "and 6 more"]);
        shorten_list(&mut list, 3);
        assert_eq!(list, ["n1", "n2", "and 7 more"]);
        shorten_list(&mut list, 3);
        assert_eq!(list.len(), 3);
    }
}
