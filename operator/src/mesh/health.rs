//! Measured health: which components are ready, what blocks Ready, and the gateways' node ports.

mod add_ons;
mod availability;
mod injection;
mod namespaces;
mod node_components;
mod tags;
mod unready;
mod unrendered;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwright_api::conditions::Reason;
use meshwright_api::{
    ComponentStatus, GatewayPortStatus, GatewayStatus, NodePortOrigin, NodePortStatus, PlatformStatus, Protocol,
};
use serde::Serialize;
use serde_json::Value;

use super::kind::Kind;
use super::namespace_rules::{NamespaceObstacle, NamespaceRules};
use super::object::{Component, DesiredObject, ObjectKey};
use super::observed::{ObjectState, ObservedObject, ObservedObjects, ServiceState, WorkloadStatus, namespace_labels};
use super::problem::Problem;
use super::text::pluralize;
use super::validated::ValidatedSpec;
use crate::nodeports::{HEALTH_CHECK, PortKey};

pub use availability::{control_plane_is_available, is_available};
pub use injection::{Injection, injection_blocker};
pub use unready::{UnreadyWorkload, unready_workloads};

/// Measured health of an installation.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Status of each component, for `status.components`.
    pub components: Vec<ComponentStatus>,
    /// Becomes `status.gateways`, without the addresses, which [`super::gateway_addresses`] fills in.
    pub gateways: Vec<GatewayStatus>,
    /// Node ports that the gateways use.
    pub node_ports: Vec<NodePortStatus>,
    /// Why the mesh is not Ready, the most severe first.
    pub blockers: Vec<Blocker>,
    /// Why add-ons are not ready, by name. They don't block Ready.
    pub unready_add_ons: BTreeMap<String, String>,
    /// The control plane is available, even while a newer spec is rolled out.
    pub available: bool,
    /// Becomes `status.platform`; its warnings are in `warnings`.
    pub platform: PlatformStatus,
    /// The previous control plane, retained while proxies use it.
    pub retiring: Option<RetiringRevision>,
    /// What prevents applications from joining the mesh; `None` until it has been checked.
    pub warnings: Option<Vec<String>>,
    /// Keys of the spec that have no effect.
    pub unknown_keys: Vec<Problem>,
    /// Labels of namespaces that keep components from working, whether they block Ready or not.
    pub obstacles: Vec<NamespaceObstacle>,
}

/// The previous control plane, retained while proxies use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiringRevision {
    /// Name of the revision.
    pub revision: String,
    /// How many pods use it; `None` while unknown.
    pub pods: Option<usize>,
}

/// Something that blocks Ready: the reason and the message of the condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// Becomes the condition's reason.
    pub reason: Reason,
    /// Becomes the condition's message.
    pub message: String,
}

impl Health {
    /// Adds the reason why a gateway's pods don't start, where the Deployment's status lacks it.
    pub fn add_gateway_problem(&mut self, gateway: &str, problem: &str) {
        if let Some(component) = self.components.iter_mut().find(|component| component.name == gateway) {
            component.message = Some(problem.to_owned());
        }
        let message = format!("gateway {gateway}: {problem}");
        self.blockers.insert(0, Blocker { reason: Reason::WaitingForRollout, message });
    }

    /// Adds the reason why an object of an add-on could not be written.
    pub fn add_add_on_failure(&mut self, add_on: &str, failure: &str) {
        if let Some(component) = self.components.iter_mut().find(|component| component.name == add_on) {
            component.message = Some(failure.to_owned());
        }
        self.unready_add_ons.insert(add_on.to_owned(), format!("{add_on}: {failure}"));
    }

    /// Nothing blocks Ready except a denied injection check or labels of a namespace, which no revision changes.
    #[must_use]
    pub fn is_ready_but_for_check(&self) -> bool {
        let is_external = |reason| matches!(reason, Reason::InjectionCheckDenied | Reason::NamespaceExcluded);
        self.blockers.iter().all(|blocker| is_external(blocker.reason))
    }

    /// Nothing blocks Ready.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.blockers.is_empty()
    }
}

