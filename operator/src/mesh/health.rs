//! Measured health: what of an applied mesh serves, what is in the way, and what the gateways are reached by.

mod add_ons;
mod injection;
mod node_agents;
mod tags;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwright_api::conditions::Reason;
use meshwright_api::{
    ComponentStatus, GatewayPortStatus, GatewayStatus, NodePortOrigin, NodePortStatus, PlatformStatus, Protocol,
};
use serde::Serialize;
use serde_json::Value;

use super::kind::Kind;
use super::live::{Facts, Live, LiveObjects, ServiceFacts, Workload};
use super::object::{Component, Desired, ObjectKey};
use super::probe::Outcome;
use super::validated::Validated;
use super::words::count;
use crate::nodeports::{HEALTH_CHECK, Slot};

pub use injection::{Injection, injection_blocker};

/// Health of an installation.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Per component.
    pub components: Vec<ComponentStatus>,
    /// Per gateway; how each is reached is for [`super::reach`] to fill in.
    pub gateways: Vec<GatewayStatus>,
    /// Node ports that the gateways hold.
    pub node_ports: Vec<NodePortStatus>,
    /// What is in the way of Ready, worst first.
    pub blockers: Vec<Blocker>,
    /// What add-ons wait for, by name, which is in nothing's way.
    pub lagging: BTreeMap<String, String>,
    /// The control plane serves, whatever becomes of a newer spec.
    pub available: bool,
    /// The platform; its warnings stand in `warnings`.
    pub platform: PlatformStatus,
    /// A control plane that ran before, and is kept.
    pub kept: Option<KeptRevision>,
    /// What keeps applications from being meshed; `None` while nobody has looked.
    pub warnings: Option<Vec<String>>,
}

/// A control plane that ran before, and is kept while proxies use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRevision {
    /// Its revision.
    pub revision: String,
    /// How many pods use it; `None` while nobody knows.
    pub pods: Option<usize>,
}

/// Something in the way of Ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// As a reason.
    pub reason: Reason,
    /// In words.
    pub message: String,
}

impl Health {
    /// Takes in why a gateway can't come up, where its own Deployment doesn't tell.
    pub fn complain(&mut self, gateway: &str, complaint: &str) {
        if let Some(component) = self.components.iter_mut().find(|component| component.name == gateway) {
            component.message = Some(complaint.to_owned());
        }
        let message = format!("gateway {gateway}: {complaint}");
        self.blockers.insert(0, Blocker { reason: Reason::WaitingForRollout, message });
    }

    /// Takes in why an object of an add-on could not be written.
    pub fn excuse(&mut self, add_on: &str, failure: &str) {
        if let Some(component) = self.components.iter_mut().find(|component| component.name == add_on) {
            component.message = Some(failure.to_owned());
        }
        self.lagging.insert(add_on.to_owned(), format!("{add_on}: {failure}"));
    }

    /// Nothing is in the way but what others refuse the test pod for.
    #[must_use]
    pub fn is_as_good_as_ready(&self) -> bool {
        self.blockers.iter().all(|blocker| blocker.reason == Reason::ProbeRefused)
    }

    /// Nothing is in the way.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.blockers.is_empty()
    }
}

/// Measures an installation.
#[must_use]
pub fn measure(validated: &Validated, desired: &[Arc<Desired>], live: &LiveObjects, injection: &Injection) -> Health {
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
    let injects = !matches!(
        injection,
        Injection::Seen(Outcome::WebhookFailed(_) | Outcome::InjectorRefuses { .. } | Outcome::NotInjected)
    );
    let available = another_control_plane_serves(desired, live) || (has_control_plane(desired, live) && injects);
    blockers.extend(injection_blocker(injection));
    components.extend(node_agents::measure(validated, desired, live, &version, &mut blockers));
    let mut gateways = Vec::new();
    let mut node_ports = Vec::new();
    for (name, namespace) in validated.gateways() {
        let key = key(Kind::Deployment, namespace, name);
        let workload = workload(live, &key);
        components.push(component(name, namespace, &release_of(live, &key, &version), workload.as_ref()));
        let ready = workload.as_ref().is_some_and(|workload| serves(desired, &key, workload));
        if !ready {
            blockers.push(waiting_for(name, workload.as_ref()));
        }
        let service = service(live, namespace, name);
        node_ports.extend(held_ports(validated, namespace, name, service));
        let gateway = gateway(name, namespace, ready, service);
        if gateway.message.is_some() && validated.addresses_required.contains(name) {
            let message = format!("gateway {name}: its load balancer has no address yet");
            blockers.push(Blocker { reason: Reason::WaitingForAddress, message });
        }
        gateways.push(gateway);
    }
    node_ports.sort_by_key(|held| (held.port, held.protocol));
    let (add_ons, lagging) = add_ons::measure(validated, desired, live);
    components.extend(add_ons);
    let platform = validated.platform.clone();
    Health { components, gateways, node_ports, blockers, lagging, available, platform, warnings: None, kept: None }
}

