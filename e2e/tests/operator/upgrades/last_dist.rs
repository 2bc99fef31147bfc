//! The operator itself is upgraded: from the program and the manifest of the last dist to these.

use kube::api::{DeleteParams, ListParams};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, OPERATOR_NAMESPACE, operator_writes};
use meshwright_e2e::programs::{LAST_DIST, Programs, last_dist};
use meshwright_e2e::{Fault, Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use super::{MESHES, Scene, is_ready};
use crate::cli::{self, meshwright};
use crate::install_manifest::{printed, printed_by};

/// The objects of a mesh that this operator makes otherwise than the last dist's did, by intent: `Kind namespace/name`.
/// Emptied when e2e/last-dist moves on.
const MEANT: [&str; 0] = [];

/// The add-on of the mesh: it comes with the operator, so that a newer one may change it.
const ADD_ON: &str = "prometheus";

/// An account that nothing in the lab needs while it is away.
const READER: &str = "istio-reader-service-account";

/// A mesh with something of everything that an operator remembers.
fn spec(version: &str, log: &str) -> Value {
    let ports = json!([{"name": "http2", "port": 80, "nodePort": 30401}, {"name": "https", "port": 443}]);
    json!({
        "version": version, "profile": "demo", "tags": [{"name": "prod"}], "addons": [{"name": ADD_ON}],
        "meshConfig": {"accessLogFile": log}, "upgrade": {"progressDeadline": "20s"},
        "gateways": [{"name": "edge", "namespace": "edge", "service": {"type": "NodePort", "ports": ports}}],
    })
}

/// Applies a manifest as docs/install.md says, and waits until the operator is rolled out.
async fn apply(lab: &Lab, manifest: &str) -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("install.yaml").display().to_string();
    std::fs::write(&path, manifest)?;
    let kubectl = Programs::find()?.path("kubectl");
    let applied = cli::ran(&kubectl, lab.kubeconfig(), &["apply", "--server-side", "-f", &path]).await?;
    assert_eq!(applied.code, Some(0), "{}", applied.err);
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
    Ok(())
}

/// What the operator remembers, as it lies in the cluster.
async fn memory(mesh: &Mesh) -> Result<Vec<Value>, kube::Error> {
    let records = mesh.api("apps/v1", "ControllerRevision", Some(OPERATOR_NAMESPACE));
    let list = records.list(&ListParams::default()).await?;
    Ok(list.into_iter().map(|record| json!({"metadata": record.metadata, "content": record.data})).collect())
}

/// The Pods that serve traffic or the mesh.
async fn serving(lab: &Lab) -> TestResult<Vec<String>> {
    let istiods = objects::pod_names(&lab.client(), "istio-system", "app=istiod").await?;
    Ok([istiods, objects::pod_names(&lab.client(), "edge", "").await?].concat())
}

/// Waits until another Pod leads than these, and has looked at everything: by the time it heals something, it has.
async fn taken_over(mesh: &Mesh, old: &[String]) -> TestResult {
    wait::until(wait::PATIENCE, "a new Pod to lead", async || {
        let now = mesh.leader().await.map_err(|error| error.to_string())?;
        if old.contains(&now) { Err(now) } else { Ok(()) }
    })
    .await?;
    let accounts = mesh.api("v1", "ServiceAccount", Some("istio-system"));
    accounts.delete(READER, &DeleteParams::default()).await?;
    wait::until(wait::PATIENCE, "an account to come back", async || {
        accounts.get(READER).await.map_err(|error| error.to_string())
    })
    .await?;
    mesh.wait_ready(NAME).await?;
    Ok(())
}

