//! From typed fields to chart values.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use meshwright_api::{Autoscaling, ComponentMode, Gateway, GatewayPort, MeshInstallationSpec, Resources};
use serde_json::{Map, Value, json};

use super::add_ons::provide_tracing;
use super::merge::{get, merge, set};
use super::node_agents::NodeAgents;
use super::revisions::DEFAULT;
use super::texts::arrives_between_quotes;
use crate::catalog::ChartName;
use crate::platform::Platform;

/// What the bundled profile and the platform contribute to a chart.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// The chart.
    pub chart: ChartName,
    /// The charts' own profile, if ours builds on one.
    pub chart_profile: Option<&'a str>,
    /// The platform, as the charts name it.
    pub chart_platform: Option<&'a str>,
    /// Values of our profile.
    pub profile: Option<&'a Value>,
    /// The platform, whose values go over the profile's.
    pub platform: &'a Platform,
}

impl Defaults<'_> {
    fn start(self) -> Value {
        let mut values = self.profile.cloned().unwrap_or_else(|| Value::Object(Map::new()));
        if let Some(profile) = self.chart_profile {
            set(&mut values, "profile", profile);
        }
        if let Some(platform) = self.chart_platform {
            set(&mut values, "global.platform", platform);
        }
        for over in self.platform.values(self.chart) {
            merge(&mut values, over.clone());
        }
        values
    }
}

/// What a chart reads at the top of its values and nowhere else.
const AT_THE_TOP: [&str; 2] = ["global", "profile"];

/// The charts of istiod and cni lay what their own profiles say below this key over everything else, the user's values
/// too: only what stands there as well wins over a profile.
fn win_over_profiles(values: &mut Value, key: &str) {
    if get(values, "profile").or_else(|| get(values, "global.platform")).is_none() {
        return;
    }
    let copy: Map<String, Value> = values
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !AT_THE_TOP.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    set(values, key, Value::Object(copy));
}

/// Values of the base chart.
#[must_use]
pub fn base(spec: &MeshInstallationSpec, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.start();
    set(&mut values, "global.istioNamespace", spec.namespace.as_str());
    pull_secrets(spec, &mut values, "global.imagePullSecrets");
    if let Some(revision) = &spec.revision {
        // With it the chart makes the validation of what asks for no revision, which is the default's alone.
        let is_default = spec.tags.iter().any(|tag| tag.name == DEFAULT);
        set(&mut values, "defaultRevision", if is_default { revision.as_str() } else { "" });
    }
    merge(&mut values, Value::Object(spec.values.base.0.clone()));
    values
}

/// Values of the istiod chart.
#[must_use]
pub fn istiod(spec: &MeshInstallationSpec, agents: &NodeAgents, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.start();
    set(&mut values, "global.istioNamespace", spec.namespace.as_str());
    images(spec, &mut values);
    revision(spec, &mut values);
    if !spec.tags.is_empty() {
        let tags: BTreeSet<&str> = spec.tags.iter().map(|tag| tag.name.as_str()).collect();
        set(&mut values, "revisionTags", json!(tags));
    }
    control_plane(spec, &mut values);
    with_agents(spec, agents, &mut values);
    injector(spec, &mut values);
    proxy(spec, &mut values);
    if !spec.mesh_config.is_empty() {
        set(&mut values, "meshConfig", Value::Object(spec.mesh_config.0.clone()));
    }
    merge(&mut values, Value::Object(spec.values.istiod.0.clone()));
    provide_tracing(spec, &mut values);
    awkward_environment(spec, &mut values);
    win_over_profiles(&mut values, "pilot");
    values
}

/// Charts know the default revision by the empty name, which is their default.
fn revision(spec: &MeshInstallationSpec, values: &mut Value) {
    if let Some(revision) = &spec.revision {
        set(values, "revision", revision.as_str());
    }
}

