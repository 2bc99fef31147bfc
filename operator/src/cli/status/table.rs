//! Writes labelled fields and tables, indented and wrapped.

use anstyle::Style;

use super::text::{LABEL, PLAIN, paint, wrap};

const INDENT: usize = 2;
/// Width of the label column; the longest label is `Reconciling`.
const LABEL_WIDTH: usize = 13;

/// Collects the lines of the output.
pub(super) struct TableWriter {
    out: String,
    width: usize,
}

/// A table cell with a color.
pub(super) struct TableCell {
    text: String,
    style: Style,
}

/// A table row with an optional note below it.
pub(super) struct TableRow {
    pub(super) cells: Vec<TableCell>,
    pub(super) note: Option<String>,
}

impl TableCell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: PLAIN }
    }

    pub(super) fn styled(style: Style, text: impl Into<String>) -> Self {
        Self { text: text.into(), style }
    }
}

impl TableWriter {
    /// A writer for lines of `width` characters.
    pub(super) fn new(width: usize) -> Self {
        Self { out: String::new(), width }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// Appends a formatted line.
    pub(super) fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    /// Appends a labelled field; `head`, the beginning of its text, is colored.
    pub(super) fn field(&mut self, label: &str, style: Style, head: &str, rest: &str) {
        let lines = wrap(&format!("{head}{rest}"), self.room(INDENT + LABEL_WIDTH));
        for (n, line) in lines.iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            // A wrapped head isn't colored; heads have one or two words.
            let line = match line.strip_prefix(head) {
                Some(rest) if n == 0 => format!("{}{rest}", paint(style, head)),
                _ => line.clone(),
            };
            let label = paint(LABEL, &format!("{label:LABEL_WIDTH$}"));
            self.line(&format!("{:INDENT$}{label}{line}", ""));
        }
    }

    /// Appends a table with columns as wide as their content.
    pub(super) fn table(&mut self, heading: &[&str], rows: &[TableRow]) {
        let widths: Vec<usize> = heading.iter().enumerate().map(|(n, title)| column_width(n, title, rows)).collect();
        let titles: Vec<TableCell> = heading.iter().map(|title| TableCell::styled(LABEL, *title)).collect();
        self.row(&titles, &widths);
        for row in rows {
            self.row(&row.cells, &widths);
            if let Some(note) = &row.note {
                for line in wrap(note, self.room(2 * INDENT)) {
                    self.line(&format!("{:1$}{line}", "", 2 * INDENT));
                }
            }
        }
    }

    fn row(&mut self, cells: &[TableCell], widths: &[usize]) {
        let mut line = " ".repeat(INDENT);
        for (n, (cell, width)) in cells.iter().zip(widths).enumerate() {
            line.push_str(&paint(cell.style, &cell.text));
            if n + 1 < cells.len() {
                line.push_str(&" ".repeat((width + 2).saturating_sub(cell.text.chars().count())));
            }
        }
        self.line(&line);
    }

    /// The remaining width of a line, at least 20 characters.
    fn room(&self, taken: usize) -> usize {
        self.width.saturating_sub(taken).max(20)
    }
}

fn column_width(n: usize, title: &str, rows: &[TableRow]) -> usize {
    let cells = rows.iter().filter_map(|row| row.cells.get(n)).map(|cell| cell.text.chars().count());
    cells.chain([title.len()]).max().unwrap_or_default()
}
