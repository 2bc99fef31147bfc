//! Node port requirements of the gateways in a spec.

use std::borrow::Cow;

use meshwright_api::ServiceType;
use meshwright_api::{
    ExternalTrafficPolicy, Gateway, GatewayDirection, GatewayPort, MeshInstallationSpec, NodePortAssignment, Protocol,
};

use super::port_key::PortKey;

/// Name of the health check node port in [`PortKey`]. It can't conflict with names of Service ports, which are
/// lowercase.
pub const HEALTH_CHECK: &str = "healthCheckNodePort";

/// Node port requirement of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRequirement {
    /// No node port, or one that the API server allocates.
    NotNeeded,
    /// This node port, set in the spec.
    Explicit(u16),
    /// Any node port, assigned by the operator.
    Assign,
}

/// The node port request of a gateway's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// Service port that the request is for.
    pub key: PortKey,
    /// Port number of the Service; 0 for the health check.
    pub port: u16,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Node port requirement.
    pub requirement: PortRequirement,
}

impl PortRequest {
    /// Sorts requests by Service and port, with health checks last, independent of their order in the spec.
    pub(super) fn sort_key(&self) -> (&str, &str, bool, u16, Protocol, &str) {
        let PortKey { namespace, service, port_name } = &self.key;
        (namespace, service, self.port == 0, self.port, self.protocol, port_name)
    }
}

/// Returns the ports of a gateway's Service, by default those of the chart. The status port is first, because some load
/// balancers health-check the first port.
fn ports(gateway: &Gateway) -> Cow<'_, [GatewayPort]> {
    if gateway.direction != GatewayDirection::EastWest && !gateway.service.ports.is_empty() {
        return Cow::Borrowed(&gateway.service.ports);
    }
    let port = |(name, port): (&str, i32)| GatewayPort {
        name: name.to_owned(),
        port,
        target_port: None,
        node_port: None,
        protocol: Protocol::Tcp,
    };
    if gateway.direction != GatewayDirection::EastWest {
        return Cow::Owned([("status-port", 15021), ("http2", 80), ("https", 443)].map(port).into());
    }
    // The chart always has these four ports; the spec can only change their numbers.
    let all = [("status-port", 15021), ("tls", 15443), ("tls-istiod", 15012), ("tls-webhook", 15017)];
    let own = |default: GatewayPort| {
        gateway.service.ports.iter().find(|port| port.name == default.name).cloned().unwrap_or(default)
    };
    Cow::Owned(all.map(port).map(own).into())
}

/// Returns the requests of all gateways in a deterministic order. `platform_type` is the platform's default type of
/// ingress gateway Services, if it has one.
#[must_use]
pub fn port_requests(spec: &MeshInstallationSpec, platform_type: Option<ServiceType>) -> Vec<PortRequest> {
    let mut requests: Vec<PortRequest> =
        spec.gateways.iter().flat_map(|gateway| gateway_requests(spec, gateway, platform_type)).collect();
    requests.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    requests
}

