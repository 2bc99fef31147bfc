//! A gateway, read off its Deployment, Service and autoscaler: what its chart was given where that isn't what the chart has
//! by itself.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::mesh::{Found, is_uninjected};
use super::{is_empty, sibling, table};
use crate::mesh::adoption::{is_makers, says_who_made_it};
use crate::mesh::kind::Kind;
use crate::mesh::merge::{get, set};
use crate::mesh::object::ObjectKey;
use crate::planning::objects::Objects;

const POD: &str = "spec.template.spec";
const SELECTED_LABELS: &str = "spec.selector.matchLabels";
const SELECTED_EXPRESSIONS: &str = "spec.selector.matchExpressions";
const POD_LABELS: &str = "spec.template.metadata.labels";
const POD_ANNOTATIONS: &str = "spec.template.metadata.annotations";
const NETWORK_LABEL: &str = "topology.istio.io/network";
/// The variable that the chart makes of the network.
const NETWORK_VARIABLE: &str = "ISTIO_META_REQUESTED_NETWORK_VIEW";
/// The ports that the chart's Service has, and those of one between clusters, which has them whatever is listed.
const PORTS: [(&str, i64); 3] = [("status-port", 15021), ("http2", 80), ("https", 443)];
const CROSS_PORTS: [(&str, i64); 4] =
    [("status-port", 15021), ("tls", 15443), ("tls-istiod", 15012), ("tls-webhook", 15017)];
/// Labels by which the chart's Deployment and Service select pods, and no others.
const SELECTED_BY: [&str; 2] = ["app", "istio"];
/// Labels of pods that the chart makes by itself.
const CHARTS_LABELS: [&str; 4] = ["istio.io/rev", "sidecar.istio.io/inject", NETWORK_LABEL, "helm.sh/chart"];
/// Annotations of pods that the chart has by itself.
const CHARTS_ANNOTATIONS: [(&str, &str); 5] = [
    ("prometheus.io/port", "15020"),
    ("prometheus.io/scrape", "true"),
    ("prometheus.io/path", "/stats/prometheus"),
    ("inject.istio.io/templates", "gateway"),
    ("sidecar.istio.io/inject", "true"),
];
/// Fields of pods that the chart takes as they are, under the same name.
const PLAIN: [&str; 6] =
    ["imagePullSecrets", "volumes", "initContainers", "topologySpreadConstraints", "dnsConfig", "priorityClassName"];
/// The same, of a Service.
const PLAIN_OF_SERVICE: [&str; 2] = ["loadBalancerIP", "externalIPs"];

/// The entry of `spec.gateways`.
pub(super) fn read(found: &Found<'_>, key: &ObjectKey, deployment: &Value, objects: &Objects) -> Value {
    let mut gateway = json!({"name": key.name});
    if key.namespace.as_deref() != Some(&found.namespace) {
        set(&mut gateway, "namespace", key.namespace.clone());
    }
    let label = |name: &str| get(deployment, POD_LABELS).and_then(|labels| labels.get(name)).and_then(Value::as_str);
    let network = label(NETWORK_LABEL);
    if let Some(network) = network {
        set(&mut gateway, "direction", "EastWest");
        set(&mut gateway, "network", network);
    }
    if let Some(service) = sibling(objects, key, Kind::Service) {
        read_service(service, network.is_some(), &mut gateway);
    }
    read_scale(deployment, sibling(objects, key, Kind::HorizontalPodAutoscaler), &mut gateway);
    read_placement(deployment, &mut gateway);
    // What else such pods have is what istiod gives to others.
    let labels = if is_uninjected(deployment) {
        own_labels(&key.name, selected_by(deployment))
    } else {
        read_pods(deployment, &mut gateway);
        own_labels(&key.name, table(deployment, POD_LABELS))
    };
    if !labels.is_empty() {
        set(&mut gateway, "values.labels", Value::Object(labels));
    }
    if let Some(budget) = sibling(objects, key, Kind::PodDisruptionBudget) {
        for field in ["minAvailable", "maxUnavailable", "unhealthyPodEvictionPolicy"] {
            copy(budget, &format!("spec.{field}"), &mut gateway, &format!("values.podDisruptionBudget.{field}"));
        }
    }
    gateway
}

