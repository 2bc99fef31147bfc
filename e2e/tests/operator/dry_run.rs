//! A dry run finds rejections before a spec is rolled out, and `meshwright plan` shows them.

use kube::api::{DynamicObject, Patch, PatchParams};
use meshwright_e2e::inventory::Inventory;
use meshwright_e2e::mesh::{Mesh, NAME, VERSION};
use meshwright_e2e::restriction::Restriction;
use meshwright_e2e::{LabOptions, TestResult, run};
use serde_json::{Value, json};

use crate::cli::{file, meshwright};
use crate::stalled::assert_stalls;

/// A ConfigMap that every control plane has.
const INJECTOR: &str = "istio-sidecar-injector";

fn spec(fields: &Value) -> Value {
    let mut edge = json!({"name": "edge", "service": {"type": "ClusterIP"}});
    for (field, value) in fields.as_object().into_iter().flatten() {
        edge[field] = value.clone();
    }
    json!({"version": VERSION, "profile": "demo", "gateways": [edge]})
}

#[test]
fn immutable_selector_is_refused_before_any_write() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, spec(&json!({}))).await?;
        mesh.wait_ready(NAME).await?;
        let services = mesh.api("v1", "Service", Some("istio-system"));
        let before = services.get("edge").await?;
        let changed = spec(&json!({"values": {"labels": {"istio": "ingressgateway"}}}));
        assert_stalls(&mesh, changed, "ObjectRejected", &["Deployment istio-system/edge", "Nothing was written"])
            .await?;
        assert_eq!(services.get("edge").await?.data["spec"]["selector"], before.data["spec"]["selector"]);
        mesh.apply(NAME, spec(&json!({}))).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

/// Denies the injector's ConfigMap, by an object of that name in another namespace.
async fn deny_injector(mesh: &Mesh) -> TestResult<Restriction> {
    let config_map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": INJECTOR, "namespace": "default"}});
    let placeholder: DynamicObject = serde_json::from_value(config_map)?;
    let config_maps = mesh.api("v1", "ConfigMap", Some("default"));
    config_maps.patch(INJECTOR, &PatchParams::apply("test").force(), &Patch::Apply(&placeholder)).await?;
    Restriction::deny_object(mesh.client(), &placeholder, VERSION).await
}

#[test]
fn policy_stops_first_install_before_any_write() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let policy = deny_injector(&mesh).await?;
        let words = ["ConfigMap istio-system/istio-sidecar-injector", "refused-object", "Nothing was written"];

        // The plan finds it before the spec is applied, too.
        let (_dir, path) = file(NAME, &spec(&json!({})), &json!({}))?;
        let output = meshwright(lab.kubeconfig(), &["plan", "-o", "json", "-f", &path]).await?;
        let plan: Value =
            serde_json::from_str(&output.stdout).map_err(|error| format!("{error}: {}", output.stderr))?;
        assert_eq!((output.code, &plan["verdict"]), (Some(1), &json!("Refused")), "{plan:#}");
        assert_eq!(plan["refusals"][0]["reason"], "ObjectRejected");
        let message = plan["refusals"][0]["message"].as_str().unwrap_or_default();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");

        assert_stalls(&mesh, spec(&json!({})), "ObjectRejected", &words).await?;
        let stalled = mesh.installations().get(NAME).await?;
        assert!(stalled.metadata.finalizers.is_none(), "{:?}", stalled.metadata);
        assert_eq!(Inventory::read(&mesh.client(), NAME).await?.keys().next(), None);

        // The rejected object is sent again, without a change of the spec.
        policy.remove().await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
