//! What the gateways of a spec want: for each of their ports whether it needs a node port, and which.

use std::borrow::Cow;

use meshwright_api::ServiceType;
use meshwright_api::{
    Direction, ExternalTrafficPolicy, Gateway, GatewayPort, MeshInstallationSpec, NodePortAssignment, Protocol,
};

use super::slot::Slot;

/// What the node port that a load balancer checks health by is called, beside the names of a Service's ports: no port
/// can have this name.
pub const HEALTH_CHECK: &str = "healthCheckNodePort";

/// What a port needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No node port at present, or one that the API server chooses.
    Idle,
    /// This one.
    Explicit(u16),
    /// Any, to be chosen here.
    Choose,
}

/// One port of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub slot: Slot,
    /// The Service's port; 0 for the health check.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// What it needs.
    pub need: Need,
}

impl Want {
    /// Whose turn comes first: by Service and port, health checks last, and never by how they are listed.
    pub(super) fn turn(&self) -> (&str, &str, bool, u16, Protocol, &str) {
        let Slot { namespace, service, port_name } = &self.slot;
        (namespace, service, self.port == 0, self.port, self.protocol, port_name)
    }
}

/// The ports of a gateway's Service, those of the chart spelled out where the spec has none. The status port is the
/// first, since some load balancers check the health of the first port.
fn ports(gateway: &Gateway) -> Cow<'_, [GatewayPort]> {
    if gateway.direction != Direction::EastWest && !gateway.service.ports.is_empty() {
        return Cow::Borrowed(&gateway.service.ports);
    }
    let port = |(name, port): (&str, i32)| GatewayPort {
        name: name.to_owned(),
        port,
        target_port: None,
        node_port: None,
        protocol: Protocol::Tcp,
    };
    if gateway.direction != Direction::EastWest {
        return Cow::Owned([("status-port", 15021), ("http2", 80), ("https", 443)].map(port).into());
    }
    // The chart has these four whatever the spec lists, which may give each of them other numbers.
    let all = [("status-port", 15021), ("tls", 15443), ("tls-istiod", 15012), ("tls-webhook", 15017)];
    let own = |default: GatewayPort| {
        gateway.service.ports.iter().find(|port| port.name == default.name).cloned().unwrap_or(default)
    };
    Cow::Owned(all.map(port).map(own).into())
}

/// What all gateways want, by what it is for: the order in which they are listed means nothing. `usual` is the type that
/// the platform gives the Services of ingress gateways, if it isn't the one they have everywhere.
#[must_use]
pub fn wanted(spec: &MeshInstallationSpec, usual: Option<ServiceType>) -> Vec<Want> {
    let mut wanted: Vec<Want> = spec.gateways.iter().flat_map(|gateway| of_gateway(spec, gateway, usual)).collect();
    wanted.sort_by(|a, b| a.turn().cmp(&b.turn()));
    wanted
}

