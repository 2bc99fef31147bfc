//! Memory limits of Pods' processes: a cgroup for each process, as the kubelet creates one for each container.

use std::fs;
use std::path::{Path, PathBuf};

use crate::LabError;

/// The files of a memory cgroup in a version of the kernel's interface.
#[derive(Debug, Clone, Copy)]
struct CgroupInterface {
    root: &'static str,
    /// Name of the hierarchy in `/proc/<pid>/cgroup`.
    hierarchy: &'static str,
    limit: &'static str,
    peak: &'static str,
    /// Limits the swap in addition; missing if the kernel doesn't account it.
    swap: (&'static str, SwapLimit),
}

/// What the limit of swap counts.
#[derive(Debug, Clone, Copy)]
enum SwapLimit {
    WithMemory,
    SwapOnly,
}

const VERSION_1: CgroupInterface = CgroupInterface {
    root: "/sys/fs/cgroup/memory",
    hierarchy: ":memory:",
    limit: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    swap: ("memory.memsw.limit_in_bytes", SwapLimit::WithMemory),
};
const VERSION_2: CgroupInterface = CgroupInterface {
    root: "/sys/fs/cgroup",
    hierarchy: "0::",
    limit: "memory.max",
    peak: "memory.peak",
    swap: ("memory.swap.max", SwapLimit::SwapOnly),
};

/// A cgroup that limits the memory of a process. Its directory is deleted when this is dropped and the process has
/// exited.
#[derive(Debug)]
pub(super) struct MemoryCgroup {
    dir: PathBuf,
}

impl MemoryCgroup {
    /// Creates a cgroup with a limit in bytes.
    pub(super) fn create(name: &str, limit: u64) -> Result<Self, LabError> {
        let interface = find()?;
        let dir = Path::new(interface.root).join(format!("meshwright-{}-{name}", std::process::id()));
        fs::create_dir(&dir).map_err(LabError::file(&dir))?;
        let cgroup = Self { dir };
        cgroup.write(interface.limit, limit)?;
        let (swap, counts) = interface.swap;
        if cgroup.dir.join(swap).exists() {
            cgroup.write(
                swap,
                match counts {
                    SwapLimit::WithMemory => limit,
                    SwapLimit::SwapOnly => 0,
                },
            )?;
        }
        Ok(cgroup)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn write(&self, file: &str, bytes: u64) -> Result<(), LabError> {
        let path = self.dir.join(file);
        fs::write(&path, bytes.to_string()).map_err(LabError::file(&path))
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // Fails if the process still runs, for example if the lab is aborted.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Whether this machine lets the lab limit memory.
pub(crate) fn is_available() -> bool {
    MemoryCgroup::create(&format!("probe-{:?}", std::thread::current().id()), 1 << 30).is_ok()
}

/// The most bytes that the cgroup of a process has used, with its page cache.
pub(super) fn peak(pid: i32) -> Result<u64, LabError> {
    let interface = find()?;
    let of_process = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&of_process).map_err(LabError::file(&of_process))?;
    let path = text.lines().find_map(|line| line.split_once(interface.hierarchy)).map(|(_, path)| path);
    let relative = path.unwrap_or_default().trim_start_matches('/');
    let file = Path::new(interface.root).join(relative).join(interface.peak);
    let bytes = fs::read_to_string(&file).map_err(LabError::file(&file))?;
    Ok(bytes.trim().parse().unwrap_or_default())
}

fn find() -> Result<CgroupInterface, LabError> {
    if Path::new(VERSION_1.root).join(VERSION_1.limit).exists() {
        return Ok(VERSION_1);
    }
    // The controller has to be enabled for the children of the root.
    let control = Path::new(VERSION_2.root).join("cgroup.subtree_control");
    fs::write(&control, "+memory").map_err(LabError::file(&control))?;
    Ok(VERSION_2)
}
