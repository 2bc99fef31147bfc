//! Where pictures go: a terminal, which is redrawn, or a pipe, which gets lines. Does the I/O of it.

use std::io::{self, IsTerminal as _, Write as _};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use jiff::Timestamp;
use meshwright_api::MeshInstallation;
use serde_json::json;

use super::StatusError;
use super::line::line;
use super::picture::picture;

/// How the state is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The objects.
    Json,
    /// Pictures, once.
    Picture,
    /// Pictures, each drawn over the one before.
    Redrawn,
    /// A line for each change.
    Lines,
}

/// The standard output, and what is on it.
pub(super) struct Screen {
    form: Form,
    watched: bool,
    single: bool,
    colours: bool,
    /// What was shown last, so that nothing is shown twice.
    last: String,
}

impl Screen {
    /// `single`: one installation was asked for by name, so JSON is that object rather than a list.
    pub(super) fn new(json: bool, watched: bool, single: bool) -> Self {
        let out = io::stdout();
        // No colours on a terminal can mean that it is too simple to be redrawn, or only that NO_COLOR is set.
        let simple = !out.is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let form = match (json, watched, simple) {
            (true, ..) => Form::Json,
            (_, false, _) => Form::Picture,
            (_, true, false) => Form::Redrawn,
            (_, true, true) => Form::Lines,
        };
        let colours = AutoStream::choice(&out) != ColorChoice::Never;
        Self { form, watched, single, colours, last: String::new() }
    }

    /// Whether what is shown grows old by itself: pictures say for how long something has been so.
    pub(super) fn ages(&self) -> bool {
        self.form == Form::Redrawn
    }

    /// Shows the installations, where that is anything new. `trouble`: why there may be newer news than these.
    pub(super) fn show(&mut self, meshes: &[MeshInstallation], trouble: Option<&str>) -> Result<(), StatusError> {
        match self.form {
            Form::Json => self.objects(meshes),
            Form::Picture => self.once(&self.pictures(meshes, trouble)),
            Form::Redrawn => self.redraw(&self.pictures(meshes, trouble)),
            Form::Lines => self.lines(meshes, trouble),
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
        let mut lines: Vec<String> = meshes.iter().map(line).collect();
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

    fn redraw(&mut self, picture: &str) -> Result<(), StatusError> {
        let rows = terminal_size::terminal_size_of(io::stdout()).map_or(usize::MAX, |(_, rows)| usize::from(rows.0));
        let picture = clip(picture, rows);
        if picture == self.last {
            return Ok(());
        }
        let up = self.last.lines().count();
        let back = if up == 0 { String::new() } else { format!("\x1b[{up}A\r\x1b[J") };
        // Without wrapping a line of the picture is a line of the screen, so the way back up is known.
        let painted = if self.colours { picture.clone() } else { strip_str(&picture).to_string() };
        write(&format!("{back}\x1b[?7l{painted}\x1b[?7h"))?;
        self.last = picture;
        Ok(())
    }

    fn pictures(&self, meshes: &[MeshInstallation], trouble: Option<&str>) -> String {
        let width = terminal_size::terminal_size_of(io::stdout()).map_or(usize::MAX, |(columns, _)| columns.0.into());
        let now = Timestamp::now();
        let mut all: Vec<String> = meshes.iter().map(|mesh| picture(mesh, now, width)).collect();
        if all.is_empty() {
            all.push(format!("{}\n", self.none()));
        }
        all.extend(trouble.map(|trouble| format!("{trouble}\n")));
        all.join("\n")
    }

    /// What there is to say where there is nothing to show.
    fn none(&self) -> &'static str {
        if self.single {
            "the MeshInstallation is gone"
        } else {
            "this cluster has no MeshInstallation; config/samples has some to begin with"
        }
    }

    /// A text that is shown once, painted where the output takes colours.
    pub(super) fn once(&self, text: &str) -> Result<(), StatusError> {
        if self.colours { write(text) } else { write(&strip_str(text).to_string()) }
    }
}

/// As much as fits a screen: what has left it at the top can't be drawn over.
fn clip(picture: &str, rows: usize) -> String {
    let room = rows.saturating_sub(1).max(1);
    if picture.lines().count() <= room {
        return picture.to_owned();
    }
    let kept: Vec<&str> = picture.lines().take(room.saturating_sub(1)).collect();
    format!("{}\n... (the window is too low for the rest)\n", kept.join("\n"))
}

fn write(text: &str) -> Result<(), StatusError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(StatusError::Print)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_higher_than_the_window_is_cut_to_what_can_be_drawn_over() {
        assert_eq!(clip("a\nb\nc\n", 4), "a\nb\nc\n");
        let cut = clip("a\nb\nc\nd\n", 4);
        assert_eq!(cut.lines().count(), 3);
        assert!(cut.starts_with("a\nb\n..."));
    }
}
