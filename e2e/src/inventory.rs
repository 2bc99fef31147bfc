//! Snapshot of all objects of an installation, for comparison with a later snapshot.

use std::collections::BTreeMap;

use kube::Client;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use serde_json::Value;

use crate::TestResult;

/// Label with the name of the object's installation.
const INSTALLATION_LABEL: &str = "meshwright.dev/installation";
/// Label with the name of the object's component.
const COMPONENT_LABEL: &str = "meshwright.dev/component";
/// Prefix of the component names of add-ons.
const ADD_ON_PREFIX: &str = "addon.";
/// Annotation with the installation's UID. Controllers copy a Service's labels, but not this annotation, to its
/// endpoints.
const UID_ANNOTATION: &str = "meshwright.dev/installation-uid";

/// Annotation with the hash of the applied object.
const HASH_ANNOTATION: &str = "meshwright.dev/desired-hash";

/// Objects by kind, namespace and name, without status and server-set metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory(BTreeMap<String, Value>);

impl Inventory {
    /// Reads all objects of any kind with the installation's label.
    pub async fn read(client: &Client, installation: &str) -> TestResult<Self> {
        let params = ListParams::default().labels(&format!("{INSTALLATION_LABEL}={installation}"));
        let mut objects = BTreeMap::new();
        for group in Discovery::new(client.clone()).run().await?.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                // Revision history isn't part of the mesh and grows with every accepted spec.
                if resource.kind == "ControllerRevision" || !capabilities.supports_operation(verbs::LIST) {
                    continue;
                }
                let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                for object in api
                    .list(&params)
                    .await?
                    .into_iter()
                    .filter(|object| object.annotations().contains_key(UID_ANNOTATION))
                {
                    let namespace = object.namespace().unwrap_or_default();
                    let key = format!("{} {namespace}/{}", resource.kind, object.name_any());
                    objects.insert(key, strip_server_fields(serde_json::to_value(object)?));
                }
            }
        }
        Ok(Self(objects))
    }

    /// Differences to a later snapshot, one line per object and field.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, before) in &self.0 {
            let Some(after) = now.0.get(key) else {
                lines.push(format!("{key}: deleted"));
                continue;
            };
            for operation in &json_patch::diff(before, after).0 {
                lines.push(format!("{key}: {operation}"));
            }
        }
        lines.extend(now.0.keys().filter(|key| !self.0.contains_key(*key)).map(|key| format!("{key}: created")));
        lines
    }

    /// Removes what differs after a reinstallation: UID and hash annotations, CA bundles, and cluster IPs.
    #[must_use]
    pub fn without_instance_fields(self) -> Self {
        Self(self.0.into_iter().map(|(key, object)| (key, strip_instance_fields(object))).collect())
    }

    /// Removes the objects of add-ons, whose charts ship with the operator and change with its version.
    #[must_use]
    pub fn without_add_ons(mut self) -> Self {
        let is_add_on = |object: &Value| {
            let labels = object.pointer("/metadata/labels");
            let component = labels.and_then(|labels| labels.get(COMPONENT_LABEL)?.as_str());
            component.is_some_and(|component| component.starts_with(ADD_ON_PREFIX))
        };
        self.0.retain(|_, object| !is_add_on(object));
        self
    }

    /// Keys of all objects, such as `ConfigMap istio-system/istio`.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Removes status and server-set metadata.
fn strip_server_fields(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    for field in ["resourceVersion", "uid", "generation", "managedFields", "creationTimestamp"] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        // The Deployment controller increments this with every rollout.
        annotations.remove("deployment.kubernetes.io/revision");
    }
    object
}

fn strip_instance_fields(mut object: Value) -> Value {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        // The hash covers the UID annotation.
        annotations.retain(|key, _| key != UID_ANNOTATION && key != HASH_ANNOTATION);
    }
    if let Some(spec) = object.pointer_mut("/spec").and_then(Value::as_object_mut) {
        // "None" is part of the spec; the API server assigns any other value.
        spec.retain(|key, value| key != "clusterIP" && key != "clusterIPs" || value.to_string().contains("None"));
    }
    for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(bundle) = webhook.pointer_mut("/clientConfig/caBundle") {
            *bundle = "set".into();
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inventory(objects: &[(&str, Value)]) -> Inventory {
        Inventory(
            objects.iter().map(|(key, object)| ((*key).to_owned(), strip_server_fields(object.clone()))).collect(),
        )
    }

    #[test]
    fn ignores_server_set_fields() {
        let object = |version: &str, status: i32| {
            json!({
                "metadata": {"name": "a", "resourceVersion": version, "generation": 3}, "data": {"k": "v"},
                "status": status,
            })
        };
        let (was, is) = (inventory(&[("A /a", object("1", 1))]), inventory(&[("A /a", object("2", 2))]));
        assert_eq!(was.differences(&is), Vec::<String>::new());
    }

    #[test]
    fn ignores_fields_that_change_with_reinstallation() {
        let installed = |uid: &str, address: &str, bundle: &str| {
            let object = json!({
                "metadata": {"name": "a", "annotations": {UID_ANNOTATION: uid, HASH_ANNOTATION: uid, "kept": "1"}},
                "spec": {"clusterIP": address}, "webhooks": [{"clientConfig": {"caBundle": bundle}}],
            });
            inventory(&[("A /a", object)]).without_instance_fields()
        };
        assert_eq!(installed("1", "10.0.0.1", "x").differences(&installed("2", "10.0.0.2", "y")), Vec::<String>::new());
        assert_eq!(installed("1", "10.0.0.1", "x").differences(&installed("1", "None", "x")).len(), 1);
    }

    #[test]
    fn removes_addon_objects() {
        let labelled = |component: &str| json!({"metadata": {"labels": {COMPONENT_LABEL: component}}});
        let all = inventory(&[("A /a", labelled("istiod")), ("B /b", labelled("addon.kiali")), ("C /c", json!({}))]);
        assert_eq!(all.without_add_ons().keys().collect::<Vec<_>>(), ["A /a", "C /c"]);
    }

    #[test]
    fn reports_created_changed_and_deleted_objects() {
        let before = inventory(&[("A /a", json!({"data": {"k": "v"}})), ("B /b", json!({}))]);
        let after = inventory(&[("A /a", json!({"data": {"k": "w"}})), ("C /c", json!({}))]);
        let lines = before.differences(&after);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("/data/k"), "{lines:?}");
        assert_eq!(lines[1..], ["B /b: deleted", "C /c: created"]);
    }
}
