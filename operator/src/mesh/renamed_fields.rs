//! Fields of the MeshInstallation that had another name in earlier versions of v1alpha1. The API server drops a value under
//! an old name without an error, so the operator detects it, rolls out nothing and reports it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use meshwright_api::MeshInstallation;
use serde_json::{Map, Value};

/// One renamed field, below an object of the spec.
struct Rename {
    old: &'static str,
    new: &'static str,
}

const AUTOSCALING: [Rename; 3] = [
    Rename { old: "min", new: "minReplicas" },
    Rename { old: "max", new: "maxReplicas" },
    Rename { old: "targetCPU", new: "targetCPUUtilizationPercentage" },
];
const IMAGES: [Rename; 1] = [Rename { old: "pullSecrets", new: "imagePullSecrets" }];

/// The object of the spec that has a renamed field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Parent {
    ControlPlaneAutoscaling,
    GatewayAutoscaling(String),
    Images,
}

impl Parent {
    const fn renames(&self) -> &'static [Rename] {
        match self {
            Self::ControlPlaneAutoscaling | Self::GatewayAutoscaling(_) => &AUTOSCALING,
            Self::Images => &IMAGES,
        }
    }

    /// The new name that is set only by a user: the API server sets the defaults of the others.
    const fn required_name(&self) -> &'static str {
        match self {
            Self::ControlPlaneAutoscaling | Self::GatewayAutoscaling(_) => "maxReplicas",
            Self::Images => "imagePullSecrets",
        }
    }

    fn in_spec<'a>(&self, spec: &'a Value) -> Option<&'a Value> {
        match self {
            Self::ControlPlaneAutoscaling => spec.get("controlPlane")?.get("autoscaling"),
            Self::Images => spec.get("images"),
            Self::GatewayAutoscaling(name) => {
                let gateways = spec.get("gateways")?.as_array()?;
                gateways.iter().find(|gateway| gateway["name"] == name.as_str())?.get("autoscaling")
            }
        }
    }
}

/// A value that a MeshInstallation had under an old name. Displays as `spec.images.pullSecrets is now ...`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RenamedField {
    parent: Parent,
    old: &'static str,
    new: &'static str,
}

impl fmt::Display for RenamedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parent, old, new } = self;
        let path = match parent {
            Parent::ControlPlaneAutoscaling => "spec.controlPlane.autoscaling".to_owned(),
            Parent::GatewayAutoscaling(name) => format!("spec.gateways[{name}].autoscaling"),
            Parent::Images => "spec.images".to_owned(),
        };
        write!(f, "{path}.{old} is now {path}.{new}")
    }
}

/// Whether the present spec still lacks what `field` had: its value under the new name.
fn is_missing(field: &RenamedField, spec: &Value) -> bool {
    match field.parent.in_spec(spec) {
        Some(parent) => parent.get(field.parent.required_name()).is_none(),
        // Of an object with dropped fields the API server leaves its defaults; one that is absent was removed by the user.
        // `images` has no defaults.
        None => field.parent == Parent::Images,
    }
}

/// Moves the values of a stored spec to the new names. Returns the fields that it moved.
pub fn migrate(spec: &mut Value) -> Vec<RenamedField> {
    let mut moved = Vec::new();
    if let Some(autoscaling) = spec.pointer_mut("/controlPlane/autoscaling").and_then(Value::as_object_mut) {
        rename(autoscaling, &Parent::ControlPlaneAutoscaling, &mut moved);
    }
    for gateway in spec.get_mut("gateways").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = gateway["name"].as_str().unwrap_or_default().to_owned();
        if let Some(autoscaling) = gateway.get_mut("autoscaling").and_then(Value::as_object_mut) {
            rename(autoscaling, &Parent::GatewayAutoscaling(name), &mut moved);
        }
    }
    if let Some(images) = spec.get_mut("images").and_then(Value::as_object_mut) {
        rename(images, &Parent::Images, &mut moved);
    }
    moved
}

