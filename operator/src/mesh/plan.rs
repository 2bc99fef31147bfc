//! The plan: the action for every desired object, the objects to prune, and the conflicts that block all writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use meshwright_api::Adoption;
use semver::Version;

use super::fields::{FieldChange, is_within};
use super::kind::Kind;
use super::object::{Component, DesiredObject, ObjectKey, Owner};
use super::observed::{Drift, ObjectState, ObservedObject, ObservedObjects};
use super::uninstall::{Removal, Teardown, next};

/// A plan in one of its states: [`Prepared`] or [`Applied`]. Status is computed from applied plans only.
#[derive(Debug)]
pub struct Plan<S> {
    /// One step per desired object, in the order of stages.
    pub steps: Vec<PlanStep>,
    /// Managed Services that are no longer desired and use a node port of a desired Service: the API server rejects the
    /// new one until they are deleted.
    pub delete_first: Vec<Removal>,
    /// Other managed objects that are no longer desired and can be deleted now.
    pub prune: Vec<Removal>,
    /// Managed objects that are being deleted. Others may be pruned once they are gone.
    pub terminating: Vec<ObjectKey>,
    /// Existing `DaemonSet`s that are no longer desired. Until they are gone, nodes still redirect traffic.
    pub daemon_sets_terminating: Vec<ObjectKey>,
    /// Conflicts that block all writes.
    pub conflicts: Vec<PlanConflict>,
    /// Whether gateway pods may be created or changed, because the control plane injects.
    pub gateways_may_start: bool,
    /// Result of the apply, or [`Prepared`].
    pub state: S,
}

/// State of a plan that was not applied yet.
#[derive(Debug)]
pub struct Prepared;

/// State of a plan that was applied, at least in part.
#[derive(Debug)]
pub struct Applied {
    /// Errors of failed writes.
    pub failures: Vec<crate::apply::ApplyError>,
    /// The condition that later stages wait for.
    pub waiting: Option<WaitingFor>,
    /// Objects that were written, for Events and metrics.
    pub written: Vec<(ObjectKey, PlanAction)>,
}

/// The condition that later stages wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitingFor {
    /// These CRDs are not established yet.
    Crds(Vec<String>),
    /// Gateways wait until the injection check passes.
    Injection,
    /// These objects are still being deleted.
    Removal(Vec<ObjectKey>),
}

/// A desired object and the action that it requires.
#[derive(Clone, Debug)]
pub struct PlanStep {
    /// The object to apply.
    pub desired: Arc<DesiredObject>,
    /// The difference from the live object.
    pub action: PlanAction,
}

/// The write that a desired object requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanAction {
    /// The live object needs no write.
    Unchanged,
    /// The object doesn't exist.
    Create,
    /// The object differs in these fields, or was applied from another desired state.
    Update(Vec<String>),
    /// The object exists without ownership metadata and is adopted, with these changes.
    Adopt(Vec<FieldChange>),
    /// The same, and the pods of gateways are rolled.
    Overwrite(Vec<FieldChange>),
    /// Another field manager added these containers, webhooks or keys, which the operator removes.
    RemoveExtras(Vec<String>),
}

/// A conflict with a live object, which blocks all writes of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanConflict {
    /// The object exists and this installation does not manage it.
    Unmanaged {
        /// The existing object.
        key: ObjectKey,
        /// The installation in its ownership label, if it has one.
        installation: Option<String>,
    },
    /// Adoption would change an unmanaged object.
    Adoption {
        /// The existing object.
        key: ObjectKey,
        /// Fields that adoption would change.
        changes: Vec<FieldChange>,
    },
    /// Adoption would create this object, which an adopted workload has worked without.
    Creation(ObjectKey),
    /// An unmanaged workload has another selector, which is immutable. Without this check, the API server would reject
    /// the workload after the Service was already changed to select its new pods.
    Selector {
        /// The existing workload.
        key: ObjectKey,
        /// Differences of the selector.
        changes: Vec<FieldChange>,
    },
    /// The pods of an unmanaged workload are of another release.
    Release {
        /// The existing workload.
        key: ObjectKey,
        /// Release of the existing workload.
        release: Version,
    },
    /// The namespace is being deleted.
    NamespaceTerminating(String),
}

