//! What the demo says, beside the pictures of `meshwright status`.

use std::io::Write as _;
use std::time::Duration;

/// How many steps the demo has.
const STEPS: usize = 6;

/// A line of its own. A reader that has gone away is no reason to stop half-way: the cluster must be taken down.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// The heading of a step.
pub(crate) fn step(number: usize, title: &str) {
    line(&format!("\n[{number}/{STEPS}] {title}"));
}

/// Something has come about.
pub(crate) fn done(what: &str, took: Duration) {
    line(&format!("      {what} ({})", seconds(took)));
}

/// Seconds as exact as a person can tell them apart.
pub(crate) fn seconds(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 1.0 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_second_is_told_more_exactly() {
        assert_eq!(seconds(Duration::from_millis(84)), "0.08 s");
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
    }
}