/// Measures the health of an installation from observed objects.
#[must_use]
pub fn measure(
    validated: &ValidatedSpec,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    injection: &Injection,
) -> Health {
    let mut blockers = Vec::new();
    let version = validated.owner.release.to_string();
    let mut components = vec![
        base(validated, desired, live, &version, &mut blockers),
        istiod(validated, desired, live, &version, &mut blockers),
    ];
    if let Some(istiod) = components.last_mut().filter(|istiod| istiod.message.is_none()) {
        istiod.message = tags::deactivated(desired, live);
    }
    components.extend(tags::measure(validated, desired, live, &version, &mut blockers));
    let available = is_available(desired, live, injection);
    blockers.extend(injection_blocker(injection));
    let obstacles = NamespaceRules::of(validated, desired).obstacles(|namespace| namespace_labels(live, namespace));
    blockers.extend(namespaces::blockers(&obstacles, &unready_workloads(desired, live)));
    components.extend(node_components::measure(validated, desired, live, &version, &mut blockers));
    let mut gateways = Vec::new();
    let mut node_ports = Vec::new();
    for (name, namespace) in validated.gateways() {
        let key = key(Kind::Deployment, namespace, name);
        let workload = workload(live, &key);
        components.push(component(name, namespace, &release_of(live, &key, &version), workload.as_ref()));
        let ready = workload.as_ref().is_some_and(|workload| is_workload_ready(desired, &key, workload));
        if !ready {
            blockers.push(waiting_for(name, workload.as_ref()));
        }
        let service = service(live, namespace, name);
        node_ports.extend(used_ports(validated, namespace, name, service));
        let gateway = gateway(name, namespace, ready, service);
        if gateway.message.is_some() && validated.addresses_required.contains(name) {
            let message = format!("gateway {name}: its load balancer has no address yet");
            blockers.push(Blocker { reason: Reason::WaitingForAddress, message });
        }
        gateways.push(gateway);
    }
    node_ports.sort_by_key(|used| (used.port, used.protocol));
    let (add_ons, unready_add_ons) = add_ons::measure(validated, desired, live);
    components.extend(add_ons);
    let platform = validated.platform.clone();
    Health {
        components,
        gateways,
        node_ports,
        blockers,
        unready_add_ons,
        available,
        platform,
        warnings: None,
        unknown_keys: Vec::new(),
        retiring: None,
        obstacles,
    }
}

/// The minimum of replicas of the workload's HorizontalPodAutoscaler; `None` without one.
#[must_use]
pub fn min_replicas(desired: &[Arc<DesiredObject>], workload: &ObjectKey) -> Option<i32> {
    let scaler = ObjectKey { kind: Kind::HorizontalPodAutoscaler, ..workload.clone() };
    let scaler = desired.iter().find(|d| d.key == scaler)?.value();
    Some(scaler.pointer("/spec/minReplicas").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(1))
}

/// Whether a workload is rolled out and available, or scaled to zero as desired.
#[must_use]
pub fn is_workload_ready(desired: &[Arc<DesiredObject>], key: &ObjectKey, workload: &WorkloadStatus) -> bool {
    if key.kind == Kind::DaemonSet {
        return workload.complete();
    }
    workload.is_up(min_replicas(desired, key))
        || (workload.observed && workload.total == 0 && wants_no_replicas(desired, key))
}

/// The release of the live workload, else the desired one.
fn release_of(live: &ObservedObjects, key: &ObjectKey, version: &str) -> String {
    let found = live.get(key).and_then(|live| live.ownership.release.as_ref());
    found.map_or_else(|| version.to_owned(), ToString::to_string)
}

fn wants_no_replicas(desired: &[Arc<DesiredObject>], workload: &ObjectKey) -> bool {
    let desired_object = desired.iter().find(|d| d.key == *workload).map(|d| d.value());
    desired_object
        .is_some_and(|desired_object| desired_object.pointer("/spec/replicas").and_then(Value::as_i64) == Some(0))
}

fn key(kind: Kind, namespace: &str, name: &str) -> ObjectKey {
    ObjectKey { kind, namespace: Some(namespace.to_owned()), name: name.to_owned() }
}

fn workload(live: &ObservedObjects, key: &ObjectKey) -> Option<WorkloadStatus> {
    match live.get(key)?.state.clone() {
        ObjectState::Workload(workload) => Some(workload),
        _ => None,
    }
}

/// State of a live Service.
pub(super) fn service<'a>(live: &'a ObservedObjects, namespace: &str, name: &str) -> Option<&'a ServiceState> {
    match &live.get(&key(Kind::Service, namespace, name))?.state {
        ObjectState::Service(service) => Some(service),
        _ => None,
    }
}

/// Rollout status of the control plane's Deployment.
fn control_plane(desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> Option<WorkloadStatus> {
    workload(live, control_plane_key(desired)?)
}

fn control_plane_key(desired: &[Arc<DesiredObject>]) -> Option<&ObjectKey> {
    desired.iter().find(|d| d.key.kind == Kind::Deployment && d.component == Component::Istiod).map(|d| &d.key)
}

/// Observed istiod objects that are not desired: those of other control planes of the installation.
pub fn other_control_planes<'l>(
    desired: &'l [Arc<DesiredObject>],
    live: &'l ObservedObjects,
) -> impl Iterator<Item = &'l ObservedObject> {
    let is_desired = |key: &ObjectKey| desired.iter().any(|desired| desired.key == *key);
    let istiods = live.iter().filter(|(_, live)| live.ownership.component == Some(Component::Istiod));
    istiods.filter(move |(key, _)| !is_desired(key)).map(|(_, live)| live)
}

fn component(name: &str, namespace: &str, version: &str, workload: Option<&WorkloadStatus>) -> ComponentStatus {
    ComponentStatus {
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
        version: Some(version.to_owned()),
        ready: workload.map_or(0, WorkloadStatus::ready),
        desired: workload.map_or(1, |w| w.desired),
        message: workload.and_then(|w| w.rollout_error.clone()),
    }
}

