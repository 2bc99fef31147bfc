//! Reads a gateway's non-default chart values from its Deployment, Service and autoscaler.

use std::collections::BTreeSet;

use meshwright_api::ServiceType;
use serde_json::{Map, Value, json};

use super::mesh::{ExistingMesh, is_uninjected};
use super::{entries, is_empty, sibling};
use crate::mesh::adoption::{is_owned_by_installer, is_tool_metadata};
use crate::mesh::kind::Kind;
use crate::mesh::merge::{get, set};
use crate::mesh::object::ObjectKey;
use crate::planning::objects::LiveObjects;

const POD: &str = "spec.template.spec";
const SELECTED_LABELS: &str = "spec.selector.matchLabels";
const SELECTED_EXPRESSIONS: &str = "spec.selector.matchExpressions";
const POD_LABELS: &str = "spec.template.metadata.labels";
const POD_ANNOTATIONS: &str = "spec.template.metadata.annotations";
const NETWORK_LABEL: &str = "topology.istio.io/network";
/// Environment variable that the chart sets for the network.
const NETWORK_VARIABLE: &str = "ISTIO_META_REQUESTED_NETWORK_VIEW";
/// Default ports of the chart's Service, and the fixed ports of an east-west gateway.
const PORTS: [(&str, i64); 3] = [("status-port", 15021), ("http2", 80), ("https", 443)];
const EAST_WEST_PORTS: [(&str, i64); 4] =
    [("status-port", 15021), ("tls", 15443), ("tls-istiod", 15012), ("tls-webhook", 15017)];
/// The only labels in the selectors of the chart's Deployment and Service.
const SELECTOR_LABELS: [&str; 2] = ["app", "istio"];
/// Pod labels that the chart sets.
const CHARTS_LABELS: [&str; 4] = ["istio.io/rev", "sidecar.istio.io/inject", NETWORK_LABEL, "helm.sh/chart"];
/// Pod annotations that the chart sets.
const CHARTS_ANNOTATIONS: [(&str, &str); 5] = [
    ("prometheus.io/port", "15020"),
    ("prometheus.io/scrape", "true"),
    ("prometheus.io/path", "/stats/prometheus"),
    ("inject.istio.io/templates", "gateway"),
    ("sidecar.istio.io/inject", "true"),
];
/// Pod fields that are chart values with the same name.
const POD_VALUES: [&str; 6] =
    ["imagePullSecrets", "volumes", "initContainers", "topologySpreadConstraints", "dnsConfig", "priorityClassName"];
/// Service fields that are chart values with the same name.
const SERVICE_VALUES: [&str; 2] = ["loadBalancerIP", "externalIPs"];

