//! What an update changes in one object, field by field.

use serde::Serialize;
use serde_json::Value;

use super::drift::{Difference, DifferenceKind, drift, dropped};
use super::effective::effective;
use super::marks::Marks;
use super::object::{
    ADOPTED_INPUTS_ANNOTATION, COMPONENT_LABEL, Desired, HASH_ANNOTATION, INSTALLATION_LABEL, RELEASE_ANNOTATION,
    UID_ANNOTATION,
};

/// In what way a field changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum FieldAction {
    /// It is there for the first time, or again.
    Added,
    /// It gets another value.
    Changed,
    /// It goes.
    Removed,
}

/// One field that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// The place: `spec.template.spec.containers[name=discovery].image`.
    pub path: String,
    /// In what way it changes.
    pub action: FieldAction,
    /// What is there now; absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What will be there; absent where nothing will.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// The operator's own marks: they follow from the rest, and are no changes by themselves.
const MARKS: [&str; 6] = [
    INSTALLATION_LABEL,
    COMPONENT_LABEL,
    UID_ANNOTATION,
    HASH_ANNOTATION,
    RELEASE_ANNOTATION,
    ADOPTED_INPUTS_ANNOTATION,
];

/// What applying `desired` changes in `live`, by place. Fields that the operator never owns, other forms of the same value
/// and the operator's marks are no changes.
#[must_use]
pub fn field_changes(desired: &Desired, live: &Value) -> Vec<FieldChange> {
    let mut wanted = effective(desired.value(), live);
    take_off_marks(&mut wanted);
    let differences = drift(&wanted, live);
    let mut changes: Vec<FieldChange> = differences.into_iter().map(change).collect();
    // Whatever was applied from this very state has nothing left to take out.
    if Marks::of(live).hash.as_deref() != Some(&desired.hash) {
        for gone in dropped(&wanted, live).into_iter().filter(|gone| !is_mark(&gone.path)) {
            if !changes.iter().any(|known| lies_in(&gone.path, &known.path)) {
                changes.push(change(gone));
            }
        }
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

fn change(Difference { path, kind, desired, live, .. }: Difference) -> FieldChange {
    let action = match kind {
        DifferenceKind::Missing => FieldAction::Added,
        DifferenceKind::Changed => FieldAction::Changed,
        DifferenceKind::Extra | DifferenceKind::Dropped => FieldAction::Removed,
    };
    FieldChange { path, action, old: live, new: desired }
}

/// Whether a place is another, or a part of it.
#[must_use]
pub fn lies_in(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn take_off_marks(object: &mut Value) {
    for table in ["/metadata/labels", "/metadata/annotations"] {
        if let Some(Value::Object(entries)) = object.pointer_mut(table) {
            entries.retain(|key, _| !MARKS.contains(&key.as_str()));
        }
    }
}

fn is_mark(path: &str) -> bool {
    let tables = ["metadata.labels", "metadata.annotations"];
    let inner = tables.iter().find_map(|table| path.strip_prefix(table));
    inner.is_some_and(|inner| MARKS.iter().any(|mark| inner == format!("[{mark:?}]")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::{Component, Owner};

    fn desired(replicas: i32, uid: &str) -> Desired {
        let owner = Owner { installation: "mesh".into(), uid: uid.into(), release: semver::Version::new(1, 31, 2) };
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod"},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [
                {"name": "discovery", "resources": {"requests": {"memory": "2048Mi"}}}]}}}});
        Desired::admit(object, &Component::Istiod, &owner, "istio-system").unwrap()
    }

    #[test]
    fn what_was_applied_from_the_same_state_has_no_changes_whatever_form_values_have() {
        let mut live = desired(1, "u").value();
        live["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"] = "2Gi".into();
        live["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst".into();
        live["status"] = json!({"replicas": 1});
        assert_eq!(field_changes(&desired(1, "u"), &live), []);
    }

    #[test]
    fn marks_alone_are_no_change() {
        let live = desired(1, "another").value();
        assert_eq!(field_changes(&desired(1, "u"), &live), []);
        let mut unmarked = desired(1, "u").value();
        unmarked["metadata"] = json!({"name": "istiod"});
        assert_eq!(field_changes(&desired(1, "u"), &unmarked), []);
    }

    #[test]
    fn a_change_has_its_place_and_both_values() {
        let live = desired(1, "u").value();
        let expected = FieldChange {
            path: "spec.replicas".into(),
            action: FieldAction::Changed,
            old: Some(json!(1)),
            new: Some(json!(2)),
        };
        assert_eq!(field_changes(&desired(2, "u"), &live), [expected]);
    }

    #[test]
    fn what_we_no_longer_want_goes_once_and_only_if_the_state_is_another() {
        let fields = json!({"f:spec": {"f:paused": {}, "f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"old\"}": {".": {}, "f:name": {}}}}}}});
        let mut live = desired(1, "u").value();
        live["metadata"]["managedFields"] =
            json!([{"manager": "meshwright", "operation": "Apply", "fieldsV1": fields}]);
        live["spec"]["minReadySeconds"] = json!(5);
        live["spec"]["paused"] = json!(true);
        let containers = live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap();
        containers.push(json!({"name": "old"}));
        let paths = |desired: &Desired| -> Vec<String> {
            field_changes(desired, &live).into_iter().map(|change| change.path).collect()
        };
        // An added container is taken out whoever added it.
        let container = "spec.template.spec.containers[name=old]";
        assert_eq!(paths(&desired(1, "u")), [container]);
        assert_eq!(paths(&desired(1, "v")), ["spec.paused", container]);
    }

    #[test]
    fn a_place_lies_in_another_only_as_a_whole_step() {
        assert!(lies_in("spec.template.spec", "spec.template") && lies_in("a[name=b]", "a") && lies_in("a", "a"));
        assert!(!lies_in("spec.templates", "spec.template") && !lies_in("a", "a.b"));
    }
}
