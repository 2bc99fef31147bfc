//! The command line against the lab: run as a person runs it, in the lab's network.

use std::path::{Path, PathBuf};
use std::process::Output;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
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
    let mut command = Command::new(operator());
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

/// A kubeconfig of a ServiceAccount of the namespace default, in a directory that goes with the returned guard.
pub async fn kubeconfig_of(lab: &Lab, account: &str) -> TestResult<(tempfile::TempDir, PathBuf)> {
    let accounts: Api<ServiceAccount> = Api::namespaced(lab.client(), "default");
    let audiences = TokenRequestSpec { audiences: vec![], ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: audiences, ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    let text = std::fs::read_to_string(lab.kubeconfig())?;
    let mut config: Value = serde_saphyr::from_str(&text)?;
    config["users"][0]["user"] = json!({"token": answer.status.map(|status| status.token)});
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("kubeconfig");
    std::fs::write(&path, config.to_string())?;
    Ok((dir, path))
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
