//! An installation that the operator can't read counts as needing what several installations share.

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, demo_spec};
use meshwright_e2e::{LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

/// A value of `spec.deletion.crds` that only a newer operator knows.
const NEWER: &str = "Archive";
const CRDS: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/deletion/properties/crds/enum";

/// Installs the CRD of a newer operator.
async fn install_newer_crd(crds: &Api<DynamicObject>) -> TestResult {
    let mut crd = crds.get("meshinstallations.meshwright.dev").await?;
    let values = crd.data.pointer_mut(CRDS).and_then(Value::as_array_mut).ok_or("the field has no enum")?;
    values.push(NEWER.into());
    crds.replace("meshinstallations.meshwright.dev", &PostParams::default(), &crd).await?;
    Ok(())
}

#[test]
fn unreadable_installation_keeps_crds_of_peer() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let mut spec = demo_spec();
        spec["deletion"] = json!({"crds": "Delete"});
        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;

        let crds = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        install_newer_crd(&crds).await?;
        let installations = mesh.api("meshwright.dev/v1alpha1", "MeshInstallation", None);
        let newer = json!({
            "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": "newer"},
            "spec": {"version": VERSION, "revision": "newer", "deletion": {"crds": NEWER}},
        });
        // The API server validates with the old schema for a moment.
        wait::until(wait::TIMEOUT, "the newer CRD to be served", async || {
            let applied = installations.patch("newer", &PatchParams::apply("kubectl"), &Patch::Apply(&newer)).await;
            applied.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        wait::until(wait::TIMEOUT, "the operator to report the unknown value", async || {
            let found = installations.get("newer").await.map_err(|error| error.to_string())?;
            let message = found.data["status"]["message"].as_str().unwrap_or_default().to_owned();
            if message.contains(NEWER) { Ok(()) } else { Err(message) }
        })
        .await?;

        mesh.delete(NAME, &DeleteParams::default()).await?;
        let kept = crds.get("gateways.networking.istio.io").await?;
        assert_eq!(kept.metadata.deletion_timestamp, None, "the CRDs should remain");
        Ok(())
    });
}
