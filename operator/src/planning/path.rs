//! The way on which a running mesh moves: the operator's own route, and what each step of it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;
use meshwright_api::{UpgradeDirection, UpgradeStep};
use serde::Serialize;

use super::State;
use super::objects::{ObjectAction, ObjectChange};
use crate::mesh::kind::Kind;
use crate::mesh::live::LiveObjects;
use crate::mesh::object::{AdmitObjectError, Desired, ObjectKey};
use crate::mesh::revisions::{DEFAULT, Part, REVISION_LABEL, of_part};
use crate::mesh::upgrade::Route;

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathStep {
    /// Its name, as status tells it.
    pub step: String,
    /// The objects that it makes, changes or deletes; empty for a step that only proves something.
    pub writes: Vec<String>,
    /// What else there is to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A control plane that another one takes the place of, beside which it stands.
#[derive(Debug)]
pub struct Retiring<'a> {
    /// Its revision.
    pub revision: String,
    /// What of it goes in the end.
    pub objects: BTreeSet<&'a ObjectKey>,
}

impl Retiring<'_> {
    /// When it goes, if nobody is to use it for so long before.
    #[must_use]
    pub fn when(&self, unused: SignedDuration) -> String {
        format!("when no pod has used revision {} for {unused:#}", self.revision)
    }
}

/// The control plane that goes from the first of these states that has another one than the target.
#[must_use]
pub fn retiring<'a>(sources: &'a [State], target: &[Arc<Desired>]) -> Option<Retiring<'a>> {
    let stays = |key: &ObjectKey| target.iter().any(|desired| desired.key == *key);
    sources.iter().find_map(|source| {
        let own = || of_part(source, Part::ControlPlane).filter(|object| !stays(&object.key));
        let istiod = own().find(|object| object.key.kind == Kind::Deployment)?.value();
        let label = istiod.pointer("/metadata/labels").and_then(|labels| labels.get(REVISION_LABEL)?.as_str());
        let objects = own().map(|object| &object.key).collect();
        Some(Retiring { revision: label.unwrap_or(DEFAULT).to_owned(), objects })
    })
}

