//! Objects in no namespace, where they are not the operator's to write: somebody with the rights applies them beforehand,
//! and the operator holds them against what a release renders.

use std::sync::Arc;

use clap::ValueEnum;
use meshwright_api::conditions::Reason;
use meshwright_api::{CrdPolicy, MeshInstallationSpec, ProxyUpdateMode, UpgradeStrategy};
use semver::Version;
use serde_json::Value;

use super::effective::ENFORCER_LABEL;
use super::health::Blocker;
use super::kind::Kind;
use super::live::{Drift, Facts, Live, LiveObjects};
use super::object::{AdmitObjectError, COMPONENT_LABEL, Desired, INSTALLATION_LABEL, ObjectKey};
use super::problem::Problem;
use super::revisions::REVISION_LABEL;
use super::words::few;

/// Who writes the objects of a mesh that are in no namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClusterObjects {
    /// The operator writes, heals and removes them
    #[default]
    Managed,
    /// Somebody else applies them beforehand, as `meshwright render --scope cluster` prints them; the operator compares
    /// them, and needs no right to write outside of namespaces that are named
    Preinstalled,
}

impl ClusterObjects {
    /// What a spec asks for that takes writes outside of the namespaces that the operator has rights in.
    #[must_use]
    pub fn problems(self, spec: &MeshInstallationSpec) -> Vec<Problem> {
        if self == Self::Managed {
            return Vec::new();
        }
        let refused = [
            (!spec.tags.is_empty(), "spec.tags", "a tag moves by writes to webhook configurations"),
            (
                spec.upgrade.strategy == UpgradeStrategy::Canary,
                "spec.upgrade.strategy: Canary",
                "a second control plane has webhook configurations and roles of its own, and the default moves to it by writes to both",
            ),
            (spec.deletion.crds == CrdPolicy::Delete, "spec.deletion.crds: Delete", "definitions are in no namespace"),
            (
                spec.proxy.update.mode == ProxyUpdateMode::Restart,
                "spec.proxy.update.mode: Restart",
                "workloads are in namespaces in which the operator has no rights",
            ),
        ];
        let asked = refused.into_iter().filter(|(asked, ..)| *asked);
        let said = |why: &str| format!("is not possible for an operator with --cluster-objects preinstalled: {why}");
        asked.map(|(_, field, why)| Problem::new(field, said(why))).collect()
    }

    /// Has what is in no namespace compared instead of written, where others apply it.
    pub fn leave(self, desired: Vec<Arc<Desired>>) -> Result<Vec<Arc<Desired>>, AdmitObjectError> {
        let others = |desired: &Desired| self == Self::Preinstalled && !desired.key.kind.namespaced();
        let left = desired
            .into_iter()
            .map(|desired| if others(&desired) { as_others_apply(&desired).map(Arc::new) } else { Ok(desired) });
        left.collect()
    }
}

/// An object as somebody else may have applied it: without our marks, and of its labels with those alone by which it works.
fn as_others_apply(desired: &Desired) -> Result<Desired, AdmitObjectError> {
    let mut object = desired.value();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            let is_ours = |label: &str| [INSTALLATION_LABEL, COMPONENT_LABEL].contains(&label);
            let works = |label: &str| [REVISION_LABEL, ENFORCER_LABEL].contains(&label);
            let counts = |label: &str| if desired.key.kind == Kind::Namespace { !is_ours(label) } else { works(label) };
            labels.retain(|label, _| counts(label));
        }
    }
    let mut revised = desired.revise(object)?;
    revised.preinstalled = true;
    Ok(revised)
}

/// What is wrong with the objects that somebody else applies: which are missing, and in what the others differ.
#[must_use]
pub fn wanting(desired: &[Arc<Desired>], live: &LiveObjects) -> Vec<String> {
    desired.iter().filter_map(|desired| complaint(&desired.key, live.get(&desired.key))).collect()
}

