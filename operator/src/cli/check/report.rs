//! Formats findings as text. Pure except for the terminal width.

use std::fmt::Write as _;

use anstyle::Style;

use super::super::text::{BAD, GOOD, LABEL, TITLE, WARNING, WIDTH, clean, format_counts, paint, wrap};
use crate::check::{CheckVerdict, Finding};

/// Minimum width of the text column on narrow terminals.
const MIN_TEXT_WIDTH: usize = 40;
/// Width of the verdict column with its gap.
const VERDICT: usize = 9;

/// Maximum line width.
pub(super) fn width() -> usize {
    terminal_size::terminal_size().map_or(WIDTH, |(width, _)| usize::from(width.0).min(WIDTH))
}

/// One paragraph per finding, in columns, and a summary line.
pub(super) fn text(findings: &[Finding], width: usize) -> String {
    let names = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let indent = VERDICT + names + 2;
    let room = width.saturating_sub(indent).max(MIN_TEXT_WIDTH);
    let mut text = String::new();
    for finding in findings {
        let (word, style) = verdict_label(finding.verdict);
        let _ = write!(text, "{}{:VERDICT$}", paint(style, word), "", VERDICT = VERDICT - word.len());
        let _ = write!(text, "{}{:gap$}", paint(LABEL, finding.check), "", gap = names + 2 - finding.check.len());
        let mut lines = wrap(&clean(&format!("{}: {}", finding.subject, finding.reason)), room);
        if let Some(fix) = &finding.fix {
            lines.extend(wrap(&format!("-> {}", clean(fix)), room));
        }
        let _ = writeln!(text, "{}", lines.join(&format!("\n{:indent$}", "")));
    }
    let _ = writeln!(text, "{}", paint(TITLE, &summary(findings)));
    text
}

fn verdict_label(verdict: CheckVerdict) -> (&'static str, Style) {
    match verdict {
        CheckVerdict::Pass => ("PASS", GOOD),
        CheckVerdict::Unknown => ("UNKNOWN", WARNING),
        CheckVerdict::Warn => ("WARN", WARNING),
        CheckVerdict::Fail => ("FAIL", BAD),
    }
}

/// `2 failed, 1 warning, 7 passed`; omits zero counts.
fn summary(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let warnings = count(CheckVerdict::Warn);
    format_counts([
        (count(CheckVerdict::Fail), "failed"),
        (warnings, if warnings == 1 { "warning" } else { "warnings" }),
        (count(CheckVerdict::Unknown), "unknown"),
        (count(CheckVerdict::Pass), "passed"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &'static str, verdict: CheckVerdict, reason: &str, fix: Option<&str>) -> Finding {
        Finding { check, verdict, subject: "Thing a/b".into(), reason: reason.into(), fix: fix.map(str::to_owned) }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn formats_findings_as_columns_with_summary() {
        let shown = text(
            &[
                finding("permissions", CheckVerdict::Pass, "all granted", None),
                finding("leftovers", CheckVerdict::Warn, "left behind", Some("kubectl delete thing b")),
                finding("webhooks", CheckVerdict::Unknown, "you may not see it", None),
            ],
            100,
        );
        let expected = "\
PASS     permissions  Thing a/b: all granted
WARN     leftovers    Thing a/b: left behind
                      -> kubectl delete thing b
UNKNOWN  webhooks     Thing a/b: you may not see it
1 warning, 1 unknown, 1 passed
";
        assert_eq!(plain(&shown), expected);
    }

    #[test]
    fn wraps_lines_and_removes_control_characters() {
        let long = "word ".repeat(60);
        let shown = plain(&text(&[finding("permissions", CheckVerdict::Fail, &long, Some("a\u{1b}[2Jb"))], 100));
        assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
        assert!(shown.lines().count() > 4 && !shown.contains('\u{1b}'), "{shown}");
    }
}
