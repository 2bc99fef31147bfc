//! The lab's directory on disk. It is deleted with the lab, or by the next lab if the process was killed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::LabError;

/// A directory that belongs to one lab of one process.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    /// Creates a directory below `MESHWRIGHT_LAB_DIR`, else below the system's directory for temporary files.
    pub(crate) fn create() -> Result<Self, LabError> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let root = std::env::var_os("MESHWRIGHT_LAB_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let root = root.join(format!("meshwright-lab-{}", nix::unistd::getuid()));
        sweep(&root);
        let path = root.join(format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        for dir in ["logs", "pods"] {
            let dir = path.join(dir);
            std::fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
        }
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Log file of one of the lab's programs.
    pub(crate) fn log(&self, program: &str) -> PathBuf {
        self.path.join("logs").join(format!("{program}.log"))
    }

    /// Returns a unique text.
    pub(crate) fn marker(&self) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let lab = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{lab}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf, LabError> {
        let path = self.path.join(name);
        std::fs::write(&path, content).map_err(LabError::file(&path))?;
        Ok(path)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if std::env::var_os("MESHWRIGHT_LAB_KEEP").is_none() {
            // The next lab deletes what can't be deleted now.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Deletes directories whose process has ended: it was killed, or `MESHWRIGHT_LAB_KEEP` was set.
fn sweep(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