fn complaint(key: &ObjectKey, live: Option<&Live>) -> Option<String> {
    let Some(live) = live else { return Some(format!("{key} is missing")) };
    if live.deleting {
        return Some(format!("{key} is being deleted"));
    }
    match (&live.facts, &live.drift) {
        (Facts::Definition { established: false }, _) => Some(format!("{key} is not served yet")),
        (_, Drift::Fields(fields)) => Some(format!("{key} differs in {}", few(fields))),
        (_, Drift::Extras(fields)) => Some(format!("{key} has {} that must not be there", few(fields))),
        (_, Drift::None | Drift::Unchecked) => None,
    }
}

/// Says what is wrong with them, and the command that mends it; `None` where nothing is. `running` is the release that
/// runs, where another is to follow it.
#[must_use]
pub fn blocker(wanting: &[String], release: &Version, running: Option<&Version>) -> Option<Blocker> {
    if wanting.is_empty() {
        return None;
    }
    let beside = running.map(|running| format!(" --with-roles-of {running}")).unwrap_or_default();
    let message = format!(
        "objects in no namespace are not as Istio {release} needs them, and not the operator's to write: {}. Somebody with \
         the rights has to run, with the MeshInstallation in mesh.yaml: meshwright render -f mesh.yaml --scope cluster\
         {beside} | kubectl apply --server-side --force-conflicts -f -",
        few(wanting)
    );
    Some(Blocker { reason: Reason::ClusterObjectsMissing, message })
}

