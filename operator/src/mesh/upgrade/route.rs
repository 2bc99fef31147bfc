//! The objects that are desired in a step of the way from one state of the mesh to another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshwright_api::{UpgradeDirection, UpgradeStep};
use serde_json::Value;

use super::step::{Step, order, step_of};
use crate::mesh::kind::Kind;
use crate::mesh::live::{Facts, Live, LiveObjects};
use crate::mesh::object::{AdmitObjectError, Component, Desired, ObjectKey};
use crate::mesh::revisions::{DEFAULT, Part, REVISION_LABEL};
use crate::mesh::tags::deactivated;

/// How long an istiod must serve before it counts, while it is being replaced: seconds. One that crashes soon after its
/// start would otherwise take the old one's place first.
const SETTLE_SECONDS: i64 = 10;

/// What the injection webhooks of a control plane are called.
const UNNAMED_INJECTOR: &str = "istio-sidecar-injector";

/// A way from states of the mesh that ran, or were under way, to another.
#[derive(Debug)]
pub struct Route {
    /// Forward or back.
    pub direction: UpgradeDirection,
    /// The steps, in order.
    pub steps: Vec<Step>,
    target: Vec<(Step, Arc<Desired>)>,
    /// States that objects may be found in, the most trusted first.
    sources: Vec<BTreeMap<ObjectKey, Arc<Desired>>>,
    /// The first of these is what ran: what is missing of it is brought back. The others never came to be as a whole.
    ran: bool,
    /// What some objects are on the way, and neither before nor after it.
    interim: BTreeMap<ObjectKey, Arc<Desired>>,
    /// Control planes of the sources as they were on the way to be those: one that is left before it has settled must not
    /// count as settled.
    settling: Vec<Arc<Desired>>,
    /// Injection webhooks that match nothing: of tags that are new, until they can be called, and of the control plane that
    /// answered for the default before a tag did.
    asleep: BTreeMap<ObjectKey, Arc<Desired>>,
}

