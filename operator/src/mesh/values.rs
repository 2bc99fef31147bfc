//! Converts the typed fields of a spec to values of Istio's charts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use meshwright_api::{Autoscaling, ComponentMode, Gateway, GatewayPort, MeshInstallationSpec, Resources};
use serde_json::{Map, Value, json};

use super::add_ons::provide_tracing;
use super::free_text::survives_double_quotes;
use super::merge::{get, merge, set};
use super::node_components::NodeComponents;
use super::revisions::DEFAULT;
use crate::catalog::{ChartName, Profile};
use crate::platform::Platform;

/// The values that the profile and the platform contribute to a chart.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// Chart for which values are computed.
    pub chart: ChartName,
    /// Name of the charts' built-in profile, if the bundled profile builds on one.
    pub chart_profile: Option<&'a str>,
    /// Name of the platform in the charts.
    pub chart_platform: Option<&'a str>,
    /// Values of the bundled profile.
    pub profile: Option<&'a Value>,
    /// Platform whose values override the profile's.
    pub platform: &'a Platform,
}

impl<'a> Defaults<'a> {
    /// The values that a profile and a platform contribute to a chart.
    #[must_use]
    pub fn of(chart: ChartName, profile: &'a Profile, platform: &'a Platform) -> Self {
        Self {
            chart,
            // The profiles don't have values for the gateway chart.
            chart_profile: profile.chart_profile().filter(|_| chart != ChartName::Gateway),
            chart_platform: profile.platform().or(platform.chart_platform()),
            profile: profile.values(chart),
            platform,
        }
    }
}

impl Defaults<'_> {
    fn values(self) -> Value {
        let mut values = self.profile.cloned().unwrap_or_else(|| Value::Object(Map::new()));
        if let Some(profile) = self.chart_profile {
            set(&mut values, "profile", profile);
        }
        if let Some(platform) = self.chart_platform {
            set(&mut values, "global.platform", platform);
        }
        for platform_values in self.platform.values(self.chart) {
            merge(&mut values, platform_values.clone());
        }
        values
    }
}

/// Keys that charts only read at the top level of their values.
const TOP_LEVEL_ONLY: [&str; 2] = ["global", "profile"];

/// Copies all values below `key`. The charts of istiod and cni merge their built-in profiles over all other values,
/// except for values below that key.
fn override_chart_profiles(values: &mut Value, key: &str) {
    if get(values, "profile").or_else(|| get(values, "global.platform")).is_none() {
        return;
    }
    let copy: Map<String, Value> = values
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !TOP_LEVEL_ONLY.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    set(values, key, Value::Object(copy));
}

/// Computes the values of the base chart.
#[must_use]
pub fn base(spec: &MeshInstallationSpec, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.values();
    set(&mut values, "global.istioNamespace", spec.namespace.as_str());
    image_pull_secrets(spec, &mut values, "global.imagePullSecrets");
    if let Some(revision) = &spec.revision {
        // If it is set, the chart renders the webhook that validates configuration without a revision, which belongs to
        // the tag `default`.
        let is_default = spec.tags.iter().any(|tag| tag.name == DEFAULT);
        set(&mut values, "defaultRevision", if is_default { revision.as_str() } else { "" });
    }
    merge(&mut values, Value::Object(spec.values.base.0.clone()));
    values
}

/// Computes the values of the istiod chart.
#[must_use]
pub fn istiod(spec: &MeshInstallationSpec, components: &NodeComponents, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.values();
    set(&mut values, "global.istioNamespace", spec.namespace.as_str());
    images(spec, &mut values);
    revision(spec, &mut values);
    if !spec.tags.is_empty() {
        let tags: BTreeSet<&str> = spec.tags.iter().map(|tag| tag.name.as_str()).collect();
        set(&mut values, "revisionTags", json!(tags));
    }
    control_plane(spec, &mut values);
    configure_node_components(spec, components, &mut values);
    injector(spec, &mut values);
    proxy(spec, &mut values);
    if !spec.mesh_config.is_empty() {
        set(&mut values, "meshConfig", Value::Object(spec.mesh_config.0.clone()));
    }
    merge(&mut values, Value::Object(spec.values.istiod.0.clone()));
    provide_tracing(spec, &mut values);
    unquotable_environment(spec, &mut values);
    override_chart_profiles(&mut values, "pilot");
    values
}

/// Sets the revision. In the charts, the default revision is the empty string, which is their default.
fn revision(spec: &MeshInstallationSpec, values: &mut Value) {
    if let Some(revision) = &spec.revision {
        set(values, "revision", revision.as_str());
    }
}

/// Moves variables that the chart can't quote from `env`, whose values it writes between quotes without escaping, to
/// the list `envVarFrom`, which it renders as YAML. This runs after the user's values are merged, which may set that
/// list too.
fn unquotable_environment(spec: &MeshInstallationSpec, values: &mut Value) {
    let unquotable = spec.control_plane.env.iter().filter(|variable| !survives_double_quotes(&variable.value));
    let unquotable: Vec<Value> = unquotable.map(|variable| json!(variable)).collect();
    if unquotable.is_empty() {
        return;
    }
    let user_values = get(values, "envVarFrom").and_then(Value::as_array).cloned().unwrap_or_default();
    set(values, "envVarFrom", Value::Array(user_values.into_iter().chain(unquotable).collect()));
}

