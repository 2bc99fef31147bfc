//! Adoption of a gateway that Helm installed without a Service.

use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use meshwright_e2e::mesh::{Mesh, NAME};
use meshwright_e2e::{LabOptions, objects, run};
use serde_json::json;

use super::{GATEWAY, MESH, adopt, install, pods, stalled};

#[test]
fn adopted_gateway_stays_without_service() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        install(lab, "istio-base", "base", &json!({})).await?;
        install(lab, "istiod", "istiod", &json!({})).await?;
        objects::deployment_ready(&lab.client(), MESH, "istiod").await?;
        Mesh::connect(lab.client()).wait_fail_closed().await?;
        install(lab, GATEWAY, "gateway", &json!({"service": {"type": "None"}})).await?;
        objects::deployment_ready(&lab.client(), MESH, GATEWAY).await?;
        let before = pods(lab).await?;

        let (output, spec) = adopt(lab, NAME, &[]).await?;
        assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
        assert_eq!(spec["gateways"][0]["service"], json!({"type": "None"}));
        let mut with_service = spec.clone();
        with_service["gateways"] = json!([{"name": GATEWAY}]);
        mesh.apply(NAME, with_service).await?;
        let message = stalled(&mesh, "AdoptionConflict").await?;
        assert!(message.contains(&format!("Service {MESH}/{GATEWAY} (it would be created)")), "{message}");

        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(pods(lab).await?, before, "no Pod should be replaced or restarted");
        let services: Api<Service> = Api::namespaced(lab.client(), MESH);
        assert!(services.get_opt(GATEWAY).await?.is_none());
        Ok(())
    });
}
