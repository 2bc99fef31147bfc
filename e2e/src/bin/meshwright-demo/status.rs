//! Runs `meshwright status`.

use std::process::ExitStatus;
use std::time::Duration;

use meshwright_e2e::{Lab, TestResult};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{Tools, sample};

/// Deadline for the last output, which takes milliseconds.
const EXIT_TIMEOUT: Duration = Duration::from_secs(30);

/// A running `meshwright status --watch`.
pub(crate) struct StatusWatch {
    child: Child,
}

impl StatusWatch {
    pub(crate) fn start(lab: &Lab, tools: &Tools) -> TestResult<Self> {
        Ok(Self { child: command(lab, tools, &["--watch"]).spawn()? })
    }

    /// Sends SIGTERM; the command prints the latest state before it exits.
    pub(crate) async fn stop(mut self) -> TestResult {
        if let Some(pid) = self.child.id() {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        }
        tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await??;
        Ok(())
    }
}

/// Prints the state once.
pub(crate) async fn show_once(lab: &Lab, tools: &Tools) -> TestResult<ExitStatus> {
    Ok(tokio::time::timeout(EXIT_TIMEOUT, command(lab, tools, &[]).status()).await??)
}

/// Builds the command. It runs in the network namespace of the lab's thread, and the kernel kills it with that thread.
fn command(lab: &Lab, tools: &Tools, flags: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(&tools.meshwright).args(["status", sample::NAME]).args(flags);
    command.env("KUBECONFIG", lab.kubeconfig()).kill_on_drop(true);
    command
}
