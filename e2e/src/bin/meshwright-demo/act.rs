//! The course of the demo, step by step.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use kube::api::Api;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_api::{MeshInstallation, Phase};
use meshwright_e2e::mesh::{Mesh, OPERATOR_NAMESPACE};
use meshwright_e2e::{Lab, TestResult, objects, wait};

use super::sample::{self, NAME};
use super::watching::{self, Watching};
use super::{Tools, farewell, heal, shop, tell};

/// istiod is a real process that makes a certificate authority first; a slow machine needs its time for that.
const READY_DEADLINE: Duration = Duration::from_mins(5);

/// Plays everything that follows the cluster's start.
pub(crate) async fn play(lab: &Lab, tools: &Tools) -> TestResult {
    operator(lab).await?;
    mesh(lab, tools).await?;
    tell::step(4, "a shop in a namespace with injection (config/samples/apps/shop.yaml)");
    shop::open(lab, tools).await?;
    tell::step(5, "what somebody deletes at night");
    heal::istiod(lab).await?;
    heal::injector(lab).await?;
    let started = Instant::now();
    until_ready(lab).await?;
    tell::done("the mesh is Ready again", started.elapsed());
    shop::replace(lab, "cart").await?;
    tell::step(6, "the mesh as it is now (meshwright status)");
    watching::once(lab, tools).await?;
    farewell::say(lab, tools)
}

async fn operator(lab: &Lab) -> TestResult {
    tell::step(2, "the operator: config/crd, config/rbac, config/manager");
    let started = Instant::now();
    Mesh::operator(lab).await?;
    let pods = objects::pod_names(&lab.client(), OPERATOR_NAMESPACE, "").await?;
    tell::done(&format!("ready: {}", pods.join(", ")), started.elapsed());
    Ok(())
}

/// Applies the sample and shows the operator at work, by the command that people have for it.
async fn mesh(lab: &Lab, tools: &Tools) -> TestResult {
    tell::step(3, "one MeshInstallation: config/samples/demo.yaml (meshwright status demo --watch)");
    let started = Instant::now();
    sample::apply(lab, tools, "demo.yaml").await?;
    let watching = Watching::start(lab, tools)?;
    let ready = until_ready(lab).await;
    watching.end().await?;
    ready?;
    if !std::io::stdout().is_terminal() {
        watching::once(lab, tools).await?;
    }
    tell::done("Ready", started.elapsed());
    Ok(())
}

/// What an installation has come to.
enum Verdict {
    Ready,
    Stalled(String),
}

/// Waits until the installation is Ready. One that is Stalled won't be by itself.
async fn until_ready(lab: &Lab) -> TestResult {
    let api: Api<MeshInstallation> = Api::all(lab.client());
    let verdict = wait::until(READY_DEADLINE, format!("the MeshInstallation {NAME} to be Ready"), async || {
        let mesh = api.get(NAME).await.map_err(|error| error.to_string())?;
        verdict(&mesh)
    });
    match verdict.await? {
        Verdict::Ready => Ok(()),
        Verdict::Stalled(why) => Err(format!("the MeshInstallation {NAME} is Stalled: {why}").into()),
    }
}

fn verdict(mesh: &MeshInstallation) -> Result<Verdict, String> {
    let status = mesh.status.clone().unwrap_or_default();
    if Some(status.observed_generation) != mesh.metadata.generation {
        return Err("the operator has not looked at it yet".to_owned());
    }
    if is_true(&status.conditions, ConditionType::Ready) {
        return Ok(Verdict::Ready);
    }
    let said =
        get(&status.conditions, ConditionType::Ready).map(|ready| format!("{}: {}", ready.reason, ready.message));
    let said = said.unwrap_or_else(|| "no condition Ready".to_owned());
    if status.phase == Some(Phase::Stalled) { Ok(Verdict::Stalled(said)) } else { Err(said) }
}