/// The entry of `spec.gateways`.
pub(super) fn read(found: &ExistingMesh<'_>, key: &ObjectKey, deployment: &Value, objects: &LiveObjects) -> Value {
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
    match sibling(objects, key, Kind::Service) {
        Some(service) => read_service(service, network.is_some(), &mut gateway),
        None => set(&mut gateway, "service.type", ServiceType::None.as_str()),
    }
    read_scale(deployment, sibling(objects, key, Kind::HorizontalPodAutoscaler), &mut gateway);
    read_placement(deployment, &mut gateway);
    // istiod adds the rest of such a pod during injection.
    let labels = if is_uninjected(deployment) {
        own_labels(&key.name, selected_by(deployment))
    } else {
        read_pods(deployment, &mut gateway);
        own_labels(&key.name, entries(deployment, POD_LABELS))
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

/// Whether the chart can render the Deployment's selector, which is immutable.
pub(super) fn has_charts_selector(deployment: &Value) -> bool {
    let labels: BTreeSet<&str> = selected_by(deployment).map(|(label, _)| label.as_str()).collect();
    let expressions = get(deployment, SELECTED_EXPRESSIONS);
    labels == SELECTOR_LABELS.into() && expressions.is_none_or(is_empty)
}

fn selected_by(deployment: &Value) -> impl Iterator<Item = (&String, &Value)> {
    entries(deployment, SELECTED_LABELS)
}

/// Copies a value unless it is empty.
fn copy(from: &Value, path: &str, to: &mut Value, field: &str) {
    if let Some(value) = get(from, path).filter(|value| !is_empty(value)) {
        set(to, field, value.clone());
    }
}

fn read_service(service: &Value, east_west: bool, gateway: &mut Value) {
    let kind = get(service, "spec.type").and_then(Value::as_str).unwrap_or("ClusterIP");
    set(gateway, "service.type", kind);
    let defaults: &[(&str, i64)] = if east_west { &EAST_WEST_PORTS } else { &PORTS };
    let ports: Vec<Value> =
        get(service, "spec.ports").and_then(Value::as_array).into_iter().flatten().map(|p| port(p, kind)).collect();
    let plain: Vec<Value> = defaults.iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
    if ports != plain {
        set(gateway, "service.ports", ports);
    }
    // Cloud providers add their own annotations.
    let annotations = entries(service, "metadata.annotations")
        .filter(|(name, _)| is_owned_by_installer(service, &["f:metadata", "f:annotations", &format!("f:{name}")]))
        .filter(|(name, _)| !is_tool_metadata(&format!("metadata.annotations[{name:?}]")));
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
    for field in SERVICE_VALUES {
        copy(service, &format!("spec.{field}"), gateway, &format!("values.service.{field}"));
    }
}

/// Reads one port. Only Services of type NodePort need explicit node ports; the operator keeps those of load balancers.
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
        set(
            gateway,
            "autoscaling",
            json!({"minReplicas": min, "maxReplicas": max, "targetCPUUtilizationPercentage": cpu}),
        );
    }
    if let Some(memory) = target("memory") {
        set(gateway, "values.autoscaling.targetMemoryUtilizationPercentage", memory);
    }
    copy(autoscaler, "spec.behavior", gateway, "values.autoscaling.autoscaleBehavior");
}

fn read_placement(deployment: &Value, gateway: &mut Value) {
    let defaults = json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
    let proxy = deployment.pointer("/spec/template/spec/containers/0");
    if let Some(resources) = proxy.and_then(|proxy| proxy.get("resources")).filter(|resources| **resources != defaults)
    {
        set(gateway, "resources", resources.clone());
    }
    for field in ["nodeSelector", "tolerations"] {
        copy(deployment, &format!("{POD}.{field}"), gateway, field);
    }
    // istioctl's charts render an empty affinity.
    if let Some(affinity) = get(deployment, &format!("{POD}.affinity"))
        && affinity.as_object().is_some_and(|kinds| !kinds.values().all(is_empty))
    {
        set(gateway, "affinity", affinity.clone());
    }
}

fn read_pods(deployment: &Value, gateway: &mut Value) {
    let proxy = deployment.pointer("/spec/template/spec/containers/0");
    let is_usual = |name: &str, value: &Value| CHARTS_ANNOTATIONS.iter().any(|(n, v)| *n == name && value == v);
    let annotations: Map<String, Value> = entries(deployment, POD_ANNOTATIONS)
        .filter(|(name, value)| !is_usual(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !annotations.is_empty() {
        set(gateway, "podAnnotations", Value::Object(annotations));
    }
    for field in POD_VALUES {
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

/// Pod labels that the chart doesn't set.
fn own_labels<'a>(name: &str, labels: impl Iterator<Item = (&'a String, &'a Value)>) -> Map<String, Value> {
    let defaults = |label: &str, value: &Value| match label {
        "app" => value == name,
        "istio" => value == name.strip_prefix("istio-").unwrap_or(name),
        "istio.io/dataplane-mode" => value == "none",
        _ => label.starts_with("app.kubernetes.io/") || CHARTS_LABELS.contains(&label),
    };
    let own = labels.filter(|(label, value)| !defaults(label, value));
    own.map(|(label, value)| (label.clone(), value.clone())).collect()
}
