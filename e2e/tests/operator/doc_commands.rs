//! Runs the commands in the documentation's `sh lab` blocks.

use std::path::Path;
use std::process::Stdio;

use meshwright_e2e::mesh::VERSION;
use meshwright_e2e::programs::{catalogs, operator};
use meshwright_e2e::{Lab, LabOptions, Programs, TestResult, run};
use tokio::process::Command;

use crate::cli::CommandOutput;
use crate::gitops::file;

/// Image for which the lab runs the operator.
const IMAGE: &str = "meshwright:0.1.0";

/// The `sh lab` blocks of a document.
fn blocks(document: &str) -> TestResult<Vec<String>> {
    let text = std::fs::read_to_string(file(document))?;
    let blocks = text.split("\n```sh lab\n").skip(1);
    Ok(blocks.map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned()).collect())
}

/// Creates a working directory with links to config/ and the programs.
fn working_dir() -> TestResult<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    std::os::unix::fs::symlink(file("config").canonicalize()?, dir.path().join("config"))?;
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(operator(), bin.join("meshwright"))?;
    std::os::unix::fs::symlink(Programs::find()?.path("kubectl"), bin.join("kubectl"))?;
    Ok(dir)
}

/// Runs commands in bash and stops at the first failure.
async fn shell(lab: &Lab, dir: &Path, commands: &str) -> TestResult<CommandOutput> {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([dir.join("bin")].into_iter().chain(std::env::split_paths(&inherited)))?;
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", commands]).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    command.env("PATH", path).env("HOME", dir).env("KUBECONFIG", lab.kubeconfig());
    command.env("MESHWRIGHT_CATALOG", std::env::join_paths(catalogs())?).env("IMAGE", IMAGE).env("ISTIO", VERSION);
    let output = command.output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(CommandOutput { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
}

#[test]
fn quick_start_commands_succeed() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let dir = working_dir()?;
        let blocks = blocks("docs/quick-start.md")?;
        assert_eq!(blocks.len(), 4, "{blocks:#?}");
        let mut outputs = Vec::new();
        for commands in &blocks {
            let CommandOutput { code, stdout, stderr } = shell(lab, dir.path(), commands).await?;
            assert_eq!(code, Some(0), "{commands}\n{stdout}\n{stderr}");
            outputs.push(stdout);
        }
        assert!(outputs[1].contains("MeshInstallation demo: Ready"), "{}", outputs[1]);
        assert!(outputs[2].contains("frontend") && outputs[2].contains(VERSION), "{}", outputs[2]);
        Ok(())
    });
}
