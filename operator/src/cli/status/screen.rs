//! Shows the status: redrawn on a terminal, as lines in a pipe. Does the I/O.

use std::io::{self, IsTerminal as _, Write as _};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use jiff::Timestamp;
use meshwright_api::MeshInstallation;
use serde_json::json;

use super::StatusError;
use super::describe::describe;
use super::summary::summary_line;

/// How the status is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ScreenMode {
    /// The objects as JSON.
    Json,
    /// The formatted status, once.
    Picture,
    /// The formatted status, redrawn on each change.
    Redrawn,
    /// One line per change.
    Lines,
}

/// Standard output and its current content.
pub(super) struct Screen {
    mode: ScreenMode,
    watched: bool,
    single: bool,
    colors: bool,
    /// The last output, to skip identical ones.
    last: String,
}

impl Screen {
    /// `single`: a name was requested, so JSON is that object rather than a list.
    pub(super) fn new(json: bool, watched: bool, single: bool) -> Self {
        let out = io::stdout();
        // Missing colors on a terminal can mean that it can't be redrawn, or only that NO_COLOR is set.
        let simple = !out.is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let mode = match (json, watched, simple) {
            (true, ..) => ScreenMode::Json,
            (_, false, _) => ScreenMode::Picture,
            (_, true, false) => ScreenMode::Redrawn,
            (_, true, true) => ScreenMode::Lines,
        };
        let colors = AutoStream::choice(&out) != ColorChoice::Never;
        Self { mode, watched, single, colors, last: String::new() }
    }

    /// Whether the output has to be refreshed regularly because it shows ages.
    pub(super) fn ages(&self) -> bool {
        self.mode == ScreenMode::Redrawn
    }

    /// Shows the MeshInstallations if anything changed. `trouble`: a watch error, with which they may be outdated.
    pub(super) fn show(&mut self, meshes: &[MeshInstallation], trouble: Option<&str>) -> Result<(), StatusError> {
        match self.mode {
            ScreenMode::Json => self.objects(meshes),
            ScreenMode::Picture => self.once(&self.describe_all(meshes, trouble)),
            ScreenMode::Redrawn => self.redraw(&self.describe_all(meshes, trouble)),
            ScreenMode::Lines => self.lines(meshes, trouble),
        }
    }

    fn objects(&mut self, meshes: &[MeshInstallation]) -> Result<(), StatusError> {
        let mut meshes = meshes.to_vec();
        for mesh in &mut meshes {
            mesh.metadata.managed_fields = None;
        }
        let value = match meshes.as_slice() {
            [mesh] if self.single => json!(mesh),
            meshes => json!({"apiVersion": "v1", "kind": "List", "items": meshes}),
        };
        let text = if self.watched { serde_json::to_string(&value) } else { serde_json::to_string_pretty(&value) };
        let text = text.map_err(StatusError::Encode)?;
        if text == self.last {
            return Ok(());
        }
        self.once(&format!("{text}\n"))?;
        self.last = text;
        Ok(())
    }

    fn lines(&mut self, meshes: &[MeshInstallation], trouble: Option<&str>) -> Result<(), StatusError> {
        let mut lines: Vec<String> = meshes.iter().map(summary_line).collect();
        if lines.is_empty() {
            lines.push(self.none().to_owned());
        }
        lines.extend(trouble.map(str::to_owned));
        let now = Timestamp::now().strftime("%H:%M:%S").to_string();
        let news = lines.iter().filter(|line| !self.last.lines().any(|old| old == *line));
        let fresh = news.fold(String::new(), |text, line| text + &now + " " + line + "\n");
        self.last = lines.join("\n");
        self.once(&fresh)
    }

    fn redraw(&mut self, text: &str) -> Result<(), StatusError> {
        let rows = terminal_size::terminal_size_of(io::stdout()).map_or(usize::MAX, |(_, rows)| usize::from(rows.0));
        let text = clip(text, rows);
        if text == self.last {
            return Ok(());
        }
        let up = self.last.lines().count();
        let back = if up == 0 { String::new() } else { format!("\x1b[{up}A\r\x1b[J") };
        // With wrapping disabled, the number of lines to move up is known.
        let painted = if self.colors { text.clone() } else { strip_str(&text).to_string() };
        write(&format!("{back}\x1b[?7l{painted}\x1b[?7h"))?;
        self.last = text;
        Ok(())
    }

    fn describe_all(&self, meshes: &[MeshInstallation], trouble: Option<&str>) -> String {
        let width = terminal_size::terminal_size_of(io::stdout()).map_or(usize::MAX, |(columns, _)| columns.0.into());
        let now = Timestamp::now();
        let mut all: Vec<String> = meshes.iter().map(|mesh| describe(mesh, now, width)).collect();
        if all.is_empty() {
            all.push(format!("{}\n", self.none()));
        }
        all.extend(trouble.map(|trouble| format!("{trouble}\n")));
        all.join("\n")
    }

    /// The message if there is nothing to show.
    fn none(&self) -> &'static str {
        if self.single {
            "the MeshInstallation was deleted"
        } else {
            "no MeshInstallations found; see config/samples for examples"
        }
    }

    /// Writes a text, without colors if the output doesn't support them.
    pub(super) fn once(&self, text: &str) -> Result<(), StatusError> {
        if self.colors { write(text) } else { write(&strip_str(text).to_string()) }
    }
}

/// Cuts a text to the height of the terminal, because scrolled lines can't be redrawn.
fn clip(text: &str, rows: usize) -> String {
    let room = rows.saturating_sub(1).max(1);
    if text.lines().count() <= room {
        return text.to_owned();
    }
    let kept: Vec<&str> = text.lines().take(room.saturating_sub(1)).collect();
    format!("{}\n... (more lines than the terminal can show)\n", kept.join("\n"))
}

fn write(text: &str) -> Result<(), StatusError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(StatusError::Print)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_text_to_terminal_height() {
        assert_eq!(clip("a\nb\nc\n", 4), "a\nb\nc\n");
        let cut = clip("a\nb\nc\nd\n", 4);
        assert_eq!(cut.lines().count(), 3);
        assert!(cut.starts_with("a\nb\n..."));
    }
}