/// The chart writes the values of `env` between quotes as they are. What would not survive that goes by the list that it
/// writes as YAML; after the user's values, which may have that list too.
fn awkward_environment(spec: &MeshInstallationSpec, values: &mut Value) {
    let awkward = spec.control_plane.env.iter().filter(|variable| !arrives_between_quotes(&variable.value));
    let awkward: Vec<Value> = awkward.map(|variable| json!(variable)).collect();
    if awkward.is_empty() {
        return;
    }
    let theirs = get(values, "envVarFrom").and_then(Value::as_array).cloned().unwrap_or_default();
    set(values, "envVarFrom", Value::Array(theirs.into_iter().chain(awkward).collect()));
}

/// What the control plane has to know of the node agents.
fn with_agents(spec: &MeshInstallationSpec, agents: &NodeAgents, values: &mut Value) {
    if spec.cni.mode != ComponentMode::Profile || agents.cni.is_some() {
        // Injected pods leave the redirection to it.
        set(values, "cni.enabled", agents.cni.is_some());
    }
    if let Some(namespace) = agents.cni.as_ref().filter(|namespace| **namespace != spec.namespace) {
        set(values, "taint.namespace", namespace.as_str());
    }
    if let Some(namespace) = &agents.ztunnel {
        set(values, "env", json!({AMBIENT: "true"}));
        set(values, "meshConfig.defaultConfig.proxyMetadata.ISTIO_META_ENABLE_HBONE", "true");
        set(values, "trustedZtunnelNamespace", namespace.as_str());
    }
}

/// Values of the cni chart.
#[must_use]
pub fn cni(spec: &MeshInstallationSpec, agents: &NodeAgents, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.start();
    images(spec, &mut values);
    resources(&spec.cni.resources, &mut values, "resources");
    revision(spec, &mut values);
    set(&mut values, "ambient.enabled", agents.ztunnel.is_some());
    merge(&mut values, Value::Object(spec.values.cni.0.clone()));
    win_over_profiles(&mut values, "cni");
    values
}

/// Values of the ztunnel chart, which takes what stands below `global` for its own.
#[must_use]
pub fn ztunnel(spec: &MeshInstallationSpec, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.start();
    set(&mut values, "global.istioNamespace", spec.namespace.as_str());
    images(spec, &mut values);
    revision(spec, &mut values);
    resources(&spec.ztunnel.resources, &mut values, "resources");
    merge(&mut values, Value::Object(spec.values.ztunnel.0.clone()));
    values
}

fn images(spec: &MeshInstallationSpec, values: &mut Value) {
    if let Some(registry) = &spec.images.registry {
        set(values, "global.hub", registry.as_str());
    }
    if let Some(policy) = spec.images.pull_policy {
        set(values, "global.imagePullPolicy", policy.as_str());
    }
    pull_secrets(spec, values, "global.imagePullSecrets");
}

fn pull_secrets(spec: &MeshInstallationSpec, values: &mut Value, path: &str) {
    if !spec.images.pull_secrets.is_empty() {
        set(values, path, json!(spec.images.pull_secrets));
    }
}

fn control_plane(spec: &MeshInstallationSpec, values: &mut Value) {
    let wanted = &spec.control_plane;
    if let Some(replicas) = wanted.replicas {
        set(values, "autoscaleEnabled", false);
        set(values, "replicaCount", replicas);
    }
    if let Some(Autoscaling { min, max, target_cpu }) = &wanted.autoscaling {
        set(values, "autoscaleEnabled", true);
        set(values, "autoscaleMin", *min);
        set(values, "autoscaleMax", *max);
        set(values, "cpu.targetAverageUtilization", *target_cpu);
    }
    resources(&wanted.resources, values, "resources");
    for variable in wanted.env.iter().filter(|variable| arrives_between_quotes(&variable.value)) {
        // Names may contain dots, so they are no path.
        set(values, "env", json!({&variable.name: &variable.value}));
    }
    if let Some(native) = spec.proxy.native_sidecar {
        set(values, "env", json!({NATIVE_SIDECARS: native.to_string()}));
    }
    placement(&wanted.node_selector, &wanted.tolerations, wanted.affinity.as_ref(), values);
    if !wanted.pod_annotations.is_empty() {
        set(values, "podAnnotations", json!(wanted.pod_annotations));
    }
}

