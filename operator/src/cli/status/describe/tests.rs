//! Formatted status without colors.

use anstream::adapter::strip_str;
use jiff::Timestamp;
use meshwright_api::{GatewayAddressType, MeshInstallation, NodePortRangeSource, ServiceType};
use serde_json::json;

use super::samples::{condition, installing, ready, with_status};

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn text_of(mesh: &MeshInstallation, width: usize) -> String {
    strip_str(&super::describe(mesh, at("2026-11-21T04:03:20Z"), width)).to_string()
}

#[test]
fn shows_ready_mesh_with_urls() {
    let expected = "\
MeshInstallation demo: Ready
  Ready        True for 3m, Healthy: Istio 1.31.2 is ready
  Version      1.31.2 (spec.version: 1.31)
  Profile      demo, control plane in istio-system
  Root CA      expires 2036-11-18 (in 9y), self-signed by istiod
  Node ports   30400-30449, detected

  COMPONENT             NAMESPACE     READY  VERSION
  base                  istio-system  14/14  1.31.2
  istiod                istio-system  1/1    1.31.2
  istio-ingressgateway  istio-system  1/1    1.31.2

  Gateway istio-system/istio-ingressgateway: ready, NodePort
  Addresses    10.98.1.1, 10.98.1.2 (nodes)
  Ports        http2 80 -> 30401, https 443 -> 30402, http3 443/UDP
  URLs         http://10.98.1.1:30401/ https://10.98.1.1:30402/
";
    assert_eq!(text_of(&ready(), usize::MAX), expected);
}

#[test]
fn shows_progress_without_repetition() {
    let expected = "\
MeshInstallation demo: Installing
  Ready        Unknown for 3m,
               WaitingForRollout: istiod: 0
               of 1 pods are ready
  Available    False for 3m, NotServing: no
               istiod pod is available
  Version      1.31.2, not installed yet
               (spec.version: 1.31)
  Profile      demo, control plane in
               istio-system

  COMPONENT  NAMESPACE     READY  VERSION
  istiod     istio-system  0/1    1.31.2
    container discovery: ImagePullBackOff

  Gateway istio-system/istio-ingressgateway: not ready, NodePort
  Addresses    pending
";
    assert_eq!(text_of(&installing(), 44), expected);
}

#[test]
fn distinguishes_changed_and_unreconciled_spec() {
    let mut mesh = ready();
    mesh.metadata.generation = Some(2);
    assert!(text_of(&mesh, 200).contains("Spec         changed; the following status is for the previous generation"));
    let unseen = with_status(&json!({"observedGeneration": -1}));
    let expected = "\
MeshInstallation demo: not reconciled
               not reconciled yet; is the operator running, and can it read MeshInstallations?
";
    assert_eq!(text_of(&unseen, 200), expected);
}

#[test]
fn shows_installed_and_requested_version() {
    let message = "the catalog has no 1.99; it has: 1.31.2";
    let mesh = with_status(&json!({
        "observedGeneration": 1,
        "phase": "Stalled",
        "conditions": [
            condition("Ready", "False", "VersionNotInCatalog", message),
            condition("Stalled", "True", "VersionNotInCatalog", message),
            condition("InUse", "True", "ProxiesPresent", "2 pods still have a proxy of this mesh"),
        ],
        "version": {"desired": "1.31", "resolved": "1.31", "running": "1.30.3"},
    }));
    let text = text_of(&mesh, 200);
    assert!(text.contains("Version      1.30.3, upgrading to 1.31\n"), "{text}");
    assert!(text.contains("InUse        True for 3m, ProxiesPresent: 2 pods"), "{text}");
    assert_eq!(text.matches(message).count(), 1, "{text}");
}

#[test]
fn highlights_expiring_root_certificate() {
    let with_end = |end: &str| {
        let ca = json!({"source": "External", "notAfter": end});
        text_of(&with_status(&json!({"observedGeneration": 1, "ca": ca})), 200)
    };
    assert!(with_end("2026-11-26T05:00:00Z").contains("expires soon: 2026-11-26 (in 5d), provided by the user"));
    assert!(with_end("2026-11-20T05:00:00Z").contains("expired 2026-11-20 (23h ago), provided by the user"));
}

