//! The fields of an object that an update changes.

use serde::Serialize;
use serde_json::Value;

use super::drift::{Difference, DifferenceKind, drift, dropped};
use super::effective::effective;
use super::object::{
    ADOPTED_INPUTS_ANNOTATION, COMPONENT_LABEL, DesiredObject, HASH_ANNOTATION, INSTALLATION_LABEL, RELEASE_ANNOTATION,
    UID_ANNOTATION,
};
use super::ownership::OwnershipMeta;

/// How a field changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum FieldAction {
    /// The live object lacks the field.
    Added,
    /// The live object has another value.
    Changed,
    /// The update removes the field.
    Removed,
}

/// A field that an update changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Path, such as `spec.template.spec.containers[name=discovery].image`.
    pub path: String,
    /// Whether the field is added, changed or removed.
    pub action: FieldAction,
    /// The live value, if the field is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// The desired value, unless the field is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// Ownership labels and annotations. They are derived from the rest of the object and don't count as changes.
const OWNERSHIP_KEYS: [&str; 6] = [
    INSTALLATION_LABEL,
    COMPONENT_LABEL,
    UID_ANNOTATION,
    HASH_ANNOTATION,
    RELEASE_ANNOTATION,
    ADOPTED_INPUTS_ANNOTATION,
];

/// What applying `desired` changes in `live`, sorted by path. Fields that the operator never owns, equivalent notations
/// of a value, and ownership metadata don't count.
#[must_use]
pub fn field_changes(desired: &DesiredObject, live: &Value) -> Vec<FieldChange> {
    let mut wanted = effective(desired.value(), live);
    remove_ownership_metadata(&mut wanted);
    let differences = drift(&wanted, live);
    let mut changes: Vec<FieldChange> = differences.into_iter().map(change).collect();
    // An object that was applied from the same desired state has no fields left to remove.
    if OwnershipMeta::of(live).hash.as_deref() != Some(&desired.hash) {
        for removed in dropped(&wanted, live).into_iter().filter(|found| !is_ownership_metadata(&found.path)) {
            if !changes.iter().any(|known| is_within(&removed.path, &known.path)) {
                changes.push(change(removed));
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

/// Whether a path is `whole`, or lies below it.
#[must_use]
pub fn is_within(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn remove_ownership_metadata(object: &mut Value) {
    for table in ["/metadata/labels", "/metadata/annotations"] {
        if let Some(Value::Object(entries)) = object.pointer_mut(table) {
            entries.retain(|key, _| !OWNERSHIP_KEYS.contains(&key.as_str()));
        }
    }
}

fn is_ownership_metadata(path: &str) -> bool {
    let tables = ["metadata.labels", "metadata.annotations"];
    let inner = tables.iter().find_map(|table| path.strip_prefix(table));
    inner.is_some_and(|inner| OWNERSHIP_KEYS.iter().any(|key| inner == format!("[{key:?}]")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::{Component, Owner};

    fn desired(replicas: i32, uid: &str) -> DesiredObject {
        let owner = Owner { installation: "mesh".into(), uid: uid.into(), release: semver::Version::new(1, 31, 2) };
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod"},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [
                {"name": "discovery", "resources": {"requests": {"memory": "2048Mi"}}}]}}}});
        DesiredObject::from_rendered(object, &Component::Istiod, &owner, "istio-system").unwrap()
    }

    #[test]
    fn equivalent_values_are_no_change() {
        let mut live = desired(1, "u").value();
        live["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"] = "2Gi".into();
        live["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst".into();
        live["status"] = json!({"replicas": 1});
        assert_eq!(field_changes(&desired(1, "u"), &live), []);
    }

    #[test]
    fn ownership_metadata_is_no_change() {
        let live = desired(1, "another").value();
        assert_eq!(field_changes(&desired(1, "u"), &live), []);
        let mut unmanaged = desired(1, "u").value();
        unmanaged["metadata"] = json!({"name": "istiod"});
        assert_eq!(field_changes(&desired(1, "u"), &unmanaged), []);
    }

    #[test]
    fn change_has_path_and_both_values() {
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
    fn removes_fields_only_if_desired_state_changed() {
        let fields = json!({"f:spec": {"f:paused": {}, "f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"old\"}": {".": {}, "f:name": {}}}}}}});
        let mut live = desired(1, "u").value();
        live["metadata"]["managedFields"] =
            json!([{"manager": "meshwright", "operation": "Apply", "fieldsV1": fields}]);
        live["spec"]["minReadySeconds"] = json!(5);
        live["spec"]["paused"] = json!(true);
        let containers = live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap();
        containers.push(json!({"name": "old"}));
        let paths = |desired: &DesiredObject| -> Vec<String> {
            field_changes(desired, &live).into_iter().map(|change| change.path).collect()
        };
        // An added container is removed regardless of its field manager.
        let container = "spec.template.spec.containers[name=old]";
        assert_eq!(paths(&desired(1, "u")), [container]);
        assert_eq!(paths(&desired(1, "v")), ["spec.paused", container]);
    }

    #[test]
    fn path_matches_whole_segments_only() {
        assert!(is_within("spec.template.spec", "spec.template") && is_within("a[name=b]", "a") && is_within("a", "a"));
        assert!(!is_within("spec.templates", "spec.template") && !is_within("a", "a.b"));
    }
}