/// The variable of istiod that `spec.ztunnel` sets.
pub const AMBIENT: &str = "PILOT_ENABLE_AMBIENT";
/// The variable of istiod that `spec.proxy.nativeSidecar` sets.
pub const NATIVE_SIDECARS: &str = "ENABLE_NATIVE_SIDECARS";

fn resources(wanted: &Resources, values: &mut Value, path: &str) {
    if *wanted != Resources::default() {
        let plain = |list: &BTreeMap<String, Quantity>| {
            list.iter().map(|(name, amount)| (name.clone(), without_leading_zeros(amount))).collect()
        };
        let plain = Resources { requests: plain(&wanted.requests), limits: plain(&wanted.limits) };
        set(values, path, json!(plain));
    }
}

/// Charts write amounts without quotes, and to YAML a whole number that begins with 0 is octal.
fn without_leading_zeros(Quantity(amount): &Quantity) -> Quantity {
    let rest = amount.trim_start_matches('0');
    Quantity(if rest.starts_with(|c: char| c.is_ascii_digit()) { rest.to_owned() } else { amount.clone() })
}

fn placement(
    node_selector: &BTreeMap<String, String>,
    tolerations: &[k8s_openapi::api::core::v1::Toleration],
    affinity: Option<&k8s_openapi::api::core::v1::Affinity>,
    values: &mut Value,
) {
    if !node_selector.is_empty() {
        set(values, "nodeSelector", json!(node_selector));
    }
    if !tolerations.is_empty() {
        set(values, "tolerations", json!(tolerations));
    }
    if let Some(affinity) = affinity {
        set(values, "affinity", json!(affinity));
    }
}

fn injector(spec: &MeshInstallationSpec, values: &mut Value) {
    let wanted = &spec.injector;
    let under = |key: &str| format!("sidecarInjectorWebhook.{key}");
    if let Some(on) = wanted.enable_namespaces_by_default {
        set(values, &under("enableNamespacesByDefault"), on);
    }
    if let Some(on) = wanted.rewrite_app_http_probe {
        set(values, &under("rewriteAppHTTPProbe"), on);
    }
    if !wanted.never_inject_selector.is_empty() {
        set(values, &under("neverInjectSelector"), json!(wanted.never_inject_selector));
    }
    if !wanted.always_inject_selector.is_empty() {
        set(values, &under("alwaysInjectSelector"), json!(wanted.always_inject_selector));
    }
    if !wanted.injected_annotations.is_empty() {
        set(values, &under("injectedAnnotations"), json!(wanted.injected_annotations));
    }
}

fn proxy(spec: &MeshInstallationSpec, values: &mut Value) {
    let wanted = &spec.proxy;
    resources(&wanted.resources, values, "global.proxy.resources");
    if let Some(level) = wanted.log_level {
        set(values, "global.proxy.logLevel", level.as_str());
    }
    if let Some(log) = &wanted.access_log {
        set(values, "meshConfig.accessLogFile", log.file.as_str());
        set(values, "meshConfig.accessLogEncoding", log.encoding.as_mesh_config());
    }
    if let Some(hold) = wanted.hold_application_until_proxy_starts {
        set(values, "global.proxy.holdApplicationUntilProxyStarts", hold);
    }
    let lists = [
        ("includeIPRanges", &wanted.include_ip_ranges),
        ("excludeIPRanges", &wanted.exclude_ip_ranges),
        ("includeInboundPorts", &wanted.include_inbound_ports),
        ("excludeInboundPorts", &wanted.exclude_inbound_ports),
        ("includeOutboundPorts", &wanted.include_outbound_ports),
        ("excludeOutboundPorts", &wanted.exclude_outbound_ports),
    ];
    for (key, list) in lists {
        if !list.is_empty() {
            set(values, &format!("global.proxy.{key}"), list.join(","));
        }
    }
}

