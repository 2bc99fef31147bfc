//! Gateways with a Service of their own, and without one; addresses of an external CA.

use meshwright::mesh::external_ca::is_external;
use serde_json::{Value, json};

use super::field_effects::edge;
use super::rendering::{ChartRenderer, Objects};

#[test]
fn gateway_of_type_none_has_no_service() {
    for renderer in ChartRenderer::all() {
        for fields in [json!({}), json!({"direction": "EastWest", "network": "network1"})] {
            let mut fields = edge(fields);
            let with_service = renderer.objects_of_workloads(&fields).unwrap();
            fields["gateways"][0]["service"] = json!({"type": "None"});
            let without = renderer.objects_of_workloads(&fields).unwrap();
            let missing: Vec<&String> = with_service.keys().filter(|key| !without.contains_key(*key)).collect();
            assert_eq!(missing, ["Service istio-system/edge"], "{}", renderer.version());
            assert_eq!(without.len() + 1, with_service.len());
        }
    }
}

const ISTIO_CSR: &str = "cert-manager-istio-csr.cert-manager.svc:443";

fn ca_address(objects: &Objects) -> Option<&str> {
    let ztunnel = &objects["DaemonSet istio-system/ztunnel"];
    let env = ztunnel["spec"]["template"]["spec"]["containers"][0]["env"].as_array()?;
    env.iter().find(|variable| variable["name"] == "CA_ADDRESS")?["value"].as_str()
}

#[test]
fn external_ca_is_set_in_either_spelling() {
    for renderer in ChartRenderer::all() {
        let fields = |ztunnel: Value| {
            json!({
                "profile": "ambient",
                "controlPlane": {"env": [{"name": "ENABLE_CA_SERVER", "value": "false"}]},
                "values": {"istiod": {"global": {"caAddress": ISTIO_CSR}}, "ztunnel": ztunnel},
            })
        };
        let own = fields(json!({"caAddress": ISTIO_CSR}));
        let global = fields(json!({"global": {"caAddress": ISTIO_CSR}}));
        let objects = renderer.objects_of_workloads(&own).unwrap();
        assert_eq!(ca_address(&objects), Some(ISTIO_CSR), "{}", renderer.version());
        assert_eq!(objects, renderer.objects_of_workloads(&global).unwrap());
        let injector = objects["ConfigMap istio-system/istio-sidecar-injector"]["data"]["values"].as_str().unwrap();
        assert!(injector.contains(ISTIO_CSR), "{injector}");
        assert!(is_external(&renderer.desired(&own).unwrap()));
        assert!(!is_external(&renderer.desired(&json!({"profile": "ambient"})).unwrap()));

        let error = renderer.objects_of_workloads(&fields(json!({"xdsAddress": "other:15012"}))).unwrap_err();
        assert!(error.contains("xdsAddress") && error.contains("local control plane"), "{error}");
    }
}
