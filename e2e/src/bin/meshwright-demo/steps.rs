//! The steps of the demo.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use kube::api::Api;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_api::{MeshInstallation, Phase};
use meshwright_e2e::mesh::{Mesh, OPERATOR_NAMESPACE};
use meshwright_e2e::{Lab, TestResult, objects, wait};

use super::sample::{self, NAME};
use super::status::{self, StatusWatch};
use super::{Tools, drift, next_steps, output, shop};

/// Allows for slow machines: istiod is a real process that first creates a CA.
const READY_DEADLINE: Duration = Duration::from_mins(5);

/// Runs every step after the start of the cluster.
pub(crate) async fn run(lab: &Lab, tools: &Tools) -> TestResult {
    operator(lab).await?;
    mesh(lab, tools).await?;
    output::step(4, "deploy an application with injected proxies (config/samples/apps/shop.yaml)");
    shop::deploy(lab, tools).await?;
    output::step(5, "delete istiod and the injection webhook; the operator recreates them");
    drift::istiod(lab).await?;
    drift::injector(lab).await?;
    let started = Instant::now();
    wait_ready(lab).await?;
    output::done("the mesh is Ready again", started.elapsed());
    shop::replace_pod(lab, "cart").await?;
    output::step(6, "show the state of the mesh (meshwright status)");
    status::show_once(lab, tools).await?;
    next_steps::print(lab, tools)
}

async fn operator(lab: &Lab) -> TestResult {
    output::step(2, "install the operator (config/crd, config/rbac, config/manager)");
    let started = Instant::now();
    Mesh::install_operator(lab).await?;
    let pods = objects::pod_names(&lab.client(), OPERATOR_NAMESPACE, "").await?;
    output::done(&format!("ready: {}", pods.join(", ")), started.elapsed());
    Ok(())
}

/// Applies the sample and shows the progress with `meshwright status --watch`.
async fn mesh(lab: &Lab, tools: &Tools) -> TestResult {
    output::step(3, "apply a MeshInstallation (config/samples/demo.yaml; meshwright status demo --watch)");
    let started = Instant::now();
    sample::apply(lab, tools, "demo.yaml").await?;
    let watch = StatusWatch::start(lab, tools)?;
    let ready = wait_ready(lab).await;
    watch.stop().await?;
    ready?;
    if !std::io::stdout().is_terminal() {
        status::show_once(lab, tools).await?;
    }
    output::done("Ready", started.elapsed());
    Ok(())
}

/// Final states of an installation.
enum MeshState {
    Ready,
    Stalled(String),
}

/// Waits until the installation is Ready; fails if it is Stalled.
async fn wait_ready(lab: &Lab) -> TestResult {
    let api: Api<MeshInstallation> = Api::all(lab.client());
    let mesh_state = wait::until(READY_DEADLINE, format!("the MeshInstallation {NAME} to be Ready"), async || {
        let mesh = api.get(NAME).await.map_err(|error| error.to_string())?;
        mesh_state(&mesh)
    });
    match mesh_state.await? {
        MeshState::Ready => Ok(()),
        MeshState::Stalled(reason) => Err(format!("MeshInstallation {NAME} is Stalled: {reason}").into()),
    }
}

fn mesh_state(mesh: &MeshInstallation) -> Result<MeshState, String> {
    let status = mesh.status.clone().unwrap_or_default();
    if Some(status.observed_generation) != mesh.metadata.generation {
        return Err("not reconciled yet".to_owned());
    }
    if is_true(&status.conditions, ConditionType::Ready) {
        return Ok(MeshState::Ready);
    }
    let summary =
        get(&status.conditions, ConditionType::Ready).map(|ready| format!("{}: {}", ready.reason, ready.message));
    let summary = summary.unwrap_or_else(|| "no Ready condition".to_owned());
    if status.phase == Some(Phase::Stalled) { Ok(MeshState::Stalled(summary)) } else { Err(summary) }
}
