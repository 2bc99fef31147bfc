//! The plan: for every desired object what is to be done with the live one, what is to be pruned, and what forbids all
//! of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use meshwright_api::Adoption;
use semver::Version;

use super::fields::{FieldChange, lies_in};
use super::kind::Kind;
use super::live::{Drift, Facts, Live, LiveObjects};
use super::object::{Component, Desired, ObjectKey, Owner};
use super::uninstall::{Removal, Teardown, next};

/// A plan in one of its states: [`Prepared`] or [`Applied`]. Status is computed from applied plans only.
#[derive(Debug)]
pub struct Plan<S> {
    /// One step per desired object, in the order of stages.
    pub steps: Vec<Step>,
    /// What is ours, no longer desired, and holds a node port that a desired Service is to have: it goes first.
    pub make_way: Vec<Removal>,
    /// What else is ours and no longer desired, as far as it may go now.
    pub prune: Vec<Removal>,
    /// What is ours and on its way out; more may follow when it is gone.
    pub leaving: Vec<ObjectKey>,
    /// Pods of nodes that are no longer desired and still there: so long nodes go on redirecting traffic.
    pub agents_leaving: Vec<ObjectKey>,
    /// Why nothing at all may be written.
    pub refusals: Vec<Refusal>,
    /// Whether gateway pods may be created or changed: the control plane injects.
    pub gateways_may_start: bool,
    /// State of the plan.
    pub state: S,
}

/// Not applied yet.
#[derive(Debug)]
pub struct Prepared;

/// Applied, as far as it went.
#[derive(Debug)]
pub struct Applied {
    /// What failed.
    pub failures: Vec<crate::apply::ApplyError>,
    /// What the later stages wait for.
    pub waiting: Option<Waiting>,
    /// Objects that were brought back or put right, for Events and metrics.
    pub written: Vec<(ObjectKey, Action)>,
}

/// What later stages wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// These CRDs are not served yet.
    Definitions(Vec<String>),
    /// Gateways wait until injection is proved.
    Injection,
    /// The mesh isn't as desired until these are gone.
    Removal(Vec<ObjectKey>),
}

/// One desired object and what is to be done.
#[derive(Clone, Debug)]
pub struct Step {
    /// The object.
    pub desired: Arc<Desired>,
    /// What is to be done.
    pub action: Action,
}

/// What is to be done with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// As desired.
    Keep,
    /// It isn't there.
    Create,
    /// It differs in these fields, or was applied from another desired state.
    Update(Vec<String>),
    /// Somebody else made it, and it becomes ours; this changes in it.
    Adopt(Vec<FieldChange>),
    /// The same, and pods are replaced that the mesh may give another proxy from now on.
    Overwrite(Vec<FieldChange>),
    /// Others added what must not stay.
    TakeOut(Vec<String>),
}

/// Why nothing may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An object of that name belongs to somebody else; `holder` names them where a mark does.
    Foreign {
        /// Which.
        key: ObjectKey,
        /// The other installation.
        holder: Option<String>,
    },
    /// Nobody's object of that name would change if it became ours.
    Differs {
        /// Which.
        key: ObjectKey,
        /// In what.
        changes: Vec<FieldChange>,
    },
    /// Nobody's workload of that name selects other pods, which no workload ever changes: the API server would refuse it
    /// when the Service already leads to the pods that it should have had.
    Selects {
        /// Which.
        key: ObjectKey,
        /// In what its selector differs.
        changes: Vec<FieldChange>,
    },
    /// The pods of nobody's workload of that name are of another release.
    OtherRelease {
        /// Which.
        key: ObjectKey,
        /// Theirs.
        release: Version,
    },
    /// The namespace is being deleted.
    Terminating(String),
}

