//! Text helpers: durations, colors, line wrapping.

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;

/// Color of the expected state.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Color of warnings and of states that still change.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();
/// Color of failures.
pub(super) const BAD: Style = AnsiColor::Red.on_default();
/// Style of labels and table headings.
pub(super) const LABEL: Style = Style::new().dimmed();
/// Style of titles and summaries.
pub(super) const TITLE: Style = Style::new().bold();
pub(super) const PLAIN: Style = Style::new();

/// Line width for readable text.
pub(super) const WIDTH: usize = 100;

/// `text` in `style`. `anstream` removes the escape codes if the output isn't a terminal.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Collapses whitespace and removes control characters: status can contain output of webhooks and containers.
pub(super) fn clean(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A duration with one unit, as `kubectl get` shows ages.
pub(super) fn format_duration(from: Timestamp, to: Timestamp) -> String {
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

/// Wraps a text at `width` characters; longer words get a line of their own.
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

/// `2 failed, 7 passed`; omits zero counts.
pub(super) fn format_counts<'a>(parts: impl IntoIterator<Item = (usize, &'a str)>) -> String {
    let nonzero = parts.into_iter().filter(|(number, _)| *number > 0);
    nonzero.map(|(number, what)| format!("{number} {what}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_duration_with_one_unit() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let cases = [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")];
        for (seconds, expected) in cases {
            assert_eq!(format_duration(at(1_000), at(1_000 + seconds)), expected);
        }
        assert_eq!(format_duration(at(0), at(10 * 365 * 86_400)), "10y");
        // The clocks of two machines can differ.
        assert_eq!(format_duration(at(5), at(0)), "0s");
    }

    #[test]
    fn wraps_between_words() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("a incomprehensible b", 4), ["a", "incomprehensible", "b"]);
        assert!(wrap("", 4).is_empty());
    }

    #[test]
    fn omits_zero_counts() {
        assert_eq!(format_counts([(2, "failed"), (0, "unknown"), (1, "passed")]), "2 failed, 1 passed");
        assert_eq!(format_counts([(0, "failed")]), "");
    }

    #[test]
    fn removes_terminal_control_characters() {
        assert_eq!(clean("a\u{1b}[2J\r\nb\u{9b}2Jc"), "a [2J b 2Jc");
    }
}
