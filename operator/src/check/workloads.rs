//! Checks of application workloads for settings that don't work in a mesh. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodSpec, Service, ServicePort};
use kube::ResourceExt;

use super::Finding;
use super::snapshot::ReadResult;
use crate::mesh::object::INSTALLATION_LABEL;
use crate::mesh::text::pluralize;

const PORT_PROTOCOL: &str = "service-port-protocol";
const LABELS: &str = "workload-labels";
const HOST_NETWORK: &str = "host-network";
const PROXY_UID: &str = "proxy-uid";
const BARE_POD: &str = "bare-pod";
/// All check IDs, for the documentation test.
#[cfg(test)]
pub(super) const CHECKS: [&str; 5] = [PORT_PROTOCOL, LABELS, HOST_NETWORK, PROXY_UID, BARE_POD];
/// Namespaces without sidecar injection.
const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
/// Protocols that Istio recognizes as the prefix of a port name.
const PROTOCOLS: [&str; 12] =
    ["grpc", "http", "http2", "http_proxy", "https", "hbone", "mongo", "mysql", "redis", "tcp", "tls", "udp"];
/// The only protocol name with a dash.
const GRPC_WEB: &str = "grpc-web";
/// Kubernetes' own `appProtocol` values that Istio supports.
const APP_PROTOCOLS: [&str; 3] = ["kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss"];
/// User and group ID of the sidecar, whose traffic isn't redirected.
const PROXY_ID: i64 = 1337;
const APP: [&str; 3] = ["app", "app.kubernetes.io/name", "service.istio.io/canonical-name"];
const VERSION: [&str; 3] = ["version", "app.kubernetes.io/version", "service.istio.io/canonical-revision"];

/// Application workloads and Services.
#[derive(Clone, Debug)]
pub struct Workloads {
    /// Namespaces with injection disabled.
    pub excluded: Vec<String>,
    /// Services of the applications.
    pub services: ReadResult<Vec<Service>>,
    /// Deployments of the applications.
    pub deployments: ReadResult<Vec<Deployment>>,
    /// `StatefulSet` objects of the applications.
    pub stateful_sets: ReadResult<Vec<StatefulSet>>,
    /// `DaemonSet` objects of the applications.
    pub daemon_sets: ReadResult<Vec<DaemonSet>>,
    /// Pods of the applications.
    pub pods: ReadResult<Vec<Pod>>,
}

/// A pod template of a workload, or a bare pod.
struct CheckedWorkload<'a> {
    kind: &'static str,
    name: String,
    labels: BTreeMap<&'a str, &'a str>,
    spec: &'a PodSpec,
}

/// Runs all workload checks, sorted by namespace and name. `without`: namespaces to skip.
#[must_use]
pub fn evaluate(workloads: &Workloads, without: &[String]) -> Vec<Finding> {
    let without = &[without, workloads.excluded.as_slice()].concat();
    let mut findings = Vec::new();
    each(&workloads.services, PORT_PROTOCOL, "Services", &mut findings, |service: &Service| {
        if is_included(service, without) { service_finding(service).into_iter().collect() } else { Vec::new() }
    });
    each(&workloads.deployments, LABELS, "Deployments", &mut findings, |deployment: &Deployment| {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        workload("Deployment", deployment, template, without)
    });
    each(&workloads.stateful_sets, LABELS, "StatefulSets", &mut findings, |set: &StatefulSet| {
        workload("StatefulSet", set, set.spec.as_ref().map(|spec| &spec.template), without)
    });
    each(&workloads.daemon_sets, LABELS, "DaemonSets", &mut findings, |set: &DaemonSet| {
        workload("DaemonSet", set, set.spec.as_ref().map(|spec| &spec.template), without)
    });
    each(&workloads.pods, BARE_POD, "Pods", &mut findings, |pod: &Pod| {
        if is_included(pod, without) { bare_pod(pod) } else { Vec::new() }
    });
    findings.sort_by(|a, b| name_part(&a.subject).cmp(name_part(&b.subject)).then(a.subject.cmp(&b.subject)));
    if findings.is_empty() {
        findings.push(Finding::pass(PORT_PROTOCOL, "workloads", "no settings that conflict with the mesh"));
    }
    findings
}

/// The part after the kind of `Kind namespace/name`.
fn name_part(subject: &str) -> &str {
    subject.split_once(' ').map_or(subject, |(_, name)| name)
}

fn each<K>(
    result: &ReadResult<Vec<K>>,
    check: &'static str,
    what: &str,
    findings: &mut Vec<Finding>,
    evaluate: impl Fn(&K) -> Vec<Finding>,
) {
    match result {
        Ok(objects) => findings.extend(objects.iter().flat_map(evaluate)),
        Err(error) => findings.push(Finding::unknown(check, what, error)),
    }
}

fn is_included(object: &impl ResourceExt, without: &[String]) -> bool {
    let namespace = object.namespace().unwrap_or_default();
    !SYSTEM_NAMESPACES.contains(&namespace.as_str())
        && !without.contains(&namespace)
        && !object.labels().contains_key(INSTALLATION_LABEL)
}

