//! Small pieces of text: spans of time, colours, lines of a given width.

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;

/// What is as it should be.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What isn't yet, or soon won't be.
pub(super) const CARE: Style = AnsiColor::Yellow.on_default();
/// What is broken.
pub(super) const BAD: Style = AnsiColor::Red.on_default();
/// Labels and headings.
pub(super) const LABEL: Style = Style::new().dimmed();
/// What a person looks for first.
pub(super) const TITLE: Style = Style::new().bold();
/// Nothing special.
pub(super) const PLAIN: Style = Style::new();

/// How wide a line of text is that is easy to read.
pub(super) const WIDTH: usize = 100;

/// `text` in `style`; the escape codes are taken out again where the output is no terminal.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// On one line, and without what a terminal would obey: status can hold what a webhook or a container said.
pub(super) fn clean(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A span of time in one number, as exact as one would say it.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 120 => format!("{minutes}m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 730 => format!("{days}d"),
        () => format!("{}y", days / 365),
    }
}

/// Breaks a text into lines of at most `width` characters; a word that is longer has a line of its own.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `2 failed, 7 passed`; what there is none of is left out.
pub(super) fn sum<'a>(parts: impl IntoIterator<Item = (usize, &'a str)>) -> String {
    let some = parts.into_iter().filter(|(number, _)| *number > 0);
    some.map(|(number, what)| format!("{number} {what}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_one_number() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let cases = [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")];
        for (seconds, expected) in cases {
            assert_eq!(span(at(1_000), at(1_000 + seconds)), expected);
        }
        assert_eq!(span(at(0), at(10 * 365 * 86_400)), "10y");
        // Clocks of two machines differ.
        assert_eq!(span(at(5), at(0)), "0s");
    }

    #[test]
    fn lines_break_between_words_and_long_words_are_kept_whole() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("a incomprehensible b", 4), ["a", "incomprehensible", "b"]);
        assert!(wrap("", 4).is_empty());
    }

    #[test]
    fn a_sum_has_what_there_is() {
        assert_eq!(sum([(2, "failed"), (0, "unknown"), (1, "passed")]), "2 failed, 1 passed");
        assert_eq!(sum([(0, "failed")]), "");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(clean("a\u{1b}[2J\r\nb\u{9b}2Jc"), "a [2J b 2Jc");
    }
}
