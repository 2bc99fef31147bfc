//! Gateways and their Services.

use serde_json::{Value, json};

use super::{GATEWAY, Row, SERVICE, placement, row};

const SCALER: &str = "HorizontalPodAutoscaler istio-system/edge";

pub(super) fn rows() -> Vec<Row> {
    gateways().into_iter().chain(services()).collect()
}

/// A spec with a gateway `edge` of these fields.
pub fn edge(fields: Value) -> Value {
    let mut gateway = json!({"name": "edge"});
    meshwright::mesh::merge::merge(&mut gateway, fields);
    json!({"gateways": [gateway]})
}

fn east_west() -> Value {
    let ports = json!([{"name": "tls", "port": 15443, "nodePort": 30443}]);
    edge(json!({"direction": "EastWest", "network": "network1", "service": {"type": "NodePort", "ports": ports}}))
}

fn gateways() -> Vec<Row> {
    let scaled = || edge(json!({"autoscaling": {"min": 2, "max": 7, "targetCPU": 55}}));
    let utilization = "spec metrics 0 resource target averageUtilization";
    let sized = || edge(json!({"resources": {"requests": {"cpu": "11m"}, "limits": {"memory": "3Gi"}}}));
    let requests = "spec template spec containers name=istio-proxy resources requests cpu";
    let limits = "spec template spec containers name=istio-proxy resources limits memory";
    let elsewhere = "Deployment edges/edge";
    let grace = edge(json!({"values": {"terminationGracePeriodSeconds": 61}}));
    vec![
        row("gateways[].name", json!({"gateways": [{"name": "x"}]}), "Service istio-system/x", "metadata name", "x"),
        row("gateways[].direction", edge(json!({"direction": "Egress"})), SERVICE, "spec type", "ClusterIP"),
        row("gateways[].network", east_west(), SERVICE, "metadata labels topology.istio.io/network", "network1"),
        row("gateways[].network", east_west(), SERVICE, "spec ports 1 nodePort", 30443),
        row("gateways[].namespace", edge(json!({"namespace": "edges"})), elsewhere, "metadata namespace", "edges"),
        row("gateways[].namespace", edge(json!({"namespace": "edges"})), "Namespace edges", "metadata name", "edges"),
        row("gateways[].replicas", edge(json!({"replicas": 0})), GATEWAY, "spec replicas", 0),
        row("gateways[].autoscaling.min", scaled(), SCALER, "spec minReplicas", 2),
        row("gateways[].autoscaling.max", scaled(), SCALER, "spec maxReplicas", 7),
        row("gateways[].autoscaling.targetCPU", scaled(), SCALER, utilization, 55),
        row("gateways[].resources.requests", sized(), GATEWAY, requests, "11m"),
        row("gateways[].resources.limits", sized(), GATEWAY, limits, "3Gi"),
        row("gateways[].values", grace, GATEWAY, "spec template spec terminationGracePeriodSeconds", 61),
    ]
    .into_iter()
    .chain(placement("gateways[]", GATEWAY, edge))
    .collect()
}

fn services() -> Vec<Row> {
    let is = |fields: Value| edge(json!({"service": fields}));
    let port = json!({"name": "web", "port": 81, "targetPort": 8081, "nodePort": 30481, "protocol": "UDP"});
    let ports = || is(json!({"type": "NodePort", "ports": [port]}));
    vec![
        row("gateways[].service.type", ports(), SERVICE, "spec type", "NodePort"),
        row("gateways[].service.ports[].name", ports(), SERVICE, "spec ports 0 name", "web"),
        row("gateways[].service.ports[].port", ports(), SERVICE, "spec ports 0 port", 81),
        row("gateways[].service.ports[].targetPort", ports(), SERVICE, "spec ports 0 targetPort", 8081),
        row("gateways[].service.ports[].nodePort", ports(), SERVICE, "spec ports 0 nodePort", 30481),
        row("gateways[].service.ports[].protocol", ports(), SERVICE, "spec ports 0 protocol", "UDP"),
        row(
            "gateways[].service.annotations",
            is(json!({"annotations": {"example.com/a": "b"}})),
            SERVICE,
            "metadata annotations example.com/a",
            "b",
        ),
        row(
            "gateways[].service.loadBalancerClass",
            is(json!({"loadBalancerClass": "example.com/nlb"})),
            SERVICE,
            "spec loadBalancerClass",
            "example.com/nlb",
        ),
        row(
            "gateways[].service.loadBalancerSourceRanges",
            is(json!({"loadBalancerSourceRanges": ["203.0.113.0/24"]})),
            SERVICE,
            "spec loadBalancerSourceRanges",
            json!(["203.0.113.0/24"]),
        ),
        row(
            "gateways[].service.externalTrafficPolicy",
            is(json!({"externalTrafficPolicy": "Local"})),
            SERVICE,
            "spec externalTrafficPolicy",
            "Local",
        ),
        row(
            "gateways[].service.allocateLoadBalancerNodePorts",
            is(json!({"allocateLoadBalancerNodePorts": false})),
            SERVICE,
            "spec allocateLoadBalancerNodePorts",
            false,
        ),
    ]
}
