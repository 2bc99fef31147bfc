//! What the documents tell people to type, typed: the blocks marked `sh lab`, in their order, as a shell runs them.

use std::path::Path;
use std::process::Stdio;

use meshwright_e2e::mesh::VERSION;
use meshwright_e2e::programs::{catalogs, operator};
use meshwright_e2e::{Lab, LabOptions, Programs, TestResult, run};
use tokio::process::Command;

use crate::cli::Ran;
use crate::gitops::file;

/// The image that the lab runs the operator for.
const IMAGE: &str = "meshwright:0.1.0";

/// The commands of a document's blocks that the lab runs.
fn blocks(document: &str) -> TestResult<Vec<String>> {
    let text = std::fs::read_to_string(file(document))?;
    let begun = text.split("\n```sh lab\n").skip(1);
    Ok(begun.map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned()).collect())
}

/// A folder in which the commands find the repository's files, and whatever they write is their own.
fn workplace() -> TestResult<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    std::os::unix::fs::symlink(file("config").canonicalize()?, dir.path().join("config"))?;
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(operator(), bin.join("meshwright"))?;
    std::os::unix::fs::symlink(Programs::find()?.path("kubectl"), bin.join("kubectl"))?;
    Ok(dir)
}

/// Runs commands as a person does who stops at the first that fails.
async fn shell(lab: &Lab, place: &Path, commands: &str) -> TestResult<Ran> {
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([place.join("bin")].into_iter().chain(std::env::split_paths(&others)))?;
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", commands]).current_dir(place).stdin(Stdio::null()).kill_on_drop(true);
    command.env("PATH", path).env("HOME", place).env("KUBECONFIG", lab.kubeconfig());
    command.env("MESHWRIGHT_CATALOG", std::env::join_paths(catalogs())?).env("IMAGE", IMAGE).env("ISTIO", VERSION);
    let output = command.output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
}

#[test]
fn the_quick_start_leads_from_an_empty_cluster_to_a_meshed_application_and_back() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let place = workplace()?;
        let blocks = blocks("docs/quick-start.md")?;
        assert_eq!(blocks.len(), 4, "{blocks:#?}");
        let mut said = Vec::new();
        for commands in &blocks {
            let Ran { code, out, err } = shell(lab, place.path(), commands).await?;
            assert_eq!(code, Some(0), "{commands}\n{out}\n{err}");
            said.push(out);
        }
        assert!(said[1].contains("MeshInstallation demo: Ready"), "{}", said[1]);
        assert!(said[2].contains("frontend") && said[2].contains(VERSION), "{}", said[2]);
        Ok(())
    });
}
