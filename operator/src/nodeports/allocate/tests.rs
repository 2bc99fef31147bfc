//! Tests of single allocations.

use meshwright_api::{NodePortRangeSource, Protocol};

use super::*;

pub(super) fn range(text: &str) -> KnownRange {
    let range = text.parse().unwrap();
    KnownRange { range, source: NodePortRangeSource::Discovered, server: Some(range), note: None }
}

/// Parses a key written as `service/port`.
pub(super) fn key(text: &str) -> PortKey {
    let (service, port_name) = text.split_once('/').unwrap();
    PortKey { namespace: "edge".into(), service: service.into(), port_name: port_name.into() }
}

fn request(text: &str, port: u16, requirement: PortRequirement) -> PortRequest {
    PortRequest { key: key(text), port, protocol: Protocol::Tcp, requirement }
}

/// Requests for the default ports of a gateway.
fn gateway(name: &str, requirement: PortRequirement) -> Vec<PortRequest> {
    [("status-port", 15021), ("http2", 80), ("https", 443)]
        .map(|(port_name, port)| request(&format!("{name}/{port_name}"), port, requirement))
        .into()
}

fn used(text: &str, port: u16) -> UsedPort {
    UsedPort { port, key: key(text), own: false }
}

/// Input of an allocation, without requests.
struct AllocationScenario<'a> {
    range: &'a str,
    reserved: &'a [&'a str],
    previous: Pins,
    used: Vec<UsedPort>,
}

impl Default for AllocationScenario<'_> {
    fn default() -> Self {
        Self { range: "30400-30449", reserved: &[], previous: Pins::default(), used: Vec::new() }
    }
}

impl AllocationScenario<'_> {
    fn pins(&self, requests: &[PortRequest]) -> Result<Pins, Vec<AllocationError>> {
        let reserved: Vec<PortRange> = self.reserved.iter().map(|text| text.parse().unwrap()).collect();
        let range = range(self.range);
        let input = AllocationInput {
            range: &range,
            reserved: &reserved,
            requests,
            previous: &self.previous,
            used: &self.used,
        };
        allocate(&input)
    }

    fn allocated(&self, requests: &[PortRequest]) -> Vec<(String, u16)> {
        by_name(&self.pins(requests).unwrap())
    }

    fn error_message(&self, requests: &[PortRequest]) -> String {
        super::super::allocation_error::blocker(&self.pins(requests).unwrap_err()).message
    }
}

fn by_name(pins: &Pins) -> Vec<(String, u16)> {
    pins.iter().map(|(key, port, _)| (format!("{}/{}", key.service, key.port_name), port)).collect()
}

fn expected_ports(expected: &[(&str, u16)]) -> Vec<(String, u16)> {
    expected.iter().map(|(key, port)| ((*key).to_owned(), *port)).collect()
}

#[test]
fn assigns_lowest_free_ports_by_service() {
    let requests = [gateway("b", PortRequirement::Assign), gateway("a", PortRequirement::Assign)].concat();
    let scenario = AllocationScenario {
        reserved: &["30402"],
        used: vec![used("web/http", 30400)],
        ..AllocationScenario::default()
    };
    assert_eq!(
        scenario.allocated(&requests),
        expected_ports(&[
            ("a/http2", 30401),
            ("a/https", 30403),
            ("a/status-port", 30404),
            ("b/http2", 30405),
            ("b/https", 30406),
            ("b/status-port", 30407),
        ])
    );
}

#[test]
fn new_gateways_do_not_change_pins() {
    let before = AllocationScenario::default().pins(&gateway("b", PortRequirement::Assign)).unwrap();
    let requests = [gateway("a", PortRequirement::Assign), gateway("b", PortRequirement::Assign)].concat();
    let after =
        AllocationScenario { previous: before.clone(), ..AllocationScenario::default() }.pins(&requests).unwrap();
    for (key, port, _) in before.iter() {
        assert_eq!(after.get(key).map(|(port, _)| port), Some(port));
    }
}

#[test]
fn keeps_ports_in_use_without_pins() {
    let used = vec![used("a/http2", 30444), used("a/https", 30445)];
    let assigned =
        AllocationScenario { used, ..AllocationScenario::default() }.allocated(&gateway("a", PortRequirement::Assign));
    assert_eq!(assigned, expected_ports(&[("a/http2", 30444), ("a/https", 30445), ("a/status-port", 30400)]));
}

#[test]
fn restores_pins_of_inactive_gateways() {
    let first = AllocationScenario::default().pins(&gateway("a", PortRequirement::Assign)).unwrap();
    let inactive = [gateway("a", PortRequirement::NotNeeded), gateway("b", PortRequirement::Assign)].concat();
    let kept = AllocationScenario { previous: first.clone(), ..AllocationScenario::default() }.pins(&inactive).unwrap();
    let again = AllocationScenario { previous: kept, ..AllocationScenario::default() }
        .pins(&gateway("a", PortRequirement::Assign))
        .unwrap();
    assert_eq!(again, first);
}

