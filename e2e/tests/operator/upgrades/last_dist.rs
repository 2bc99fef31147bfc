//! Upgrade of the operator from the program and manifest of the last dist to the current ones.

use kube::api::{DeleteParams, ListParams};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, OPERATOR_NAMESPACE, operator_writes};
use meshwright_e2e::programs::{LAST_DIST, Programs, last_dist};
use meshwright_e2e::{Fault, Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use super::{MESHES, UpgradeTest, is_ready};
use crate::cli::{self, meshwright};
use crate::install_manifest::{manifest, manifest_of};

/// Objects that this operator intentionally renders differently than the last dist, as `Kind namespace/name`. Empty the
/// list when e2e/last-dist changes.
const INTENDED_CHANGES: [&str; 0] = [];

/// Add-on of the mesh. Add-ons ship with the operator, so a newer operator may change them.
const ADD_ON: &str = "prometheus";

/// A ServiceAccount that the lab can do without for a moment.
const READER: &str = "istio-reader-service-account";

/// A mesh that covers everything in the operator's persistent state.
fn spec(version: &str, log: &str) -> Value {
    let ports = json!([{"name": "http2", "port": 80, "nodePort": 30401}, {"name": "https", "port": 443}]);
    json!({
        "version": version, "profile": "demo", "tags": [{"name": "prod"}], "addons": [{"name": ADD_ON}],
        "meshConfig": {"accessLogFile": log}, "upgrade": {"progressDeadline": "20s"},
        "gateways": [{"name": "edge", "namespace": "edge", "service": {"type": "NodePort", "ports": ports}}],
    })
}

/// Applies a manifest as in docs/install.md and waits until the operator is rolled out.
pub(super) async fn apply_manifest(lab: &Lab, manifest: &str) -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("install.yaml").display().to_string();
    std::fs::write(&path, manifest)?;
    let kubectl = Programs::find()?.path("kubectl");
    let applied = cli::run_program(&kubectl, lab.kubeconfig(), &["apply", "--server-side", "-f", &path]).await?;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
    Ok(())
}

/// The operator's ControllerRevisions.
async fn revision_history(mesh: &Mesh) -> Result<Vec<Value>, kube::Error> {
    let records = mesh.api("apps/v1", "ControllerRevision", Some(OPERATOR_NAMESPACE));
    let list = records.list(&ListParams::default()).await?;
    Ok(list.into_iter().map(|record| json!({"metadata": record.metadata, "content": record.data})).collect())
}

/// Pods of istiod and the gateway.
async fn serving_pods(lab: &Lab) -> TestResult<Vec<String>> {
    let istiods = objects::pod_names(&lab.client(), "istio-system", "app=istiod").await?;
    Ok([istiods, objects::pod_names(&lab.client(), "edge", "").await?].concat())
}

/// Waits until a Pod other than `old` is the leader and has reverted drift, which shows that it has compared all
/// objects.
async fn wait_taken_over(mesh: &Mesh, old: &[String]) -> TestResult {
    wait::until(wait::TIMEOUT, "a new leader", async || {
        let now = mesh.leader().await.map_err(|error| error.to_string())?;
        if old.contains(&now) { Err(now) } else { Ok(()) }
    })
    .await?;
    let accounts = mesh.api("v1", "ServiceAccount", Some("istio-system"));
    accounts.delete(READER, &DeleteParams::default()).await?;
    wait::until(wait::TIMEOUT, "the ServiceAccount to be recreated", async || {
        accounts.get(READER).await.map_err(|error| error.to_string())
    })
    .await?;
    mesh.wait_ready(NAME).await?;
    Ok(())
}