/// The blocker for a workload that is not ready.
#[must_use]
pub fn waiting_for(name: &str, workload: Option<&WorkloadStatus>) -> Blocker {
    let message = match workload {
        None => format!("{name} is not created yet"),
        Some(WorkloadStatus { rollout_error: Some(error), .. }) => format!("{name}: {error}"),
        Some(w) if !w.observed => format!("{name}: its controller has not observed the latest generation yet"),
        Some(w) if w.desired == 0 => format!("{name}: it is scaled to zero replicas"),
        Some(w) if w.ready() >= w.desired => {
            format!("{name}: {} of the old template not deleted yet", pods(w.old()))
        }
        Some(w) => {
            let ready = match w.desired {
                1 => "its pod is not ready".to_owned(),
                desired => format!("{} of {desired} pods are ready", w.ready()),
            };
            let old = match w.old() {
                0 => String::new(),
                old => format!("; {} of the old template left", pods(old)),
            };
            format!("{name}: {ready}{old}")
        }
    };
    Blocker { reason: Reason::WaitingForRollout, message }
}

fn pods(number: i32) -> String {
    pluralize(usize::try_from(number).unwrap_or_default(), "pod")
}

fn base(
    validated: &ValidatedSpec,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    version: &str,
    blockers: &mut Vec<Blocker>,
) -> ComponentStatus {
    let crds: Vec<&ObjectKey> =
        desired.iter().map(|d| &d.key).filter(|key| key.kind == Kind::CustomResourceDefinition).collect();
    let pending: Vec<&str> = crds
        .iter()
        .filter(|key| live.get(key).is_none_or(|l| l.state != ObjectState::Crd { established: true }))
        .map(|key| key.name.as_str())
        .collect();
    if !pending.is_empty() {
        blockers.push(Blocker {
            reason: Reason::WaitingForCRDs,
            message: format!("{} of {} CRDs are not established yet", pending.len(), crds.len()),
        });
    }
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    ComponentStatus {
        name: "base".into(),
        namespace: Some(validated.namespace.clone()),
        version: Some(version.to_owned()),
        ready: count(crds.len() - pending.len()),
        desired: count(crds.len()),
        message: None,
    }
}

fn istiod(
    validated: &ValidatedSpec,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    version: &str,
    blockers: &mut Vec<Blocker>,
) -> ComponentStatus {
    let name = validated.revision.object_name("istiod");
    let workload = control_plane(desired, live);
    let min_replicas = min_replicas(desired, &key(Kind::Deployment, &validated.namespace, &name));
    if !workload.as_ref().is_some_and(|workload| workload.is_up(min_replicas)) {
        blockers.push(waiting_for(&name, workload.as_ref()));
    }
    for desired_object in desired {
        let Some(found) = live.get(&desired_object.key) else { continue };
        if let ObjectState::Webhooks { without_ca, .. } = &found.state
            && !without_ca.is_empty()
        {
            blockers.push(Blocker {
                reason: Reason::WaitingForCABundle,
                message: format!(
                    "{}: istiod has not set the caBundle of {}",
                    desired_object.key,
                    without_ca.join(", ")
                ),
            });
        }
    }
    let deployment = control_plane_key(desired);
    let version = deployment.map_or_else(|| version.to_owned(), |key| release_of(live, key, version));
    component(&name, &validated.namespace, &version, workload.as_ref())
}

fn gateway(name: &str, namespace: &str, ready: bool, service: Option<&ServiceState>) -> GatewayStatus {
    GatewayStatus {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ready,
        message: service.filter(|s| s.awaits_address()).map(|_| "the load balancer has no address yet".to_owned()),
        addresses: Vec::new(),
        address_type: None,
        ports: service
            .into_iter()
            .flat_map(|s| &s.ports)
            .map(|port| GatewayPortStatus {
                name: port.name.clone(),
                port: port.port,
                node_port: port.node_port,
                protocol: protocol(&port.protocol),
            })
            .collect(),
    }
}

fn used_ports(
    validated: &ValidatedSpec,
    namespace: &str,
    name: &str,
    service: Option<&ServiceState>,
) -> Vec<NodePortStatus> {
    let used = |port_name: &str, protocol: Protocol, port: i32| {
        let key =
            PortKey { namespace: namespace.to_owned(), service: name.to_owned(), port_name: port_name.to_owned() };
        let pinned = validated.node_ports.get(&key).filter(|(pinned, _)| i32::from(*pinned) == port);
        let from = pinned.map_or(NodePortOrigin::Cluster, |(_, origin)| origin.into());
        let PortKey { namespace, service, port_name } = key;
        NodePortStatus { port, protocol, namespace, service, port_name, from }
    };
    let ports = service.into_iter().flat_map(|s| &s.ports);
    let mut all: Vec<NodePortStatus> =
        ports.filter_map(|port| Some(used(&port.name, protocol(&port.protocol), port.node_port?))).collect();
    let check = service.and_then(|s| s.health_check_node_port);
    all.extend(check.map(|port| used(HEALTH_CHECK, Protocol::Tcp, port)));
    all
}

fn protocol(name: &str) -> Protocol {
    if name == "UDP" { Protocol::Udp } else { Protocol::Tcp }
}

#[cfg(test)]
mod tests;
