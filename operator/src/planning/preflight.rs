//! Problems that would block an upgrade, as far as they can be found by reading.

use std::collections::BTreeSet;
use std::sync::Arc;

use meshwright_api::conditions::Reason;
use serde_json::Value;

use super::objects::{LiveObjects, ObjectAction, ObjectChange};
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::object::DesiredObject;

/// CRDs that would lose a stored version, which the API server rejects.
#[must_use]
pub fn lost_versions(desired: &[Arc<DesiredObject>], live: &LiveObjects, changes: &[ObjectChange]) -> Vec<Blocker> {
    let crds = changes
        .iter()
        .filter(|change| change.key.kind == Kind::CustomResourceDefinition && change.action == ObjectAction::Update);
    let lost = crds.filter_map(|change| {
        let wanted = desired.iter().find(|desired| desired.key == change.key)?.value();
        let kept: BTreeSet<&str> = texts(&wanted, "/spec/versions", "/name").collect();
        let stored = texts(live.get(&change.key)?, "/status/storedVersions", "");
        let lost: Vec<&str> = stored.filter(|version| !kept.contains(version)).collect();
        (!lost.is_empty()).then(|| Blocker {
            reason: Reason::ObjectRejected,
            message: format!(
                "{} would lose the stored version {}; migrate the stored resources to a remaining version and remove the old \
                 one from status.storedVersions",
                change.key,
                lost.join(", ")
            ),
        })
    });
    lost.collect()
}

fn texts<'v>(object: &'v Value, list: &str, inner: &'v str) -> impl Iterator<Item = &'v str> {
    let elements = object.pointer(list).and_then(Value::as_array).into_iter().flatten();
    elements.filter_map(move |element| element.pointer(inner)?.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::{Component, Owner};

    fn messages(served: &[&str], stored: &[&str]) -> Vec<String> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let versions: Vec<Value> = served.iter().map(|name| json!({"name": name})).collect();
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "gateways.networking.istio.io"}, "spec": {"versions": versions}});
        let desired = Arc::new(DesiredObject::from_rendered(crd, &Component::Base, &owner, "x").unwrap());
        let key = desired.key.clone();
        let live = LiveObjects::from([(key.clone(), json!({"status": {"storedVersions": stored}}))]);
        let change = ObjectChange { action: ObjectAction::Update, key, component: None, fields: Vec::new() };
        lost_versions(&[desired], &live, &[change]).into_iter().map(|blocker| blocker.message).collect()
    }

    #[test]
    fn blocks_removal_of_stored_versions() {
        let found = messages(&["v1"], &["v1alpha3", "v1"]);
        assert!(found.len() == 1 && found[0].contains("would lose the stored version v1alpha3"), "{found:?}");
        assert_eq!(messages(&["v1", "v1beta1"], &["v1"]), [""; 0]);
    }
}
