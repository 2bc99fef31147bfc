//! What the API server would refuse is found before a changed spec is rolled out.

use meshwright_e2e::mesh::{Mesh, NAME, VERSION};
use meshwright_e2e::{LabOptions, run};
use serde_json::{Value, json};

use crate::stalled::assert_stalls;

fn spec(labels: &Value) -> Value {
    let values = json!({"labels": labels});
    let edge = json!({"name": "edge", "service": {"type": "ClusterIP"}, "values": values});
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
        let changed = spec(&json!({"istio": "ingressgateway"}));
        assert_stalls(&mesh, changed, "ObjectRejected", &["Deployment istio-system/edge", "Nothing was written"])
            .await?;
        assert_eq!(services.get("edge").await?.data["spec"]["selector"], before.data["spec"]["selector"]);
        mesh.apply(NAME, spec(&json!({}))).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
