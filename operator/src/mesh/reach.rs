//! How gateways are reached: by their load balancer, by nodes, or from inside the cluster.

use meshwright_api::{AddressType, GatewayStatus};

use super::health::service;
use super::live::{LiveObjects, ServiceFacts};

/// Whether somebody has to know the nodes' addresses to reach one of these gateways.
#[must_use]
pub fn needs_nodes(gateways: &[GatewayStatus], live: &LiveObjects) -> bool {
    gateways.iter().any(|gateway| {
        service(live, &gateway.namespace, &gateway.name).is_some_and(|s| kind(s) == Some(AddressType::Node))
    })
}

/// Fills in by which addresses each gateway is reached. `nodes` are those of the nodes.
pub fn show(gateways: &mut [GatewayStatus], live: &LiveObjects, nodes: &[String]) {
    for gateway in gateways {
        let found = service(live, &gateway.namespace, &gateway.name);
        gateway.address_type = found.and_then(kind);
        gateway.addresses = match (gateway.address_type, found) {
            (Some(AddressType::LoadBalancer), Some(service)) => service.addresses.clone(),
            (Some(AddressType::Node), _) => nodes.to_vec(),
            (Some(AddressType::Service), _) => vec![format!("{}.{}.svc", gateway.name, gateway.namespace)],
            _ => Vec::new(),
        };
    }
}

/// `None`: a load balancer without node ports that has given no address yet.
fn kind(service: &ServiceFacts) -> Option<AddressType> {
    if service.service_type == "ClusterIP" {
        Some(AddressType::Service)
    } else if !service.addresses.is_empty() {
        Some(AddressType::LoadBalancer)
    } else {
        service.ports.iter().any(|port| port.node_port.is_some()).then_some(AddressType::Node)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::kind::Kind;
    use crate::mesh::live::Live;
    use crate::mesh::object::ObjectKey;

    fn reached(spec: &Value, ingress: &Value) -> (Option<AddressType>, Vec<String>) {
        let object = json!({"metadata": {"namespace": "edge", "name": "gw"}, "spec": spec,
            "status": {"loadBalancer": {"ingress": ingress}}});
        let key = ObjectKey { kind: Kind::Service, namespace: Some("edge".into()), name: "gw".into() };
        let live: LiveObjects = [(key, Live::of(Kind::Service, &object, None, None))].into();
        let mut gateways = [GatewayStatus { name: "gw".into(), namespace: "edge".into(), ..GatewayStatus::default() }];
        let nodes = ["10.0.0.1".to_owned()];
        show(&mut gateways, &live, &nodes);
        let [gateway] = gateways;
        assert_eq!(needs_nodes(std::slice::from_ref(&gateway), &live), gateway.addresses == nodes);
        (gateway.address_type, gateway.addresses)
    }

    #[test]
    fn a_load_balancers_address_goes_before_the_nodes() {
        let spec = json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30401}]});
        let named = reached(&spec, &json!([{"hostname": "lb.example.com"}]));
        assert_eq!(named, (Some(AddressType::LoadBalancer), vec!["lb.example.com".into()]));
        assert_eq!(reached(&spec, &json!([])), (Some(AddressType::Node), vec!["10.0.0.1".into()]));
        let without = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
        assert_eq!(reached(&without, &json!([])), (None, vec![]));
    }

    #[test]
    fn a_gateway_inside_the_cluster_is_reached_by_its_services_name() {
        let inside = reached(&json!({"type": "ClusterIP", "ports": [{"port": 80}]}), &json!([]));
        assert_eq!(inside, (Some(AddressType::Service), vec!["gw.edge.svc".into()]));
    }

    #[test]
    fn a_gateway_without_a_service_has_no_address() {
        let mut gateways = [GatewayStatus { addresses: vec!["old".into()], ..GatewayStatus::default() }];
        show(&mut gateways, &LiveObjects::new(), &[]);
        assert_eq!((gateways[0].address_type, gateways[0].addresses.len()), (None, 0));
    }
}