fn rename(object: &mut Map<String, Value>, parent: &Parent, moved: &mut Vec<RenamedField>) {
    for Rename { old, new } in parent.renames() {
        let Some(value) = object.remove(*old) else { continue };
        let value = if *parent == Parent::Images { named(value) } else { value };
        object.entry((*new).to_owned()).or_insert(value);
        moved.push(RenamedField { parent: parent.clone(), old, new });
    }
}

/// A list of names as a list of references.
fn named(names: Value) -> Value {
    match names {
        Value::Array(names) => names.into_iter().map(|name| serde_json::json!({"name": name})).collect(),
        other => other,
    }
}

/// The old names in one entry of `metadata.managedFields`: what that field manager set, whether or not the API server kept
/// the value.
#[must_use]
pub fn in_managed_fields(entry: &ManagedFieldsEntry) -> Vec<RenamedField> {
    let mut found = Vec::new();
    let Some(spec) = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec")) else { return found };
    let mut add = |fields: Option<&Value>, parent: Parent| {
        for Rename { old, new } in parent.renames() {
            if fields.is_some_and(|fields| fields.get(format!("f:{old}")).is_some()) {
                found.push(RenamedField { parent: parent.clone(), old, new });
            }
        }
    };
    add(spec.pointer("/f:controlPlane/f:autoscaling"), Parent::ControlPlaneAutoscaling);
    for (key, gateway) in spec.get("f:gateways").and_then(Value::as_object).into_iter().flatten() {
        let Some(key) = key.strip_prefix("k:") else { continue };
        let Ok(key) = serde_json::from_str::<Value>(key) else { continue };
        let Some(name) = key.get("name").and_then(Value::as_str) else { continue };
        add(gateway.get("f:autoscaling"), Parent::GatewayAutoscaling(name.to_owned()));
    }
    add(spec.get("f:images"), Parent::Images);
    found
}

/// Fields whose values the API server dropped from the spec, since it has them under former names. `stored` are those of the
/// newest revision, if there is one. Once a user has changed the spec, or a revision under the new names was accepted, only a
/// manifest that is still applied with a former name counts: the API server never removes former names from the fields of
/// other managers.
#[must_use]
pub fn dropped(installation: &MeshInstallation, stored: Option<&[RenamedField]>) -> Vec<RenamedField> {
    let metadata = &installation.metadata;
    let observed = installation.status.as_ref().map_or(-1, |status| status.observed_generation);
    let is_unchanged =
        metadata.generation.unwrap_or_default() <= observed && stored.is_none_or(|fields| !fields.is_empty());
    let managers = metadata.managed_fields.iter().flatten().filter(|entry| {
        entry.subresource.as_deref().unwrap_or_default().is_empty()
            && (is_unchanged || entry.operation.as_deref() == Some("Apply"))
    });
    let mut fields: Vec<RenamedField> = managers.flat_map(in_managed_fields).collect();
    fields.extend(stored.unwrap_or_default().iter().filter(|_| is_unchanged).cloned());
    // Nearly always: no need to serialise the spec.
    if fields.is_empty() {
        return fields;
    }
    let spec = serde_json::to_value(&installation.spec).unwrap_or_default();
    fields.retain(|field| is_missing(field, &spec));
    fields.sort();
    fields.dedup();
    fields
}

