//! Paths of the programs and catalogs that the lab uses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::LabError;

/// Directory of the programs that `lab/build.sh` builds.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Uses the directory in `MESHWRIGHT_LAB_BIN`, else the one that `lab/build.sh --print` prints.
    pub fn find() -> Result<Self, LabError> {
        static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match FOUND.get_or_init(locate) {
            Ok(dir) => Ok(Self { dir: dir.clone() }),
            Err(detail) => Err(LabError::Programs { detail: detail.clone() }),
        }
    }

    /// Path of a program, for example `helm`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Path in an environment variable, made absolute because Pods have their own working directories. An empty variable
/// counts as unset.
fn from_env(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)?;
    Some(std::path::absolute(&path).unwrap_or(path))
}

/// Path of the operator's program: `MESHWRIGHT_BIN`, else the one in cargo's target directory. It may not exist.
#[must_use]
pub fn operator() -> PathBuf {
    from_env("MESHWRIGHT_BIN").unwrap_or_else(|| {
        let current = std::env::current_exe().unwrap_or_default();
        // Tests are in target/<profile>/deps, programs in target/<profile>.
        let profile = current.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).map(Path::to_path_buf);
        profile.unwrap_or_default().join("meshwright")
    })
}

/// Path of the last dist's operator, for Pods with the image [`LAST_DIST`]: `MESHWRIGHT_LAST_BIN`, which `make test`
/// sets if `lab/last-dist.sh` could build it.
pub fn last_dist() -> Result<PathBuf, LabError> {
    let detail = "MESHWRIGHT_LAST_BIN is not set; set it to the path that `make last-dist` prints";
    from_env("MESHWRIGHT_LAST_BIN").ok_or_else(|| LabError::Operator { detail: detail.to_owned() })
}

/// Image that selects the last dist's operator.
pub const LAST_DIST: &str = "meshwright:last-dist";

/// Catalog path in `MESHWRIGHT_CATALOG`. It may not exist.
#[must_use]
pub fn catalog() -> Option<PathBuf> {
    from_env("MESHWRIGHT_CATALOG")
}

/// Catalogs of the lab's operator: the one in `MESHWRIGHT_CATALOG`, then the lab's own releases if `make catalog` has
/// created them. Empty if `MESHWRIGHT_CATALOG` isn't set.
#[must_use]
pub fn catalogs() -> Vec<PathBuf> {
    let Some(catalog) = catalog() else { return Vec::new() };
    let releases = Programs::find().ok().map(|programs| programs.path("releases"));
    std::iter::once(catalog).chain(releases.filter(|dir| dir.is_dir())).collect()
}

/// Checks the operator's files, so that a test fails immediately instead of waiting for a Pod.
pub(crate) fn check_operator_files(operator: &Path, catalog: Option<&Path>) -> Result<(), LabError> {
    let incomplete = |detail: String| Err(LabError::Operator { detail });
    if !operator.is_file() {
        return incomplete(format!("{} does not exist; build it with: cargo build -p meshwright", operator.display()));
    }
    let Some(catalog) = catalog else {
        return incomplete(
            "MESHWRIGHT_CATALOG is not set; `make catalog` creates a catalog, and `make test` sets the variable".into(),
        );
    };
    let mut entries = std::fs::read_dir(catalog).into_iter().flatten().flatten();
    if !entries.any(|entry| entry.path().join("release.yaml").is_file()) {
        return incomplete(format!("{} contains no Istio release; add one with: make catalog", catalog.display()));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_missing_operator_files_with_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let check = |operator: &Path, catalog: Option<&Path>| {
            check_operator_files(operator, catalog).map_err(|e| e.to_string())
        };
        let program = dir.path().join("meshwright");
        assert!(check(&program, None).unwrap_err().contains("cargo build"));
        std::fs::write(&program, "").unwrap();
        assert!(check(&program, None).unwrap_err().contains("MESHWRIGHT_CATALOG is not set"));
        let catalog = dir.path().join("catalog");
        assert!(check(&program, Some(&catalog)).unwrap_err().contains("contains no Istio release"));
        std::fs::create_dir_all(catalog.join("1.31.2")).unwrap();
        std::fs::write(catalog.join("1.31.2/release.yaml"), "").unwrap();
        assert_eq!(check(&program, Some(&catalog)), Ok(()));
    }
}