/// Makes the plan. `existing` holds the UIDs of all installations in the cluster: a mark with another UID is nobody's.
/// `adoption` says what becomes of objects without a mark.
#[must_use]
pub fn plan(
    desired: &[Arc<Desired>],
    live: &LiveObjects,
    owner: &Owner,
    existing: &BTreeSet<String>,
    gateways_may_start: bool,
    adoption: Adoption,
) -> Plan<Prepared> {
    let mut refusals = Vec::new();
    let mut steps: Vec<Step> = desired
        .iter()
        .map(|desired| {
            let found = live.get(&desired.key);
            if let Some(refusal) = found.and_then(|live| refusal(desired, live, owner, existing, adoption)) {
                refusals.push(refusal);
            }
            Step { desired: Arc::clone(desired), action: action(desired, found, owner, adoption) }
        })
        .collect();
    steps.sort_by(|a, b| (a.desired.stage, &a.desired.key).cmp(&(b.desired.stage, &b.desired.key)));
    let wanted: BTreeSet<&ObjectKey> = desired.iter().map(|d| &d.key).collect();
    let (in_the_way, unwanted): (LiveObjects, LiveObjects) = live
        .iter()
        .filter(|(key, live)| !wanted.contains(key) && !key.kind.shared() && is_ours(live, owner))
        .map(|(key, live)| (key.clone(), live.clone()))
        .partition(|(_, live)| !live.deleting && stands_in_the_way(live, desired));
    let make_way = in_the_way.into_iter().map(|(key, live)| Removal { key, uid: live.uid }).collect();
    let (prune, leaving) = match next(&unwanted, false) {
        Teardown::Delete(removals) => (removals, Vec::new()),
        Teardown::Wait(keys) => (Vec::new(), keys),
        Teardown::Release(_) | Teardown::Done => (Vec::new(), Vec::new()),
    };
    let agents_leaving = unwanted.keys().filter(|key| key.kind == Kind::DaemonSet).cloned().collect();
    Plan { steps, make_way, prune, leaving, agents_leaving, refusals, gateways_may_start, state: Prepared }
}

/// No two Services can hold a node port: one that is given up for another's sake can't go last.
fn stands_in_the_way(live: &Live, desired: &[Arc<Desired>]) -> bool {
    let Facts::Service(service) = &live.facts else { return false };
    let held: BTreeSet<i32> = service.node_ports().collect();
    let wants = |desired: &Arc<Desired>| match Facts::of(Kind::Service, &desired.value()) {
        Facts::Service(wanted) => wanted.node_ports().any(|port| held.contains(&port)),
        _ => false,
    };
    !held.is_empty() && desired.iter().filter(|d| d.key.kind == Kind::Service).any(wants)
}

fn is_ours(live: &Live, owner: &Owner) -> bool {
    live.marks.installation.as_deref() == Some(&owner.installation) && live.marks.uid.as_deref() == Some(&owner.uid)
}

fn refusal(
    desired: &Desired,
    live: &Live,
    owner: &Owner,
    existing: &BTreeSet<String>,
    adoption: Adoption,
) -> Option<Refusal> {
    if matches!(live.facts, Facts::Namespace { terminating: true, .. }) {
        return Some(Refusal::Terminating(desired.key.name.clone()));
    }
    let named = live.marks.installation.as_deref() == Some(&owner.installation);
    let free = match &live.marks.uid {
        // One of our two marks is enough: somebody may have edited the other away.
        Some(uid) if *uid == owner.uid => true,
        // A mark whose installation is gone (a CR restored from a backup has a new UID) may be taken over.
        Some(uid) => !existing.contains(uid),
        None => named,
    };
    // A tag moves from one installation to another; whose it is to be was decided before.
    let moves =
        matches!(desired.component, Component::Tag(_)) && live.marks.component == Some(desired.component.clone());
    if desired.key.kind.shared() || free || moves {
        return None;
    }
    if live.marks.are_missing() && adoption != Adoption::Refuse {
        return against_adoption(desired, live, adoption);
    }
    Some(Refusal::Foreign { key: desired.key.clone(), holder: live.marks.installation.clone() })
}

/// Where a workload says which pods are its own.
const SELECTOR: &str = "spec.selector";

