//! Findings as a person would like to read them. Pure but for the width of the terminal.

use std::fmt::Write as _;

use anstyle::Style;

use super::super::text::{BAD, CARE, GOOD, LABEL, TITLE, WIDTH, clean, paint, sum, wrap};
use crate::check::{Finding, Verdict};

/// Lines of text are no shorter, however narrow the terminal is.
const NARROWEST: usize = 40;
/// The widest verdict with its gap.
const VERDICT: usize = 9;

/// How wide lines may be.
pub(super) fn width() -> usize {
    terminal_size::terminal_size().map_or(WIDTH, |(width, _)| usize::from(width.0).min(WIDTH))
}

/// One paragraph for each finding, in two columns, and a sum at the end.
pub(super) fn text(findings: &[Finding], width: usize) -> String {
    let names = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let indent = VERDICT + names + 2;
    let room = width.saturating_sub(indent).max(NARROWEST);
    let mut text = String::new();
    for finding in findings {
        let (word, style) = look(finding.verdict);
        let _ = write!(text, "{}{:VERDICT$}", paint(style, word), "", VERDICT = VERDICT - word.len());
        let _ = write!(text, "{}{:gap$}", paint(LABEL, finding.check), "", gap = names + 2 - finding.check.len());
        let mut lines = wrap(&clean(&format!("{}: {}", finding.subject, finding.reason)), room);
        if let Some(fix) = &finding.fix {
            lines.extend(wrap(&format!("-> {}", clean(fix)), room));
        }
        let _ = writeln!(text, "{}", lines.join(&format!("\n{:indent$}", "")));
    }
    let _ = writeln!(text, "{}", paint(TITLE, &outcome(findings)));
    text
}

fn look(verdict: Verdict) -> (&'static str, Style) {
    match verdict {
        Verdict::Pass => ("PASS", GOOD),
        Verdict::Unknown => ("UNKNOWN", CARE),
        Verdict::Warn => ("WARN", CARE),
        Verdict::Fail => ("FAIL", BAD),
    }
}

/// `2 failed, 1 warning, 7 passed`; what there is none of is left out.
fn outcome(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let warnings = count(Verdict::Warn);
    sum([
        (count(Verdict::Fail), "failed"),
        (warnings, if warnings == 1 { "warning" } else { "warnings" }),
        (count(Verdict::Unknown), "unknown"),
        (count(Verdict::Pass), "passed"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &'static str, verdict: Verdict, reason: &str, fix: Option<&str>) -> Finding {
        Finding { check, verdict, subject: "Thing a/b".into(), reason: reason.into(), fix: fix.map(str::to_owned) }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn findings_stand_in_columns_with_what_to_do_below_and_a_sum_at_the_end() {
        let shown = text(
            &[
                finding("rights", Verdict::Pass, "all held", None),
                finding("leftovers", Verdict::Warn, "left behind", Some("kubectl delete thing b")),
                finding("webhooks", Verdict::Unknown, "you may not see it", None),
            ],
            100,
        );
        let expected = "\
PASS     rights     Thing a/b: all held
WARN     leftovers  Thing a/b: left behind
                    -> kubectl delete thing b
UNKNOWN  webhooks   Thing a/b: you may not see it
1 warning, 1 unknown, 1 passed
";
        assert_eq!(plain(&shown), expected);
    }

    #[test]
    fn lines_keep_to_the_width_and_what_a_terminal_obeys_is_taken_out() {
        let long = "word ".repeat(60);
        let shown = plain(&text(&[finding("rights", Verdict::Fail, &long, Some("a\u{1b}[2Jb"))], 100));
        assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
        assert!(shown.lines().count() > 4 && !shown.contains('\u{1b}'), "{shown}");
    }
}