fn of_gateway(spec: &MeshInstallationSpec, gateway: &Gateway, usual: Option<ServiceType>) -> Vec<Want> {
    let kind = gateway.service_type_on(usual);
    let service = &gateway.service;
    let has_node_ports = match kind {
        ServiceType::ClusterIp => false,
        ServiceType::NodePort => true,
        ServiceType::LoadBalancer => service.allocate_load_balancer_node_ports != Some(false),
    };
    let ours = spec.node_ports.assignment == NodePortAssignment::Stable;
    let chosen = |needed: bool| if needed && ours { Need::Choose } else { Need::Idle };
    let slot = |port_name: &str| Slot {
        namespace: spec.gateway_namespace(gateway).to_owned(),
        service: gateway.name.clone(),
        port_name: port_name.to_owned(),
    };
    let mut wanted: Vec<Want> = ports(gateway)
        .iter()
        .map(|port| Want {
            slot: slot(&port.name),
            port: u16::try_from(port.port).unwrap_or_default(),
            protocol: port.protocol,
            need: port
                .node_port
                .and_then(|port| u16::try_from(port).ok())
                .map_or(chosen(has_node_ports), Need::Explicit),
        })
        .collect();
    // The API server allocates one for such a Service even where it allocates no other.
    let checked =
        kind == ServiceType::LoadBalancer && service.external_traffic_policy == Some(ExternalTrafficPolicy::Local);
    wanted.push(Want { slot: slot(HEALTH_CHECK), port: 0, protocol: Protocol::Tcp, need: chosen(checked) });
    wanted
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn needs(gateway: &Value, assignment: &str) -> Vec<(String, Need)> {
        let spec = json!({"version": "1.31", "gateways": [gateway], "nodePorts": {"assignment": assignment}});
        let spec: MeshInstallationSpec = serde_json::from_value(spec).unwrap();
        wanted(&spec, None).into_iter().map(|want| (want.slot.to_string(), want.need)).collect()
    }

    fn need_of_http2(service: &Value) -> Need {
        let needs = needs(&json!({"name": "gw", "service": service}), "Stable");
        needs.into_iter().find(|(slot, _)| slot == "istio-system/gw/http2").unwrap().1
    }

    #[test]
    fn a_gateway_that_names_no_ports_wants_those_of_the_chart() {
        let slots = ["http2", "https", "status-port", HEALTH_CHECK].map(|name| format!("istio-system/gw/{name}"));
        let needs = needs(&json!({"name": "gw"}), "Stable");
        assert_eq!(needs.iter().map(|(slot, _)| slot.clone()).collect::<Vec<_>>(), slots);
        let expected = [Need::Choose, Need::Choose, Need::Choose, Need::Idle];
        assert_eq!(needs.iter().map(|(_, need)| *need).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_east_west_gateway_has_its_four_ports_whatever_is_listed() {
        let ports = json!([{"name": "tls", "port": 15443, "nodePort": 30443}]);
        let gateway = json!({"name": "gw", "direction": "EastWest", "network": "n", "service": {"ports": ports}});
        let needs = needs(&gateway, "Stable");
        let expected = [
            ("tls-istiod", Need::Choose),
            ("tls-webhook", Need::Choose),
            ("status-port", Need::Choose),
            ("tls", Need::Explicit(30443)),
            (HEALTH_CHECK, Need::Idle),
        ];
        assert_eq!(needs, expected.map(|(name, need)| (format!("istio-system/gw/{name}"), need)));
    }

    #[test]
    fn the_type_of_the_service_says_whether_node_ports_are_needed() {
        assert_eq!(need_of_http2(&json!({"type": "NodePort"})), Need::Choose);
        assert_eq!(need_of_http2(&json!({"type": "LoadBalancer"})), Need::Choose);
        assert_eq!(need_of_http2(&json!({"type": "ClusterIP"})), Need::Idle);
        assert_eq!(need_of_http2(&json!({"allocateLoadBalancerNodePorts": false})), Need::Idle);
        let named = json!({"ports": [{"name": "http2", "port": 80, "nodePort": 30401}]});
        assert_eq!(need_of_http2(&named), Need::Explicit(30401));
    }

    #[test]
    fn a_load_balancer_that_keeps_the_clients_address_needs_a_port_for_its_health_check_too() {
        let check = |service: Value| needs(&json!({"name": "gw", "service": service}), "Stable").pop().unwrap();
        let local = json!({"externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false});
        assert_eq!(check(local), (format!("istio-system/gw/{HEALTH_CHECK}"), Need::Choose));
        assert_eq!(check(json!({"externalTrafficPolicy": "Cluster"})).1, Need::Idle);
        assert_eq!(check(json!({"type": "NodePort", "externalTrafficPolicy": "Local"})).1, Need::Idle);
    }

    #[test]
    fn what_the_platform_makes_of_the_type_counts() {
        let local = json!({"name": "gw", "service": {"externalTrafficPolicy": "Local"}});
        let spec: MeshInstallationSpec =
            serde_json::from_value(json!({"version": "1.31", "gateways": [local]})).unwrap();
        let check = |usual| wanted(&spec, usual).pop().unwrap().need;
        assert_eq!((check(None), check(Some(ServiceType::NodePort))), (Need::Choose, Need::Idle));
    }

    #[test]
    fn where_the_api_server_chooses_only_explicit_ports_are_wanted() {
        let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30402}]);
        let gateway = json!({"name": "gw", "service": {"ports": ports}});
        let needs: Vec<Need> = needs(&gateway, "Kubernetes").into_iter().map(|(_, need)| need).collect();
        assert_eq!(needs, [Need::Idle, Need::Explicit(30402), Need::Idle]);
    }
}