/// Whether the chart can make the Deployment's selector, which no Deployment ever changes.
pub(super) fn has_charts_selector(deployment: &Value) -> bool {
    let labels: BTreeSet<&str> = selected_by(deployment).map(|(label, _)| label.as_str()).collect();
    let expressions = get(deployment, SELECTED_EXPRESSIONS);
    labels == SELECTED_BY.into() && expressions.is_none_or(is_empty)
}

fn selected_by(deployment: &Value) -> impl Iterator<Item = (&String, &Value)> {
    table(deployment, SELECTED_LABELS)
}

/// Copies a value, if it says anything.
fn copy(from: &Value, path: &str, to: &mut Value, field: &str) {
    if let Some(value) = get(from, path).filter(|value| !is_empty(value)) {
        set(to, field, value.clone());
    }
}

fn read_service(service: &Value, between_clusters: bool, gateway: &mut Value) {
    let kind = get(service, "spec.type").and_then(Value::as_str).unwrap_or("ClusterIP");
    set(gateway, "service.type", kind);
    let usual: &[(&str, i64)] = if between_clusters { &CROSS_PORTS } else { &PORTS };
    let ports: Vec<Value> =
        get(service, "spec.ports").and_then(Value::as_array).into_iter().flatten().map(|p| port(p, kind)).collect();
    let plain: Vec<Value> = usual.iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
    if ports != plain {
        set(gateway, "service.ports", ports);
    }
    // Clouds write annotations of their own.
    let annotations = table(service, "metadata.annotations")
        .filter(|(name, _)| is_makers(service, &["f:metadata", "f:annotations", &format!("f:{name}")]))
        .filter(|(name, _)| !says_who_made_it(&format!("metadata.annotations[{name:?}]")));
    let annotations: Map<String, Value> = annotations.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !annotations.is_empty() {
        set(gateway, "service.annotations", Value::Object(annotations));
    }
    for field in ["loadBalancerClass", "loadBalancerSourceRanges"] {
        copy(service, &format!("spec.{field}"), gateway, &format!("service.{field}"));
    }
    if get(service, "spec.externalTrafficPolicy").is_some_and(|policy| policy == "Local") {
        set(gateway, "service.externalTrafficPolicy", "Local");
    }
    if get(service, "spec.allocateLoadBalancerNodePorts").is_some_and(|allocate| allocate == false) {
        set(gateway, "service.allocateLoadBalancerNodePorts", false);
    }
    for field in PLAIN_OF_SERVICE {
        copy(service, &format!("spec.{field}"), gateway, &format!("values.service.{field}"));
    }
}

/// One port. Node ports are what clients of such a Service know; those of a load balancer are kept without being named.
fn port(port: &Value, kind: &str) -> Value {
    let mut entry = json!({"name": port.get("name"), "port": port.get("port")});
    if let Some(target) =
        port.get("targetPort").filter(|target| target.is_number() && Some(*target) != port.get("port"))
    {
        set(&mut entry, "targetPort", target.clone());
    }
    if port.get("protocol").is_some_and(|protocol| protocol == "UDP") {
        set(&mut entry, "protocol", "UDP");
    }
    if let Some(node_port) = port.get("nodePort").filter(|_| kind == "NodePort") {
        set(&mut entry, "nodePort", node_port.clone());
    }
    entry
}