/// What `meshwright status --history` shows once the newest spec is proved.
async fn history(lab: &Lab) -> TestResult<Value> {
    let shown = wait::until(wait::PATIENCE, "the newest spec to be proved", async || {
        let args = ["status", NAME, "--history", "-o", "json"];
        let ran = meshwright(lab.kubeconfig(), &args).await.map_err(|error| error.to_string())?;
        let shown: Value = serde_json::from_str(&ran.out).map_err(|error| format!("{error}: {}", ran.err))?;
        let history = shown["installations"][0]["history"].clone();
        let last = history.as_array().and_then(|specs| specs.last()).map(|spec| spec["verdict"].clone());
        if last == Some("proved".into()) { Ok(history) } else { Err(shown.to_string()) }
    });
    Ok(shown.await?)
}

#[test]
#[ignore = "takes the operator of the last dist, which `make test` builds from the repository's history: make last-dist"]
fn a_mesh_of_the_last_dist_is_taken_over_untouched_and_goes_back_to_what_that_operator_proved() {
    run(LabOptions::default().audited(), async |lab| {
        let older = last_dist()?;
        apply(lab, &printed_by(&older, lab, &["--image", LAST_DIST]).await?).await?;
        let mesh = Mesh::of(lab.client());
        mesh.apply(NAME, spec(LAB_1_31, "/dev/stdout")).await?;
        mesh.wait_ready(NAME).await?;
        let proved = spec(LAB_1_31, "/dev/stderr");
        let scene = Scene::by(lab, mesh, proved).await?;
        let specs = history(lab).await?;
        assert_eq!(specs.as_array().map(Vec::len), Some(2), "{specs}");

        objects::deployment_ready(&lab.client(), "istio-system", ADD_ON).await?;

        let made = scene.inventory().await?.without_add_ons();
        let (pods, memory_of_it) = (serving(lab).await?, memory(&scene.mesh).await?);
        let operators = objects::pod_names(&lab.client(), OPERATOR_NAMESPACE, "").await?;
        let mark = lab.settled_audit().await?.mark();
        apply(lab, &printed(lab, &[]).await?).await?;
        taken_over(&scene.mesh, &operators).await?;

        let mut writes = operator_writes(&lab.settled_audit().await?, mark);
        writes.retain(|write| !write.contains("meshinstallations/status") && !write.contains(&format!("/{ADD_ON}")));
        let changes = made.differences(&scene.inventory().await?.without_add_ons());
        let mut changed: Vec<&str> = changes.iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        changed.dedup();
        assert_eq!(changed, MEANT, "{changes:#?}");
        assert_eq!(writes.len(), MEANT.len() + 1, "{writes:#?}");
        assert!(writes.iter().any(|write| write.contains(READER)), "{writes:#?}");
        assert_eq!(serving(lab).await?, pods, "no Pod was replaced");
        assert_eq!(memory(&scene.mesh).await?, memory_of_it);
        assert_eq!(history(lab).await?, specs);
        scene.witness.caught_up().await?;
        let ready: Vec<bool> = scene.witness.states(MESHES, NAME).iter().map(is_ready).collect();
        assert!(ready.iter().all(|ready| *ready), "{ready:?}");
        scene.all_were_injected().await?;
        objects::deployment_ready(&lab.client(), "istio-system", ADD_ON).await?;

        // What the older operator proved is what this one goes back to; and it goes forward from there.
        let found = scene.inventory().await?;
        lab.break_istiod(LAB_1_32, Fault::NeverStarts)?;
        scene.mesh.apply(NAME, spec(LAB_1_32, "/dev/stderr")).await?;
        let said = scene.rolled_back(&found).await?;
        assert!(said.contains("ImagePullBackOff"), "{said}");
        assert_eq!(serving(lab).await?, pods, "what served went on");
        lab.mend_istiod(LAB_1_32)?;
        let mut again = spec(LAB_1_32, "/dev/stderr");
        again["upgrade"]["progressDeadline"] = "90s".into();
        scene.mesh.apply(NAME, again).await?;
        scene.comes_to("True", "Healthy").await?;
        scene.all_were_injected().await?;
        Ok(())
    });
}