fn gateway_requests(
    spec: &MeshInstallationSpec,
    gateway: &Gateway,
    platform_type: Option<ServiceType>,
) -> Vec<PortRequest> {
    let gateway = &*gateway.with_service_of_values();
    let kind = gateway.service_type_on(platform_type);
    let service = &gateway.service;
    let has_node_ports = match kind {
        ServiceType::ClusterIp | ServiceType::None => false,
        ServiceType::NodePort => true,
        ServiceType::LoadBalancer => service.allocate_load_balancer_node_ports != Some(false),
    };
    let stable = spec.node_ports.assignment == NodePortAssignment::Stable;
    let assigned = |needed: bool| if needed && stable { PortRequirement::Assign } else { PortRequirement::NotNeeded };
    let key = |port_name: &str| PortKey {
        namespace: spec.gateway_namespace(gateway).to_owned(),
        service: gateway.name.clone(),
        port_name: port_name.to_owned(),
    };
    let mut requests: Vec<PortRequest> = ports(gateway)
        .iter()
        .map(|port| PortRequest {
            key: key(&port.name),
            port: u16::try_from(port.port).unwrap_or_default(),
            protocol: port.protocol,
            requirement: port
                .node_port
                .filter(|_| kind != ServiceType::None)
                .and_then(|port| u16::try_from(port).ok())
                .map_or(assigned(has_node_ports), PortRequirement::Explicit),
        })
        .collect();
    // The API server allocates a health check node port even if it allocates no other node ports.
    let has_health_check =
        kind == ServiceType::LoadBalancer && service.external_traffic_policy == Some(ExternalTrafficPolicy::Local);
    requests.push(PortRequest {
        key: key(HEALTH_CHECK),
        port: 0,
        protocol: Protocol::Tcp,
        requirement: assigned(has_health_check),
    });
    requests
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn requirements(gateway: &Value, assignment: &str) -> Vec<(String, PortRequirement)> {
        let spec = json!({"version": "1.31", "gateways": [gateway], "nodePorts": {"assignment": assignment}});
        let spec: MeshInstallationSpec = serde_json::from_value(spec).unwrap();
        port_requests(&spec, None).into_iter().map(|request| (request.key.to_string(), request.requirement)).collect()
    }

    fn requirement_of_http2(service: &Value) -> PortRequirement {
        let requirements = requirements(&json!({"name": "gw", "service": service}), "Stable");
        requirements.into_iter().find(|(key, _)| key == "istio-system/gw/http2").unwrap().1
    }

    #[test]
    fn defaults_to_ports_of_the_chart() {
        let keys = ["http2", "https", "status-port", HEALTH_CHECK].map(|name| format!("istio-system/gw/{name}"));
        let requirements = requirements(&json!({"name": "gw"}), "Stable");
        assert_eq!(requirements.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), keys);
        let expected =
            [PortRequirement::Assign, PortRequirement::Assign, PortRequirement::Assign, PortRequirement::NotNeeded];
        assert_eq!(requirements.iter().map(|(_, requirement)| *requirement).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn east_west_gateways_always_have_four_ports() {
        let ports = json!([{"name": "tls", "port": 15443, "nodePort": 30443}]);
        let gateway = json!({"name": "gw", "direction": "EastWest", "network": "n", "service": {"ports": ports}});
        let requirements = requirements(&gateway, "Stable");
        let expected = [
            ("tls-istiod", PortRequirement::Assign),
            ("tls-webhook", PortRequirement::Assign),
            ("status-port", PortRequirement::Assign),
            ("tls", PortRequirement::Explicit(30443)),
            (HEALTH_CHECK, PortRequirement::NotNeeded),
        ];
        assert_eq!(requirements, expected.map(|(name, requirement)| (format!("istio-system/gw/{name}"), requirement)));
    }

    #[test]
    fn requirement_depends_on_service_type() {
        assert_eq!(requirement_of_http2(&json!({"type": "NodePort"})), PortRequirement::Assign);
        assert_eq!(requirement_of_http2(&json!({"type": "LoadBalancer"})), PortRequirement::Assign);
        assert_eq!(requirement_of_http2(&json!({"type": "ClusterIP"})), PortRequirement::NotNeeded);
        assert_eq!(requirement_of_http2(&json!({"type": "None"})), PortRequirement::NotNeeded);
        assert_eq!(requirement_of_http2(&json!({"allocateLoadBalancerNodePorts": false})), PortRequirement::NotNeeded);
        let named = json!({"ports": [{"name": "http2", "port": 80, "nodePort": 30401}]});
        assert_eq!(requirement_of_http2(&named), PortRequirement::Explicit(30401));
    }

    #[test]
    fn reads_service_from_chart_values() {
        let of_values = |service: Value| requirements(&json!({"name": "gw", "values": {"service": service}}), "Stable");
        let all = of_values(json!({"type": "ClusterIP"}));
        assert!(all.iter().all(|(_, requirement)| *requirement == PortRequirement::NotNeeded), "{all:?}");
        let ports = |kind: &str| json!({"type": kind, "ports": [{"name": "web", "port": 80, "nodePort": 30401}]});
        let web = |requirement| ("istio-system/gw/web".to_owned(), requirement);
        assert_eq!(of_values(ports("NodePort"))[0], web(PortRequirement::Explicit(30401)));
        assert_eq!(of_values(ports("None"))[0], web(PortRequirement::NotNeeded), "there is no Service");
    }

    #[test]
    fn local_traffic_policy_requires_health_check_port() {
        let check = |service: Value| requirements(&json!({"name": "gw", "service": service}), "Stable").pop().unwrap();
        let local = json!({"externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false});
        assert_eq!(check(local), (format!("istio-system/gw/{HEALTH_CHECK}"), PortRequirement::Assign));
        assert_eq!(check(json!({"externalTrafficPolicy": "Cluster"})).1, PortRequirement::NotNeeded);
        assert_eq!(check(json!({"type": "NodePort", "externalTrafficPolicy": "Local"})).1, PortRequirement::NotNeeded);
    }

    #[test]
    fn respects_default_type_of_platform() {
        let local = json!({"name": "gw", "service": {"externalTrafficPolicy": "Local"}});
        let spec: MeshInstallationSpec =
            serde_json::from_value(json!({"version": "1.31", "gateways": [local]})).unwrap();
        let check = |platform_type| port_requests(&spec, platform_type).pop().unwrap().requirement;
        assert_eq!(
            (check(None), check(Some(ServiceType::NodePort))),
            (PortRequirement::Assign, PortRequirement::NotNeeded)
        );
    }

    #[test]
    fn kubernetes_assignment_requests_only_explicit_ports() {
        let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30402}]);
        let gateway = json!({"name": "gw", "service": {"ports": ports}});
        let requirements: Vec<PortRequirement> =
            requirements(&gateway, "Kubernetes").into_iter().map(|(_, requirement)| requirement).collect();
        assert_eq!(
            requirements,
            [PortRequirement::NotNeeded, PortRequirement::Explicit(30402), PortRequirement::NotNeeded]
        );
    }
}
