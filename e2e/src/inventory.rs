//! All objects of an installation as they are, to be compared with what they were.

use std::collections::BTreeMap;

use kube::Client;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use serde_json::Value;

use crate::TestResult;

/// The operator's label that names an object's installation.
const INSTALLATION: &str = "meshwright.dev/installation";
/// The operator's label that names an object's component, and how those of add-ons begin.
const COMPONENT: &str = "meshwright.dev/component";
const ADD_ON: &str = "addon.";
/// The operator's annotation with the installation's UID. Controllers copy a Service's labels to its endpoints, not this.
const UID: &str = "meshwright.dev/installation-uid";

/// The operator's annotation with the hash of what it has applied.
const HASH: &str = "meshwright.dev/desired-hash";

/// Objects by kind, namespace and name, without what a server or a controller says of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory(BTreeMap<String, Value>);

impl Inventory {
    /// All objects that carry an installation's mark, whatever their kind.
    pub async fn of(client: &Client, installation: &str) -> TestResult<Self> {
        let params = ListParams::default().labels(&format!("{INSTALLATION}={installation}"));
        let mut objects = BTreeMap::new();
        for group in Discovery::new(client.clone()).run().await?.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                // The operator's memory of specs isn't part of the mesh, and grows with each.
                if resource.kind == "ControllerRevision" || !capabilities.supports_operation(verbs::LIST) {
                    continue;
                }
                let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                for object in
                    api.list(&params).await?.into_iter().filter(|object| object.annotations().contains_key(UID))
                {
                    let namespace = object.namespace().unwrap_or_default();
                    let key = format!("{} {namespace}/{}", resource.kind, object.name_any());
                    objects.insert(key, stripped(serde_json::to_value(object)?));
                }
            }
        }
        Ok(Self(objects))
    }

    /// What is different there, a line for each object and field; empty if nothing is.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, was) in &self.0 {
            let Some(is) = now.0.get(key) else {
                lines.push(format!("{key}: gone"));
                continue;
            };
            for operation in &json_patch::diff(was, is).0 {
                lines.push(format!("{key}: {operation}"));
            }
        }
        lines.extend(now.0.keys().filter(|key| !self.0.contains_key(*key)).map(|key| format!("{key}: new")));
        lines
    }

    /// Without what another life of the same installation has differently: marks that name it, its certificate
    /// authority, and addresses.
    #[must_use]
    pub fn of_any_life(self) -> Self {
        Self(self.0.into_iter().map(|(key, object)| (key, without_life(object))).collect())
    }

    /// Without the objects of add-ons, which come with the operator: another operator may bring others.
    #[must_use]
    pub fn without_add_ons(mut self) -> Self {
        let is_add_ons = |object: &Value| {
            let labels = object.pointer("/metadata/labels");
            let component = labels.and_then(|labels| labels.get(COMPONENT)?.as_str());
            component.is_some_and(|component| component.starts_with(ADD_ON))
        };
        self.0.retain(|_, object| !is_add_ons(object));
        self
    }

    /// The keys of all objects, such as `ConfigMap istio-system/istio`.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Without status, and without the marks of time and of the server.
fn stripped(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    for field in ["resourceVersion", "uid", "generation", "managedFields", "creationTimestamp"] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        // Counts the templates that a Deployment has had.
        annotations.remove("deployment.kubernetes.io/revision");
    }
    object
}

fn without_life(mut object: Value) -> Value {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        // The hash is of all that is applied, the UID's mark with it.
        annotations.retain(|key, _| key != UID && key != HASH);
    }
    if let Some(spec) = object.pointer_mut("/spec").and_then(Value::as_object_mut) {
        // "None" is a choice, anything else was handed out.
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
        Inventory(objects.iter().map(|(key, object)| ((*key).to_owned(), stripped(object.clone()))).collect())
    }

    #[test]
    fn what_only_the_server_changed_is_no_difference() {
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
    fn another_life_differs_by_no_more_than_marks_authority_and_addresses() {
        let life = |uid: &str, address: &str, bundle: &str| {
            let object = json!({
                "metadata": {"name": "a", "annotations": {UID: uid, HASH: uid, "kept": "1"}},
                "spec": {"clusterIP": address}, "webhooks": [{"clientConfig": {"caBundle": bundle}}],
            });
            inventory(&[("A /a", object)]).of_any_life()
        };
        assert_eq!(life("1", "10.0.0.1", "x").differences(&life("2", "10.0.0.2", "y")), Vec::<String>::new());
        assert_eq!(life("1", "10.0.0.1", "x").differences(&life("1", "None", "x")).len(), 1);
    }

    #[test]
    fn what_comes_with_the_operator_can_be_left_out() {
        let of = |component: &str| json!({"metadata": {"labels": {COMPONENT: component}}});
        let all = inventory(&[("A /a", of("istiod")), ("B /b", of("addon.kiali")), ("C /c", json!({}))]);
        assert_eq!(all.without_add_ons().keys().collect::<Vec<_>>(), ["A /a", "C /c"]);
    }

    #[test]
    fn gone_new_and_changed_objects_are_told() {
        let was = inventory(&[("A /a", json!({"data": {"k": "v"}})), ("B /b", json!({}))]);
        let is = inventory(&[("A /a", json!({"data": {"k": "w"}})), ("C /c", json!({}))]);
        let told = was.differences(&is);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("/data/k") && told[1] == "B /b: gone" && told[2] == "C /c: new", "{told:?}");
    }
}
