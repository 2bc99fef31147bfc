//! Which pods an update starts, replaces or takes away.

use serde::Serialize;

use super::objects::{ObjectAction, ObjectChange};
use crate::mesh::fields::lies_in;
use crate::mesh::kind::Kind;
use crate::mesh::object::ObjectKey;
use crate::mesh::proxy_inputs::PROXY_INPUTS_ANNOTATION;

/// What happens to a workload's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PodsAction {
    /// They are made for the first time.
    Start,
    /// Each of them is replaced.
    Roll,
    /// There will be more or fewer of them; those that stay are not touched.
    Scale,
    /// They end.
    End,
}

/// A workload whose pods an update touches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// Kind of the workload.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What happens to its pods.
    pub action: PodsAction,
    /// Why, in words.
    pub because: String,
}

impl Rollout {
    /// Whether it is this workload's.
    #[must_use]
    pub fn is_of(&self, workload: &ObjectKey) -> bool {
        self.kind == workload.kind.name()
            && self.name == workload.name
            && workload.namespace.as_deref() == Some(&self.namespace)
    }
}

const TEMPLATE: &str = "spec.template";
const REPLICAS: &str = "spec.replicas";

/// The workloads whose pods these changes touch, in the order of the changes.
#[must_use]
pub fn rollouts(changes: &[ObjectChange]) -> Vec<Rollout> {
    changes.iter().filter(|change| change.key.kind.makes_pods()).filter_map(rollout).collect()
}

fn rollout(change: &ObjectChange) -> Option<Rollout> {
    let (action, because) = match change.action {
        ObjectAction::Create => (PodsAction::Start, "it is new".to_owned()),
        ObjectAction::Delete => (PodsAction::End, "it is no longer asked for".to_owned()),
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
        change.fields.iter().map(|field| field.path.as_str()).filter(|path| lies_in(path, TEMPLATE)).collect();
    let own = template.iter().filter(|path| **path != inputs).count();
    let mut because = Vec::new();
    if own > 0 {
        let first = template.iter().find(|path| **path != inputs).copied().unwrap_or_default();
        let more = if own > 1 { format!(" and {} more", own - 1) } else { String::new() };
        because.push(format!("its pod template changes: {first}{more}"));
    }
    if own < template.len() {
        because.push("what the injector makes its proxy from changes".to_owned());
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
    fn pods_are_replaced_when_their_template_changes_and_then_only() {
        let (action, because) =
            of(Kind::Deployment, &["spec.replicas", "spec.template.spec.x", "spec.template.y"]).unwrap();
        assert_eq!(action, PodsAction::Roll);
        assert_eq!(because, "its pod template changes: spec.template.spec.x and 1 more");
        assert_eq!(of(Kind::Deployment, &["metadata.labels.a", "spec.templates"]), None);
        assert_eq!(of(Kind::ConfigMap, &["spec.template.x"]), None);
        assert_eq!(of(Kind::DaemonSet, &["spec.template.x"]).unwrap().0, PodsAction::Roll);
    }

    #[test]
    fn another_number_of_pods_replaces_none() {
        assert_eq!(of(Kind::Deployment, &["spec.replicas"]).unwrap().0, PodsAction::Scale);
    }

    #[test]
    fn a_gateway_rolls_for_the_sake_of_its_proxy_s_inputs() {
        let path = "spec.template.metadata.annotations[\"meshwright.dev/proxy-inputs\"]";
        let (action, because) = of(Kind::Deployment, &[path]).unwrap();
        assert_eq!((action, because.as_str()), (PodsAction::Roll, "what the injector makes its proxy from changes"));
        let (_, because) = of(Kind::Deployment, &[path, "spec.template.spec.x"]).unwrap();
        assert!(because.contains("spec.template.spec.x; what the injector"), "{because}");
    }
}
