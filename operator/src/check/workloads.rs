//! What would keep applications from being meshed, or spoil what the mesh makes of them. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodSpec, Service, ServicePort};
use kube::ResourceExt;

use super::Finding;
use super::cluster::Seen;
use crate::mesh::object::INSTALLATION_LABEL;
use crate::mesh::words::count;

const PORT: &str = "service-port-protocol";
const LABELS: &str = "workload-labels";
const HOST_NETWORK: &str = "host-network";
const PROXY_UID: &str = "proxy-uid";
const BARE_POD: &str = "bare-pod";
/// All of them, for the document.
#[cfg(test)]
pub(super) const CHECKS: [&str; 5] = [PORT, LABELS, HOST_NETWORK, PROXY_UID, BARE_POD];
/// Namespaces that are never injected.
const NEVER: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
/// What Istio reads in the first part of a port's name.
const PROTOCOLS: [&str; 12] =
    ["grpc", "http", "http2", "http_proxy", "https", "hbone", "mongo", "mysql", "redis", "tcp", "tls", "udp"];
/// The one with a dash in it.
const GRPC_WEB: &str = "grpc-web";
/// Of Kubernetes' own names for protocols those that Istio knows.
const APP_PROTOCOLS: [&str; 3] = ["kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss"];
/// User and group of the proxy; what they send is not redirected.
const PROXY: i64 = 1337;
const APP: [&str; 3] = ["app", "app.kubernetes.io/name", "service.istio.io/canonical-name"];
const VERSION: [&str; 3] = ["version", "app.kubernetes.io/version", "service.istio.io/canonical-revision"];

/// What applications consist of.
#[derive(Clone, Debug)]
pub struct Apps {
    /// Namespaces that are labelled to stay out of the mesh.
    pub out: Vec<String>,
    /// Services.
    pub services: Seen<Vec<Service>>,
    /// Deployments.
    pub deployments: Seen<Vec<Deployment>>,
    /// `StatefulSet` objects.
    pub stateful_sets: Seen<Vec<StatefulSet>>,
    /// `DaemonSet` objects.
    pub daemon_sets: Seen<Vec<DaemonSet>>,
    /// Pods.
    pub pods: Seen<Vec<Pod>>,
}

/// What makes pods, or a pod that nothing made.
struct Workload<'a> {
    kind: &'static str,
    place: String,
    labels: BTreeMap<&'a str, &'a str>,
    spec: &'a PodSpec,
}

/// All findings about applications, by namespace and name; those in `without` are left out.
#[must_use]
pub fn judge(apps: &Apps, without: &[String]) -> Vec<Finding> {
    let without = &[without, apps.out.as_slice()].concat();
    let mut findings = Vec::new();
    each(&apps.services, PORT, "Services", &mut findings, |service: &Service| {
        if counts(service, without) { service_finding(service).into_iter().collect() } else { Vec::new() }
    });
    each(&apps.deployments, LABELS, "Deployments", &mut findings, |deployment: &Deployment| {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        workload("Deployment", deployment, template, without)
    });
    each(&apps.stateful_sets, LABELS, "StatefulSets", &mut findings, |set: &StatefulSet| {
        workload("StatefulSet", set, set.spec.as_ref().map(|spec| &spec.template), without)
    });
    each(&apps.daemon_sets, LABELS, "DaemonSets", &mut findings, |set: &DaemonSet| {
        workload("DaemonSet", set, set.spec.as_ref().map(|spec| &spec.template), without)
    });
    each(
        &apps.pods,
        BARE_POD,
        "Pods",
        &mut findings,
        |pod: &Pod| {
            if counts(pod, without) { bare_pod(pod) } else { Vec::new() }
        },
    );
    findings.sort_by(|a, b| place(&a.subject).cmp(place(&b.subject)).then(a.subject.cmp(&b.subject)));
    if findings.is_empty() {
        findings.push(Finding::pass(PORT, "the applications", "nothing keeps them from being meshed"));
    }
    findings
}

/// Of `Kind namespace/name` what comes after the kind.
fn place(subject: &str) -> &str {
    subject.split_once(' ').map_or(subject, |(_, place)| place)
}

fn each<K>(
    seen: &Seen<Vec<K>>,
    check: &'static str,
    what: &str,
    findings: &mut Vec<Finding>,
    judge: impl Fn(&K) -> Vec<Finding>,
) {
    match seen {
        Ok(objects) => findings.extend(objects.iter().flat_map(judge)),
        Err(why) => findings.push(Finding::unknown(check, what, why)),
    }
}

fn counts(object: &impl ResourceExt, without: &[String]) -> bool {
    let namespace = object.namespace().unwrap_or_default();
    !NEVER.contains(&namespace.as_str())
        && !without.contains(&namespace)
        && !object.labels().contains_key(INSTALLATION_LABEL)
}