/// Computes the plan. `existing` has the UIDs of all installations in the cluster: ownership metadata with another UID
/// is stale. `adoption` determines how objects without ownership metadata are handled.
#[must_use]
pub fn plan(
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    owner: &Owner,
    existing: &BTreeSet<String>,
    gateways_may_start: bool,
    adoption: Adoption,
) -> Plan<Prepared> {
    let mut conflicts = Vec::new();
    let mut steps: Vec<PlanStep> = desired
        .iter()
        .map(|desired| {
            let found = live.get(&desired.key);
            if let Some(conflict) = found.and_then(|live| conflict(desired, live, owner, existing, adoption)) {
                conflicts.push(conflict);
            }
            PlanStep { desired: Arc::clone(desired), action: action(desired, found, owner, adoption) }
        })
        .collect();
    steps.sort_by(|a, b| (a.desired.stage, &a.desired.key).cmp(&(b.desired.stage, &b.desired.key)));
    if adoption == Adoption::Adopt {
        conflicts.extend(creations(&steps));
    }
    let wanted: BTreeSet<&ObjectKey> = desired.iter().map(|d| &d.key).collect();
    let (port_holders, unwanted): (ObservedObjects, ObservedObjects) = live
        .iter()
        .filter(|(key, live)| !wanted.contains(key) && !key.kind.shared() && is_ours(live, owner))
        .map(|(key, live)| (key.clone(), live.clone()))
        .partition(|(_, live)| !live.deleting && uses_desired_node_port(live, desired));
    let delete_first = port_holders.iter().map(|(key, live)| Removal::of(key, live)).collect();
    let (prune, terminating) = match next(&unwanted, false) {
        Teardown::Delete(removals) => (removals, Vec::new()),
        Teardown::Wait(keys) => (Vec::new(), keys),
        Teardown::Release(_) | Teardown::Done => (Vec::new(), Vec::new()),
    };
    let daemon_sets_terminating = unwanted.keys().filter(|key| key.kind == Kind::DaemonSet).cloned().collect();
    Plan {
        steps,
        delete_first,
        prune,
        terminating,
        daemon_sets_terminating,
        conflicts,
        gateways_may_start,
        state: Prepared,
    }
}

/// Whether a Service uses a node port of a desired Service. Node ports are unique, so it must be deleted before that
/// one is applied.
fn uses_desired_node_port(live: &ObservedObject, desired: &[Arc<DesiredObject>]) -> bool {
    let ObjectState::Service(service) = &live.state else { return false };
    let in_use: BTreeSet<i32> = service.node_ports().collect();
    let wants = |desired: &Arc<DesiredObject>| match ObjectState::of(Kind::Service, &desired.value()) {
        ObjectState::Service(wanted) => wanted.node_ports().any(|port| in_use.contains(&port)),
        _ => false,
    };
    !in_use.is_empty() && desired.iter().filter(|d| d.key.kind == Kind::Service).any(wants)
}

fn is_ours(live: &ObservedObject, owner: &Owner) -> bool {
    live.ownership.installation.as_deref() == Some(&owner.installation)
        && live.ownership.uid.as_deref() == Some(&owner.uid)
}

fn conflict(
    desired: &DesiredObject,
    live: &ObservedObject,
    owner: &Owner,
    existing: &BTreeSet<String>,
    adoption: Adoption,
) -> Option<PlanConflict> {
    if matches!(live.state, ObjectState::Namespace { terminating: true, .. }) {
        return Some(PlanConflict::NamespaceTerminating(desired.key.name.clone()));
    }
    let same_name = live.ownership.installation.as_deref() == Some(&owner.installation);
    let own_or_stale = match &live.ownership.uid {
        // UID or label suffices: a user may have removed the other.
        Some(uid) if *uid == owner.uid => true,
        // The owner no longer exists, or it was restored from a backup with a new UID: take its objects over.
        Some(uid) => !existing.contains(uid),
        None => same_name,
    };
    // Tags move between installations; which one owns a tag is decided before the plan.
    let moves =
        matches!(desired.component, Component::Tag(_)) && live.ownership.component == Some(desired.component.clone());
    if desired.key.kind.shared() || own_or_stale || moves {
        return None;
    }
    if live.ownership.is_absent() && adoption != Adoption::Refuse {
        return adoption_conflict(desired, live, adoption);
    }
    Some(PlanConflict::Unmanaged { key: desired.key.clone(), installation: live.ownership.installation.clone() })
}

/// Path of a workload's pod selector, which is immutable.
const SELECTOR_PATH: &str = "spec.selector";