/// Why an object that is nobody's can't become ours. The release that runs never changes on the way: that is an upgrade,
/// with steps and gates, which a mesh of ours has. Gateways run what istiod injects, whichever chart made them.
fn against_adoption(desired: &Desired, live: &Live, adoption: Adoption) -> Option<Refusal> {
    let key = desired.key.clone();
    if live.deleting {
        return Some(Refusal::Foreign { key, holder: None });
    }
    let has_release = key.kind.makes_pods() && !matches!(desired.component, Component::Gateway(_));
    let theirs = live.marks.release.as_ref().filter(|_| has_release);
    if let Some(release) = theirs.filter(|release| desired.release.as_ref() != Some(release)) {
        return Some(Refusal::OtherRelease { key, release: release.clone() });
    }
    let changes: Vec<FieldChange> =
        live.differences.iter().filter(|change| lies_in(&change.path, SELECTOR)).cloned().collect();
    if key.kind.makes_pods() && !changes.is_empty() {
        return Some(Refusal::Selects { key, changes });
    }
    let differs = adoption == Adoption::Adopt && !live.differences.is_empty();
    differs.then(|| Refusal::Differs { key, changes: live.differences.clone() })
}

/// Whether a definition is of a later release than the installation, as it says, or as it shows where it doesn't say.
#[must_use]
pub fn is_newer(definition: &Live, owner: &Owner) -> bool {
    definition.marks.release.as_ref().map_or(definition.is_ahead, |release| *release > owner.release)
}

fn action(desired: &Desired, live: Option<&Live>, owner: &Owner, adoption: Adoption) -> Action {
    let Some(live) = live else { return Action::Create };
    if live.deleting {
        // It can't be written now; its disappearance brings us back.
        return Action::Keep;
    }
    if desired.key.kind == Kind::CustomResourceDefinition && is_newer(live, owner) {
        // Definitions are shared and never go back: an older installation lives with newer ones.
        return Action::Keep;
    }
    // Who made a namespace is its owner all the same.
    if live.marks.are_missing() && desired.key.kind != Kind::Namespace {
        match adoption {
            Adoption::Refuse => {}
            Adoption::Adopt => return Action::Adopt(live.differences.clone()),
            Adoption::Overwrite => return Action::Overwrite(live.differences.clone()),
        }
    }
    if live.marks.hash.as_deref() != Some(&desired.hash) {
        return Action::Update(vec!["the desired state".into()]);
    }
    match &live.drift {
        Drift::Unchecked | Drift::None => Action::Keep,
        Drift::Fields(fields) => Action::Update(fields.clone()),
        Drift::Extras(paths) => Action::TakeOut(paths.clone()),
    }
}

impl Plan<Applied> {
    /// The first failure that is about the mesh: add-ons are in nobody's way.
    #[must_use]
    pub fn failure(&self) -> Option<&crate::apply::ApplyError> {
        self.state.failures.iter().find(|failure| add_on_of(&self.steps, failure.key()).is_none())
    }

    /// Add-ons with what could not be written of them.
    pub fn failed_add_ons(&self) -> impl Iterator<Item = (&str, &crate::apply::ApplyError)> {
        let failures = self.state.failures.iter();
        failures.filter_map(|failure| Some((add_on_of(&self.steps, failure.key())?, failure)))
    }
}

/// The add-on that a desired object belongs to.
#[must_use]
pub fn add_on_of<'a>(steps: &'a [Step], key: &ObjectKey) -> Option<&'a str> {
    match &steps.iter().find(|step| step.desired.key == *key)?.desired.component {
        Component::AddOn(name) => Some(name),
        _ => None,
    }
}

impl<S> Plan<S> {
    /// Whether everything is as desired and nothing is left to prune.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.make_way.is_empty()
            && self.prune.is_empty()
            && self.leaving.is_empty()
            && self.steps.iter().all(|step| step.action == Action::Keep)
    }
}

#[cfg(test)]
mod tests;
