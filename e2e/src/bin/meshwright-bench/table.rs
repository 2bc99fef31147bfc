//! The result table.

use std::io::Write as _;
use std::time::Duration;

/// Rows in the order of measurement.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 4]>,
}

const HEAD: [&str; 4] = ["figure", "measured", "budget", "Sail"];

impl Table {
    /// Adds a row and prints it immediately to standard error, because a full run takes minutes.
    pub(crate) fn row(&mut self, figure: impl Into<String>, measured: impl Into<String>, budget: &str, peer: &str) {
        let row = [figure.into(), measured.into(), budget.to_owned(), peer.to_owned()];
        eprintln!("{}: {}", row.first().map_or("", String::as_str), row.get(1).map_or("", String::as_str));
        self.rows.push(row);
    }

    /// Prints all rows as a Markdown table.
    pub(crate) fn print(&self) {
        // Ignores a closed pipe.
        let _ = std::io::stdout().lock().write_all(self.text().as_bytes());
    }

    fn text(&self) -> String {
        let head = HEAD.map(str::to_owned);
        let widths: [usize; 4] = std::array::from_fn(|n| {
            let cells = self.rows.iter().chain([&head]).filter_map(|row| row.get(n));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        });
        let line = |row: &[String; 4]| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let rule = line(&widths.map(|width| "-".repeat(width)));
        let rows: String = self.rows.iter().map(line).collect();
        format!("{}{rule}{rows}", line(&head))
    }
}

/// The median; the upper one of an even number of values.
pub(crate) fn median<T: Ord + Copy>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// Formats seconds with milliseconds.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// Formats bytes as MiB.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", exact(bytes) / exact(1024 * 1024))
}

/// Formats bytes as MB.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", exact(bytes) / 1e6)
}

/// Converts sizes below 64 GiB without loss of relevant precision.
fn exact(number: u64) -> f64 {
    f64::from(u32::try_from(number / 16).unwrap_or(u32::MAX)) * 16.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_columns() {
        let mut table = Table::default();
        table.row("a", "0.1 s", "< 1 s", "-");
        table.row("a long figure", "1 s", "-", "-");
        let text = table.text();
        let widths: Vec<_> = text.lines().map(str::len).collect();
        assert_eq!(widths.len(), 4);
        assert!(widths.iter().all(|width| Some(width) == widths.first()), "{text}");
        assert!(text.contains("| a long figure | 1 s      | -      | -    |"), "{text}");
    }

    #[test]
    fn median_sorts_values() {
        assert_eq!(median(&[5, 1, 3]), Some(3));
        assert_eq!(median::<u8>(&[]), None);
    }

    #[test]
    fn formats_sizes_with_units() {
        assert_eq!(mebibytes(15 * 1024 * 1024), "15.0 MiB");
        assert_eq!(megabytes(13_478_408), "13.48 MB");
    }
}
