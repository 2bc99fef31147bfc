//! Runs the CLI in the lab's network namespace.

use std::path::{Path, PathBuf};
use std::process::Output;

use meshwright_e2e::programs::{catalogs, operator};
use meshwright_e2e::{Lab, TestResult};
use serde_json::{Value, json};
use tokio::process::Command;

/// Exit code and output of a finished command.
pub struct CommandOutput {
    /// Exit code; `None` if a signal ended the command.
    pub code: Option<i32>,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error as text.
    pub stderr: String,
}

/// Runs `meshwright` with a kubeconfig.
pub async fn meshwright(kubeconfig: &Path, args: &[&str]) -> TestResult<CommandOutput> {
    run_program(&operator(), kubeconfig, args).await
}

/// Runs a program with a kubeconfig.
pub async fn run_program(program: &Path, kubeconfig: &Path, args: &[&str]) -> TestResult<CommandOutput> {
    let mut command = Command::new(program);
    // Uses the same catalogs as the operator in the lab.
    command.args(args).env("KUBECONFIG", kubeconfig).env("MESHWRIGHT_CATALOG", std::env::join_paths(catalogs())?);
    let Output { status, stdout, stderr } = command.kill_on_drop(true).output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(CommandOutput { code: status.code(), stdout: text(stdout), stderr: text(stderr) })
}

/// Writes a MeshInstallation to a file in a temporary directory, which the returned guard deletes.
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

/// Creates a ServiceAccount with these cluster-wide permissions and writes its kubeconfig to a temporary directory,
/// which the returned guard deletes.
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

/// Replaces the permissions of a ServiceAccount that [`account`] created.
pub async fn allow(lab: &Lab, name: &str, rules: &Value) -> TestResult {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules});
    lab.apply_yaml(name, &role.to_string()).await?;
    Ok(())
}

/// Runs `meshwright check -o json` with additional flags; returns the findings and the exit code.
pub async fn check(lab: &Lab, args: &[&str]) -> TestResult<(Vec<Value>, Option<i32>)> {
    check_as(lab.kubeconfig(), args).await
}

/// Like [`check`] with another kubeconfig.
pub async fn check_as(kubeconfig: &Path, args: &[&str]) -> TestResult<(Vec<Value>, Option<i32>)> {
    let args: Vec<&str> = ["check", "-o", "json"].into_iter().chain(args.iter().copied()).collect();
    let output = meshwright(kubeconfig, &args).await?;
    let report: Value = serde_json::from_str(&output.stdout)
        .map_err(|error| format!("{error}: {} {}", output.stdout, output.stderr))?;
    assert_eq!(report["format"], 1);
    Ok((report["findings"].as_array().cloned().unwrap_or_default(), output.code))
}