/// The condition message: the renamed fields and the remedy.
#[must_use]
pub fn message(fields: &[RenamedField]) -> String {
    let names: Vec<String> = fields.iter().map(ToString::to_string).collect();
    format!(
        "{}. The API server drops values under the old names, so nothing is rolled out in this mesh until the \
         MeshInstallation is applied with the new names",
        super::text::abbreviate(&names)
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;

    fn names(fields: &[RenamedField]) -> Vec<String> {
        fields.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn migrates_stored_specs() {
        let mut spec = json!({
            "controlPlane": {"autoscaling": {"min": 2, "max": 5, "targetCPU": 70}},
            "gateways": [{"name": "edge", "autoscaling": {"max": 3}}, {"name": "plain"}],
            "images": {"pullSecrets": ["key"], "pullPolicy": "Always"},
        });
        let moved = migrate(&mut spec);
        assert_eq!(
            spec,
            json!({
                "controlPlane": {"autoscaling": {"minReplicas": 2, "maxReplicas": 5, "targetCPUUtilizationPercentage": 70}},
                "gateways": [{"name": "edge", "autoscaling": {"maxReplicas": 3}}, {"name": "plain"}],
                "images": {"imagePullSecrets": [{"name": "key"}], "pullPolicy": "Always"},
            })
        );
        assert_eq!(
            names(&moved),
            [
                "spec.controlPlane.autoscaling.min is now spec.controlPlane.autoscaling.minReplicas",
                "spec.controlPlane.autoscaling.max is now spec.controlPlane.autoscaling.maxReplicas",
                "spec.controlPlane.autoscaling.targetCPU is now \
                 spec.controlPlane.autoscaling.targetCPUUtilizationPercentage",
                "spec.gateways[edge].autoscaling.max is now spec.gateways[edge].autoscaling.maxReplicas",
                "spec.images.pullSecrets is now spec.images.imagePullSecrets",
            ]
        );
        assert_eq!(migrate(&mut spec), []);
    }

    #[test]
    fn finds_old_names_in_managed_fields() {
        let fields = json!({"f:spec": {
            "f:controlPlane": {"f:autoscaling": {".": {}, "f:max": {}}},
            "f:gateways": {"k:{\"name\":\"edge\"}": {".": {}, "f:name": {}, "f:autoscaling": {"f:min": {}}}},
            "f:images": {"f:pullSecrets": {}},
        }});
        let entry = ManagedFieldsEntry { fields_v1: Some(FieldsV1(fields)), ..ManagedFieldsEntry::default() };
        assert_eq!(in_managed_fields(&entry).len(), 3);
        assert_eq!(in_managed_fields(&ManagedFieldsEntry::default()), []);
    }

    #[test]
    fn reports_dropped_fields_until_the_spec_changes() {
        let stored = migrate(&mut json!({"images": {"pullSecrets": ["key"]}}));
        let manager = |operation: &str| json!({"manager": "kubectl", "operation": operation, "fieldsV1": {"f:spec": {"f:images": {"f:pullSecrets": {}}}}});
        let installation = |generation: i64, observed: i64, images: &Value, managers: Value| -> MeshInstallation {
            serde_json::from_value(json!({
                "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
                "metadata": {"name": "mesh", "generation": generation, "managedFields": managers},
                "spec": {"version": "1.31.2", "images": images},
                "status": {"observedGeneration": observed},
            }))
            .unwrap()
        };
        let none = json!({});
        let set = json!({"imagePullSecrets": [{"name": "key"}]});
        let count = |installation: &MeshInstallation| dropped(installation, Some(&stored)).len();
        assert_eq!(count(&installation(2, 2, &none, json!([]))), 1, "from the revision");
        let update = installation(2, 2, &none, json!([manager("Update")]));
        assert_eq!(dropped(&update, None).len(), 1, "from managedFields");
        assert_eq!(dropped(&update, Some(&[])).len(), 0, "accepted under the new names");
        assert_eq!(count(&installation(2, 2, &set, json!([manager("Apply")]))), 0, "set under the new name");
        assert_eq!(count(&installation(3, 2, &none, json!([manager("Update")]))), 0, "changed by a user");
        assert_eq!(count(&installation(3, 2, &none, json!([manager("Apply")]))), 1, "still in an applied manifest");
    }

    #[test]
    fn accepts_value_under_new_name() {
        let mut old = json!({"images": {"pullSecrets": ["key"]}, "controlPlane": {"autoscaling": {"max": 3}}});
        let [autoscaling, secrets] = &migrate(&mut old)[..] else { panic!("two fields") };
        // What the API server leaves of it, with its defaults.
        let pruned = json!({"images": {}, "controlPlane": {"autoscaling": {"minReplicas": 1}}});
        assert!(is_missing(autoscaling, &pruned) && is_missing(secrets, &pruned));
        let present = json!({"images": {"imagePullSecrets": []}, "controlPlane": {"autoscaling": {"maxReplicas": 3}}});
        assert!(!is_missing(autoscaling, &present) && !is_missing(secrets, &present));
    }
}
