//! The steps of an upgrade and the resources that each of them writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;
use meshwright_api::{UpgradeDirection, UpgradeStep};
use serde::Serialize;

use super::MeshState;
use super::objects::{ObjectAction, ObjectChange};
use crate::mesh::kind::Kind;
use crate::mesh::object::{DesiredObject, ObjectKey, ParseObjectError};
use crate::mesh::observed::ObservedObjects;
use crate::mesh::revisions::{DEFAULT, MeshPart, REVISION_LABEL, objects_of_part};
use crate::mesh::upgrade::{ConfigurationOrder, UpgradePlan, is_same_release};

/// One step of the upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// Name of the step, as in status.upgrade.
    pub step: String,
    /// The resources that the step creates, changes or deletes; empty for the injection check.
    pub writes: Vec<String>,
    /// Additional information about the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A control plane that a new one replaces while both run.
#[derive(Debug)]
pub struct RetiringControlPlane<'a> {
    /// Revision of the control plane.
    pub revision: String,
    /// The resources to delete.
    pub objects: BTreeSet<&'a ObjectKey>,
}

impl RetiringControlPlane<'_> {
    /// When the operator deletes it, with the given idle time.
    #[must_use]
    pub fn when(&self, retire_after: SignedDuration) -> String {
        format!("when no pod has used revision {} for {retire_after:#}", self.revision)
    }
}

/// The control plane of the first of these revisions that isn't part of the target.
#[must_use]
pub fn retiring<'a>(sources: &'a [MeshState], target: &[Arc<DesiredObject>]) -> Option<RetiringControlPlane<'a>> {
    let stays = |key: &ObjectKey| target.iter().any(|desired| desired.key == *key);
    sources.iter().find_map(|source| {
        let own = || objects_of_part(source, MeshPart::ControlPlane).filter(|object| !stays(&object.key));
        let istiod = own().find(|object| object.key.kind == Kind::Deployment)?.value();
        let label = istiod.pointer("/metadata/labels").and_then(|labels| labels.get(REVISION_LABEL)?.as_str());
        let objects = own().map(|object| &object.key).collect();
        Some(RetiringControlPlane { revision: label.unwrap_or(DEFAULT).to_owned(), objects })
    })
}