/// Why an unmanaged object can't be adopted. Adoption never changes the running release: that requires an upgrade with
/// its steps and gates. Gateways are exempt, since their proxy version comes from istiod, not from their chart.
fn adoption_conflict(desired: &DesiredObject, live: &ObservedObject, adoption: Adoption) -> Option<PlanConflict> {
    let key = desired.key.clone();
    if live.deleting {
        return Some(PlanConflict::Unmanaged { key, installation: None });
    }
    let has_release = key.kind.makes_pods() && !matches!(desired.component, Component::Gateway(_));
    let live_release = live.ownership.release.as_ref().filter(|_| has_release);
    if let Some(release) = live_release.filter(|release| desired.release.as_ref() != Some(release)) {
        return Some(PlanConflict::Release { key, release: release.clone() });
    }
    let changes: Vec<FieldChange> =
        live.differences.iter().filter(|change| is_within(&change.path, SELECTOR_PATH)).cloned().collect();
    if key.kind.makes_pods() && !changes.is_empty() {
        return Some(PlanConflict::Selector { key, changes });
    }
    let differs = adoption == Adoption::Adopt && !live.differences.is_empty();
    differs.then(|| PlanConflict::Adoption { key, changes: live.differences.clone() })
}

/// Objects that adoption would create beside a workload that it takes over: a load balancer, for example, for a gateway
/// that Helm installed without a Service.
fn creations(steps: &[PlanStep]) -> Vec<PlanConflict> {
    let is_adopted =
        |step: &&PlanStep| matches!(step.action, PlanAction::Adopt(_)) && step.desired.key.kind.makes_pods();
    let adopted: Vec<&Component> = steps.iter().filter(is_adopted).map(|step| &step.desired.component).collect();
    let created = steps.iter().filter(|step| step.action == PlanAction::Create).map(|step| &step.desired);
    let created = created.filter(|desired| !desired.key.kind.shared() && adopted.contains(&&desired.component));
    created.map(|desired| PlanConflict::Creation(desired.key.clone())).collect()
}

/// Whether a CRD is of a later release than the installation, by its release annotation or else by its schema.
#[must_use]
pub fn is_newer(crd: &ObservedObject, owner: &Owner) -> bool {
    crd.ownership.release.as_ref().map_or(crd.is_newer_crd, |release| *release > owner.release)
}

fn action(desired: &DesiredObject, live: Option<&ObservedObject>, owner: &Owner, adoption: Adoption) -> PlanAction {
    let Some(live) = live else { return PlanAction::Create };
    if live.deleting {
        // It can't be written now. Its deletion triggers a reconcile.
        return PlanAction::Unchanged;
    }
    if desired.key.kind == Kind::CustomResourceDefinition && is_newer(live, owner) {
        // CRDs are shared and never downgraded: an older release works with newer ones.
        return PlanAction::Unchanged;
    }
    // Namespaces stay with the client that created them.
    if live.ownership.is_absent() && desired.key.kind != Kind::Namespace {
        match adoption {
            Adoption::Refuse => {}
            Adoption::Adopt => return PlanAction::Adopt(live.differences.clone()),
            Adoption::Overwrite => return PlanAction::Overwrite(live.differences.clone()),
        }
    }
    if live.ownership.hash.as_deref() != Some(&desired.hash) {
        return PlanAction::Update(vec!["the desired state".into()]);
    }
    match &live.drift {
        Drift::Unchecked | Drift::None => PlanAction::Unchanged,
        Drift::Fields(fields) => PlanAction::Update(fields.clone()),
        Drift::Extras(paths) => PlanAction::RemoveExtras(paths.clone()),
    }
}

impl Plan<Applied> {
    /// The first failure of the mesh itself. Failures of add-ons don't block it.
    #[must_use]
    pub fn failure(&self) -> Option<&crate::apply::ApplyError> {
        self.state.failures.iter().find(|failure| add_on_of(&self.steps, failure.key()).is_none())
    }

    /// Failed writes of add-ons, each with the add-on's name.
    pub fn failed_add_ons(&self) -> impl Iterator<Item = (&str, &crate::apply::ApplyError)> {
        let failures = self.state.failures.iter();
        failures.filter_map(|failure| Some((add_on_of(&self.steps, failure.key())?, failure)))
    }
}

/// The add-on that a desired object belongs to, if any.
#[must_use]
pub fn add_on_of<'a>(steps: &'a [PlanStep], key: &ObjectKey) -> Option<&'a str> {
    match &steps.iter().find(|step| step.desired.key == *key)?.desired.component {
        Component::AddOn(name) => Some(name),
        _ => None,
    }
}

impl<S> Plan<S> {
    /// Whether no object has to be written or deleted.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.delete_first.is_empty()
            && self.prune.is_empty()
            && self.terminating.is_empty()
            && self.steps.iter().all(|step| step.action == PlanAction::Unchanged)
    }
}

#[cfg(test)]
mod tests;
