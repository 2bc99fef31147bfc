//! A Pod's network namespace, owned by the thread that starts the Pod's processes.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::mpsc;

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, gettid};
use tokio::sync::oneshot;

use super::memory_cgroup::MemoryCgroup;
use super::processes::Processes;
use crate::{LabError, net, process};

/// Program, arguments and environment of a process to start.
#[derive(Debug)]
pub(super) struct ProcessSpec {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) dir: PathBuf,
    pub(super) log: PathBuf,
    /// Limits the process's memory.
    pub(super) memory: Option<MemoryCgroup>,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Running {
    key: (String, String),
    pid: Pid,
    processes: Processes,
    /// Receives the exit status.
    pub(super) ended: oneshot::Receiver<ExitStatus>,
}

impl Running {
    /// Sends a signal; does nothing if the process has exited.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = self.processes.signal(&self.key, self.pid, signal);
    }
}

enum SandboxCommand {
    ConfigureLink,
    Launch(ProcessSpec, oneshot::Sender<Result<Running, LabError>>),
}

/// The network namespace of a Pod. Dropping it kills every process in it.
#[derive(Debug)]
pub(super) struct Sandbox {
    commands: mpsc::Sender<SandboxCommand>,
}

impl Sandbox {
    /// Creates a network namespace with `address` and connects it to the calling thread's namespace.
    pub(super) async fn start(
        namespace: &str,
        pod: &str,
        address: Ipv4Addr,
        processes: Processes,
    ) -> Result<Self, LabError> {
        let (commands, inbox) = mpsc::channel();
        let (sender, reply) = oneshot::channel();
        let key = (namespace.to_owned(), pod.to_owned());
        let work = move || {
            let tid = net::unshare_network().map(|()| gettid().as_raw());
            let unshared = tid.is_ok();
            // Fails only if the caller was cancelled; then no commands follow either.
            let _ = sender.send(tid);
            if unshared {
                handle_commands(&inbox, address, &key, &processes);
            }
        };
        let spawn = |source| LabError::Spawn { program: "a Pod's thread".to_owned(), source };
        std::thread::Builder::new().name(format!("pod {pod}")).spawn(work).map_err(spawn)?;
        let tid = reply.await.unwrap_or(Err(LabError::Namespace { errno: nix::errno::Errno::ECANCELED }))?;
        net::connect_pod(tid, address)?;
        let sandbox = Self { commands };
        sandbox.send(SandboxCommand::ConfigureLink);
        Ok(sandbox)
    }

    /// Starts a process in the namespace.
    pub(super) async fn launch(&self, launch: ProcessSpec) -> Result<Running, LabError> {
        let (sender, reply) = oneshot::channel();
        self.send(SandboxCommand::Launch(launch, sender));
        reply.await.unwrap_or(Err(LabError::Namespace { errno: nix::errno::Errno::ECANCELED }))
    }

    fn send(&self, command: SandboxCommand) {
        // If the thread has ended, the reply channel is closed and the caller gets an error.
        let _ = self.commands.send(command);
    }
}

fn handle_commands(
    inbox: &mpsc::Receiver<SandboxCommand>,
    address: Ipv4Addr,
    key: &(String, String),
    processes: &Processes,
) {
    let mut configured = Ok(());
    for command in inbox {
        match command {
            SandboxCommand::ConfigureLink => configured = net::configure_pod_link(address),
            SandboxCommand::Launch(launch, reply) => {
                if let Err(error) = std::mem::replace(&mut configured, Ok(())) {
                    let _ = reply.send(Err(error));
                    return;
                }
                run(&launch, reply, key, processes);
            }
        }
    }
}

fn run(
    launch: &ProcessSpec,
    reply: oneshot::Sender<Result<Running, LabError>>,
    key: &(String, String),
    processes: &Processes,
) {
    let mut child = match spawn(launch) {
        Ok(child) => child,
        Err(error) => {
            let _ = reply.send(Err(error));
            return;
        }
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    processes.insert(&key.0, &key.1, pid);
    let (sender, ended) = oneshot::channel();
    let running = Running { key: key.clone(), pid, processes: processes.clone(), ended };
    if let Err(Ok(orphan)) = reply.send(Ok(running)) {
        orphan.signal(Signal::SIGKILL);
    }
    let status = wait_for(&mut child, pid, || processes.remove(&key.0, &key.1));
    let _ = sender.send(status);
}

fn spawn(launch: &ProcessSpec) -> Result<Child, LabError> {
    let named = |source| LabError::Spawn { program: launch.program.display().to_string(), source };
    if !launch.program.exists() {
        return Err(named(std::io::Error::from(std::io::ErrorKind::NotFound)));
    }
    let mut command = match &launch.memory {
        None => process::bound_to_this_thread(&launch.program),
        Some(cgroup) => {
            let mut command = process::bound_to_this_thread(Path::new("/bin/sh"));
            command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup.dir()).arg(&launch.program);
            command
        }
    };
    command.args(&launch.args).current_dir(&launch.dir).env_clear().envs(launch.env.iter().cloned());
    process::log_to(&mut command, &launch.log)?;
    command.spawn().map_err(named)
}

/// Waits until a process has exited, and calls `unregister` before the PID can be reused.
fn wait_for(child: &mut Child, pid: Pid, unregister: impl FnOnce()) -> ExitStatus {
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR) {}
    unregister();
    child.wait().unwrap_or_else(|_| ExitStatus::from_raw(Signal::SIGKILL as i32))
}