#[test]
fn names_intermediate_that_expires_first() {
    let ca = json!({"source": "External", "notAfter": "2026-11-26T05:00:00Z", "intermediate": "CN=Issuer"});
    let text = text_of(&with_status(&json!({"observedGeneration": 1, "ca": ca})), 200);
    let expected = "Issuing CA   expires soon: 2026-11-26 (in 5d), provided by the user: CN=Issuer";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn builds_urls_from_address_and_ports() {
    let open = |kind: GatewayAddressType, address: &str| {
        let mut mesh = ready();
        let gateway = &mut mesh.status.as_mut().unwrap().gateways[0];
        gateway.addresses = vec![address.to_owned()];
        gateway.address_type = Some(kind);
        let text = text_of(&mesh, 200);
        text.lines().find_map(|line| line.trim().strip_prefix("URLs").map(|rest| rest.trim().to_owned()))
    };
    assert_eq!(
        open(GatewayAddressType::LoadBalancer, "203.0.113.7").unwrap(),
        "http://203.0.113.7/ https://203.0.113.7/"
    );
    assert_eq!(open(GatewayAddressType::Node, "fd00::1").unwrap(), "http://[fd00::1]:30401/ https://[fd00::1]:30402/");
    assert_eq!(
        open(GatewayAddressType::Service, "gw.edge.svc").unwrap(),
        "http://gw.edge.svc/ https://gw.edge.svc/ (from inside the cluster)"
    );
}

#[test]
fn shows_pending_load_balancer() {
    let mut mesh = installing();
    mesh.spec.gateways[0].service.type_ = None;
    assert!(text_of(&mesh, 200).contains("Addresses    pending: the load balancer has no address yet"));
    let mut mesh = ready();
    mesh.spec.gateways[0].service.type_ = None;
    let text = text_of(&mesh, 200);
    assert!(text.contains("Addresses    load balancer pending; node addresses: 10.98.1.1, 10.98.1.2"), "{text}");
    assert!(text.contains("URLs         http://10.98.1.1:30401/"), "{text}");
}

#[test]
fn gateway_without_service_has_no_address() {
    let mut mesh = ready();
    mesh.spec.gateways[0].service.type_ = Some(ServiceType::None);
    let gateway = &mut mesh.status.as_mut().unwrap().gateways[0];
    (gateway.address_type, gateway.addresses, gateway.ports) = (None, Vec::new(), Vec::new());
    let text = text_of(&mesh, 200);
    assert!(text.contains("Gateway istio-system/istio-ingressgateway: ready, no Service\n"), "{text}");
    assert!(!text.contains("Addresses"), "{text}");
}

#[test]
fn explains_assumed_node_port_range() {
    let mut mesh = ready();
    let range = mesh.status.as_mut().unwrap().platform.node_port_range.as_mut().unwrap();
    range.source = NodePortRangeSource::Default;
    range.message = Some("the API server's range is not known".into());
    let expected = "Node ports   30400-30449, Kubernetes default; the API server's range is not known";
    assert!(text_of(&mesh, 200).contains(expected));
}

#[test]
fn removes_terminal_control_characters() {
    let status =
        json!({"observedGeneration": 1, "conditions": [condition("Ready", "False", "Forbidden", "a\u{1b}[2J\nb")]});
    let text = super::describe(&with_status(&status), at("2026-11-21T04:03:20Z"), 200);
    assert!(!text.contains("\u{1b}[2J"), "{text:?}");
}

#[test]
fn shows_platform_with_evidence_and_warnings() {
    let mut mesh = ready();
    let platform = &mut mesh.status.as_mut().unwrap().platform;
    platform.name = Some("minikube".into());
    platform.evidence = vec!["nodes' label minikube.k8s.io/version".into(), "another".into()];
    platform.warnings = vec!["pods can't be made in shop".into()];
    let text = text_of(&mesh, usize::MAX);
    assert!(text.contains("Platform     minikube (nodes' label minikube.k8s.io/version)\n"), "{text}");
    assert!(text.contains("Warning      pods can't be made in shop\n"), "{text}");
}