/// Whether a webhook configuration makes the API server refuse objects when one of these Services doesn't answer.
#[must_use]
pub fn depends_on(configuration: &Value, services: &[&ObjectKey]) -> bool {
    let entries = configuration.get("webhooks").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        let of = |path: &str| entry.pointer(path).and_then(Value::as_str);
        let refuses = of("/failurePolicy") != Some("Ignore");
        let (namespace, name) = (of("/clientConfig/service/namespace"), of("/clientConfig/service/name"));
        refuses && services.iter().any(|key| key.namespace.as_deref() == namespace && Some(key.name.as_str()) == name)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::{Component, HASH_ANNOTATION, Owner, RELEASE_ANNOTATION};

    fn desired(value: Value) -> Arc<Desired> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: Version::new(1, 32, 0) };
        let desired = Desired::admit(value, &Component::Istiod, &owner, "istio-system").unwrap();
        Arc::new(as_others_apply(&desired).unwrap())
    }

    fn role(rules: &Value) -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "istiod"}, "rules": rules})
    }

    fn rule(resources: &[&str], verbs: &[&str]) -> Value {
        json!({"apiGroups": [""], "resources": resources, "verbs": verbs})
    }

    fn hook(url: &str) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "injector", "labels": {"istio.io/rev": "default", "app": "sidecar-injector"}},
            "webhooks": [{"name": "a.istio.io", "clientConfig": {"url": url}, "failurePolicy": "Fail"}],
        })
    }

    /// What is wrong with the live object, for a mesh that wants the other.
    fn told(wanted: Value, found: Option<&Value>) -> Vec<String> {
        let wanted = desired(wanted);
        let live = found.map(|found| (wanted.key.clone(), Live::of(wanted.key.kind, found, Some(&wanted), None)));
        wanting(std::slice::from_ref(&wanted), &live.into_iter().collect())
    }

    #[test]
    fn what_is_missing_or_differs_is_named_with_its_field_and_the_command() {
        let wrong = told(hook("https://a"), None);
        assert_eq!(wrong, ["MutatingWebhookConfiguration injector is missing"]);
        let wrong = told(hook("https://a"), Some(&hook("https://b")));
        assert!(
            wrong[0].starts_with("MutatingWebhookConfiguration injector differs in webhooks[name=a.istio.io]"),
            "{wrong:?}"
        );
        let message = blocker(&wrong, &Version::new(1, 32, 0), Some(&Version::new(1, 31, 2))).unwrap().message;
        assert!(message.contains("--scope cluster --with-roles-of 1.31.2 | kubectl apply"), "{message}");
        assert_eq!(blocker(&[], &Version::new(1, 32, 0), None), None);
    }

    #[test]
    fn marks_and_labels_that_nothing_goes_by_are_not_asked_for() {
        let mut found = hook("https://a");
        found["metadata"] = json!({"name": "injector", "labels": {"istio.io/rev": "default"}});
        assert_eq!(told(hook("https://a"), Some(&found)), Vec::<String>::new());
        found["metadata"]["labels"]["istio.io/rev"] = "canary".into();
        assert!(told(hook("https://a"), Some(&found))[0].contains("metadata.labels"), "istiod goes by it");
        let object = desired(hook("https://a")).value();
        assert_eq!(object["metadata"].get("annotations").and_then(|all| all.get(HASH_ANNOTATION)), None);
    }

    #[test]
    fn a_role_may_allow_more_and_not_less() {
        let wanted = role(&json!([rule(&["pods", "nodes"], &["get", "list"])]));
        let more = role(&json!([rule(&["*"], &["get"]), rule(&["nodes", "pods", "secrets"], &["list", "watch"])]));
        assert_eq!(told(wanted.clone(), Some(&more)), Vec::<String>::new());
        let less = role(&json!([rule(&["pods"], &["get", "list"]), rule(&["nodes"], &["get"])]));
        assert_eq!(told(wanted, Some(&less)), ["ClusterRole istiod differs in rules, which don't allow to list nodes"]);
    }

    #[test]
    fn what_was_applied_for_a_newer_release_is_not_judged_by_an_older_one_but_roles_are() {
        let newer = |mut object: Value| {
            object["metadata"]["annotations"] = json!({RELEASE_ANNOTATION: "1.33.0"});
            object
        };
        assert_eq!(told(hook("https://a"), Some(&newer(hook("https://b")))), Vec::<String>::new());
        let found = newer(role(&json!([])));
        assert_eq!(told(role(&json!([rule(&["pods"], &["get"])])), Some(&found)).len(), 1);
    }

    #[test]
    fn a_definition_that_is_not_served_and_what_is_going_are_told() {
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"}});
        assert_eq!(told(crd.clone(), Some(&crd)), ["CustomResourceDefinition x is not served yet"]);
        let mut going = hook("https://a");
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(told(hook("https://a"), Some(&going)), ["MutatingWebhookConfiguration injector is being deleted"]);
    }

    #[test]
    fn what_takes_writes_elsewhere_is_refused_by_field_and_only_of_such_an_operator() {
        let asked: MeshInstallationSpec = serde_json::from_value(json!({
            "version": "1.32", "tags": [{"name": "prod"}], "upgrade": {"strategy": "Canary"},
            "deletion": {"crds": "Delete"}, "proxy": {"update": {"mode": "Restart"}},
        }))
        .unwrap();
        let fields: Vec<String> =
            ClusterObjects::Preinstalled.problems(&asked).into_iter().map(|problem| problem.field).collect();
        let expected = [
            "spec.tags",
            "spec.upgrade.strategy: Canary",
            "spec.deletion.crds: Delete",
            "spec.proxy.update.mode: Restart",
        ];
        assert_eq!(fields, expected);
        assert_eq!(ClusterObjects::Managed.problems(&asked), []);
        let plain: MeshInstallationSpec = serde_json::from_value(json!({"version": "1.32"})).unwrap();
        assert_eq!(ClusterObjects::Preinstalled.problems(&plain), []);
    }

    #[test]
    fn only_webhooks_that_refuse_without_this_control_plane_stand_in_the_way_of_its_end() {
        let service = ObjectKey { kind: Kind::Service, namespace: Some("istio-system".into()), name: "istiod".into() };
        let configuration = |name: &str, policy: &str| {
            let service = json!({"namespace": "istio-system", "name": name});
            json!({"webhooks": [{"clientConfig": {"service": service}, "failurePolicy": policy}]})
        };
        assert!(depends_on(&configuration("istiod", "Fail"), &[&service]));
        assert!(!depends_on(&configuration("istiod", "Ignore"), &[&service]));
        assert!(!depends_on(&configuration("istiod-canary", "Fail"), &[&service]));
    }
}
