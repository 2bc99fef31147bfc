//! The command line against the lab: run as a person runs it, in the lab's network.

use std::path::{Path, PathBuf};
use std::process::Output;

use meshwright_e2e::programs::{catalogs, operator};
use meshwright_e2e::{Lab, TestResult};
use serde_json::{Value, json};
use tokio::process::Command;

/// A command that ended.
pub struct Ran {
    /// Exit status.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs `meshwright` with the lab's kubeconfig, or another.
pub async fn meshwright(kubeconfig: &Path, args: &[&str]) -> TestResult<Ran> {
    ran(&operator(), kubeconfig, args).await
}

/// Runs a program with a kubeconfig.
pub async fn ran(program: &Path, kubeconfig: &Path, args: &[&str]) -> TestResult<Ran> {
    let mut command = Command::new(program);
    // The same releases that the operator in the lab has.
    command.args(args).env("KUBECONFIG", kubeconfig).env("MESHWRIGHT_CATALOG", std::env::join_paths(catalogs())?);
    let Output { status, stdout, stderr } = command.kill_on_drop(true).output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { code: status.code(), out: text(stdout), err: text(stderr) })
}

/// Writes a MeshInstallation into a file of a directory of its own, which goes with the returned guard.
pub fn file(name: &str, spec: &Value, metadata: &Value) -> TestResult<(tempfile::TempDir, String)> {
    let mut object = json!({
        "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": name}, "spec": spec,
    });
    for (key, value) in metadata.as_object().into_iter().flatten() {
        object["metadata"][key] = value.clone();
    }
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("mi.yaml");
    std::fs::write(&path, object.to_string())?;
    let path = path.display().to_string();
    Ok((dir, path))
}

/// A kubeconfig of a new ServiceAccount that may do in the whole cluster what these rules say, and nothing else; in a
/// directory that goes with the returned guard.
pub async fn account(lab: &Lab, name: &str, rules: &Value) -> TestResult<(tempfile::TempDir, PathBuf)> {
    allow(lab, name, rules).await?;
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": "default"});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [subject]},
    ]});
    lab.apply_yaml(name, &objects.to_string()).await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("kubeconfig");
    std::fs::write(&path, lab.kubeconfig_of("default", name).await?)?;
    Ok((dir, path))
}

/// Lets an account that [`account`] has made do what these rules say, and nothing else.
pub async fn allow(lab: &Lab, name: &str, rules: &Value) -> TestResult {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules});
    lab.apply_yaml(name, &role.to_string()).await?;
    Ok(())
}

/// The findings of `meshwright check -o json` with these further flags, and its exit status.
pub async fn check(lab: &Lab, args: &[&str]) -> TestResult<(Vec<Value>, Option<i32>)> {
    check_as(lab.kubeconfig(), args).await
}

/// The same with another kubeconfig.
pub async fn check_as(kubeconfig: &Path, args: &[&str]) -> TestResult<(Vec<Value>, Option<i32>)> {
    let args: Vec<&str> = ["check", "-o", "json"].into_iter().chain(args.iter().copied()).collect();
    let ran = meshwright(kubeconfig, &args).await?;
    let report: Value = serde_json::from_str(&ran.out).map_err(|error| format!("{error}: {} {}", ran.out, ran.err))?;
    assert_eq!(report["format"], 1);
    Ok((report["findings"].as_array().cloned().unwrap_or_default(), ran.code))
}
