//! Which objects an update makes, changes and deletes: by the operator's own plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshwright_api::Adoption;
use semver::Version;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::mesh::adoption::{differences, overwritten};
use crate::mesh::fields::{FieldChange, field_changes};
use crate::mesh::kind::Kind;
use crate::mesh::live::{Facts, Live, LiveObjects};
use crate::mesh::marks::Marks;
use crate::mesh::object::{Component, Desired, ObjectKey, Owner};
use crate::mesh::plan::{Action, Plan, Prepared, Refusal, is_newer, plan};

/// Live objects by key, whole.
pub type Objects = BTreeMap<ObjectKey, Value>;

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ObjectAction {
    /// It isn't there and will be made.
    Create,
    /// Fields of it change.
    Update,
    /// It goes.
    Delete,
}

/// One object that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectChange {
    /// What happens.
    pub action: ObjectAction,
    /// To which object.
    pub key: ObjectKey,
    /// What it belongs to, where that is known.
    pub component: Option<Component>,
    /// Which fields change; empty unless the object is updated.
    pub fields: Vec<FieldChange>,
}

impl Serialize for ObjectChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            action: ObjectAction,
            kind: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            namespace: Option<&'a str>,
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            component: Option<String>,
            #[serde(skip_serializing_if = "<[FieldChange]>::is_empty")]
            fields: &'a [FieldChange],
        }
        let Self { action, key: ObjectKey { kind, namespace, name }, component, fields } = self;
        let component = component.as_ref().map(Component::to_string);
        Shown { action: *action, kind: kind.name(), namespace: namespace.as_deref(), name, component, fields }
            .serialize(serializer)
    }
}

/// What the plan comes to.
#[derive(Debug)]
pub struct Outcome {
    /// Objects that change: those to make and to update in the order of application, then those to delete in theirs.
    pub changes: Vec<ObjectChange>,
    /// How many objects get new marks of the operator and nothing else.
    pub marks_only: usize,
    /// What keeps the operator from writing anything.
    pub refusals: Vec<Refusal>,
    /// Names of definitions that are newer than those that are desired, and stay.
    pub newer: Vec<String>,
}

/// Compares what is desired with what is there. `existing` holds the UIDs of all installations.
#[must_use]
pub fn outcome(
    desired: &[Arc<Desired>],
    live: &Objects,
    owner: &Owner,
    existing: &BTreeSet<String>,
    adoption: Adoption,
) -> Outcome {
    let reduced = reduce(desired, live);
    let Plan { steps, refusals, .. } = plan(desired, &reduced, owner, existing, true, adoption);
    let mut changes = Vec::new();
    let mut marks_only = 0;
    let definitions = steps.iter().filter(|step| step.desired.key.kind == Kind::CustomResourceDefinition);
    let is_newer = |key: &ObjectKey| reduced.get(key).is_some_and(|live| is_newer(live, owner));
    let newer =
        definitions.map(|step| &step.desired.key).filter(|key| is_newer(key)).map(|key| key.name.clone()).collect();
    for step in steps {
        let change = |action, fields| ObjectChange {
            action,
            key: step.desired.key.clone(),
            component: Some(step.desired.component.clone()),
            fields,
        };
        match (&step.action, live.get(&step.desired.key)) {
            (Action::Keep, _) => {}
            (Action::Create, _) | (_, None) => changes.push(change(ObjectAction::Create, Vec::new())),
            (action, Some(live)) => {
                let fields = match action {
                    Action::Adopt(_) => differences(&step.desired, live),
                    Action::Overwrite(_) => overwritten(&step.desired, live),
                    _ => field_changes(&step.desired, live),
                };
                if fields.is_empty() {
                    marks_only += 1;
                } else {
                    changes.push(change(ObjectAction::Update, fields));
                }
            }
        }
    }
    changes.extend(deletions(desired, reduced, owner, existing));
    Outcome { changes, marks_only, refusals, newer }
}

/// Live objects as far as decisions need them.
#[must_use]
pub fn reduce(desired: &[Arc<Desired>], live: &Objects) -> LiveObjects {
    let wanted: BTreeMap<&ObjectKey, &Desired> = desired.iter().map(|d| (&d.key, d.as_ref())).collect();
    let reduce =
        |(key, object): (&ObjectKey, &Value)| (key.clone(), Live::of(key.kind, object, wanted.get(key).copied(), None));
    live.iter().map(reduce).collect()
}

/// The release of the control plane that serves among these objects.
#[must_use]
pub fn serving_release(live: &Objects) -> Option<Version> {
    live.iter().filter(|(key, _)| key.kind == Kind::Deployment).find_map(|(key, object)| {
        let marks = Marks::of(object);
        let serves = matches!(Facts::of(key.kind, object), Facts::Workload(workload) if workload.available > 0);
        marks.release.filter(|_| serves && marks.component == Some(Component::Istiod))
    })
}

