//! Text fragments for messages: abbreviated lists, and numbers with their unit.

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
}
