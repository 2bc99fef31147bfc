//! A mesh of the last dist's operator whose spec has fields under their former names: the API server drops their values, and
//! the operator changes nothing until the spec has the new names.

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use meshwright_e2e::mesh::{LAB_1_31, Mesh, NAME, OPERATOR_NAMESPACE, operator_writes};
use meshwright_e2e::programs::{LAST_DIST, last_dist};
use meshwright_e2e::{Lab, LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

use super::last_dist::apply_manifest;
use crate::install_manifest::{manifest, manifest_of};

/// What the operator writes that is not an object of the mesh.
const OWN: &str = "meshinstallations/status";

/// Applies a spec; the types of this operator can't read one with former names.
async fn apply(installations: &Api<DynamicObject>, fields: &Value) -> TestResult {
    let mut spec = json!({"version": LAB_1_31, "profile": "demo"});
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let body = json!({
        "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": NAME}, "spec": spec,
    });
    installations.patch(NAME, &PatchParams::apply("kubectl").force(), &Patch::Apply(&body)).await?;
    Ok(())
}

/// Waits until a condition is True for the latest generation, and returns its reason and message.
async fn wait_true(installations: &Api<DynamicObject>, condition: &str) -> TestResult<(String, String)> {
    let found = wait::until(wait::TIMEOUT, format!("{condition}=True"), async || {
        let found = installations.get(NAME).await.map_err(|error| error.to_string())?;
        let conditions = found.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_true = |c: &&Value| {
            c["type"] == condition
                && c["status"] == "True"
                && c["observedGeneration"] == json!(found.metadata.generation)
        };
        let text = |c: &Value, key: &str| c[key].as_str().unwrap_or_default().to_owned();
        let found = conditions.iter().find(is_true).map(|c| (text(c, "reason"), text(c, "message")));
        found.ok_or_else(|| json!(conditions).to_string())
    });
    Ok(found.await?)
}

/// Stops the older operator, as the changelog says: it would apply a spec whose values the new CRD drops.
async fn stop_operator(mesh: &Mesh) -> TestResult {
    let deployments = mesh.api("apps/v1", "Deployment", Some(OPERATOR_NAMESPACE));
    deployments.delete("meshwright", &DeleteParams::default()).await?;
    mesh.wait_operator_gone().await
}

/// Upgrades the operator over a mesh with `fields` and checks that only a spec with `renamed` fields goes on.
async fn upgrade_over(lab: &Lab, fields: &Value, renamed: &Value, names: [&str; 2]) -> TestResult {
    let older = last_dist()?;
    apply_manifest(lab, &manifest_of(&older, lab, &["--image", LAST_DIST]).await?).await?;
    let mesh = Mesh::connect(lab.client());
    let installations = mesh.api("meshwright.dev/v1alpha1", "MeshInstallation", None);
    apply(&installations, fields).await?;
    wait_true(&installations, "Ready").await?;
    mesh.wait_fail_closed().await?;

    stop_operator(&mesh).await?;
    let start = lab.settled_audit().await?.position();
    apply_manifest(lab, &manifest(lab, &[]).await?).await?;
    let (reason, message) = wait_true(&installations, "Stalled").await?;
    assert_eq!(reason, "InvalidSpec", "{message}");
    for name in names {
        assert!(message.contains(name), "{name} is missing in: {message}");
    }
    let mut writes = operator_writes(&lab.settled_audit().await?, start);
    writes.retain(|write| !write.contains(OWN));
    assert_eq!(writes, Vec::<String>::new(), "nothing is changed in the mesh");

    apply(&installations, renamed).await?;
    wait_true(&installations, "Ready").await?;
    Ok(())
}

#[test]
#[ignore = "requires the operator of the last dist, which `make test` builds from the repository's history: make last-dist"]
fn dropped_pull_secrets_change_nothing() {
    run(LabOptions::default().audited(), async |lab| {
        let fields = json!({"images": {"pullSecrets": ["registry-key"]}});
        let renamed = json!({"images": {"imagePullSecrets": [{"name": "registry-key"}]}});
        upgrade_over(lab, &fields, &renamed, ["spec.images.pullSecrets", "spec.images.imagePullSecrets"]).await
    });
}

#[test]
#[ignore = "requires the operator of the last dist, which `make test` builds from the repository's history: make last-dist"]
fn dropped_autoscaling_changes_nothing() {
    run(LabOptions::default().audited(), async |lab| {
        let fields = json!({"controlPlane": {"autoscaling": {"min": 1, "max": 2}}});
        let renamed = json!({"controlPlane": {"autoscaling": {"minReplicas": 1, "maxReplicas": 2}}});
        let names = ["spec.controlPlane.autoscaling.max", "spec.controlPlane.autoscaling.maxReplicas"];
        upgrade_over(lab, &fields, &renamed, names).await
    });
}
