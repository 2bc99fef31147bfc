//! Finds the programs that the lab runs, and what they need.

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

/// A variable of the environment that names a path, made absolute, since Pods have working directories of their own. One
/// that is set to nothing counts as unset.
fn from_env(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)?;
    Some(std::path::absolute(&path).unwrap_or(path))
}

/// The operator's program: `MESHWRIGHT_BIN`, else what cargo built beside us. It need not be there.
#[must_use]
pub fn operator() -> PathBuf {
    from_env("MESHWRIGHT_BIN").unwrap_or_else(|| {
        let ours = std::env::current_exe().unwrap_or_default();
        // Tests lie in target/<profile>/deps, programs one above.
        let profile = ours.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).map(Path::to_path_buf);
        profile.unwrap_or_default().join("meshwright")
    })
}

/// The operator of the last dist, which Pods with the image [`LAST_DIST`] run: `MESHWRIGHT_LAST_BIN`, which `make test`
/// sets where `lab/last-dist.sh` could build it.
pub fn last_dist() -> Result<PathBuf, LabError> {
    let detail = "MESHWRIGHT_LAST_BIN is not set; name the program that this prints: make last-dist";
    from_env("MESHWRIGHT_LAST_BIN").ok_or_else(|| LabError::Operator { detail: detail.to_owned() })
}

/// The image by which a manifest asks for the operator of the last dist.
pub const LAST_DIST: &str = "meshwright:last-dist";

/// The catalog that `MESHWRIGHT_CATALOG` names, if any. It need not be there.
#[must_use]
pub fn catalog() -> Option<PathBuf> {
    from_env("MESHWRIGHT_CATALOG")
}

/// The catalogs of the lab's operator: the one that `MESHWRIGHT_CATALOG` names, and after it the lab's own releases, if
/// `make catalog` has made them. Empty without the first.
#[must_use]
pub fn catalogs() -> Vec<PathBuf> {
    let Some(catalog) = catalog() else { return Vec::new() };
    let releases = Programs::find().ok().map(|programs| programs.path("releases"));
    std::iter::once(catalog).chain(releases.filter(|dir| dir.is_dir())).collect()
}

/// Whether the operator can run from these, so that a test says so at once and not when no Pod becomes ready.
pub(crate) fn operator_is_complete(operator: &Path, catalog: Option<&Path>) -> Result<(), LabError> {
    let incomplete = |detail: String| Err(LabError::Operator { detail });
    if !operator.is_file() {
        return incomplete(format!("no {}; build it with: cargo build -p meshwright", operator.display()));
    }
    let Some(catalog) = catalog else {
        return incomplete("MESHWRIGHT_CATALOG is not set; `make catalog` makes a catalog, `make test` sets it".into());
    };
    let mut entries = std::fs::read_dir(catalog).into_iter().flatten().flatten();
    if !entries.any(|entry| entry.path().join("release.yaml").is_file()) {
        return incomplete(format!("{} holds no Istio release; add one with: make catalog", catalog.display()));
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
    fn what_the_operator_lacks_is_named_with_a_remedy() {
        let here = tempfile::tempdir().unwrap();
        let said = |operator: &Path, catalog: Option<&Path>| {
            operator_is_complete(operator, catalog).map_err(|e| e.to_string())
        };
        let program = here.path().join("meshwright");
        assert!(said(&program, None).unwrap_err().contains("cargo build"));
        std::fs::write(&program, "").unwrap();
        assert!(said(&program, None).unwrap_err().contains("MESHWRIGHT_CATALOG is not set"));
        let catalog = here.path().join("catalog");
        assert!(said(&program, Some(&catalog)).unwrap_err().contains("holds no Istio release"));
        std::fs::create_dir_all(catalog.join("1.31.2")).unwrap();
        std::fs::write(catalog.join("1.31.2/release.yaml"), "").unwrap();
        assert_eq!(said(&program, Some(&catalog)), Ok(()));
    }
}
