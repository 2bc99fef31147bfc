//! What keeps a running mesh from being moved, as far as reading shows it before anything is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use meshwright_api::conditions::Reason;
use serde_json::Value;

use super::objects::{ObjectAction, ObjectChange, Objects};
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::object::Desired;

/// Definitions that would lose a version in which objects are stored: the API server refuses them.
#[must_use]
pub fn lost_versions(desired: &[Arc<Desired>], live: &Objects, changes: &[ObjectChange]) -> Vec<Blocker> {
    let definitions = changes
        .iter()
        .filter(|change| change.key.kind == Kind::CustomResourceDefinition && change.action == ObjectAction::Update);
    let lost = definitions.filter_map(|change| {
        let wanted = desired.iter().find(|desired| desired.key == change.key)?.value();
        let kept: BTreeSet<&str> = texts(&wanted, "/spec/versions", "/name").collect();
        let stored = texts(live.get(&change.key)?, "/status/storedVersions", "");
        let lost: Vec<&str> = stored.filter(|version| !kept.contains(version)).collect();
        (!lost.is_empty()).then(|| Blocker {
            reason: Reason::ObjectRefused,
            message: format!(
                "{} would lose {}, in which objects are stored: write them anew in a version that stays, and take the old \
                 one out of its status.storedVersions",
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

    fn told(served: &[&str], stored: &[&str]) -> Vec<String> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let versions: Vec<Value> = served.iter().map(|name| json!({"name": name})).collect();
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "gateways.networking.istio.io"}, "spec": {"versions": versions}});
        let desired = Arc::new(Desired::admit(definition, &Component::Base, &owner, "x").unwrap());
        let key = desired.key.clone();
        let live = Objects::from([(key.clone(), json!({"status": {"storedVersions": stored}}))]);
        let change = ObjectChange { action: ObjectAction::Update, key, component: None, fields: Vec::new() };
        lost_versions(&[desired], &live, &[change]).into_iter().map(|refused| refused.message).collect()
    }

    #[test]
    fn a_definition_that_drops_a_stored_version_is_refused_with_the_way_out() {
        let told_of = told(&["v1"], &["v1alpha3", "v1"]);
        assert!(told_of.len() == 1 && told_of[0].contains("would lose v1alpha3"), "{told_of:?}");
        assert_eq!(told(&["v1", "v1beta1"], &["v1"]), [""; 0]);
    }
}
