//! The resources that an update creates, changes and deletes, from the operator's own plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshwright_api::Adoption;
use semver::Version;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::mesh::adoption::{differences, overwrite_changes};
use crate::mesh::fields::{FieldChange, field_changes};
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject, ObjectKey, Owner};
use crate::mesh::observed::{ObjectState, ObservedObject, ObservedObjects};
use crate::mesh::ownership::OwnershipMeta;
use crate::mesh::plan::{Plan, PlanAction, PlanConflict, Prepared, is_newer, plan};

/// Complete live objects by key.
pub type LiveObjects = BTreeMap<ObjectKey, Value>;

/// The change of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ObjectAction {
    /// The object is created.
    Create,
    /// Fields of the object change.
    Update,
    /// The object is deleted.
    Delete,
}

/// An object that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectChange {
    /// Type of the change.
    pub action: ObjectAction,
    /// Key of the object.
    pub key: ObjectKey,
    /// The object's component, if known.
    pub component: Option<Component>,
    /// The changed fields; empty unless the object is updated.
    pub fields: Vec<FieldChange>,
}

impl Serialize for ObjectChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Serialized<'a> {
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
        Serialized { action: *action, kind: kind.name(), namespace: namespace.as_deref(), name, component, fields }
            .serialize(serializer)
    }
}

/// The difference between desired and live resources.
#[derive(Debug)]
pub struct ObjectDiff {
    /// Changed objects: creations and updates in the order of application, then deletions in theirs.
    pub changes: Vec<ObjectChange>,
    /// Number of objects of which only the ownership labels and annotations change.
    pub metadata_only: usize,
    /// Conflicts because of which the operator would change nothing.
    pub conflicts: Vec<PlanConflict>,
    /// Names of CRDs that are newer than the desired ones and are kept.
    pub newer: Vec<String>,
}

/// Compares desired and live resources. `existing` has the UIDs of all MeshInstallations.
#[must_use]
pub fn diff_objects(
    desired: &[Arc<DesiredObject>],
    live: &LiveObjects,
    owner: &Owner,
    existing: &BTreeSet<String>,
    adoption: Adoption,
) -> ObjectDiff {
    let reduced = reduce(desired, live);
    let Plan { steps, conflicts, .. } = plan(desired, &reduced, owner, existing, true, adoption);
    let mut changes = Vec::new();
    let mut metadata_only = 0;
    let crds = steps.iter().filter(|step| step.desired.key.kind == Kind::CustomResourceDefinition);
    let is_newer = |key: &ObjectKey| reduced.get(key).is_some_and(|live| is_newer(live, owner));
    let newer = crds.map(|step| &step.desired.key).filter(|key| is_newer(key)).map(|key| key.name.clone()).collect();
    for step in steps {
        let change = |action, fields| ObjectChange {
            action,
            key: step.desired.key.clone(),
            component: Some(step.desired.component.clone()),
            fields,
        };
        match (&step.action, live.get(&step.desired.key)) {
            (PlanAction::Unchanged, _) => {}
            (PlanAction::Create, _) | (_, None) => changes.push(change(ObjectAction::Create, Vec::new())),
            (action, Some(live)) => {
                let fields = match action {
                    PlanAction::Adopt(_) => differences(&step.desired, live),
                    PlanAction::Overwrite(_) => overwrite_changes(&step.desired, live),
                    _ => field_changes(&step.desired, live),
                };
                if fields.is_empty() {
                    metadata_only += 1;
                } else {
                    changes.push(change(ObjectAction::Update, fields));
                }
            }
        }
    }
    changes.extend(deletions(desired, reduced, owner, existing));
    ObjectDiff { changes, metadata_only, conflicts, newer }
}

/// Reduces live objects to the state that the operator's plan uses.
#[must_use]
pub fn reduce(desired: &[Arc<DesiredObject>], live: &LiveObjects) -> ObservedObjects {
    let wanted: BTreeMap<&ObjectKey, &DesiredObject> = desired.iter().map(|d| (&d.key, d.as_ref())).collect();
    let reduce = |(key, object): (&ObjectKey, &Value)| {
        (key.clone(), ObservedObject::of(key.kind, object, wanted.get(key).copied(), None))
    };
    live.iter().map(reduce).collect()
}

/// The release of the active control plane among these objects.
#[must_use]
pub fn active_release(live: &LiveObjects) -> Option<Version> {
    live.iter().filter(|(key, _)| key.kind == Kind::Deployment).find_map(|(key, object)| {
        let ownership = OwnershipMeta::of(object);
        let is_available =
            matches!(ObjectState::of(key.kind, object), ObjectState::Workload(workload) if workload.available > 0);
        ownership.release.filter(|_| is_available && ownership.component == Some(Component::Istiod))
    })
}