#[test]
fn reuses_inactive_pins_when_range_is_full() {
    let previous = AllocationScenario { range: "30400-30402", ..AllocationScenario::default() }
        .pins(&gateway("a", PortRequirement::Assign))
        .unwrap();
    let requests = [gateway("a", PortRequirement::NotNeeded), gateway("b", PortRequirement::Assign)].concat();
    let scenario = AllocationScenario { range: "30400-30402", previous, ..AllocationScenario::default() };
    assert_eq!(
        scenario.allocated(&requests),
        expected_ports(&[("b/http2", 30400), ("b/https", 30401), ("b/status-port", 30402)])
    );
}

#[test]
fn explicit_ports_displace_assigned_ports() {
    let previous = AllocationScenario::default().pins(&[request("a/http2", 80, PortRequirement::Assign)]).unwrap();
    let requests =
        [request("a/http2", 80, PortRequirement::Assign), request("b/http2", 80, PortRequirement::Explicit(30400))];
    let scenario = AllocationScenario { previous, used: vec![used("a/http2", 30400)], ..AllocationScenario::default() };
    assert_eq!(scenario.allocated(&requests), expected_ports(&[("a/http2", 30401), ("b/http2", 30400)]));
}

#[test]
fn keeps_port_when_no_longer_explicit() {
    let explicit =
        AllocationScenario::default().pins(&[request("a/http2", 80, PortRequirement::Explicit(30410))]).unwrap();
    let scenario = AllocationScenario { previous: explicit, ..AllocationScenario::default() };
    let assigned = scenario.pins(&[request("a/http2", 80, PortRequirement::Assign)]).unwrap();
    assert_eq!(assigned.get(&key("a/http2")), Some((30410, PinOrigin::Assigned)));
}

#[test]
fn replaces_pins_in_use_or_reserved() {
    let previous = AllocationScenario::default().pins(&gateway("a", PortRequirement::Assign)).unwrap();
    let used = vec![used("web/http", 30400)];
    let scenario = AllocationScenario { previous, used, reserved: &["30401"], ..AllocationScenario::default() };
    let assigned = scenario.allocated(&gateway("a", PortRequirement::Assign));
    assert_eq!(assigned, expected_ports(&[("a/http2", 30403), ("a/https", 30404), ("a/status-port", 30402)]));
}

#[test]
fn protocols_share_a_node_port() {
    let udp = PortRequest { protocol: Protocol::Udp, ..request("a/http3", 443, PortRequirement::Assign) };
    let requests = [
        request("a/https", 443, PortRequirement::Assign),
        udp.clone(),
        request("b/https", 443, PortRequirement::Assign),
    ];
    let shared = expected_ports(&[("a/http3", 30400), ("a/https", 30400), ("b/https", 30401)]);
    assert_eq!(AllocationScenario::default().allocated(&requests), shared);
    let explicit = [
        request("b/https", 443, PortRequirement::Explicit(30400)),
        PortRequest { requirement: PortRequirement::Explicit(30400), ..udp },
    ];
    assert!(AllocationScenario::default().error_message(&explicit).contains("requested by port"));
}

#[test]
fn reports_number_of_missing_ports() {
    let requests = gateway("a", PortRequirement::Assign);
    assert_eq!(
        AllocationScenario { range: "30400-30402", ..AllocationScenario::default() }.allocated(&requests).len(),
        3
    );
    let scenario = AllocationScenario {
        range: "30400-30403",
        reserved: &["30401"],
        used: vec![used("web/http", 30400)],
        ..AllocationScenario::default()
    };
    assert_eq!(
        scenario.error_message(&requests),
        "spec.gateways: 3 node ports are needed but only 2 of 4 are free in the API server's range 30400-30403 (1 used \
         by other Services, 1 reserved). Free some, use fewer ports, or set allocateLoadBalancerNodePorts to false if \
         the load balancer needs no node ports"
    );
}

#[test]
fn errors_name_field_port_and_cause() {
    let scenario = AllocationScenario {
        reserved: &["30410-30419"],
        used: vec![used("web/http", 30402)],
        ..AllocationScenario::default()
    };
    let error_message = |port: u16| scenario.error_message(&[request("a/http2", 80, PortRequirement::Explicit(port))]);
    let field = "spec.gateways[a].service.ports[http2].nodePort";
    assert_eq!(
        error_message(31380),
        format!(
            "{field}: 31380 is outside the API server's range 30400-30449. Choose a port in the range or remove \
             nodePort"
        )
    );
    assert_eq!(
        error_message(30415),
        format!(
            "{field}: 30415 is reserved by 30410-30419 in spec.nodePorts.reserved. Choose another port or remove the \
             reservation"
        )
    );
    assert_eq!(
        error_message(30402),
        format!("{field}: 30402 is used by port http of Service edge/web. Choose another port or change that Service")
    );
}

#[test]
fn duplicate_error_names_both_gateways() {
    let requests = [
        request("a/http2", 80, PortRequirement::Explicit(30401)),
        request("b/web", 81, PortRequirement::Explicit(30401)),
    ];
    assert_eq!(
        AllocationScenario::default().error_message(&requests),
        "spec.gateways[b].service.ports[web].nodePort: 30401 is also requested by port http2 of gateway a. Choose \
         another port"
    );
}

