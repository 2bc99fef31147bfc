//! A dry run finds rejections before a changed spec is rolled out.

use meshwright_e2e::mesh::{Mesh, NAME, VERSION};
use meshwright_e2e::{LabOptions, run};
use serde_json::{Value, json};

use crate::stalled::assert_stalls;

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