/// Values of the gateway chart for one gateway.
#[must_use]
pub fn gateway(spec: &MeshInstallationSpec, gateway: &Gateway, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.start();
    revision(spec, &mut values);
    let service_type = gateway.service_type_on(defaults.platform.gateway_service_type());
    set(&mut values, "service.type", service_type.as_str());
    if let Some(policy) = spec.images.pull_policy {
        set(&mut values, "imagePullPolicy", policy.as_str());
    }
    if !spec.images.pull_secrets.is_empty() {
        let names: Vec<Value> = spec.images.pull_secrets.iter().map(|name| json!({"name": name})).collect();
        set(&mut values, "imagePullSecrets", names);
    }
    service(gateway, &mut values);
    if let Some(replicas) = gateway.replicas {
        set(&mut values, "autoscaling.enabled", false);
        set(&mut values, "replicaCount", replicas);
    }
    if let Some(Autoscaling { min, max, target_cpu }) = &gateway.autoscaling {
        set(&mut values, "autoscaling.enabled", true);
        set(&mut values, "autoscaling.minReplicas", *min);
        set(&mut values, "autoscaling.maxReplicas", *max);
        set(&mut values, "autoscaling.targetCPUUtilizationPercentage", *target_cpu);
    }
    resources(&gateway.resources, &mut values, "resources");
    placement(&gateway.node_selector, &gateway.tolerations, gateway.affinity.as_ref(), &mut values);
    if !gateway.pod_annotations.is_empty() {
        set(&mut values, "podAnnotations", json!(gateway.pod_annotations));
    }
    merge(&mut values, Value::Object(gateway.values.0.clone()));
    values
}

/// The name of the port on which Envoy tells of its health.
const STATUS_PORT: &str = "status-port";

fn port_entry(port: &GatewayPort) -> Value {
    let mut entry = json!({
        "name": port.name,
        "port": port.port,
        "targetPort": port.target_port.unwrap_or(port.port),
        "protocol": port.protocol.as_str(),
    });
    if let Some(node_port) = port.node_port {
        set(&mut entry, "nodePort", node_port);
    }
    entry
}

fn service(gateway: &Gateway, values: &mut Value) {
    let wanted = &gateway.service;
    if let Some(network) = &gateway.network {
        set(values, "networkGateway", network.as_str());
        for port in &wanted.ports {
            set(values, "networkGatewayPorts", json!({&port.name: port_entry(port)}));
        }
    } else if !wanted.ports.is_empty() {
        // Load balancers look for health at the first port.
        let (status, others): (Vec<_>, Vec<_>) = wanted.ports.iter().partition(|port| port.name == STATUS_PORT);
        let ports: Vec<Value> = status.into_iter().chain(others).map(port_entry).collect();
        set(values, "service.ports", ports);
    }
    if !wanted.annotations.is_empty() {
        set(values, "service.annotations", json!(wanted.annotations));
    }
    if let Some(class) = &wanted.load_balancer_class {
        set(values, "service.loadBalancerClass", class.as_str());
    }
    if !wanted.load_balancer_source_ranges.is_empty() {
        set(values, "service.loadBalancerSourceRanges", json!(wanted.load_balancer_source_ranges));
    }
    if let Some(policy) = wanted.external_traffic_policy {
        set(values, "service.externalTrafficPolicy", policy.as_str());
    }
    if let Some(allocate) = wanted.allocate_load_balancer_node_ports {
        set(values, "service.allocateLoadBalancerNodePorts", allocate);
    }
}

#[cfg(test)]
mod tests;
