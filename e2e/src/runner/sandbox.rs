//! A Pod's network namespace, held by a thread from which its processes are started.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::mpsc;

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, gettid};
use tokio::sync::oneshot;

use super::processes::Processes;
use crate::{LabError, net, process};

/// A process that is to be started.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) dir: PathBuf,
    pub(super) log: PathBuf,
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Running {
    key: (String, String),
    pid: Pid,
    processes: Processes,
    /// Answers when it has ended.
    pub(super) ended: oneshot::Receiver<ExitStatus>,
}

impl Running {
    /// Nothing happens if it has ended already.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = self.processes.signal(&self.key, self.pid, signal);
    }
}

enum Order {
    Join,
    Launch(Launch, oneshot::Sender<Result<Running, LabError>>),
}

/// The namespace of one Pod. It, and every process in it, ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sandbox {
    orders: mpsc::Sender<Order>,
}

impl Sandbox {
    /// Makes a network namespace with `address` in it and joins it to the calling thread's.
    pub(super) async fn start(
        namespace: &str,
        pod: &str,
        address: Ipv4Addr,
        processes: Processes,
    ) -> Result<Self, LabError> {
        let (orders, inbox) = mpsc::channel();
        let (tell, told) = oneshot::channel();
        let key = (namespace.to_owned(), pod.to_owned());
        let work = move || {
            let left = net::leave_for_new().map(|()| gettid().as_raw());
            let went = left.is_ok();
            // Whoever asked may have given up; then there are no orders either.
            let _ = tell.send(left);
            if went {
                obey(&inbox, address, &key, &processes);
            }
        };
        let spawn = |source| LabError::Spawn { program: "a Pod's thread".to_owned(), source };
        std::thread::Builder::new().name(format!("pod {pod}")).spawn(work).map_err(spawn)?;
        let tid = told.await.unwrap_or(Err(LabError::Namespace { errno: nix::errno::Errno::ECANCELED }))?;
        net::join(tid, address)?;
        let sandbox = Self { orders };
        sandbox.order(Order::Join);
        Ok(sandbox)
    }

    /// Starts a process in the namespace.
    pub(super) async fn launch(&self, launch: Launch) -> Result<Running, LabError> {
        let (tell, told) = oneshot::channel();
        self.order(Order::Launch(launch, tell));
        told.await.unwrap_or(Err(LabError::Namespace { errno: nix::errno::Errno::ECANCELED }))
    }

    fn order(&self, order: Order) {
        // If the thread is gone, the answer's channel closes, and that is what the caller sees.
        let _ = self.orders.send(order);
    }
}

fn obey(inbox: &mpsc::Receiver<Order>, address: Ipv4Addr, key: &(String, String), processes: &Processes) {
    let mut joined = Ok(());
    for order in inbox {
        match order {
            Order::Join => joined = net::joined(address),
            Order::Launch(launch, answer) => {
                if let Err(error) = std::mem::replace(&mut joined, Ok(())) {
                    let _ = answer.send(Err(error));
                    return;
                }
                run(&launch, answer, key, processes);
            }
        }
    }
}

fn run(
    launch: &Launch,
    answer: oneshot::Sender<Result<Running, LabError>>,
    key: &(String, String),
    processes: &Processes,
) {
    let mut child = match spawn(launch) {
        Ok(child) => child,
        Err(error) => {
            let _ = answer.send(Err(error));
            return;
        }
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    processes.enter(&key.0, &key.1, pid);
    let (tell, ended) = oneshot::channel();
    let running = Running { key: key.clone(), pid, processes: processes.clone(), ended };
    if let Err(Ok(unwanted)) = answer.send(Ok(running)) {
        unwanted.signal(Signal::SIGKILL);
    }
    let status = wait_for(&mut child, pid, || processes.leave(&key.0, &key.1));
    let _ = tell.send(status);
}

fn spawn(launch: &Launch) -> Result<Child, LabError> {
    let named = |source| LabError::Spawn { program: launch.program.display().to_string(), source };
    if !launch.program.exists() {
        return Err(named(std::io::Error::from(std::io::ErrorKind::NotFound)));
    }
    let mut command = process::bound_to_this_thread(&launch.program);
    command.args(&launch.args).current_dir(&launch.dir).env_clear().envs(launch.env.iter().cloned());
    process::log_to(&mut command, &launch.log)?;
    command.spawn().map_err(named)
}

/// Waits for the end of a process, and has it forgotten before its number can be used again.
fn wait_for(child: &mut Child, pid: Pid, forget: impl FnOnce()) -> ExitStatus {
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR) {}
    forget();
    child.wait().unwrap_or_else(|_| ExitStatus::from_raw(Signal::SIGKILL as i32))
}