fn place_of(object: &impl ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn service_finding(service: &Service) -> Option<Finding> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let unclear: Vec<String> = spec.ports.iter().flatten().filter(|port| !says_protocol(port)).map(port_name).collect();
    let first = unclear.first()?.clone();
    let subject = format!("Service {}", place_of(service));
    let reason = format!(
        "{} {} no protocol that Istio knows; it guesses from the first bytes, and takes what it can't guess for plain TCP: \
         {}",
        count(unclear.len(), "port"),
        if unclear.len() == 1 { "names" } else { "name" },
        unclear.join(", ")
    );
    let fix = format!(
        "name ports <protocol>[-<suffix>], such as http-{}, or set appProtocol",
        first.split_whitespace().next().unwrap_or("web")
    );
    Some(Finding::warn(PORT, subject, reason).fix(fix))
}

fn port_name(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{name} ({})", port.port),
        None => port.port.to_string(),
    }
}

fn says_protocol(port: &ServicePort) -> bool {
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
    let Some(template) = template.filter(|_| counts(object, without)) else { return Vec::new() };
    let Some(spec) = &template.spec else { return Vec::new() };
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    let labels = labels.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let workload = Workload { kind, place: place_of(object), labels, spec };
    if is_out(&workload.labels) {
        return Vec::new();
    }
    if workload.spec.host_network == Some(true) {
        // Then it gets no proxy, and the rest doesn't matter.
        return vec![host_network(&workload)];
    }
    missing_labels(&workload).into_iter().chain(proxy_uid(&workload)).collect()
}

/// Somebody said that it shall have no proxy.
fn is_out(labels: &BTreeMap<&str, &str>) -> bool {
    labels.get("sidecar.istio.io/inject") == Some(&"false")
}

fn host_network(workload: &Workload<'_>) -> Finding {
    let subject = format!("{} {}", workload.kind, workload.place);
    Finding::warn(HOST_NETWORK, subject, "its pods use the node's network, and never get a proxy")
        .fix("take hostNetwork out, or live with plain traffic to and from it")
}

fn missing_labels(workload: &Workload<'_>) -> Option<Finding> {
    let has = |keys: [&str; 3]| keys.iter().any(|key| workload.labels.contains_key(key));
    let missing: Vec<&str> = [("app", has(APP)), ("version", has(VERSION))]
        .into_iter()
        .filter(|(_, has)| !has)
        .map(|(key, _)| key)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let subject = format!("{} {}", workload.kind, workload.place);
    let reason = format!(
        "its pods have no label {}: metrics and traces show them under a made-up name, and subsets can't select them",
        missing.join(" and no label ")
    );
    let fix = format!("add {} to spec.template.metadata.labels", missing.join(" and "));
    Some(Finding::warn(LABELS, subject, reason).fix(fix))
}

fn proxy_uid(workload: &Workload<'_>) -> Option<Finding> {
    let spec = workload.spec;
    let pod = spec.security_context.as_ref().map(|context| (context.run_as_user, context.run_as_group));
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let own = containers
        .filter(|container| container.name != "istio-proxy")
        .filter_map(|container| container.security_context.as_ref())
        .map(|context| (context.run_as_user, context.run_as_group));
    let is_proxy = |(user, group): (Option<i64>, Option<i64>)| user == Some(PROXY) || group == Some(PROXY);
    if !pod.into_iter().chain(own).any(is_proxy) {
        return None;
    }
    let subject = format!("{} {}", workload.kind, workload.place);
    let reason = "a container runs as user or group 1337, which is the proxy's: its traffic goes round the mesh";
    Some(Finding::fail(PROXY_UID, subject, reason).fix("run it as another user and group"))
}

fn bare_pod(pod: &Pod) -> Vec<Finding> {
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    let over = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let over = matches!(over, Some("Succeeded" | "Failed"));
    let Some(spec) = pod.spec.as_ref().filter(|_| pod.owner_references().is_empty() && !mirror && !over) else {
        return Vec::new();
    };
    let labels = pod.labels().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let workload = Workload { kind: "Pod", place: place_of(pod), labels, spec };
    if is_out(&workload.labels) {
        return Vec::new();
    }
    if spec.host_network == Some(true) {
        return vec![host_network(&workload)];
    }
    let reason = "nothing makes this pod anew, so it gets a proxy, and every later one, only by hand";
    let bare = Finding::warn(BARE_POD, format!("Pod {}", workload.place), reason)
        .fix("make it part of a Deployment, or delete and create it once the mesh is there");
    std::iter::once(bare).chain(missing_labels(&workload)).chain(proxy_uid(&workload)).collect()
}

#[cfg(test)]
mod tests;
