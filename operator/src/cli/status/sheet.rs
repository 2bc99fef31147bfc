//! Lays a picture out: labelled fields and tables, indented and wrapped.

use anstyle::Style;

use super::text::{LABEL, PLAIN, paint, wrap};

const INDENT: usize = 2;
/// The longest label is `Reconciling`.
const LABEL_WIDTH: usize = 13;

/// A picture that is being put together.
pub(super) struct Sheet {
    out: String,
    width: usize,
}

/// One cell of a table.
pub(super) struct Cell {
    text: String,
    style: Style,
}

/// One row of a table, and what is to be said below it.
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
    pub(super) note: Option<String>,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: PLAIN }
    }

    pub(super) fn styled(style: Style, text: impl Into<String>) -> Self {
        Self { text: text.into(), style }
    }
}

impl Sheet {
    /// An empty one for lines of `width` characters.
    pub(super) fn new(width: usize) -> Self {
        Self { out: String::new(), width }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A line that is there already.
    pub(super) fn line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    /// A label with a text, of which the first `head` is painted.
    pub(super) fn field(&mut self, label: &str, style: Style, head: &str, rest: &str) {
        let lines = wrap(&format!("{head}{rest}"), self.room(INDENT + LABEL_WIDTH));
        for (n, line) in lines.iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            // A head that wrapping has broken stays unpainted; heads are a word or two.
            let line = match line.strip_prefix(head) {
                Some(rest) if n == 0 => format!("{}{rest}", paint(style, head)),
                _ => line.clone(),
            };
            let label = paint(LABEL, &format!("{label:LABEL_WIDTH$}"));
            self.line(&format!("{:INDENT$}{label}{line}", ""));
        }
    }

    /// A table whose columns are as wide as they must be.
    pub(super) fn table(&mut self, heading: &[&str], rows: &[Row]) {
        let widths: Vec<usize> = heading.iter().enumerate().map(|(n, title)| column_width(n, title, rows)).collect();
        let titles: Vec<Cell> = heading.iter().map(|title| Cell::styled(LABEL, *title)).collect();
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

    fn row(&mut self, cells: &[Cell], widths: &[usize]) {
        let mut line = " ".repeat(INDENT);
        for (n, (cell, width)) in cells.iter().zip(widths).enumerate() {
            line.push_str(&paint(cell.style, &cell.text));
            if n + 1 < cells.len() {
                line.push_str(&" ".repeat((width + 2).saturating_sub(cell.text.chars().count())));
            }
        }
        self.line(&line);
    }

    /// What is left of a line; never so little that nothing fits.
    fn room(&self, taken: usize) -> usize {
        self.width.saturating_sub(taken).max(20)
    }
}

fn column_width(n: usize, title: &str, rows: &[Row]) -> usize {
    let cells = rows.iter().filter_map(|row| row.cells.get(n)).map(|cell| cell.text.chars().count());
    cells.chain([title.len()]).max().unwrap_or_default()
}
