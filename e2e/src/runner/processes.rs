//! Processes of Pods, by Pod name, and the operations that tests use on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::memory_cgroup;
use crate::LabError;

type Key = (String, String);

/// Times of a process, with the resolution of the kernel's clock tick (usually 10 ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessTimes {
    /// When the process was started.
    pub started: jiff::Timestamp,
    /// CPU time in user and kernel mode.
    pub cpu_time: Duration,
}

/// The running process of a Pod. After a container restart, call [`crate::Lab::process`] again.
#[derive(Debug, Clone)]
pub struct PodProcess {
    key: Key,
    pid: Pid,
    processes: Processes,
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident set size.
    pub resident: u64,
    /// Anonymous part of the resident set: heap and stacks. The rest are file pages, including the program's own.
    pub anonymous: u64,
    /// Peak resident set size.
    pub peak: u64,
}

impl PodProcess {
    /// Process ID in the machine's PID namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Pauses the process with SIGSTOP: connections stay open without responses. Its probes pause too, so that the
    /// Pod's readiness doesn't change, as before a kubelet detects the failure.
    pub fn pause(&self) -> Result<(), LabError> {
        self.processes.set_paused(&self.key, true);
        self.signal(Signal::SIGSTOP)
    }

    /// Resumes a paused process and its probes.
    pub fn resume(&self) -> Result<(), LabError> {
        self.processes.set_paused(&self.key, false);
        self.signal(Signal::SIGCONT)
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&self) -> Result<(), LabError> {
        self.signal(Signal::SIGKILL)
    }

    /// Reads the memory usage of the process.
    pub fn memory(&self) -> Result<ProcessMemory, LabError> {
        let path = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(&path).map_err(LabError::file(&path))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        };
        let bytes = |name: &str| field(name).unwrap_or_default() * 1024;
        Ok(ProcessMemory { resident: bytes("VmRSS:"), anonymous: bytes("RssAnon:"), peak: bytes("VmHWM:") })
    }

    /// The most bytes that the process's memory cgroup has used, with its page cache. Needs
    /// [`crate::LabOptions::limit_operator_memory`].
    pub fn cgroup_peak(&self) -> Result<u64, LabError> {
        memory_cgroup::peak(self.pid())
    }

    /// Reads the start time and CPU time of the process.
    pub fn times(&self) -> Result<ProcessTimes, LabError> {
        let read = |path: String| std::fs::read_to_string(&path).map_err(LabError::file(&path));
        let stat = read(format!("/proc/{}/stat", self.pid))?;
        let uptime = read("/proc/uptime".to_owned())?;
        let ticks_a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        // The second field is the program's name in parentheses and can contain any character; the others are numbers.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<u32>().ok()).unwrap_or_default();
        let time = |ticks: u32| Duration::from_secs(u64::from(ticks)) / u32::try_from(ticks_a_second).unwrap_or(100);
        let up = uptime.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
        let age = Duration::from_secs_f64(up).saturating_sub(time(ticks(19)));
        Ok(ProcessTimes { started: jiff::Timestamp::now() - age, cpu_time: time(ticks(11) + ticks(12)) })
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

/// The running processes. An entry is removed before the process is reaped, so that a signal never reaches another
/// process with a reused PID.
#[derive(Debug, Clone, Default)]
pub(super) struct Processes(Arc<Mutex<BTreeMap<Key, ProcessEntry>>>);

#[derive(Debug)]
struct ProcessEntry {
    pid: Pid,
    paused: bool,
}

impl Processes {
    pub(super) fn insert(&self, namespace: &str, pod: &str, pid: Pid) {
        self.locked(|processes| {
            processes.insert((namespace.to_owned(), pod.to_owned()), ProcessEntry { pid, paused: false })
        });
    }

    pub(super) fn remove(&self, namespace: &str, pod: &str) {
        self.locked(|processes| processes.remove(&(namespace.to_owned(), pod.to_owned())));
    }

    /// Signals the process of a Pod, unless it was replaced since.
    pub(super) fn signal(&self, key: &Key, pid: Pid, signal: Signal) -> nix::Result<()> {
        self.locked(|processes| {
            let same = processes.get(key).is_some_and(|entry| entry.pid == pid);
            if same { kill(pid, signal) } else { Err(nix::errno::Errno::ESRCH) }
        })
    }

    /// Whether a test has paused the process.
    pub(super) fn is_paused(&self, namespace: &str, pod: &str) -> bool {
        let key = (namespace.to_owned(), pod.to_owned());
        self.locked(|processes| processes.get(&key).is_some_and(|entry| entry.paused))
    }

    fn set_paused(&self, key: &Key, paused: bool) {
        self.locked(|processes| {
            if let Some(entry) = processes.get_mut(key) {
                entry.paused = paused;
            }
        });
    }

    pub(super) fn kill_all(&self) {
        self.locked(|processes| {
            for entry in processes.values() {
                // Fails only if the process has already exited.
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

    fn locked<T>(&self, work: impl FnOnce(&mut BTreeMap<Key, ProcessEntry>) -> T) -> T {
        // A panic under the lock can't leave the map inconsistent.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
