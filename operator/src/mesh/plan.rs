//! The plan: for every desired object what is to be done with the live one, what is to be pruned, and what forbids all
//! of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::kind::Kind;
use super::live::{Drift, Facts, Live, LiveObjects};
use super::object::{Component, Desired, ObjectKey, Owner};
use super::uninstall::{Teardown, next};

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
    /// Others added what must not stay.
    TakeOut(Vec<String>),
}

/// An object to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub key: ObjectKey,
    /// Only if it still is this very object.
    pub uid: String,
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
    /// The namespace is being deleted.
    Terminating(String),
}

/// Makes the plan. `existing` holds the UIDs of all installations in the cluster: a mark with another UID is nobody's.
#[must_use]
pub fn plan(
    desired: &[Arc<Desired>],
    live: &LiveObjects,
    owner: &Owner,
    existing: &BTreeSet<String>,
    gateways_may_start: bool,
) -> Plan<Prepared> {
    let mut refusals = Vec::new();
    let mut steps: Vec<Step> = desired
        .iter()
        .map(|desired| {
            let found = live.get(&desired.key);
            if let Some(refusal) = found.and_then(|live| refusal(desired, live, owner, existing)) {
                refusals.push(refusal);
            }
            Step { desired: Arc::clone(desired), action: action(desired, found, owner) }
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

fn refusal(desired: &Desired, live: &Live, owner: &Owner, existing: &BTreeSet<String>) -> Option<Refusal> {
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
    Some(Refusal::Foreign { key: desired.key.clone(), holder: live.marks.installation.clone() })
}

fn action(desired: &Desired, live: Option<&Live>, owner: &Owner) -> Action {
    let Some(live) = live else { return Action::Create };
    if live.deleting {
        // It can't be written now; its disappearance brings us back.
        return Action::Keep;
    }
    if desired.key.kind == Kind::CustomResourceDefinition
        && live.marks.release.as_ref().is_some_and(|release| *release > owner.release)
    {
        // Definitions are shared and never go back: an older installation lives with newer ones.
        return Action::Keep;
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
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::live::Live;

    fn owner() -> Owner {
        Owner { installation: "mesh".into(), uid: "u-1".into(), release: semver::Version::new(1, 31, 2) }
    }

    fn desired(kind: &str, api_version: &str, name: &str) -> Arc<Desired> {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "data": {"a": "1"}});
        Arc::new(Desired::admit(object, &Component::Istiod, &owner(), "istio-system").unwrap())
    }

    fn live_of(desired: &Desired, edit: impl FnOnce(&mut Value)) -> (ObjectKey, Live) {
        let mut object = desired.value();
        object["metadata"]["uid"] = "live".into();
        object["metadata"]["resourceVersion"] = "7".into();
        edit(&mut object);
        (desired.key.clone(), Live::of(desired.key.kind, &object, Some(desired), None))
    }

    fn make(desired: &[Arc<Desired>], live: Vec<(ObjectKey, Live)>) -> Plan<Prepared> {
        plan(desired, &live.into_iter().collect(), &owner(), &["u-1".to_owned(), "u-2".to_owned()].into(), true)
    }

    #[test]
    fn an_object_that_is_as_desired_is_left_alone() {
        let map = desired("ConfigMap", "v1", "istio");
        let live = live_of(&map, |_| ());
        assert!(make(&[map], vec![live]).is_settled());
    }

    #[test]
    fn a_missing_object_is_created_and_an_edited_one_put_right() {
        let (a, b) = (desired("ConfigMap", "v1", "a"), desired("ConfigMap", "v1", "b"));
        let live = live_of(&b, |o| o["data"]["a"] = "2".into());
        let plan = make(&[a, b], vec![live]);
        assert_eq!(plan.steps[0].action, Action::Create);
        assert!(matches!(plan.steps[1].action, Action::Update(_)), "{:?}", plan.steps[1]);
    }

    #[test]
    fn an_added_key_is_taken_out() {
        let map = desired("ConfigMap", "v1", "a");
        let live = live_of(&map, |o| o["data"]["b"] = "2".into());
        assert!(matches!(make(&[map], vec![live]).steps[0].action, Action::TakeOut(_)));
    }

    #[test]
    fn an_unmarked_object_of_that_name_is_refused() {
        let map = desired("ConfigMap", "v1", "istio");
        let live = live_of(&map, |o| o["metadata"] = json!({"name": "istio"}));
        let plan = make(&[Arc::clone(&map)], vec![live]);
        assert_eq!(plan.refusals, [Refusal::Foreign { key: map.key.clone(), holder: None }]);
    }

    #[test]
    fn a_mark_of_a_living_installation_is_refused_and_one_of_a_dead_is_taken_over() {
        let map = desired("ConfigMap", "v1", "istio");
        let with_uid = |uid: &str| {
            live_of(&map, |o| {
                o["metadata"]["labels"]["meshwright.dev/installation"] = "other".into();
                o["metadata"]["annotations"]["meshwright.dev/installation-uid"] = uid.into();
            })
        };
        assert_eq!(make(&[Arc::clone(&map)], vec![with_uid("u-2")]).refusals.len(), 1);
        let plan = make(&[Arc::clone(&map)], vec![with_uid("gone")]);
        assert_eq!(plan.refusals, []);
        assert!(matches!(plan.steps[0].action, Action::Update(_)));
    }

    #[test]
    fn what_is_ours_and_no_longer_desired_is_pruned_but_never_what_is_shared_or_anothers() {
        let ours = live_of(&desired("ConfigMap", "v1", "old"), |_| ());
        let crd = live_of(&desired("CustomResourceDefinition", "apiextensions.k8s.io/v1", "x.istio.io"), |_| ());
        let stale = live_of(&desired("ConfigMap", "v1", "theirs"), |o| {
            o["metadata"]["annotations"]["meshwright.dev/installation-uid"] = "u-2".into();
        });
        let plan = make(&[], vec![ours.clone(), crd, stale]);
        assert_eq!(plan.prune, [Removal { key: ours.0, uid: "live".into() }]);
    }

    #[test]
    fn what_is_on_its_way_out_holds_the_rest_back() {
        let gateway = |api_version: &str, kind: &str| {
            let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "edge"}});
            Desired::admit(object, &Component::Gateway("edge".into()), &owner(), "istio-system").unwrap()
        };
        let (service, pods) = (gateway("v1", "Service"), gateway("apps/v1", "Deployment"));
        let all = vec![live_of(&service, |_| ()), live_of(&pods, |_| ())];
        assert_eq!(make(&[], all).prune.iter().map(|r| &r.key).collect::<Vec<_>>(), [&service.key]);
        let ending = live_of(&service, |o| o["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
        let plan = make(&[], vec![ending, live_of(&pods, |_| ())]);
        assert_eq!((plan.prune.len(), plan.leaving.clone()), (0, vec![service.key]));
        assert!(!plan.is_settled());
        assert_eq!(make(&[], vec![live_of(&pods, |_| ())]).prune[0].key, pods.key);
    }

    #[test]
    fn a_service_that_holds_a_node_port_which_another_is_to_have_goes_first() {
        let service = |name: &str, port: i32| {
            let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"ports": [{"name": "http2", "port": 80, "nodePort": port}]}});
            Arc::new(Desired::admit(object, &Component::Gateway(name.into()), &owner(), "edge").unwrap())
        };
        let (renamed, other) = (service("old", 30401), service("gone", 30409));
        let plan = make(&[service("new", 30401)], vec![live_of(&renamed, |_| ()), live_of(&other, |_| ())]);
        assert_eq!(plan.make_way, [Removal { key: renamed.key.clone(), uid: "live".into() }]);
        assert_eq!(plan.prune, [Removal { key: other.key.clone(), uid: "live".into() }]);
    }

    #[test]
    fn the_node_proxy_goes_before_the_node_agent_and_their_rights_only_after_their_pods() {
        let of = |kind, api_version, name: &str, component: &Component| {
            let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
            live_of(&Desired::admit(object, component, &owner(), "istio-system").unwrap(), |_| ())
        };
        let mut left = vec![
            of("ServiceAccount", "v1", "istio-cni", &Component::Cni),
            of("DaemonSet", "apps/v1", "istio-cni-node", &Component::Cni),
            of("ServiceAccount", "v1", "ztunnel", &Component::Ztunnel),
            of("DaemonSet", "apps/v1", "ztunnel", &Component::Ztunnel),
        ];
        let mut order: Vec<String> = Vec::new();
        while !left.is_empty() {
            let plan = make(&[], left.clone());
            let pods = left.iter().filter(|(key, _)| key.kind == Kind::DaemonSet).count();
            assert_eq!(plan.agents_leaving.len(), pods);
            order.extend(plan.prune.iter().map(|removal| format!("{} {}", removal.key.kind, removal.key.name)));
            left.retain(|(key, _)| plan.prune.iter().all(|removal| removal.key != *key));
        }
        let expected =
            ["DaemonSet ztunnel", "DaemonSet istio-cni-node", "ServiceAccount istio-cni", "ServiceAccount ztunnel"];
        assert_eq!(order, expected);
    }

    #[test]
    fn a_definition_of_a_newer_release_is_never_taken_back() {
        let crd = desired("CustomResourceDefinition", "apiextensions.k8s.io/v1", "x.istio.io");
        let live = live_of(&crd, |o| o["metadata"]["annotations"] = json!({"meshwright.dev/release": "1.32.0"}));
        assert_eq!(make(&[crd], vec![live]).steps[0].action, Action::Keep);
    }

    #[test]
    fn a_terminating_namespace_is_refused_by_name() {
        let namespace = desired("Namespace", "v1", "istio-system");
        let live = live_of(&namespace, |o| o["status"] = json!({"phase": "Terminating"}));
        assert_eq!(make(&[namespace], vec![live]).refusals, [Refusal::Terminating("istio-system".into())]);
    }
}
