//! Workloads whose pods an update creates, replaces or deletes.

use serde::Serialize;

use super::objects::{ObjectAction, ObjectChange};
use crate::mesh::fields::is_within;
use crate::mesh::kind::Kind;
use crate::mesh::object::ObjectKey;
use crate::mesh::proxy_inputs::PROXY_INPUTS_ANNOTATION;

/// The change of a workload's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PodsAction {
    /// The workload is created.
    Start,
    /// All pods are replaced.
    Roll,
    /// The number of pods changes; remaining pods are not replaced.
    Scale,
    /// The workload is deleted.
    End,
}

/// A workload whose pods change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// Kind of the workload.
    pub kind: &'static str,
    /// Namespace of the workload.
    pub namespace: String,
    /// Name of the workload.
    pub name: String,
    /// The change of its pods.
    pub action: PodsAction,
    /// Reason for the change.
    pub because: String,
}

impl Rollout {
    /// Whether this is the rollout of `workload`.
    #[must_use]
    pub fn is_of(&self, workload: &ObjectKey) -> bool {
        self.kind == workload.kind.name()
            && self.name == workload.name
            && workload.namespace.as_deref() == Some(&self.namespace)
    }
}

const TEMPLATE: &str = "spec.template";
const REPLICAS: &str = "spec.replicas";

/// The workloads whose pods change, in the order of the changes.
#[must_use]
pub fn rollouts(changes: &[ObjectChange]) -> Vec<Rollout> {
    changes.iter().filter(|change| change.key.kind.makes_pods()).filter_map(rollout).collect()
}

fn rollout(change: &ObjectChange) -> Option<Rollout> {
    let (action, because) = match change.action {
        ObjectAction::Create => (PodsAction::Start, "new workload".to_owned()),
        ObjectAction::Delete => (PodsAction::End, "no longer in the spec".to_owned()),
        ObjectAction::Update => of_update(change)?,
    };
    Some(Rollout {
        kind: change.key.kind.name(),
        namespace: change.key.namespace.clone().unwrap_or_default(),
        name: change.key.name.clone(),
        action,
        because,
    })
}

fn of_update(change: &ObjectChange) -> Option<(PodsAction, String)> {
    let inputs = format!("{TEMPLATE}.metadata.annotations[{PROXY_INPUTS_ANNOTATION:?}]");
    let template: Vec<&str> =
        change.fields.iter().map(|field| field.path.as_str()).filter(|path| is_within(path, TEMPLATE)).collect();
    let own = template.iter().filter(|path| **path != inputs).count();
    let mut because = Vec::new();
    if own > 0 {
        let first = template.iter().find(|path| **path != inputs).copied().unwrap_or_default();
        let more = if own > 1 { format!(" and {} more", own - 1) } else { String::new() };
        because.push(format!("its pod template changes: {first}{more}"));
    }
    if own < template.len() {
        because.push("the injection inputs of its proxy change".to_owned());
    }
    if !because.is_empty() {
        return Some((PodsAction::Roll, because.join("; ")));
    }
    let scaled = change.key.kind == Kind::Deployment && change.fields.iter().any(|field| field.path == REPLICAS);
    scaled.then(|| (PodsAction::Scale, format!("{REPLICAS} changes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fields::{FieldAction, FieldChange};
    use crate::mesh::object::{Component, ObjectKey};

    fn update(kind: Kind, paths: &[&str]) -> ObjectChange {
        let fields = paths.iter().map(|path| FieldChange {
            path: (*path).to_owned(),
            action: FieldAction::Changed,
            old: None,
            new: None,
        });
        ObjectChange {
            action: ObjectAction::Update,
            key: ObjectKey { kind, namespace: Some("edge".into()), name: "gw".into() },
            component: Some(Component::Gateway("gw".into())),
            fields: fields.collect(),
        }
    }

    fn of(kind: Kind, paths: &[&str]) -> Option<(PodsAction, String)> {
        rollouts(&[update(kind, paths)]).pop().map(|rollout| (rollout.action, rollout.because))
    }

    #[test]
    fn rolls_only_when_pod_template_changes() {
        let (action, because) =
            of(Kind::Deployment, &["spec.replicas", "spec.template.spec.x", "spec.template.y"]).unwrap();
        assert_eq!(action, PodsAction::Roll);
        assert_eq!(because, "its pod template changes: spec.template.spec.x and 1 more");
        assert_eq!(of(Kind::Deployment, &["metadata.labels.a", "spec.templates"]), None);
        assert_eq!(of(Kind::ConfigMap, &["spec.template.x"]), None);
        assert_eq!(of(Kind::DaemonSet, &["spec.template.x"]).unwrap().0, PodsAction::Roll);
    }

    #[test]
    fn scales_without_rolling() {
        assert_eq!(of(Kind::Deployment, &["spec.replicas"]).unwrap().0, PodsAction::Scale);
    }

    #[test]
    fn gateway_rolls_when_injection_inputs_change() {
        let path = "spec.template.metadata.annotations[\"meshwright.dev/proxy-inputs\"]";
        let (action, because) = of(Kind::Deployment, &[path]).unwrap();
        assert_eq!((action, because.as_str()), (PodsAction::Roll, "the injection inputs of its proxy change"));
        let (_, because) = of(Kind::Deployment, &[path, "spec.template.spec.x"]).unwrap();
        assert!(because.contains("spec.template.spec.x; the injection inputs"), "{because}");
    }
}
