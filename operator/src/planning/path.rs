//! The way on which a running mesh moves: the operator's own route, and what each step of it writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwright_api::{UpgradeDirection, UpgradeStep};
use serde::Serialize;

use super::State;
use super::objects::{ObjectAction, ObjectChange};
use crate::mesh::object::{AdmitObjectError, Desired, ObjectKey};
use crate::mesh::upgrade::Route;

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathStep {
    /// Its name, as status tells it.
    pub step: String,
    /// The objects that it makes, changes or deletes; empty for a step that only proves something.
    pub writes: Vec<String>,
}

/// The steps that have something to do, in their order. `sources` are the states that the mesh may be in, the most trusted
/// first.
pub fn path(
    direction: UpgradeDirection,
    sources: &[State],
    target: &[Arc<Desired>],
    changes: &[ObjectChange],
) -> Result<Vec<PathStep>, AdmitObjectError> {
    let sources: Vec<&[Arc<Desired>]> = sources.iter().map(Vec::as_slice).collect();
    let route = Route::new(direction, target, &sources, true)?;
    let by_key: BTreeMap<&ObjectKey, &ObjectChange> = changes.iter().map(|change| (&change.key, change)).collect();
    let mut steps = Vec::new();
    for (at, step) in route.steps.iter().enumerate() {
        let moved = route.moved_by(at).filter(|desired| by_key.contains_key(&desired.key));
        let writes: Vec<String> = moved.map(|desired| desired.key.to_string()).collect();
        if !writes.is_empty() || step.name == UpgradeStep::Injection {
            steps.push(PathStep { step: step.to_string(), writes });
        }
    }
    if steps.iter().all(|step| step.writes.is_empty()) {
        steps.clear();
    }
    let gone = changes.iter().filter(|change| change.action == ObjectAction::Delete);
    let gone: Vec<String> = gone.map(|change| change.key.to_string()).collect();
    if !gone.is_empty() {
        steps.push(PathStep { step: UpgradeStep::CleanUp.as_str().to_owned(), writes: gone });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::super::objects::{Objects, outcome};
    use super::*;
    use crate::mesh::object::{Component, Owner};

    fn owner(patch: u64) -> Owner {
        Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, patch) }
    }

    fn object(api_version: &str, kind: &str, component: &Component, patch: u64) -> Arc<Desired> {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "data": {"v": patch}});
        Arc::new(Desired::admit(object, component, &owner(patch), "istio-system").unwrap())
    }

    fn mesh(patch: u64, gateways: &[&str]) -> Vec<Arc<Desired>> {
        let own = [("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("rbac.authorization.k8s.io/v1", "ClusterRole")];
        let own = own.iter().map(|(api_version, kind)| object(api_version, kind, &Component::Istiod, patch));
        let gateways = gateways.iter().map(|name| {
            let deployment =
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "data": patch});
            let component = Component::Gateway((*name).to_owned());
            Arc::new(Desired::admit(deployment, &component, &owner(patch), "edge").unwrap())
        });
        own.chain(gateways).collect()
    }

    fn way(source: &[Arc<Desired>], target: &[Arc<Desired>]) -> Vec<(String, String)> {
        let live: Objects = source.iter().map(|desired| (desired.key.clone(), desired.value())).collect();
        let changes = outcome(target, &live, &owner(2), &BTreeSet::new()).changes;
        let steps = path(UpgradeDirection::Forward, &[source.to_vec()], target, &changes).unwrap();
        steps.into_iter().map(|step| (step.step, step.writes.join(", "))).collect()
    }

    #[test]
    fn each_step_has_what_changes_in_it_and_steps_with_nothing_to_do_are_left_out() {
        let told = way(&mesh(1, &["a", "b"]), &mesh(2, &["a"]));
        let expected = [
            ("Rights", "ClusterRole x"),
            ("ControlPlane", "Deployment istio-system/x"),
            ("Configuration", "ConfigMap istio-system/x"),
            ("Injection", ""),
            ("Gateway a", "Deployment edge/a"),
            ("CleanUp", "Deployment edge/b"),
        ];
        assert_eq!(told, expected.map(|(step, writes)| (step.to_owned(), writes.to_owned())));
    }
}
