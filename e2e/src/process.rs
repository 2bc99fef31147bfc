//! Processes that end with the thread that started them.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::LabError;

/// Builds a command that the kernel kills when the calling thread ends. It runs in its own process group, so that
/// Ctrl-C reaches only the lab, which then stops its processes in order.
pub(crate) fn bound_to_this_thread(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null()).process_group(0);
    command
}

/// Appends a command's output to a file.
pub(crate) fn log_to(command: &mut Command, log: &Path) -> Result<(), LabError> {
    let file = OpenOptions::new().create(true).append(true).open(log).map_err(LabError::file(log))?;
    let copy = file.try_clone().map_err(LabError::file(log))?;
    command.stdout(file).stderr(copy);
    Ok(())
}

/// A program of the control plane; killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program` in `dir`. The program inherits only `PATH` from the environment.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        args: &[String],
        dir: &Path,
        log: PathBuf,
    ) -> Result<Self, LabError> {
        let mut command = bound_to_this_thread(program);
        command.args(args).current_dir(dir).env_clear().env("HOME", dir);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        log_to(&mut command, &log)?;
        let child = command.spawn().map_err(|source| LabError::Spawn { program: name.to_owned(), source })?;
        Ok(Self { name, child, log })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Exit status, if the program has exited.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills the program and waits until it has exited.
    pub(crate) fn stop(&mut self) {
        // SIGKILL loses nothing: the API server is stateless, and etcd's data is deleted with the lab.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Last lines of the program's log.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log, 4 * 1024)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns at most the last `bytes` of a file, from the start of a line; empty if the file can't be read.
pub(crate) fn tail(path: &Path, bytes: u64) -> String {
    let read = || -> std::io::Result<(bool, Vec<u8>)> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(bytes);
        file.seek(SeekFrom::Start(start))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok((start > 0, content))
    };
    let Ok((cut, content)) = read() else { return String::new() };
    let text = String::from_utf8_lossy(&content);
    match text.split_once('\n') {
        Some((_, rest)) if cut => rest.to_owned(),
        _ => text.into_owned(),
    }
}
