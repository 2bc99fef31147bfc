//! Whether a CA outside of the mesh signs the certificates of workloads, such as cert-manager with istio-csr.

use std::sync::Arc;

use meshwright_api::{CaSource, CaStatus, MeshInstallationSpec};
use serde_json::Value;

use super::kind::Kind;
use super::merge::get;
use super::object::{Component, DesiredObject};
use super::problem::Problem;
use super::proxy_inputs::parse;

/// What Go parses as false. istiod ignores other values.
const FALSE: [&str; 6] = ["0", "f", "F", "false", "FALSE", "False"];

/// Whether istiod's own CA is off, or proxies or ztunnel request their certificates elsewhere.
#[must_use]
pub fn is_external(desired: &[Arc<DesiredObject>]) -> bool {
    let Some(istiod) = workload(desired, &Component::Istiod, Kind::Deployment) else { return false };
    if variable(&istiod.value(), "ENABLE_CA_SERVER").is_some_and(|value| FALSE.contains(&value.as_str())) {
        return true;
    }
    let ztunnel = workload(desired, &Component::Ztunnel, Kind::DaemonSet);
    let ztunnel = ztunnel.and_then(|ztunnel| variable(&ztunnel.value(), "CA_ADDRESS"));
    let mut addresses = ztunnel.into_iter().chain(address_of_proxies(desired));
    addresses.any(|address| !address.is_empty() && host(&address) != istiod.key.name)
}

/// Refuses an external control plane for ztunnel in the spelling that deployed specs may have: the chart's other one is an
/// owned key.
#[must_use]
pub fn problem(spec: &MeshInstallationSpec) -> Option<Problem> {
    let address = spec.values.ztunnel.0.get("global")?.get("xdsAddress")?;
    if address.is_null() || address == "" {
        return None;
    }
    let message = format!("{address} can't be set: only a local control plane is supported");
    Some(Problem::new("spec.values.ztunnel.global.xdsAddress", message))
}

/// The status of such a CA. The root certificate is istiod's own where istiod still publishes it, and no workload uses
/// that one.
#[must_use]
pub fn status(root: Option<CaStatus>) -> CaStatus {
    root.filter(|root| root.source == CaSource::External).unwrap_or(CaStatus {
        source: CaSource::External,
        not_after: None,
        intermediate: None,
    })
}

fn workload<'d>(
    desired: &'d [Arc<DesiredObject>],
    component: &Component,
    kind: Kind,
) -> Option<&'d Arc<DesiredObject>> {
    desired.iter().find(|object| object.component == *component && object.key.kind == kind)
}

/// The value of an environment variable of a workload's container.
fn variable(workload: &Value, name: &str) -> Option<String> {
    let containers = workload.pointer("/spec/template/spec/containers")?.as_array()?;
    let mut variables = containers.iter().filter_map(|container| container.get("env")?.as_array()).flatten();
    let found = variables.find(|variable| variable.get("name").and_then(Value::as_str) == Some(name))?;
    found.get("value")?.as_str().map(str::to_owned)
}

/// The CA's address in the injector's values, which its templates give to the proxies.
fn address_of_proxies(desired: &[Arc<DesiredObject>]) -> Option<String> {
    let is_it =
        |object: &&Arc<DesiredObject>| object.component == Component::Istiod && object.key.is_injector_configuration();
    let values = parse(desired.iter().find(is_it)?.value().pointer("/data/values")?)?;
    get(&values, "global.caAddress")?.as_str().map(str::to_owned)
}

/// The first label of the host in an address such as `istiod.istio-system.svc:15012`.
fn host(address: &str) -> &str {
    let address = address.split_once("://").map_or(address, |(_, address)| address);
    address.split(['.', ':']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::Owner;

    fn object(component: &Component, object: Value) -> Arc<DesiredObject> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        Arc::new(DesiredObject::from_rendered(object, component, &owner, "istio-system").unwrap())
    }

    /// A mesh with a variable of istiod, the CA's address of proxies, and that of ztunnel.
    fn mesh(variable: &Value, proxies: &str, ztunnel: &str) -> Vec<Arc<DesiredObject>> {
        let pods = |env: &Value| json!({"template": {"spec": {"containers": [{"name": "x", "env": [env]}]}}});
        let values = json!({"global": {"caAddress": proxies}}).to_string();
        let istiod = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod"},
            "spec": pods(variable)});
        let injector = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector"},
            "data": {"values": values}});
        let agent = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ztunnel"},
            "spec": pods(&json!({"name": "CA_ADDRESS", "value": ztunnel}))});
        vec![
            object(&Component::Istiod, istiod),
            object(&Component::Istiod, injector),
            object(&Component::Ztunnel, agent),
        ]
    }

    const LOCAL: &str = "istiod.istio-system.svc:15012";
    const ISTIO_CSR: &str = "cert-manager-istio-csr.cert-manager.svc:443";

    #[test]
    fn finds_external_ca_in_each_setting() {
        let server = |enabled: &str| json!({"name": "ENABLE_CA_SERVER", "value": enabled});
        let cases = [
            (server("true"), "", LOCAL, false),
            (server("true"), LOCAL, LOCAL, false),
            (server("false"), "", LOCAL, true),
            (server("true"), ISTIO_CSR, LOCAL, true),
            (server("true"), "", ISTIO_CSR, true),
            (server("true"), "", "https://ca.example.com", true),
        ];
        for (variable, proxies, ztunnel, expected) in cases {
            assert_eq!(is_external(&mesh(&variable, proxies, ztunnel)), expected, "{variable} {proxies} {ztunnel}");
        }
        assert!(!is_external(&[]));
    }

    #[test]
    fn hides_expiry_of_unused_root() {
        let root = |source: CaSource| {
            let not_after = serde_json::from_value(json!("2036-10-29T00:00:00Z")).unwrap();
            CaStatus { source, not_after: Some(not_after), intermediate: None }
        };
        let unknown = CaStatus { source: CaSource::External, not_after: None, intermediate: None };
        assert_eq!(status(Some(root(CaSource::SelfSigned))), unknown);
        assert_eq!(status(None), unknown);
        assert_eq!(status(Some(root(CaSource::External))), root(CaSource::External));
    }
}