fn read_scale(deployment: &Value, autoscaler: Option<&Value>, gateway: &mut Value) {
    let Some(autoscaler) = autoscaler else {
        copy(deployment, "spec.replicas", gateway, "replicas");
        return;
    };
    let number = |path: &str| get(autoscaler, path).and_then(Value::as_i64);
    let (min, max) = (number("spec.minReplicas").unwrap_or(1), number("spec.maxReplicas").unwrap_or(1));
    let metrics = get(autoscaler, "spec.metrics").and_then(Value::as_array);
    let target = |resource: &str| {
        let of = |metric: &&Value| get(metric, "resource.name").and_then(Value::as_str) == Some(resource);
        let metric = metrics.into_iter().flatten().find(of)?;
        get(metric, "resource.target.averageUtilization").and_then(Value::as_i64)
    };
    let cpu = target("cpu").unwrap_or(80);
    if (min, max, cpu) != (1, 5, 80) {
        set(gateway, "autoscaling", json!({"min": min, "max": max, "targetCPU": cpu}));
    }
    if let Some(memory) = target("memory") {
        set(gateway, "values.autoscaling.targetMemoryUtilizationPercentage", memory);
    }
    copy(autoscaler, "spec.behavior", gateway, "values.autoscaling.autoscaleBehavior");
}

fn read_placement(deployment: &Value, gateway: &mut Value) {
    let usual = json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
    let proxy = deployment.pointer("/spec/template/spec/containers/0");
    if let Some(resources) = proxy.and_then(|proxy| proxy.get("resources")).filter(|resources| **resources != usual) {
        set(gateway, "resources", resources.clone());
    }
    for field in ["nodeSelector", "tolerations"] {
        copy(deployment, &format!("{POD}.{field}"), gateway, field);
    }
    // istioctl's charts write one that says nothing.
    if let Some(affinity) = get(deployment, &format!("{POD}.affinity"))
        && affinity.as_object().is_some_and(|kinds| !kinds.values().all(is_empty))
    {
        set(gateway, "affinity", affinity.clone());
    }
}

fn read_pods(deployment: &Value, gateway: &mut Value) {
    let proxy = deployment.pointer("/spec/template/spec/containers/0");
    let is_usual = |name: &str, value: &Value| CHARTS_ANNOTATIONS.iter().any(|(n, v)| *n == name && value == v);
    let annotations: Map<String, Value> = table(deployment, POD_ANNOTATIONS)
        .filter(|(name, value)| !is_usual(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !annotations.is_empty() {
        set(gateway, "podAnnotations", Value::Object(annotations));
    }
    for field in PLAIN {
        copy(deployment, &format!("{POD}.{field}"), gateway, &format!("values.{field}"));
    }
    if let Some(grace) = get(deployment, &format!("{POD}.terminationGracePeriodSeconds")).filter(|grace| **grace != 30)
    {
        set(gateway, "values.terminationGracePeriodSeconds", grace.clone());
    }
    let variables = proxy.and_then(|proxy| proxy.get("env")).and_then(Value::as_array).into_iter().flatten();
    for variable in variables.filter(|variable| variable.get("name").is_some_and(|name| name != NETWORK_VARIABLE)) {
        if let (Some(Value::String(name)), Some(value)) = (variable.get("name"), variable.get("value")) {
            set(gateway, "values.env", json!({name: value}));
        }
    }
    if let Some(proxy) = proxy {
        for field in ["volumeMounts", "readinessProbe", "lifecycle"] {
            copy(proxy, field, gateway, &format!("values.{field}"));
        }
    }
}

/// Labels of the pods that the chart doesn't give them by itself.
fn own_labels<'a>(name: &str, labels: impl Iterator<Item = (&'a String, &'a Value)>) -> Map<String, Value> {
    let usual = |label: &str, value: &Value| match label {
        "app" => value == name,
        "istio" => value == name.strip_prefix("istio-").unwrap_or(name),
        "istio.io/dataplane-mode" => value == "none",
        _ => label.starts_with("app.kubernetes.io/") || CHARTS_LABELS.contains(&label),
    };
    let own = labels.filter(|(label, value)| !usual(label, value));
    own.map(|(label, value)| (label.clone(), value.clone())).collect()
}
