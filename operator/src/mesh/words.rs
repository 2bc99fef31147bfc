//! Lists and numbers, as sentences have them.

use std::fmt::Display;

/// So many are named.
const NAMED: usize = 5;

/// A few of many: `a, b, c, d, e and 2 more`.
#[must_use]
pub fn few(all: &[impl Display]) -> String {
    let named = all.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// `1 Secret`, `2 Secrets`.
#[must_use]
pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_a_few_are_said() {
        let names: Vec<String> = (1..=7).map(|n| format!("n{n}")).collect();
        assert_eq!(few(&names), "n1, n2, n3, n4, n5 and 2 more");
        assert_eq!(few(&names[..2]), "n1, n2");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(
            (count(1, "pod"), count(0, "pod"), count(2, "pod")),
            ("1 pod".into(), "0 pods".into(), "2 pods".into())
        );
    }
}