impl Route {
    /// The way to `target`. `sources` are the states that objects may be found in, the most trusted first; `ran` says that
    /// the first of them is what ran.
    pub fn new(
        direction: UpgradeDirection,
        target: &[Arc<Desired>],
        sources: &[&[Arc<Desired>]],
        ran: bool,
    ) -> Result<Self, AdmitObjectError> {
        let sources: Vec<BTreeMap<ObjectKey, Arc<Desired>>> = sources
            .iter()
            .map(|list| list.iter().map(|desired| (desired.key.clone(), Arc::clone(desired))).collect())
            .collect();
        let gateways: BTreeSet<&str> = target
            .iter()
            .filter_map(|desired| match &desired.component {
                Component::Gateway(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let steps = order(direction, &gateways);
        let mut interim = BTreeMap::new();
        for desired in target {
            if let Some(on_the_way) = on_the_way(desired, &sources)? {
                interim.insert(desired.key.clone(), Arc::new(on_the_way));
            }
        }
        let mut settling = Vec::new();
        for desired in sources.iter().flat_map(BTreeMap::values).filter(|desired| is_control_plane(desired)) {
            settling.extend(settles(desired)?.map(Arc::new));
        }
        // What was only begun with may have left nothing behind.
        let known = if ran { sources.get(..1).unwrap_or_default() } else { &sources };
        let asleep = asleep(target, &sources, known)?;
        let is_new = |desired: &Desired| known.iter().all(|source| !source.contains_key(&desired.key));
        let target = target.iter().map(|desired| (step_of(desired, is_new(desired)), Arc::clone(desired))).collect();
        Ok(Self { direction, steps, target, sources, ran, interim, settling, asleep })
    }

    /// What is desired while the step at this place is under way: what it and those before it move, as it is to be, and
    /// the rest as it is found. What the target doesn't have stays until the clean-up.
    #[must_use]
    pub fn desired(&self, at: usize, live: &LiveObjects) -> Vec<Arc<Desired>> {
        let reached: BTreeSet<&Step> = self.steps.iter().take(at.saturating_add(1)).collect();
        let mut desired = Vec::with_capacity(self.target.len());
        for (step, target) in &self.target {
            desired.extend(self.choose(target, live, reached.contains(step)));
        }
        let wanted: BTreeSet<&ObjectKey> = self.target.iter().map(|(_, desired)| &desired.key).collect();
        let ports = self.ports_to_come(&reached);
        let mut leaving: BTreeMap<&ObjectKey, &Arc<Desired>> = BTreeMap::new();
        for source in self.sources.iter().rev() {
            leaving.extend(source.iter().filter(|(key, _)| !wanted.contains(key)));
        }
        for (key, fallback) in leaving {
            let Some(found) = live.get(key) else { continue };
            if holds_any(found, &ports) || self.makes_way(fallback, &reached) {
                continue;
            }
            desired.push(self.left(found, fallback, live));
        }
        desired
    }

    /// The place among the sources of a control plane that ran before, of which something is still there.
    #[must_use]
    pub fn left_over(&self, live: &LiveObjects) -> Option<usize> {
        let wanted = |key: &ObjectKey| self.target.iter().any(|(_, target)| target.key == *key);
        let is_istiod = |desired: &&Arc<Desired>| is_control_plane(desired);
        self.sources.iter().position(|source| {
            let another = source.values().find(is_istiod).is_some_and(|istiod| !wanted(&istiod.key));
            let mut own = source.values().filter(|d| Part::of(&d.component) == Part::ControlPlane && !wanted(&d.key));
            another && own.any(|desired| live.get(&desired.key).is_some_and(|found| found.marks.installation.is_some()))
        })
    }

    /// What is desired when every step is done but the control plane of a source is still in use: the target, and that.
    #[must_use]
    pub fn retained(&self, source: usize, live: &LiveObjects) -> Vec<Arc<Desired>> {
        let mut desired: Vec<Arc<Desired>> = self.target.iter().map(|(_, target)| Arc::clone(target)).collect();
        let wanted: BTreeSet<ObjectKey> = desired.iter().map(|desired| desired.key.clone()).collect();
        let kept = self.sources.get(source).into_iter().flat_map(BTreeMap::values);
        for object in kept.filter(|d| Part::of(&d.component) == Part::ControlPlane && !wanted.contains(&d.key)) {
            desired.push(live.get(&object.key).map_or_else(
                || Arc::clone(self.asleep.get(&object.key).unwrap_or(object)),
                |found| self.left(found, object, live),
            ));
        }
        desired
    }

    /// The objects of the target among these, those of tags only once they have moved.
    #[must_use]
    pub fn of_target(&self, desired: &[Arc<Desired>], live: &LiveObjects) -> Vec<Arc<Desired>> {
        let wanted: BTreeSet<&ObjectKey> = self.target.iter().map(|(_, target)| &target.key).collect();
        let moved = |desired: &Desired| {
            !matches!(desired.component, Component::Tag(_))
                || live.get(&desired.key).is_some_and(|found| self.has_moved(desired, found))
        };
        desired.iter().filter(|desired| wanted.contains(&desired.key) && moved(desired)).cloned().collect()
    }

    /// What the target doesn't have, as it is to be for now. An injector that answered for the default is put to sleep when
    /// the default's tag answers.
    fn left(&self, found: &Live, fallback: &Arc<Desired>, live: &LiveObjects) -> Arc<Desired> {
        if let Some(asleep) = self.asleep.get(&fallback.key)
            && (is_made_from(found, asleep) || self.default_answers(live))
        {
            return Arc::clone(asleep);
        }
        Arc::clone(self.as_found(found, &fallback.key).unwrap_or(fallback))
    }

    /// A tag that the target doesn't have must not lead to a control plane that is given up.
    fn makes_way(&self, left: &Desired, reached: &BTreeSet<&Step>) -> bool {
        let tags = Step::from(UpgradeStep::Tags);
        self.direction == UpgradeDirection::Back
            && matches!(left.component, Component::Tag(_))
            && reached.contains(&tags)
    }

    /// The tag of the default is the target's, and can be called.
    fn default_answers(&self, live: &LiveObjects) -> bool {
        self.target.iter().any(|(_, target)| {
            target.component == Component::Tag(DEFAULT.to_owned())
                && target.key.kind == Kind::MutatingWebhookConfiguration
                && live.get(&target.key).is_some_and(|found| is_made_from(found, target) && is_callable(found))
        })
    }

    /// Injectors that are still to be put to sleep.
    pub fn awake<'a>(&'a self, live: &'a LiveObjects) -> impl Iterator<Item = &'a ObjectKey> {
        let wanted = |key: &ObjectKey| self.target.iter().any(|(_, target)| target.key == *key);
        let has_default = self.target.iter().any(|(_, target)| target.component == Component::Tag(DEFAULT.to_owned()));
        self.asleep
            .iter()
            .filter(move |(key, _)| has_default && !wanted(key))
            .filter(|(key, asleep)| live.get(key).is_some_and(|found| !is_made_from(found, asleep)))
            .map(|(key, _)| key)
    }

    /// Whether a live object is as a step makes it, or as the clean-up does.
    #[must_use]
    pub fn has_moved(&self, moved: &Desired, live: &Live) -> bool {
        // Definitions of a newer release are never taken back.
        let newer = moved.key.kind == Kind::CustomResourceDefinition && live.marks.release > moved.release;
        let mut forms = self.target.iter().map(|(_, target)| target).filter(|target| target.key == moved.key);
        !live.deleting && (newer || is_made_from(live, moved) || forms.any(|target| is_made_from(live, target)))
    }

    /// The objects that the step at this place moves, as they are to be then.
    pub fn moved_by(&self, at: usize) -> impl Iterator<Item = &Arc<Desired>> {
        let step = self.steps.get(at);
        self.target
            .iter()
            .filter(move |(of, _)| Some(of) == step)
            .map(|(_, target)| self.interim.get(&target.key).unwrap_or(target))
    }

    /// What an object was, as far as it is known. A control plane must understand the configuration that is in force,
    /// which may be that of a release that never came to be as a whole, and the one that comes before it on the way back.
    fn before(&self, target: &Desired, live: &LiveObjects) -> Option<&Arc<Desired>> {
        if !self.ran {
            return None;
        }
        if !is_control_plane(target) {
            return self.sources.first()?.get(&target.key);
        }
        let injectors = live.iter().filter(|(key, _)| key.is_injector_configuration());
        let in_force = injectors.filter_map(|(_, found)| found.marks.release.as_ref());
        let coming = target.release.as_ref().filter(|_| self.direction == UpgradeDirection::Back);
        let newest = in_force.chain(coming).max();
        let mut states = self.sources.iter().filter_map(|source| source.get(&target.key));
        states.find(|state| state.release.as_ref() >= newest)
    }

    fn choose(&self, target: &Arc<Desired>, live: &LiveObjects, moves: bool) -> Option<Arc<Desired>> {
        let found = live.get(&target.key);
        let mut to_be = self.interim.get(&target.key).unwrap_or(target);
        if let Some(asleep) = self.asleep.get(&target.key)
            && !found.is_some_and(is_callable)
        {
            to_be = asleep;
        }
        // What is as it is to stay has been through all of this.
        if found.is_some_and(|found| is_made_from(found, target)) {
            return Some(Arc::clone(target));
        }
        if moves {
            return Some(Arc::clone(to_be));
        }
        let Some(found) = found else {
            // Not made before its time; what had been there is brought back as it was.
            return self.before(target, live).cloned();
        };
        // What has moved stays moved, though an earlier step may have fallen behind again.
        if is_made_from(found, to_be) || self.asleep.get(&target.key).is_some_and(|asleep| is_made_from(found, asleep))
        {
            return Some(Arc::clone(to_be));
        }
        // Roles on the way grant what any state needs.
        let unknown = || match target.key.kind {
            Kind::ClusterRole | Kind::Role => Some(to_be),
            _ => self.before(target, live),
        };
        Some(Arc::clone(self.as_found(found, &target.key).or_else(unknown).unwrap_or(target)))
    }

    /// The state, of those known, that a live object is in.
    fn as_found(&self, found: &Live, key: &ObjectKey) -> Option<&Arc<Desired>> {
        let states = self.sources.iter().filter_map(|source| source.get(key));
        states
            .chain(self.settling.iter().filter(|desired| desired.key == *key))
            .find(|state| is_made_from(found, state))
    }

    /// Node ports of the Services that are to be by now: whoever else of ours holds one makes way.
    fn ports_to_come(&self, reached: &BTreeSet<&Step>) -> BTreeSet<i32> {
        self.target
            .iter()
            .filter(|(step, desired)| reached.contains(step) && desired.key.kind == Kind::Service)
            .flat_map(|(_, desired)| match Facts::of(Kind::Service, &desired.value()) {
                Facts::Service(service) => service.node_ports().collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect()
    }
}

/// The API server can call it.
fn is_callable(found: &Live) -> bool {
    matches!(&found.facts, Facts::Webhooks { without_ca, .. } if without_ca.is_empty() && !found.deleting)
}

/// Injection webhooks in a form that matches nothing: those of tags that nothing before had, and those of control planes
/// that go, of which one may have answered for the default without a tag.
fn asleep(
    target: &[Arc<Desired>],
    sources: &[BTreeMap<ObjectKey, Arc<Desired>>],
    known: &[BTreeMap<ObjectKey, Arc<Desired>>],
) -> Result<BTreeMap<ObjectKey, Arc<Desired>>, AdmitObjectError> {
    let is_injector = |desired: &Desired| desired.key.kind == Kind::MutatingWebhookConfiguration;
    let is_new = |key: &ObjectKey| known.iter().all(|source| !source.contains_key(key));
    let tags = target.iter().filter(|desired| matches!(desired.component, Component::Tag(_)));
    let new = tags.filter(|desired| is_injector(desired) && is_new(&desired.key));
    let stays = |key: &ObjectKey| target.iter().any(|desired| desired.key == *key);
    // The label says which revision a webhook leads to.
    let unnamed = |desired: &Desired| {
        let value = desired.value();
        let revision = value.pointer("/metadata/labels").and_then(|labels| labels.get(REVISION_LABEL)?.as_str());
        desired.key.name.starts_with(UNNAMED_INJECTOR) && revision.is_none_or(|revision| revision == DEFAULT)
    };
    let going = sources.iter().flat_map(BTreeMap::values).filter(|desired| {
        is_injector(desired) && desired.component == Component::Istiod && !stays(&desired.key) && unnamed(desired)
    });
    let mut asleep = BTreeMap::new();
    for desired in new.chain(going) {
        let object = desired.revise(deactivated(desired.value()))?;
        asleep.entry(desired.key.clone()).or_insert_with(|| Arc::new(object));
    }
    Ok(asleep)
}

fn is_made_from(found: &Live, desired: &Desired) -> bool {
    found.marks.hash.as_deref() == Some(&desired.hash)
}

fn holds_any(found: &Live, ports: &BTreeSet<i32>) -> bool {
    matches!(&found.facts, Facts::Service(service) if service.node_ports().any(|port| ports.contains(&port)))
}

/// What an object is on the way, where that is neither what it was nor what it is to be: roles grant what either side
/// needs, since both run; and istiod must serve for a while before its predecessor goes.
fn on_the_way(
    target: &Desired,
    sources: &[BTreeMap<ObjectKey, Arc<Desired>>],
) -> Result<Option<Desired>, AdmitObjectError> {
    let before = || sources.iter().filter_map(|source| source.get(&target.key));
    match target.key.kind {
        Kind::ClusterRole | Kind::Role => with_rules_of(target, before().map(Arc::as_ref)),
        Kind::Deployment if is_control_plane(target) => {
            let template = |desired: &Desired| desired.value().pointer("/spec/template").cloned();
            let rolls = before().any(|desired| template(desired) != template(target));
            if rolls { settles(target) } else { Ok(None) }
        }
        _ => Ok(None),
    }
}

/// A role that allows what others of its name allow as well; `None` where it does so anyway.
pub fn with_rules_of<'a>(
    target: &Desired,
    others: impl Iterator<Item = &'a Desired>,
) -> Result<Option<Desired>, AdmitObjectError> {
    let mut object = target.value();
    let mut grown = false;
    for rule in others.flat_map(|desired| rules(&desired.value())) {
        grown |= add_rule(&mut object, rule);
    }
    grown.then(|| target.revise(object)).transpose()
}

fn is_control_plane(desired: &Desired) -> bool {
    desired.key.kind == Kind::Deployment && desired.component == Component::Istiod
}

/// A control plane that must serve for a while before it counts; `None` where it must anyway.
fn settles(istiod: &Desired) -> Result<Option<Desired>, AdmitObjectError> {
    let mut object = istiod.value();
    let seconds = object.pointer("/spec/minReadySeconds").and_then(Value::as_i64).unwrap_or_default();
    if seconds >= SETTLE_SECONDS {
        return Ok(None);
    }
    crate::mesh::merge::set(&mut object, "spec.minReadySeconds", SETTLE_SECONDS);
    istiod.revise(object).map(Some)
}

fn rules(role: &Value) -> Vec<Value> {
    role.get("rules").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn add_rule(role: &mut Value, granted: Value) -> bool {
    let Some(rules) = role.get_mut("rules").and_then(Value::as_array_mut) else { return false };
    if rules.contains(&granted) {
        return false;
    }
    rules.push(granted);
    true
}
