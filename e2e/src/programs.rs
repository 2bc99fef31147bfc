//! Finds the programs that the lab runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::LabError;

/// The directory that `lab/build.sh` fills.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// The directory named by `MESHWRIGHT_LAB_BIN`, else the one that `lab/build.sh --print` names.
    pub fn find() -> Result<Self, LabError> {
        static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match FOUND.get_or_init(locate) {
            Ok(dir) => Ok(Self { dir: dir.clone() }),
            Err(detail) => Err(LabError::Programs { detail: detail.clone() }),
        }
    }

    /// The path of one program, for example `helm`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn locate() -> Result<PathBuf, String> {
    if let Some(dir) = std::env::var_os("MESHWRIGHT_LAB_BIN") {
        let dir = PathBuf::from(dir);
        let server = dir.join("kube-apiserver");
        return if server.exists() { Ok(dir) } else { Err(format!("MESHWRIGHT_LAB_BIN: no {}", server.display())) };
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/build.sh");
    let output =
        Command::new(&script).arg("--print").output().map_err(|error| format!("{}: {error}", script.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