/// Configures the control plane for cni and ztunnel.
fn configure_node_components(spec: &MeshInstallationSpec, components: &NodeComponents, values: &mut Value) {
    if spec.cni.mode != ComponentMode::Profile || components.cni.is_some() {
        // With the plugin, injected pods don't need istio-init.
        set(values, "cni.enabled", components.cni.is_some());
    }
    if let Some(namespace) = components.cni.as_ref().filter(|namespace| **namespace != spec.namespace) {
        set(values, "taint.namespace", namespace.as_str());
    }
    if let Some(namespace) = &components.ztunnel {
        set(values, "env", json!({AMBIENT: "true"}));
        set(values, "meshConfig.defaultConfig.proxyMetadata.ISTIO_META_ENABLE_HBONE", "true");
        set(values, "trustedZtunnelNamespace", namespace.as_str());
    }
}

/// Computes the values of the cni chart.
#[must_use]
pub fn cni(spec: &MeshInstallationSpec, components: &NodeComponents, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.values();
    images(spec, &mut values);
    resources(&spec.cni.resources, &mut values, "resources");
    revision(spec, &mut values);
    set(&mut values, "ambient.enabled", components.ztunnel.is_some());
    merge(&mut values, Value::Object(spec.values.cni.0.clone()));
    override_chart_profiles(&mut values, "cni");
    values
}

/// Computes the values of the ztunnel chart, which reads values below `global` as its own.
#[must_use]
pub fn ztunnel(spec: &MeshInstallationSpec, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.values();
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
    image_pull_secrets(spec, values, "global.imagePullSecrets");
}

/// The charts' `global.imagePullSecrets` is a list of names.
fn image_pull_secrets(spec: &MeshInstallationSpec, values: &mut Value, path: &str) {
    if !spec.images.image_pull_secrets.is_empty() {
        let names: Vec<&str> = spec.images.image_pull_secrets.iter().map(|secret| secret.name.as_str()).collect();
        set(values, path, json!(names));
    }
}

fn control_plane(spec: &MeshInstallationSpec, values: &mut Value) {
    let wanted = &spec.control_plane;
    if let Some(replicas) = wanted.replicas {
        set(values, "autoscaleEnabled", false);
        set(values, "replicaCount", replicas);
    }
    if let Some(Autoscaling { min_replicas, max_replicas, target_cpu }) = &wanted.autoscaling {
        set(values, "autoscaleEnabled", true);
        set(values, "autoscaleMin", *min_replicas);
        set(values, "autoscaleMax", *max_replicas);
        set(values, "cpu.targetAverageUtilization", *target_cpu);
    }
    resources(&wanted.resources, values, "resources");
    for variable in wanted.env.iter().filter(|variable| survives_double_quotes(&variable.value)) {
        // Names may contain dots, so they can't be used in a path.
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

/// The environment variable of istiod that `spec.ztunnel` sets.
pub const AMBIENT: &str = "PILOT_ENABLE_AMBIENT";
/// The environment variable of istiod that `spec.proxy.nativeSidecar` sets.
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

/// Removes leading zeros: charts write quantities without quotes, and YAML parses an integer with a leading zero as
/// octal.
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
    if let Some(wait) = wanted.hold_application_until_proxy_starts {
        set(values, "global.proxy.holdApplicationUntilProxyStarts", wait);
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

/// Computes the values of the gateway chart for one gateway.
#[must_use]
pub fn gateway(spec: &MeshInstallationSpec, gateway: &Gateway, defaults: Defaults<'_>) -> Value {
    let mut values = defaults.values();
    revision(spec, &mut values);
    let service_type = gateway.service_type_on(defaults.platform.gateway_service_type());
    set(&mut values, "service.type", service_type.as_str());
    if let Some(policy) = spec.images.pull_policy {
        set(&mut values, "imagePullPolicy", policy.as_str());
    }
    if !spec.images.image_pull_secrets.is_empty() {
        set(&mut values, "imagePullSecrets", json!(spec.images.image_pull_secrets));
    }
    service(gateway, &mut values);
    if let Some(replicas) = gateway.replicas {
        set(&mut values, "autoscaling.enabled", false);
        set(&mut values, "replicaCount", replicas);
    }
    if let Some(Autoscaling { min_replicas, max_replicas, target_cpu }) = &gateway.autoscaling {
        set(&mut values, "autoscaling.enabled", true);
        set(&mut values, "autoscaling.minReplicas", *min_replicas);
        set(&mut values, "autoscaling.maxReplicas", *max_replicas);
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

/// Name of the port for Envoy's health endpoint.
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
        // Load balancers use the first port for health checks.
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
