//! Pictures, as a person would see them without colours.

use anstream::adapter::strip_str;
use jiff::Timestamp;
use meshwright_api::{AddressType, MeshInstallation, NodePortRangeSource};
use serde_json::json;

use super::samples::{condition, installing, ready, with_status};

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn drawn(mesh: &MeshInstallation, width: usize) -> String {
    strip_str(&super::picture(mesh, at("2026-11-21T04:03:20Z"), width)).to_string()
}

#[test]
fn a_mesh_that_is_ready_shows_how_to_reach_it() {
    let expected = "\
MeshInstallation demo: Ready
  Ready        True for 3m, Healthy: Istio 1.31.2 is ready
  Version      1.31.2 (the spec says 1.31)
  Profile      demo, control plane in istio-system
  Root CA      expires 2036-11-18 (in 9y), made by istiod
  Node ports   30400-30449, the API server's

  COMPONENT             NAMESPACE     READY  VERSION
  base                  istio-system  14/14  1.31.2
  istiod                istio-system  1/1    1.31.2
  istio-ingressgateway  istio-system  1/1    1.31.2

  Gateway istio-system/istio-ingressgateway: ready, NodePort
  Addresses    10.98.1.1, 10.98.1.2 (of nodes)
  Ports        http2 80 -> 30401, https 443 -> 30402, http3 443/UDP
  Open         http://10.98.1.1:30401/ https://10.98.1.1:30402/
";
    assert_eq!(drawn(&ready(), usize::MAX), expected);
}

#[test]
fn a_mesh_on_its_way_shows_what_is_waited_for_and_says_nothing_twice() {
    let expected = "\
MeshInstallation demo: Installing
  Ready        Unknown for 3m,
               WaitingForRollout: istiod: 0
               of 1 pods are ready
  Available    False for 3m, NotServing: no
               istiod serves
  Version      1.31.2, not running yet (the
               spec says 1.31)
  Profile      demo, control plane in
               istio-system

  COMPONENT  NAMESPACE     READY  VERSION
  istiod     istio-system  0/1    1.31.2
    container discovery: ImagePullBackOff

  Gateway istio-system/istio-ingressgateway: not ready, NodePort
  Addresses    none yet
";
    assert_eq!(drawn(&installing(), 44), expected);
}

#[test]
fn a_spec_that_changed_and_one_that_nobody_has_seen_are_told_apart() {
    let mut mesh = ready();
    mesh.metadata.generation = Some(2);
    assert!(drawn(&mesh, 200).contains("Spec         changed; what follows speaks of the one before"));
    let unseen = with_status(&json!({"observedGeneration": -1}));
    let expected = "\
MeshInstallation demo: not seen yet
               no operator has looked at it yet; is one running, and may it read MeshInstallations?
";
    assert_eq!(drawn(&unseen, 200), expected);
}

#[test]
fn a_stalled_mesh_that_runs_another_version_shows_both() {
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
    let picture = drawn(&mesh, 200);
    assert!(picture.contains("Version      1.30.3, moving to 1.31\n"), "{picture}");
    assert!(picture.contains("InUse        True for 3m, ProxiesPresent: 2 pods"), "{picture}");
    assert_eq!(picture.matches(message).count(), 1, "{picture}");
}

#[test]
fn a_root_certificate_near_its_end_and_one_past_it_stand_out() {
    let with_end = |end: &str| {
        let ca = json!({"source": "External", "notAfter": end});
        drawn(&with_status(&json!({"observedGeneration": 1, "ca": ca})), 200)
    };
    assert!(with_end("2026-11-26T05:00:00Z").contains("expires soon: 2026-11-26 (in 5d), given from outside"));
    assert!(with_end("2026-11-20T05:00:00Z").contains("expired 2026-11-20 (23h ago), given from outside"));
}

#[test]
fn a_url_is_what_a_person_would_open() {
    let open = |kind: AddressType, address: &str| {
        let mut mesh = ready();
        let gateway = &mut mesh.status.as_mut().unwrap().gateways[0];
        gateway.addresses = vec![address.to_owned()];
        gateway.address_type = Some(kind);
        let picture = drawn(&mesh, 200);
        picture.lines().find_map(|line| line.trim().strip_prefix("Open").map(|rest| rest.trim().to_owned()))
    };
    assert_eq!(open(AddressType::LoadBalancer, "203.0.113.7").unwrap(), "http://203.0.113.7/ https://203.0.113.7/");
    assert_eq!(open(AddressType::Node, "fd00::1").unwrap(), "http://[fd00::1]:30401/ https://[fd00::1]:30402/");
    assert_eq!(
        open(AddressType::Service, "gw.edge.svc").unwrap(),
        "http://gw.edge.svc/ https://gw.edge.svc/ (from inside the cluster)"
    );
}

#[test]
fn a_load_balancer_that_gave_no_address_is_named() {
    let mut mesh = installing();
    mesh.spec.gateways[0].service.type_ = None;
    assert!(drawn(&mesh, 200).contains("Addresses    none yet: no load balancer has given one"));
    let mut mesh = ready();
    mesh.spec.gateways[0].service.type_ = None;
    let picture = drawn(&mesh, 200);
    assert!(picture.contains("Addresses    no load balancer yet; of nodes: 10.98.1.1, 10.98.1.2"), "{picture}");
    assert!(picture.contains("Open         http://10.98.1.1:30401/"), "{picture}");
}

#[test]
fn a_range_that_is_not_the_servers_word_says_why() {
    let mut mesh = ready();
    let range = mesh.status.as_mut().unwrap().platform.node_port_range.as_mut().unwrap();
    range.source = NodePortRangeSource::Default;
    range.message = Some("the API server's range is not known".into());
    let expected = "Node ports   30400-30449, Kubernetes' usual ones; the API server's range is not known";
    assert!(drawn(&mesh, 200).contains(expected));
}

#[test]
fn what_a_terminal_would_obey_is_taken_out() {
    let status =
        json!({"observedGeneration": 1, "conditions": [condition("Ready", "False", "Forbidden", "a\u{1b}[2J\nb")]});
    let picture = super::picture(&with_status(&status), at("2026-11-21T04:03:20Z"), 200);
    assert!(!picture.contains("\u{1b}[2J"), "{picture:?}");
}

#[test]
fn the_platform_is_shown_with_its_evidence_and_what_it_is_warned_of() {
    let mut mesh = ready();
    let platform = &mut mesh.status.as_mut().unwrap().platform;
    platform.name = Some("minikube".into());
    platform.evidence = vec!["nodes' label minikube.k8s.io/version".into(), "another".into()];
    platform.warnings = vec!["pods can't be made in shop".into()];
    let text = drawn(&mesh, usize::MAX);
    assert!(text.contains("Platform     minikube (nodes' label minikube.k8s.io/version)\n"), "{text}");
    assert!(text.contains("Warning      pods can't be made in shop\n"), "{text}");
}