#[test]
fn rejects_exchanged_ports() {
    let all = vec![used("a/x", 30401), used("b/x", 30402), used("c/x", 30403)];
    let scenario = AllocationScenario { used: all, ..AllocationScenario::default() };
    let explicit = |ports: [u16; 3]| -> Vec<PortRequest> {
        ["a/x", "b/x", "c/x"]
            .into_iter()
            .zip(ports)
            .map(|(key, port)| request(key, 80, PortRequirement::Explicit(port)))
            .collect()
    };
    assert!(scenario.pins(&explicit([30402, 30403, 30404])).is_ok());
    assert_eq!(
        scenario.error_message(&explicit([30402, 30403, 30401])),
        "spec.gateways[a].service.ports[x].nodePort: 30402 is used by port x of gateway b, and gateways can't exchange \
         node ports in one step. Change one of them to a free port first"
    );
    // Assigned ports avoid ports in use by other gateways.
    let scenario =
        AllocationScenario { used: vec![used("a/x", 30400), used("b/x", 30401)], ..AllocationScenario::default() };
    let requests = [request("a/x", 80, PortRequirement::Assign), request("b/x", 80, PortRequirement::Explicit(30400))];
    assert_eq!(scenario.allocated(&requests), expected_ports(&[("a/x", 30402), ("b/x", 30400)]));
}

#[test]
fn honors_explicit_ports_outside_default_range() {
    let mut requests = gateway("a", PortRequirement::Assign);
    requests[1].requirement = PortRequirement::Explicit(80);
    requests[2].requirement = PortRequirement::Explicit(443);
    let expected = expected_ports(&[("a/http2", 80), ("a/https", 443), ("a/status-port", 30000)]);
    let scenario = AllocationScenario { range: "1-65535", ..AllocationScenario::default() };
    assert_eq!(scenario.allocated(&requests), expected, "the API server accepts all ports");

    let allocated = |range: &KnownRange| {
        let previous = Pins::default();
        allocate(&AllocationInput { range, reserved: &[], requests: &requests, previous: &previous, used: &[] })
    };
    let unknown = KnownRange { source: NodePortRangeSource::Default, server: None, ..range("30000-32767") };
    assert_eq!(by_name(&allocated(&unknown).unwrap()), expected, "the API server decides");
    let narrower = KnownRange {
        source: NodePortRangeSource::Spec,
        server: Some("1-65535".parse().unwrap()),
        ..range("30000-30009")
    };
    assert_eq!(by_name(&allocated(&narrower).unwrap()), expected, "spec.nodePorts.range limits the operator's choice");
    let only_known = KnownRange { server: None, ..narrower };
    let errors = allocated(&only_known).unwrap_err();
    assert!(errors.iter().all(|error| matches!(error, AllocationError::OutOfRange { .. })), "{errors:?}");
}

#[test]
fn keeps_pins_on_ports_of_nodes() {
    // Chosen by an earlier version of the operator.
    let mut previous = Pins::default();
    previous.insert(key("a/http2"), 22, PinOrigin::Assigned);
    let scenario = AllocationScenario { range: "1-65535", previous, ..AllocationScenario::default() };
    let requests = [request("a/http2", 80, PortRequirement::Assign), request("b/http2", 80, PortRequirement::Assign)];
    assert_eq!(scenario.allocated(&requests), expected_ports(&[("a/http2", 22), ("b/http2", 30000)]));
}

#[test]
fn error_counts_ports_of_nodes() {
    let scenario = AllocationScenario { range: "1000-1024", ..AllocationScenario::default() };
    let message = scenario.error_message(&gateway("a", PortRequirement::Assign));
    assert!(message.contains("only 1 of 25 are free"), "{message}");
    assert!(message.contains("24 are only used as nodePort because nodes need them"), "{message}");
}

#[test]
fn returns_all_errors() {
    let requests = [request("a/x", 80, PortRequirement::Explicit(1)), request("b/y", 80, PortRequirement::Explicit(2))];
    assert_eq!(AllocationScenario::default().pins(&requests).unwrap_err().len(), 2);
}

#[test]
fn uses_ports_of_own_services_last() {
    let own = |port| UsedPort { own: true, ..used("old/http2", port) };
    let scenario = AllocationScenario { range: "30400-30402", used: vec![own(30400)], ..AllocationScenario::default() };
    assert_eq!(
        scenario.allocated(&[request("a/http2", 80, PortRequirement::Assign)]),
        expected_ports(&[("a/http2", 30401)])
    );
    let all = scenario.allocated(&gateway("a", PortRequirement::Assign));
    assert_eq!(all, expected_ports(&[("a/http2", 30401), ("a/https", 30402), ("a/status-port", 30400)]));
    assert_eq!(
        scenario.allocated(&[request("a/http2", 80, PortRequirement::Explicit(30400))]),
        expected_ports(&[("a/http2", 30400)])
    );
}
