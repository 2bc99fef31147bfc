//! Gateways and their Services.

use serde_json::{Value, json};

use super::{FieldEffect, GATEWAY, SERVICE, effect, placement};

const SCALER: &str = "HorizontalPodAutoscaler istio-system/edge";

pub(super) fn effects() -> Vec<FieldEffect> {
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

fn gateways() -> Vec<FieldEffect> {
    let scaled =
        || edge(json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 7, "targetCPUUtilizationPercentage": 55}}));
    let utilization = "spec metrics 0 resource target averageUtilization";
    let sized = || edge(json!({"resources": {"requests": {"cpu": "11m"}, "limits": {"memory": "3Gi"}}}));
    let requests = "spec template spec containers name=istio-proxy resources requests cpu";
    let limits = "spec template spec containers name=istio-proxy resources limits memory";
    let elsewhere = "Deployment edges/edge";
    let grace = edge(json!({"values": {"terminationGracePeriodSeconds": 61}}));
    vec![
        effect("gateways[].name", json!({"gateways": [{"name": "x"}]}), "Service istio-system/x", "metadata name", "x"),
        effect("gateways[].direction", edge(json!({"direction": "Egress"})), SERVICE, "spec type", "ClusterIP"),
        effect("gateways[].network", east_west(), SERVICE, "metadata labels topology.istio.io/network", "network1"),
        effect("gateways[].network", east_west(), SERVICE, "spec ports 1 nodePort", 30443),
        effect("gateways[].namespace", edge(json!({"namespace": "edges"})), elsewhere, "metadata namespace", "edges"),
        effect(
            "gateways[].namespace",
            edge(json!({"namespace": "edges"})),
            "Namespace edges",
            "metadata name",
            "edges",
        ),
        effect("gateways[].replicas", edge(json!({"replicas": 0})), GATEWAY, "spec replicas", 0),
        effect("gateways[].autoscaling.minReplicas", scaled(), SCALER, "spec minReplicas", 2),
        effect("gateways[].autoscaling.maxReplicas", scaled(), SCALER, "spec maxReplicas", 7),
        effect("gateways[].autoscaling.targetCPUUtilizationPercentage", scaled(), SCALER, utilization, 55),
        effect("gateways[].resources.requests", sized(), GATEWAY, requests, "11m"),
        effect("gateways[].resources.limits", sized(), GATEWAY, limits, "3Gi"),
        effect("gateways[].values", grace, GATEWAY, "spec template spec terminationGracePeriodSeconds", 61),
    ]
    .into_iter()
    .chain(placement("gateways[]", GATEWAY, edge))
    .collect()
}

fn services() -> Vec<FieldEffect> {
    let is = |fields: Value| edge(json!({"service": fields}));
    let port = json!({"name": "web", "port": 81, "targetPort": 8081, "nodePort": 30481, "protocol": "UDP"});
    let ports = || is(json!({"type": "NodePort", "ports": [port]}));
    vec![
        effect("gateways[].service.type", ports(), SERVICE, "spec type", "NodePort"),
        effect("gateways[].service.ports[].name", ports(), SERVICE, "spec ports 0 name", "web"),
        effect("gateways[].service.ports[].port", ports(), SERVICE, "spec ports 0 port", 81),
        effect("gateways[].service.ports[].targetPort", ports(), SERVICE, "spec ports 0 targetPort", 8081),
        effect("gateways[].service.ports[].nodePort", ports(), SERVICE, "spec ports 0 nodePort", 30481),
        effect("gateways[].service.ports[].protocol", ports(), SERVICE, "spec ports 0 protocol", "UDP"),
        effect(
            "gateways[].service.annotations",
            is(json!({"annotations": {"example.com/a": "b"}})),
            SERVICE,
            "metadata annotations example.com/a",
            "b",
        ),
        effect(
            "gateways[].service.loadBalancerClass",
            is(json!({"loadBalancerClass": "example.com/nlb"})),
            SERVICE,
            "spec loadBalancerClass",
            "example.com/nlb",
        ),
        effect(
            "gateways[].service.loadBalancerSourceRanges",
            is(json!({"loadBalancerSourceRanges": ["203.0.113.0/24"]})),
            SERVICE,
            "spec loadBalancerSourceRanges",
            json!(["203.0.113.0/24"]),
        ),
        effect(
            "gateways[].service.externalTrafficPolicy",
            is(json!({"externalTrafficPolicy": "Local"})),
            SERVICE,
            "spec externalTrafficPolicy",
            "Local",
        ),
        effect(
            "gateways[].service.allocateLoadBalancerNodePorts",
            is(json!({"allocateLoadBalancerNodePorts": false})),
            SERVICE,
            "spec allocateLoadBalancerNodePorts",
            false,
        ),
    ]
}