/// Waits until the latest revision is deployed; returns the output of `meshwright status --history`.
async fn history(lab: &Lab) -> TestResult<Value> {
    let status = wait::until(wait::TIMEOUT, "the latest revision to be deployed", async || {
        let args = ["status", NAME, "--history", "-o", "json"];
        let output = meshwright(lab.kubeconfig(), &args).await.map_err(|error| error.to_string())?;
        let status: Value =
            serde_json::from_str(&output.stdout).map_err(|error| format!("{error}: {}", output.stderr))?;
        let history = status["installations"][0]["history"].clone();
        let last = history.as_array().and_then(|specs| specs.last()).map(|spec| spec["verdict"].clone());
        if last == Some("deployed".into()) { Ok(history) } else { Err(status.to_string()) }
    });
    Ok(status.await?)
}

#[test]
#[ignore = "requires the operator of the last dist, which `make test` builds from the repository's history: make last-dist"]
fn takes_over_mesh_of_last_dist() {
    run(LabOptions::default().audited(), async |lab| {
        let older = last_dist()?;
        apply_manifest(lab, &manifest_of(&older, lab, &["--image", LAST_DIST]).await?).await?;
        let mesh = Mesh::connect(lab.client());
        mesh.apply(NAME, spec(LAB_1_31, "/dev/stdout")).await?;
        mesh.wait_ready(NAME).await?;
        let test = UpgradeTest::with_operator(lab, mesh, spec(LAB_1_31, "/dev/stderr")).await?;
        let specs = history(lab).await?;
        assert_eq!(specs.as_array().map(Vec::len), Some(2), "{specs}");

        objects::deployment_ready(&lab.client(), "istio-system", ADD_ON).await?;

        let before = test.inventory().await?.without_add_ons();
        let (pods, records) = (serving_pods(lab).await?, revision_history(&test.mesh).await?);
        let operators = objects::pod_names(&lab.client(), OPERATOR_NAMESPACE, "").await?;
        let start = lab.settled_audit().await?.position();
        apply_manifest(lab, &manifest(lab, &[]).await?).await?;
        wait_taken_over(&test.mesh, &operators).await?;

        let mut writes = operator_writes(&lab.settled_audit().await?, start);
        writes.retain(|write| !write.contains("meshinstallations/status") && !write.contains(&format!("/{ADD_ON}")));
        let changes = before.differences(&test.inventory().await?.without_add_ons());
        let mut changed: Vec<&str> = changes.iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        changed.dedup();
        assert_eq!(changed, INTENDED_CHANGES, "{changes:#?}");
        assert_eq!(writes.len(), INTENDED_CHANGES.len() + 1, "{writes:#?}");
        assert!(writes.iter().any(|write| write.contains(READER)), "{writes:#?}");
        assert_eq!(serving_pods(lab).await?, pods, "no Pod should be replaced");
        assert_eq!(revision_history(&test.mesh).await?, records);
        assert_eq!(history(lab).await?, specs);
        test.recorder.wait_caught_up().await?;
        let ready: Vec<bool> = test.recorder.states(MESHES, NAME).iter().map(is_ready).collect();
        assert!(ready.iter().all(|ready| *ready), "{ready:?}");
        test.assert_all_injected().await?;
        objects::deployment_ready(&lab.client(), "istio-system", ADD_ON).await?;

        // The new operator rolls back to the revision that the older one deployed, and can upgrade from there.
        let found = test.inventory().await?;
        lab.inject_istiod_fault(LAB_1_32, Fault::NeverStarts)?;
        test.mesh.apply(NAME, spec(LAB_1_32, "/dev/stderr")).await?;
        let message = test.wait_rolled_back(&found).await?;
        assert!(message.contains("ImagePullBackOff"), "{message}");
        assert_eq!(serving_pods(lab).await?, pods, "the serving Pods should not be replaced");
        lab.clear_istiod_fault(LAB_1_32)?;
        let mut retry = spec(LAB_1_32, "/dev/stderr");
        retry["upgrade"]["progressDeadline"] = "90s".into();
        test.mesh.apply(NAME, retry).await?;
        test.wait_ready_condition("True", "Healthy").await?;
        test.assert_all_injected().await?;
        Ok(())
    });
}
