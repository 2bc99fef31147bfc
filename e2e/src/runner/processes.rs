//! The processes that run for Pods, by name; what a test may do to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::LabError;

type Key = (String, String);

/// Times of a process, as exact as the kernel's clock tick (commonly 10 ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it was started.
    pub started: jiff::Timestamp,
    /// Processor time that it has used.
    pub computed: Duration,
}

/// The running process of a Pod. It names one process: after a restart of the container, ask the lab again.
#[derive(Debug, Clone)]
pub struct PodProcess {
    key: Key,
    pid: Pid,
    processes: Processes,
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Of what is resident now: heap and stacks. The rest are pages of files, the program's own among them.
    pub anonymous: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

impl PodProcess {
    /// The process, in the machine's own numbering.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Stops it in its tracks: connections stay open and nothing answers. Its probes are held too, so that the Pod goes
    /// on counting as what it was: what a cluster is like while a kubelet hasn't noticed yet.
    pub fn pause(&self) -> Result<(), LabError> {
        self.processes.hold(&self.key, true);
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a paused process and its probes go on.
    pub fn resume(&self) -> Result<(), LabError> {
        self.processes.hold(&self.key, false);
        self.signal(Signal::SIGCONT)
    }

    /// `kill -9`.
    pub fn kill(&self) -> Result<(), LabError> {
        self.signal(Signal::SIGKILL)
    }

    /// How much memory it holds.
    pub fn memory(&self) -> Result<Memory, LabError> {
        let path = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(&path).map_err(LabError::file(&path))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        };
        let bytes = |name: &str| field(name).unwrap_or_default() * 1024;
        Ok(Memory { resident: bytes("VmRSS:"), anonymous: bytes("RssAnon:"), peak: bytes("VmHWM:") })
    }

    /// When it was started and how long it has computed so far.
    pub fn times(&self) -> Result<Times, LabError> {
        let read = |path: String| std::fs::read_to_string(&path).map_err(LabError::file(&path));
        let stat = read(format!("/proc/{}/stat", self.pid))?;
        let uptime = read("/proc/uptime".to_owned())?;
        let ticks_a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        // The name of the program comes second, in brackets, and may hold anything; what follows are numbers.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<u32>().ok()).unwrap_or_default();
        let time = |ticks: u32| Duration::from_secs(u64::from(ticks)) / u32::try_from(ticks_a_second).unwrap_or(100);
        let up = uptime.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
        let age = Duration::from_secs_f64(up).saturating_sub(time(ticks(19)));
        Ok(Times { started: jiff::Timestamp::now() - age, computed: time(ticks(11) + ticks(12)) })
    }

    fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let sent = self.processes.signal(&self.key, self.pid, signal);
        sent.map_err(|errno| LabError::Signal {
            pid: self.pid.as_raw(),
            pod: format!("{}/{}", self.key.0, self.key.1),
            errno,
        })
    }
}

/// The processes that run now. A process is entered before anyone can ask for it and taken out before it is reaped, so
/// that no signal ever reaches a stranger with its number.
#[derive(Debug, Clone, Default)]
pub(super) struct Processes(Arc<Mutex<BTreeMap<Key, Entry>>>);

#[derive(Debug)]
struct Entry {
    pid: Pid,
    held: bool,
}

impl Processes {
    pub(super) fn enter(&self, namespace: &str, pod: &str, pid: Pid) {
        self.locked(|processes| processes.insert((namespace.to_owned(), pod.to_owned()), Entry { pid, held: false }));
    }

    pub(super) fn leave(&self, namespace: &str, pod: &str) {
        self.locked(|processes| processes.remove(&(namespace.to_owned(), pod.to_owned())));
    }

    /// Signals the process of a Pod if it still is that one; else there is nobody to signal any more.
    pub(super) fn signal(&self, key: &Key, pid: Pid, signal: Signal) -> nix::Result<()> {
        self.locked(|processes| {
            let same = processes.get(key).is_some_and(|entry| entry.pid == pid);
            if same { kill(pid, signal) } else { Err(nix::errno::Errno::ESRCH) }
        })
    }

    /// Whether a test holds the process's probes.
    pub(super) fn held(&self, namespace: &str, pod: &str) -> bool {
        let key = (namespace.to_owned(), pod.to_owned());
        self.locked(|processes| processes.get(&key).is_some_and(|entry| entry.held))
    }

    fn hold(&self, key: &Key, held: bool) {
        self.locked(|processes| {
            if let Some(entry) = processes.get_mut(key) {
                entry.held = held;
            }
        });
    }

    pub(super) fn kill_all(&self) {
        self.locked(|processes| {
            for entry in processes.values() {
                // One that has ended meanwhile is what we want.
                let _ = kill(entry.pid, Signal::SIGKILL);
            }
        });
    }

    pub(super) fn find(&self, namespace: &str, pod: &str) -> Result<PodProcess, LabError> {
        let key = (namespace.to_owned(), pod.to_owned());
        self.locked(|processes| match processes.get(&key) {
            Some(entry) => Ok(PodProcess { pid: entry.pid, processes: self.clone(), key }),
            None => Err(LabError::NoProcess {
                namespace: key.0,
                pod: key.1,
                known: processes.keys().map(|key| format!("{}/{}", key.0, key.1)).collect::<Vec<_>>().join(", "),
            }),
        })
    }

    fn locked<T>(&self, work: impl FnOnce(&mut BTreeMap<Key, Entry>) -> T) -> T {
        // Nothing that runs under the lock leaves the map half changed.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
