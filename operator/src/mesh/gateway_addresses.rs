//! Addresses of gateways: of the load balancer, of the nodes, or the Service's name inside the cluster.

use meshwright_api::{GatewayAddressType, GatewayStatus};

use super::health::service;
use super::observed::{ObservedObjects, ServiceState};

/// Whether one of these gateways is reached by node addresses.
#[must_use]
pub fn needs_nodes(gateways: &[GatewayStatus], live: &ObservedObjects) -> bool {
    gateways.iter().any(|gateway| {
        service(live, &gateway.namespace, &gateway.name)
            .is_some_and(|s| address_type(s) == Some(GatewayAddressType::Node))
    })
}

/// Sets the address type and the addresses of each gateway. `nodes` are the nodes' addresses.
pub fn fill_addresses(gateways: &mut [GatewayStatus], live: &ObservedObjects, nodes: &[String]) {
    for gateway in gateways {
        let found = service(live, &gateway.namespace, &gateway.name);
        gateway.address_type = found.and_then(address_type);
        gateway.addresses = match (gateway.address_type, found) {
            (Some(GatewayAddressType::LoadBalancer), Some(service)) => service.addresses.clone(),
            (Some(GatewayAddressType::Node), _) => nodes.to_vec(),
            (Some(GatewayAddressType::Service), _) => vec![format!("{}.{}.svc", gateway.name, gateway.namespace)],
            _ => Vec::new(),
        };
    }
}

/// `None` for a load balancer without node ports that has no address yet.
fn address_type(service: &ServiceState) -> Option<GatewayAddressType> {
    if service.service_type == "ClusterIP" {
        Some(GatewayAddressType::Service)
    } else if !service.addresses.is_empty() {
        Some(GatewayAddressType::LoadBalancer)
    } else {
        service.ports.iter().any(|port| port.node_port.is_some()).then_some(GatewayAddressType::Node)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::kind::Kind;
    use crate::mesh::object::ObjectKey;
    use crate::mesh::observed::ObservedObject;

    fn addresses_of(spec: &Value, ingress: &Value) -> (Option<GatewayAddressType>, Vec<String>) {
        let object = json!({"metadata": {"namespace": "edge", "name": "gw"}, "spec": spec,
            "status": {"loadBalancer": {"ingress": ingress}}});
        let key = ObjectKey { kind: Kind::Service, namespace: Some("edge".into()), name: "gw".into() };
        let live: ObservedObjects = [(key, ObservedObject::of(Kind::Service, &object, None, None))].into();
        let mut gateways = [GatewayStatus { name: "gw".into(), namespace: "edge".into(), ..GatewayStatus::default() }];
        let nodes = ["10.0.0.1".to_owned()];
        fill_addresses(&mut gateways, &live, &nodes);
        let [gateway] = gateways;
        assert_eq!(needs_nodes(std::slice::from_ref(&gateway), &live), gateway.addresses == nodes);
        (gateway.address_type, gateway.addresses)
    }

    #[test]
    fn prefers_load_balancer_address_over_nodes() {
        let spec = json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30401}]});
        let named = addresses_of(&spec, &json!([{"hostname": "lb.example.com"}]));
        assert_eq!(named, (Some(GatewayAddressType::LoadBalancer), vec!["lb.example.com".into()]));
        assert_eq!(addresses_of(&spec, &json!([])), (Some(GatewayAddressType::Node), vec!["10.0.0.1".into()]));
        let without = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
        assert_eq!(addresses_of(&without, &json!([])), (None, vec![]));
    }

    #[test]
    fn cluster_ip_gateway_has_service_name() {
        let inside = addresses_of(&json!({"type": "ClusterIP", "ports": [{"port": 80}]}), &json!([]));
        assert_eq!(inside, (Some(GatewayAddressType::Service), vec!["gw.edge.svc".into()]));
    }

    #[test]
    fn gateway_without_service_has_no_address() {
        let mut gateways = [GatewayStatus { addresses: vec!["old".into()], ..GatewayStatus::default() }];
        fill_addresses(&mut gateways, &ObservedObjects::new(), &[]);
        assert_eq!((gateways[0].address_type, gateways[0].addresses.len()), (None, 0));
    }
}