/// Deletions in waves: like the operator, the next wave starts when the previous one is deleted.
fn deletions(
    desired: &[Arc<DesiredObject>],
    mut live: ObservedObjects,
    owner: &Owner,
    existing: &BTreeSet<String>,
) -> Vec<ObjectChange> {
    let mut deletions = Vec::new();
    loop {
        let plan: Plan<Prepared> = plan(desired, &live, owner, existing, true, Adoption::Refuse);
        let deleted = plan.delete_first.into_iter().chain(plan.prune).map(|removal| removal.key);
        let wave: Vec<ObjectKey> = deleted.chain(plan.terminating).collect();
        if wave.is_empty() {
            return deletions;
        }
        for key in wave {
            let component = live.remove(&key).and_then(|live| live.ownership.component);
            deletions.push(ObjectChange { action: ObjectAction::Delete, key, component, fields: Vec::new() });
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

    fn object(api_version: &str, kind: &str, name: &str, component: &Component) -> Arc<DesiredObject> {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "data": {"a": "1"}});
        Arc::new(DesiredObject::from_rendered(object, component, &owner(), "istio-system").unwrap())
    }

    fn map(name: &str) -> Arc<DesiredObject> {
        object("v1", "ConfigMap", name, &Component::Istiod)
    }

    fn live(desired: &Arc<DesiredObject>, edit: impl FnOnce(&mut Value)) -> (ObjectKey, Value) {
        let mut object = desired.value();
        object["metadata"]["uid"] = "live".into();
        edit(&mut object);
        (desired.key.clone(), object)
    }

    fn of(desired: &[Arc<DesiredObject>], live: Vec<(ObjectKey, Value)>) -> ObjectDiff {
        diff_objects(
            desired,
            &live.into_iter().collect(),
            &owner(),
            &["u-1".to_owned(), "u-2".to_owned()].into(),
            Adoption::Refuse,
        )
    }

    fn actions(diff: &ObjectDiff) -> Vec<(ObjectAction, &str)> {
        diff.changes.iter().map(|change| (change.action, change.key.name.as_str())).collect()
    }

    #[test]
    fn finds_no_changes_when_up_to_date() {
        let found = of(&[map("a")], vec![live(&map("a"), |_| ())]);
        assert!(found.changes.is_empty() && found.metadata_only == 0 && found.conflicts.is_empty(), "{found:?}");
    }

    #[test]
    fn distinguishes_create_update_and_delete() {
        let edited = live(&map("b"), |object| object["data"]["a"] = "2".into());
        let found = of(&[map("a"), map("b")], vec![edited, live(&map("old"), |_| ())]);
        let expected = [(ObjectAction::Create, "a"), (ObjectAction::Update, "b"), (ObjectAction::Delete, "old")];
        assert_eq!(actions(&found), expected);
        assert_eq!(found.changes[1].fields[0].path, "data.a");
    }

    #[test]
    fn counts_metadata_only_changes() {
        let stale = live(&map("a"), |object| {
            object["metadata"]["annotations"]["meshwright.dev/desired-hash"] = "0".into();
        });
        let found = of(&[map("a")], vec![stale]);
        assert_eq!((found.changes.len(), found.metadata_only), (0, 1));
    }

    #[test]
    fn deletes_gateway_in_waves() {
        let gateway = Component::Gateway("edge".into());
        let parts = [("v1", "ServiceAccount"), ("apps/v1", "Deployment"), ("v1", "Service")];
        let objects = parts.map(|(api_version, kind)| live(&object(api_version, kind, "edge", &gateway), |_| ()));
        let found = of(&[], objects.into());
        let kinds: Vec<&str> = found.changes.iter().map(|change| change.key.kind.name()).collect();
        assert_eq!(kinds, ["Service", "Deployment", "ServiceAccount"]);
        assert!(found.changes.iter().all(|change| change.component == Some(gateway.clone())));
    }

    #[test]
    fn keeps_shared_and_foreign_objects() {
        let theirs = live(&map("theirs"), |object| {
            object["metadata"]["annotations"]["meshwright.dev/installation-uid"] = "u-2".into();
        });
        let crd = object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "x.istio.io", &Component::Base);
        assert!(of(&[], vec![theirs, live(&crd, |_| ())]).changes.is_empty());
    }

    #[test]
    fn lists_newer_crds() {
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
    fn unmanaged_object_is_a_conflict() {
        let unmanaged = live(&map("a"), |object| object["metadata"] = json!({"name": "a"}));
        assert!(matches!(of(&[map("a")], vec![unmanaged]).conflicts.as_slice(), [PlanConflict::Unmanaged { .. }]));
    }

    #[test]
    fn active_release_requires_available_istiod() {
        let istiod = object("apps/v1", "Deployment", "istiod", &Component::Istiod);
        let gateway = object("apps/v1", "Deployment", "gw", &Component::Gateway("gw".into()));
        let serving = |desired: &Arc<DesiredObject>, pods: i32| {
            active_release(&[live(desired, |object| object["status"]["availableReplicas"] = pods.into())].into())
        };
        assert_eq!(serving(&istiod, 1), Some(Version::new(1, 31, 2)));
        assert_eq!((serving(&istiod, 0), serving(&gateway, 1)), (None, None));
    }

    #[test]
    fn serializes_object_key_as_fields() {
        let found = of(&[map("a")], vec![]);
        let shown = serde_json::to_value(&found.changes[0]).unwrap();
        let expected = json!({"action": "Create", "kind": "ConfigMap", "namespace": "istio-system", "name": "a",
            "component": "istiod"});
        assert_eq!(shown, expected);
    }
}
