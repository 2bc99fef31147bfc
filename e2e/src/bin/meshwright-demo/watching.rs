//! `meshwright status`, run as a person would.

use std::process::ExitStatus;
use std::time::Duration;

use meshwright_e2e::{Lab, TestResult};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{Tools, sample};

/// For a last look, which takes milliseconds.
const LAST_WORD: Duration = Duration::from_secs(30);

/// A running `meshwright status --watch`.
pub(crate) struct Watching {
    child: Child,
}

impl Watching {
    pub(crate) fn start(lab: &Lab, tools: &Tools) -> TestResult<Self> {
        Ok(Self { child: command(lab, tools, &["--watch"]).spawn()? })
    }

    /// Asks it to end, which it does after it has shown the last state.
    pub(crate) async fn end(mut self) -> TestResult {
        if let Some(pid) = self.child.id() {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        }
        tokio::time::timeout(LAST_WORD, self.child.wait()).await??;
        Ok(())
    }
}

/// Shows the state once.
pub(crate) async fn once(lab: &Lab, tools: &Tools) -> TestResult<ExitStatus> {
    Ok(tokio::time::timeout(LAST_WORD, command(lab, tools, &[]).status()).await??)
}

/// Started by the lab's thread, and so in the lab's network; the kernel ends it with that thread.
fn command(lab: &Lab, tools: &Tools, flags: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(&tools.meshwright).args(["status", sample::NAME]).args(flags);
    command.env("KUBECONFIG", lab.kubeconfig()).kill_on_drop(true);
    command
}