/// The steps that have something to do, in their order. `sources` are the states that the mesh may be in, the most trusted
/// first; `unused` is how long nobody must have used a control plane before it goes.
pub fn path(
    direction: UpgradeDirection,
    sources: &[State],
    target: &[Arc<Desired>],
    live: &LiveObjects,
    changes: &[ObjectChange],
    unused: SignedDuration,
) -> Result<Vec<PathStep>, AdmitObjectError> {
    let retiring = retiring(sources, target);
    let sources: Vec<&[Arc<Desired>]> = sources.iter().map(Vec::as_slice).collect();
    let route = Route::new(direction, target, &sources, true)?;
    let by_key: BTreeMap<&ObjectKey, &ObjectChange> = changes.iter().map(|change| (&change.key, change)).collect();
    let mut steps = Vec::new();
    for (at, step) in route.steps.iter().enumerate() {
        let moved = route.moved_by(at).filter(|desired| by_key.contains_key(&desired.key));
        let mut writes: Vec<String> = moved.map(|desired| desired.key.to_string()).collect();
        let note = match (step.name, &retiring) {
            (UpgradeStep::ControlPlane, Some(Retiring { revision, .. })) => {
                Some(format!("revision {revision} serves on beside it"))
            }
            (UpgradeStep::Tags, Some(Retiring { revision, .. })) => {
                let asleep: Vec<String> = route.awake(live).map(ToString::to_string).collect();
                writes.extend(asleep.iter().cloned());
                let takes = |names: String| format!("{names} of revision {revision} takes no more pods");
                (!asleep.is_empty()).then(|| takes(asleep.join(", ")))
            }
            _ => None,
        };
        if !writes.is_empty() || step.name == UpgradeStep::Injection {
            steps.push(PathStep { step: step.to_string(), writes, note });
        }
    }
    if steps.iter().all(|step| step.writes.is_empty()) {
        steps.clear();
    }
    let is_kept = |key: &ObjectKey| retiring.as_ref().is_some_and(|retiring| retiring.objects.contains(key));
    let gone = changes.iter().filter(|change| change.action == ObjectAction::Delete).map(|change| &change.key);
    let (kept, gone): (Vec<&ObjectKey>, Vec<&ObjectKey>) = gone.partition(|key| is_kept(key));
    let when = retiring.as_ref().map(|retiring| retiring.when(unused));
    for (keys, note) in [(gone, None), (kept, when)] {
        if !keys.is_empty() {
            let writes = keys.into_iter().map(ToString::to_string).collect();
            steps.push(PathStep { step: UpgradeStep::CleanUp.as_str().to_owned(), writes, note });
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meshwright_api::Adoption;
    use serde_json::{Value, json};

    use super::super::objects::{Objects, outcome, reduce};
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

    fn steps(source: &[Arc<Desired>], target: &[Arc<Desired>]) -> Vec<PathStep> {
        let live: Objects = source.iter().map(|desired| (desired.key.clone(), desired.value())).collect();
        let changes = outcome(target, &live, &owner(2), &BTreeSet::new(), Adoption::Refuse).changes;
        let (sources, live) = ([source.to_vec()], reduce(target, &live));
        path(UpgradeDirection::Forward, &sources, target, &live, &changes, SignedDuration::from_mins(5)).unwrap()
    }

    fn way(source: &[Arc<Desired>], target: &[Arc<Desired>]) -> Vec<(String, String)> {
        steps(source, target).into_iter().map(|step| (step.step, step.writes.join(", "))).collect()
    }

    /// A control plane of a revision, and the default's webhook as a tag where that is named.
    fn control_plane(revision: Option<&str>, tag: bool) -> Vec<Arc<Desired>> {
        let suffix = revision.map(|name| format!("-{name}")).unwrap_or_default();
        let labels = json!({"istio.io/rev": revision.unwrap_or("default")});
        let admit = |object: Value, component: &Component| {
            Arc::new(Desired::admit(object, component, &owner(2), "istio-system").unwrap())
        };
        let webhook = |name: String| {
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": name, "labels": labels}, "webhooks": [{"name": "x"}]})
        };
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": format!("istiod{suffix}"), "labels": labels}});
        let mut objects = vec![
            admit(deployment, &Component::Istiod),
            admit(webhook(format!("istio-sidecar-injector{suffix}")), &Component::Istiod),
        ];
        if tag {
            objects.push(admit(webhook("istio-revision-tag-default".into()), &Component::Tag("default".into())));
        }
        objects
    }

    #[test]
    fn a_canary_stands_up_beside_what_runs_takes_its_tags_over_and_outlives_it() {
        let told = steps(&control_plane(None, false), &control_plane(Some("new"), true));
        let [control_plane, configuration, injection, tags, clean_up] = told.as_slice() else { panic!("{told:#?}") };
        assert_eq!(control_plane.writes, ["Deployment istio-system/istiod-new"]);
        assert_eq!(control_plane.note.as_deref(), Some("revision default serves on beside it"));
        assert_eq!(configuration.writes, ["MutatingWebhookConfiguration istio-sidecar-injector-new"]);
        assert_eq!((injection.step.as_str(), injection.writes.len()), ("Injection", 0));
        let old = "MutatingWebhookConfiguration istio-sidecar-injector";
        assert_eq!(tags.writes, ["MutatingWebhookConfiguration istio-revision-tag-default", old]);
        assert_eq!(tags.note.as_ref().unwrap(), &format!("{old} of revision default takes no more pods"));
        assert_eq!((clean_up.step.as_str(), clean_up.writes.len()), ("CleanUp", 2));
        assert_eq!(clean_up.note.as_deref(), Some("when no pod has used revision default for 5m"));
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