/// How many pods an autoscaler of ours leaves at least; `None` where none chooses their number.
#[must_use]
pub fn minimum(desired: &[Arc<Desired>], workload: &ObjectKey) -> Option<i32> {
    let scaler = ObjectKey { kind: Kind::HorizontalPodAutoscaler, ..workload.clone() };
    let scaler = desired.iter().find(|d| d.key == scaler)?.value();
    Some(scaler.pointer("/spec/minReplicas").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(1))
}

/// Whether a workload is rolled out and serves, or serves no one as it is asked to.
#[must_use]
pub fn serves(desired: &[Arc<Desired>], key: &ObjectKey, workload: &Workload) -> bool {
    if key.kind == Kind::DaemonSet {
        return workload.complete();
    }
    workload.is_up(minimum(desired, key)) || (workload.observed && workload.total == 0 && asks_for_none(desired, key))
}

/// The release that a live workload was made from, or else the one that it is to be made from.
fn release_of(live: &LiveObjects, key: &ObjectKey, version: &str) -> String {
    let found = live.get(key).and_then(|live| live.marks.release.as_ref());
    found.map_or_else(|| version.to_owned(), ToString::to_string)
}

fn asks_for_none(desired: &[Arc<Desired>], workload: &ObjectKey) -> bool {
    let wanted = desired.iter().find(|d| d.key == *workload).map(|d| d.value());
    wanted.is_some_and(|wanted| wanted.pointer("/spec/replicas").and_then(Value::as_i64) == Some(0))
}

fn key(kind: Kind, namespace: &str, name: &str) -> ObjectKey {
    ObjectKey { kind, namespace: Some(namespace.to_owned()), name: name.to_owned() }
}

fn workload(live: &LiveObjects, key: &ObjectKey) -> Option<Workload> {
    match live.get(key)?.facts.clone() {
        Facts::Workload(workload) => Some(workload),
        _ => None,
    }
}

/// What is known of a live Service.
pub(super) fn service<'a>(live: &'a LiveObjects, namespace: &str, name: &str) -> Option<&'a ServiceFacts> {
    match &live.get(&key(Kind::Service, namespace, name))?.facts {
        Facts::Service(service) => Some(service),
        _ => None,
    }
}

/// The control plane's Deployment, as the installation names it.
fn control_plane(desired: &[Arc<Desired>], live: &LiveObjects) -> Option<Workload> {
    workload(live, control_plane_key(desired)?)
}

fn control_plane_key(desired: &[Arc<Desired>]) -> Option<&ObjectKey> {
    desired.iter().find(|d| d.key.kind == Kind::Deployment && d.component == Component::Istiod).map(|d| &d.key)
}

/// What is there of control planes that are not desired.
pub fn of_other_control_planes<'l>(
    desired: &'l [Arc<Desired>],
    live: &'l LiveObjects,
) -> impl Iterator<Item = &'l Live> {
    let is_desired = |key: &ObjectKey| desired.iter().any(|desired| desired.key == *key);
    let istiods = live.iter().filter(|(_, live)| live.marks.component == Some(Component::Istiod));
    istiods.filter(move |(key, _)| !is_desired(key)).map(|(_, live)| live)
}

/// Whether the control plane that a canary is to replace serves: until then it is the mesh's.
fn another_control_plane_serves(desired: &[Arc<Desired>], live: &LiveObjects) -> bool {
    of_other_control_planes(desired, live)
        .any(|other| matches!(&other.facts, Facts::Workload(istiod) if istiod.available > 0))
}

/// Whether the control plane has a pod that serves.
#[must_use]
pub fn has_control_plane(desired: &[Arc<Desired>], live: &LiveObjects) -> bool {
    control_plane(desired, live).is_some_and(|istiod| istiod.available > 0)
}

fn component(name: &str, namespace: &str, version: &str, workload: Option<&Workload>) -> ComponentStatus {
    ComponentStatus {
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
        version: Some(version.to_owned()),
        ready: workload.map_or(0, Workload::ready),
        desired: workload.map_or(1, |w| w.desired),
        message: workload.and_then(|w| w.complaint.clone()),
    }
}

