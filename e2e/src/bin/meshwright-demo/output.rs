//! Output of the demo in addition to that of `meshwright status`.

use std::io::Write as _;
use std::time::Duration;

/// Number of steps.
const STEPS: usize = 6;

/// Prints a line. Ignores a closed pipe, because the cluster must still be stopped in order.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints the heading of a step.
pub(crate) fn step(number: usize, title: &str) {
    line(&format!("\n[{number}/{STEPS}] {title}"));
}

/// Prints a completed action and its duration.
pub(crate) fn done(action: &str, duration: Duration) {
    line(&format!("      {action} ({})", seconds(duration)));
}

/// Formats seconds with two decimals below 1 s and one above.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_two_decimals_below_one_second() {
        assert_eq!(seconds(Duration::from_millis(84)), "0.08 s");
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
    }
}