/// What goes, wave by wave, as the operator goes on when a wave is gone.
fn deletions(
    desired: &[Arc<Desired>],
    mut live: LiveObjects,
    owner: &Owner,
    existing: &BTreeSet<String>,
) -> Vec<ObjectChange> {
    let mut gone = Vec::new();
    loop {
        let plan: Plan<Prepared> = plan(desired, &live, owner, existing, true, Adoption::Refuse);
        let deleted = plan.make_way.into_iter().chain(plan.prune).map(|removal| removal.key);
        let wave: Vec<ObjectKey> = deleted.chain(plan.leaving).collect();
        if wave.is_empty() {
            return gone;
        }
        for key in wave {
            let component = live.remove(&key).and_then(|live| live.marks.component);
            gone.push(ObjectChange { action: ObjectAction::Delete, key, component, fields: Vec::new() });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner() -> Owner {
        Owner { installation: "mesh".into(), uid: "u-1".into(), release: semver::Version::new(1, 31, 2) }
    }

    fn object(api_version: &str, kind: &str, name: &str, component: &Component) -> Arc<Desired> {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "data": {"a": "1"}});
        Arc::new(Desired::admit(object, component, &owner(), "istio-system").unwrap())
    }

    fn map(name: &str) -> Arc<Desired> {
        object("v1", "ConfigMap", name, &Component::Istiod)
    }

    fn live(desired: &Arc<Desired>, edit: impl FnOnce(&mut Value)) -> (ObjectKey, Value) {
        let mut object = desired.value();
        object["metadata"]["uid"] = "live".into();
        edit(&mut object);
        (desired.key.clone(), object)
    }

    fn of(desired: &[Arc<Desired>], live: Vec<(ObjectKey, Value)>) -> Outcome {
        outcome(
            desired,
            &live.into_iter().collect(),
            &owner(),
            &["u-1".to_owned(), "u-2".to_owned()].into(),
            Adoption::Refuse,
        )
    }

    fn told(outcome: &Outcome) -> Vec<(ObjectAction, &str)> {
        outcome.changes.iter().map(|change| (change.action, change.key.name.as_str())).collect()
    }

    #[test]
    fn where_all_is_as_desired_nothing_changes() {
        let found = of(&[map("a")], vec![live(&map("a"), |_| ())]);
        assert!(found.changes.is_empty() && found.marks_only == 0 && found.refusals.is_empty(), "{found:?}");
    }

    #[test]
    fn what_is_new_edited_and_no_longer_wanted_is_told_apart() {
        let edited = live(&map("b"), |object| object["data"]["a"] = "2".into());
        let found = of(&[map("a"), map("b")], vec![edited, live(&map("old"), |_| ())]);
        let expected = [(ObjectAction::Create, "a"), (ObjectAction::Update, "b"), (ObjectAction::Delete, "old")];
        assert_eq!(told(&found), expected);
        assert_eq!(found.changes[1].fields[0].path, "data.a");
    }

    #[test]
    fn objects_that_get_new_marks_alone_are_only_counted() {
        let stale = live(&map("a"), |object| {
            object["metadata"]["annotations"]["meshwright.dev/desired-hash"] = "0".into();
        });
        let found = of(&[map("a")], vec![stale]);
        assert_eq!((found.changes.len(), found.marks_only), (0, 1));
    }

    #[test]
    fn all_of_a_gateway_goes_in_the_order_of_removal_though_the_operator_takes_several_turns() {
        let gateway = Component::Gateway("edge".into());
        let parts = [("v1", "ServiceAccount"), ("apps/v1", "Deployment"), ("v1", "Service")];
        let objects = parts.map(|(api_version, kind)| live(&object(api_version, kind, "edge", &gateway), |_| ()));
        let found = of(&[], objects.into());
        let kinds: Vec<&str> = found.changes.iter().map(|change| change.key.kind.name()).collect();
        assert_eq!(kinds, ["Service", "Deployment", "ServiceAccount"]);
        assert!(found.changes.iter().all(|change| change.component == Some(gateway.clone())));
    }

    #[test]
    fn what_belongs_to_others_and_what_all_share_stays() {
        let theirs = live(&map("theirs"), |object| {
            object["metadata"]["annotations"]["meshwright.dev/installation-uid"] = "u-2".into();
        });
        let crd = object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "x.istio.io", &Component::Base);
        assert!(of(&[], vec![theirs, live(&crd, |_| ())]).changes.is_empty());
    }

    #[test]
    fn definitions_that_are_newer_are_told_by_name() {
        let crd = object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "x.istio.io", &Component::Base);
        let of_release = |version: &str| {
            let theirs = live(&crd, |object| {
                object["metadata"] = json!({"name": "x.istio.io", "labels": {"app.kubernetes.io/version": version}});
            });
            of(&[Arc::clone(&crd)], vec![theirs]).newer
        };
        assert_eq!((of_release("1.32.0"), of_release("1.31.2")), (vec!["x.istio.io".to_owned()], vec![]));
    }

    #[test]
    fn an_object_in_the_way_is_a_refusal() {
        let unmarked = live(&map("a"), |object| object["metadata"] = json!({"name": "a"}));
        assert!(matches!(of(&[map("a")], vec![unmarked]).refusals.as_slice(), [Refusal::Foreign { .. }]));
    }

    #[test]
    fn the_release_that_serves_is_that_of_an_istiod_with_pods_that_are_available() {
        let istiod = object("apps/v1", "Deployment", "istiod", &Component::Istiod);
        let gateway = object("apps/v1", "Deployment", "gw", &Component::Gateway("gw".into()));
        let serving = |desired: &Arc<Desired>, pods: i32| {
            serving_release(&[live(desired, |object| object["status"]["availableReplicas"] = pods.into())].into())
        };
        assert_eq!(serving(&istiod, 1), Some(Version::new(1, 31, 2)));
        assert_eq!((serving(&istiod, 0), serving(&gateway, 1)), (None, None));
    }

    #[test]
    fn the_json_form_has_kind_and_place_as_fields() {
        let found = of(&[map("a")], vec![]);
        let shown = serde_json::to_value(&found.changes[0]).unwrap();
        let expected = json!({"action": "Create", "kind": "ConfigMap", "namespace": "istio-system", "name": "a",
            "component": "istiod"});
        assert_eq!(shown, expected);
    }
}