/// What a workload that isn't ready waits for.
#[must_use]
pub fn waiting_for(name: &str, workload: Option<&Workload>) -> Blocker {
    let message = match workload {
        None => format!("{name} is not made yet"),
        Some(Workload { complaint: Some(complaint), .. }) => format!("{name}: {complaint}"),
        Some(w) if !w.observed => format!("{name}: Kubernetes has not acted on its newest spec yet"),
        Some(w) if w.desired == 0 => format!("{name}: it is scaled to no pods"),
        Some(w) if w.ready() >= w.desired => {
            format!("{name}: {} of the old template still to go", pods(w.old()))
        }
        Some(w) => {
            let ready = match w.desired {
                1 => "its pod is not ready".to_owned(),
                desired => format!("{} of {desired} pods are ready", w.ready()),
            };
            let old = match w.old() {
                0 => String::new(),
                old => format!("; until then, {} of the old template will stay", pods(old)),
            };
            format!("{name}: {ready}{old}")
        }
    };
    Blocker { reason: Reason::WaitingForRollout, message }
}

fn pods(number: i32) -> String {
    count(usize::try_from(number).unwrap_or_default(), "pod")
}

fn base(
    validated: &Validated,
    desired: &[Arc<Desired>],
    live: &LiveObjects,
    version: &str,
    blockers: &mut Vec<Blocker>,
) -> ComponentStatus {
    let definitions: Vec<&ObjectKey> =
        desired.iter().map(|d| &d.key).filter(|key| key.kind == Kind::CustomResourceDefinition).collect();
    let open: Vec<&str> = definitions
        .iter()
        .filter(|key| live.get(key).is_none_or(|l| l.facts != Facts::Definition { established: true }))
        .map(|key| key.name.as_str())
        .collect();
    if !open.is_empty() {
        blockers.push(Blocker {
            reason: Reason::WaitingForCrds,
            message: format!("{} of {} CRDs are not served yet", open.len(), definitions.len()),
        });
    }
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    ComponentStatus {
        name: "base".into(),
        namespace: Some(validated.namespace.clone()),
        version: Some(version.to_owned()),
        ready: count(definitions.len() - open.len()),
        desired: count(definitions.len()),
        message: None,
    }
}

fn istiod(
    validated: &Validated,
    desired: &[Arc<Desired>],
    live: &LiveObjects,
    version: &str,
    blockers: &mut Vec<Blocker>,
) -> ComponentStatus {
    let name = validated.revision.of_object("istiod");
    let workload = control_plane(desired, live);
    let minimum = minimum(desired, &key(Kind::Deployment, &validated.namespace, &name));
    if !workload.as_ref().is_some_and(|workload| workload.is_up(minimum)) {
        blockers.push(waiting_for(&name, workload.as_ref()));
    }
    for wanted in desired {
        let Some(found) = live.get(&wanted.key) else { continue };
        if let Facts::Webhooks { without_ca, .. } = &found.facts
            && !without_ca.is_empty()
        {
            blockers.push(Blocker {
                reason: Reason::WaitingForCaBundle,
                message: format!("{}: istiod has not set the caBundle of {}", wanted.key, without_ca.join(", ")),
            });
        }
    }
    let deployment = control_plane_key(desired);
    let version = deployment.map_or_else(|| version.to_owned(), |key| release_of(live, key, version));
    component(&name, &validated.namespace, &version, workload.as_ref())
}

fn gateway(name: &str, namespace: &str, ready: bool, service: Option<&ServiceFacts>) -> GatewayStatus {
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

fn held_ports(
    validated: &Validated,
    namespace: &str,
    name: &str,
    service: Option<&ServiceFacts>,
) -> Vec<NodePortStatus> {
    let held = |port_name: &str, protocol: Protocol, port: i32| {
        let slot = Slot { namespace: namespace.to_owned(), service: name.to_owned(), port_name: port_name.to_owned() };
        let pinned = validated.node_ports.get(&slot).filter(|(pinned, _)| i32::from(*pinned) == port);
        let from = pinned.map_or(NodePortOrigin::Cluster, |(_, origin)| origin.into());
        let Slot { namespace, service, port_name } = slot;
        NodePortStatus { port, protocol, namespace, service, port_name, from }
    };
    let ports = service.into_iter().flat_map(|s| &s.ports);
    let mut all: Vec<NodePortStatus> =
        ports.filter_map(|port| Some(held(&port.name, protocol(&port.protocol), port.node_port?))).collect();
    let check = service.and_then(|s| s.health_check_node_port);
    all.extend(check.map(|port| held(HEALTH_CHECK, Protocol::Tcp, port)));
    all
}

fn protocol(name: &str) -> Protocol {
    if name == "UDP" { Protocol::Udp } else { Protocol::Tcp }
}

#[cfg(test)]
mod tests;