fn qualified_name(object: &impl ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn service_finding(service: &Service) -> Option<Finding> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let unnamed: Vec<String> = spec.ports.iter().flatten().filter(|port| !has_protocol(port)).map(port_name).collect();
    let first = unnamed.first()?.clone();
    let subject = format!("Service {}", qualified_name(service));
    let reason = format!(
        "{} {} no protocol that Istio recognizes; Istio then detects HTTP or treats the traffic as plain TCP: {}",
        pluralize(unnamed.len(), "port"),
        if unnamed.len() == 1 { "names" } else { "name" },
        unnamed.join(", ")
    );
    let fix = format!(
        "name ports <protocol>[-<suffix>], such as http-{}, or set appProtocol",
        first.split_whitespace().next().unwrap_or("web")
    );
    Some(Finding::warn(PORT_PROTOCOL, subject, reason).fix(fix))
}

fn port_name(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{name} ({})", port.port),
        None => port.port.to_string(),
    }
}

fn has_protocol(port: &ServicePort) -> bool {
    if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return true;
    }
    let known = |word: &str| PROTOCOLS.contains(&word) || word == GRPC_WEB;
    if let Some(protocol) = &port.app_protocol {
        let protocol = protocol.to_lowercase();
        return known(&protocol) || APP_PROTOCOLS.contains(&protocol.as_str());
    }
    let name = port.name.as_deref().unwrap_or_default().to_lowercase();
    known(&name) || name.starts_with(&format!("{GRPC_WEB}-")) || name.split('-').next().is_some_and(known)
}

fn workload(
    kind: &'static str,
    object: &impl ResourceExt,
    template: Option<&k8s_openapi::api::core::v1::PodTemplateSpec>,
    without: &[String],
) -> Vec<Finding> {
    let Some(template) = template.filter(|_| is_included(object, without)) else { return Vec::new() };
    let Some(spec) = &template.spec else { return Vec::new() };
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    let labels = labels.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let workload = CheckedWorkload { kind, name: qualified_name(object), labels, spec };
    if has_injection_disabled(&workload.labels) {
        return Vec::new();
    }
    if workload.spec.host_network == Some(true) {
        // Pods in the host network get no sidecar, so the other checks don't matter.
        return vec![host_network(&workload)];
    }
    missing_labels(&workload).into_iter().chain(proxy_uid(&workload)).collect()
}

/// Whether injection is disabled for the pods.
fn has_injection_disabled(labels: &BTreeMap<&str, &str>) -> bool {
    labels.get("sidecar.istio.io/inject") == Some(&"false")
}

fn host_network(workload: &CheckedWorkload<'_>) -> Finding {
    let subject = format!("{} {}", workload.kind, workload.name);
    Finding::warn(HOST_NETWORK, subject, "its pods use the host network and never get a sidecar")
        .fix("remove hostNetwork, or accept plain-text traffic to and from these pods")
}

fn missing_labels(workload: &CheckedWorkload<'_>) -> Option<Finding> {
    let has = |keys: [&str; 3]| keys.iter().any(|key| workload.labels.contains_key(key));
    let missing: Vec<&str> = [("app", has(APP)), ("version", has(VERSION))]
        .into_iter()
        .filter(|(_, has)| !has)
        .map(|(key, _)| key)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let subject = format!("{} {}", workload.kind, workload.name);
    let reason = format!(
        "its pods have no label {}: metrics and traces show a derived name, and subsets can't select them",
        missing.join(" and no label ")
    );
    let fix = format!("add {} to spec.template.metadata.labels", missing.join(" and "));
    Some(Finding::warn(LABELS, subject, reason).fix(fix))
}

fn proxy_uid(workload: &CheckedWorkload<'_>) -> Option<Finding> {
    let spec = workload.spec;
    let pod = spec.security_context.as_ref().map(|context| (context.run_as_user, context.run_as_group));
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let own = containers
        .filter(|container| container.name != "istio-proxy")
        .filter_map(|container| container.security_context.as_ref())
        .map(|context| (context.run_as_user, context.run_as_group));
    let is_proxy = |(user, group): (Option<i64>, Option<i64>)| user == Some(PROXY_ID) || group == Some(PROXY_ID);
    if !pod.into_iter().chain(own).any(is_proxy) {
        return None;
    }
    let subject = format!("{} {}", workload.kind, workload.name);
    let reason = "a container runs as user or group 1337, which is the sidecar's ID: its traffic bypasses the mesh";
    Some(Finding::fail(PROXY_UID, subject, reason).fix("use another runAsUser and runAsGroup"))
}

fn bare_pod(pod: &Pod) -> Vec<Finding> {
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    let finished = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let finished = matches!(finished, Some("Succeeded" | "Failed"));
    let Some(spec) = pod.spec.as_ref().filter(|_| pod.owner_references().is_empty() && !mirror && !finished) else {
        return Vec::new();
    };
    let labels = pod.labels().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let workload = CheckedWorkload { kind: "Pod", name: qualified_name(pod), labels, spec };
    if has_injection_disabled(&workload.labels) {
        return Vec::new();
    }
    if spec.host_network == Some(true) {
        return vec![host_network(&workload)];
    }
    let reason = "no controller recreates this pod, so it has to be recreated manually to get or update its sidecar";
    let bare = Finding::warn(BARE_POD, format!("Pod {}", workload.name), reason)
        .fix("use a Deployment, or recreate the pod after the installation of the mesh");
    std::iter::once(bare).chain(missing_labels(&workload)).chain(proxy_uid(&workload)).collect()
}

#[cfg(test)]
mod tests;