/// The steps with changes, in order. `sources` are the revisions that may be deployed, most trusted first; a retired
/// control plane is deleted when no pod has used it for `retire_after`.
pub fn planned_steps(
    direction: UpgradeDirection,
    sources: &[MeshState],
    target: &[Arc<DesiredObject>],
    live: &ObservedObjects,
    changes: &[ObjectChange],
    retire_after: SignedDuration,
) -> Result<Vec<PlannedStep>, ParseObjectError> {
    let retiring = retiring(sources, target);
    let sources: Vec<&[Arc<DesiredObject>]> = sources.iter().map(Vec::as_slice).collect();
    // The others were tried since, or are no longer live.
    let same_release = is_same_release(target, sources.get(..1).unwrap_or_default());
    let order = ConfigurationOrder::new(direction, same_release, false);
    let upgrade = UpgradePlan::new(direction, order, target, &sources, true)?;
    let by_key: BTreeMap<&ObjectKey, &ObjectChange> = changes.iter().map(|change| (&change.key, change)).collect();
    let mut steps = Vec::new();
    for (at, step) in upgrade.steps.iter().enumerate() {
        let in_step = upgrade.objects_of_step(at).filter(|desired| by_key.contains_key(&desired.key));
        let mut writes: Vec<String> = in_step.map(|desired| desired.key.to_string()).collect();
        let note = match (step.name, &retiring) {
            (UpgradeStep::ControlPlane, Some(RetiringControlPlane { revision, .. })) => {
                Some(format!("revision {revision} keeps serving"))
            }
            (UpgradeStep::Tags, Some(RetiringControlPlane { revision, .. })) => {
                let deactivated: Vec<String> = upgrade.active_injectors(live).map(ToString::to_string).collect();
                writes.extend(deactivated.iter().cloned());
                let note = |names: String| format!("{names} of revision {revision} no longer injects pods");
                (!deactivated.is_empty()).then(|| note(deactivated.join(", ")))
            }
            _ => None,
        };
        if !writes.is_empty() || step.name == UpgradeStep::InjectionCheck {
            steps.push(PlannedStep { step: step.to_string(), writes, note });
        }
    }
    if steps.iter().all(|step| step.writes.is_empty()) {
        steps.clear();
    }
    let is_kept = |key: &ObjectKey| retiring.as_ref().is_some_and(|retiring| retiring.objects.contains(key));
    let deleted = changes.iter().filter(|change| change.action == ObjectAction::Delete).map(|change| &change.key);
    let (kept, deleted): (Vec<&ObjectKey>, Vec<&ObjectKey>) = deleted.partition(|key| is_kept(key));
    let when = retiring.as_ref().map(|retiring| retiring.when(retire_after));
    for (keys, note) in [(deleted, None), (kept, when)] {
        if !keys.is_empty() {
            let writes = keys.into_iter().map(ToString::to_string).collect();
            steps.push(PlannedStep { step: UpgradeStep::CleanUp.as_str().to_owned(), writes, note });
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meshwright_api::Adoption;
    use serde_json::{Value, json};

    use super::super::objects::{LiveObjects, diff_objects, reduce};
    use super::*;
    use crate::mesh::object::{Component, Owner};

    fn owner(patch: u64) -> Owner {
        Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, patch) }
    }

    fn object(api_version: &str, kind: &str, component: &Component, patch: u64) -> Arc<DesiredObject> {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "data": {"v": patch}});
        Arc::new(DesiredObject::from_rendered(object, component, &owner(patch), "istio-system").unwrap())
    }

    fn mesh(patch: u64, gateways: &[&str]) -> Vec<Arc<DesiredObject>> {
        let own = [("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("rbac.authorization.k8s.io/v1", "ClusterRole")];
        let own = own.iter().map(|(api_version, kind)| object(api_version, kind, &Component::Istiod, patch));
        let gateways = gateways.iter().map(|name| {
            let deployment =
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "data": patch});
            let component = Component::Gateway((*name).to_owned());
            Arc::new(DesiredObject::from_rendered(deployment, &component, &owner(patch), "edge").unwrap())
        });
        own.chain(gateways).collect()
    }

    fn steps(source: &[Arc<DesiredObject>], target: &[Arc<DesiredObject>]) -> Vec<PlannedStep> {
        let live: LiveObjects = source.iter().map(|desired| (desired.key.clone(), desired.value())).collect();
        let changes = diff_objects(target, &live, &owner(2), &BTreeSet::new(), Adoption::Refuse).changes;
        let (sources, live) = ([source.to_vec()], reduce(target, &live));
        planned_steps(UpgradeDirection::Forward, &sources, target, &live, &changes, SignedDuration::from_mins(5))
            .unwrap()
    }

    fn step_writes(source: &[Arc<DesiredObject>], target: &[Arc<DesiredObject>]) -> Vec<(String, String)> {
        steps(source, target).into_iter().map(|step| (step.step, step.writes.join(", "))).collect()
    }

    /// A control plane of a revision, and the default's webhook as a tag where that is named.
    fn control_plane(revision: Option<&str>, tag: bool) -> Vec<Arc<DesiredObject>> {
        let suffix = revision.map(|name| format!("-{name}")).unwrap_or_default();
        let labels = json!({"istio.io/rev": revision.unwrap_or("default")});
        let admit = |object: Value, component: &Component| {
            Arc::new(DesiredObject::from_rendered(object, component, &owner(2), "istio-system").unwrap())
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
    fn canary_steps_keep_old_revision_until_unused() {
        let messages = steps(&control_plane(None, false), &control_plane(Some("new"), true));
        let [control_plane, configuration, injection, tags, clean_up] = messages.as_slice() else {
            panic!("{messages:#?}")
        };
        assert_eq!(control_plane.writes, ["Deployment istio-system/istiod-new"]);
        assert_eq!(control_plane.note.as_deref(), Some("revision default keeps serving"));
        assert_eq!(configuration.writes, ["MutatingWebhookConfiguration istio-sidecar-injector-new"]);
        assert_eq!((injection.step.as_str(), injection.writes.len()), ("InjectionCheck", 0));
        let old = "MutatingWebhookConfiguration istio-sidecar-injector";
        assert_eq!(tags.writes, ["MutatingWebhookConfiguration istio-revision-tag-default", old]);
        assert_eq!(tags.note.as_ref().unwrap(), &format!("{old} of revision default no longer injects pods"));
        assert_eq!((clean_up.step.as_str(), clean_up.writes.len()), ("CleanUp", 2));
        assert_eq!(clean_up.note.as_deref(), Some("when no pod has used revision default for 5m"));
    }

    #[test]
    fn omits_steps_without_changes() {
        let messages = step_writes(&mesh(1, &["a", "b"]), &mesh(2, &["a"]));
        let expected = [
            ("RBAC", "ClusterRole x"),
            ("ControlPlane", "Deployment istio-system/x"),
            ("Configuration", "ConfigMap istio-system/x"),
            ("InjectionCheck", ""),
            ("Gateway a", "Deployment edge/a"),
            ("CleanUp", "Deployment edge/b"),
        ];
        assert_eq!(messages, expected.map(|(step, writes)| (step.to_owned(), writes.to_owned())));
    }
}
