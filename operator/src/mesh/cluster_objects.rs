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
use super::revision::ResolvedInputs;
use super::revisions::REVISION_LABEL;
use super::words::few;
use crate::platform::GENERIC;

/// Who writes the objects of a mesh that are in no namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClusterObjects {
    /// The operator writes, heals and removes them
    #[default]
    Managed,
    /// Somebody else applies them beforehand, as `meshwright render` prints them with `--scope definitions` and `--scope
    /// cluster`; the operator compares them, and needs no right to write outside of namespaces that are named
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

/// What is wrong with the objects that somebody else applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanting {
    /// Which are missing, and in what the others differ.
    complaints: Vec<String>,
    /// Definitions are missing or older.
    definitions: bool,
    /// Definitions are there that know more than the release's: of a newer one, whose mesh needs them.
    newer: bool,
    /// Other objects have to be applied.
    others: bool,
}

impl Wanting {
    /// Takes in what is wrong for another release, which runs.
    pub fn add(&mut self, other: Self, runs: &Version) {
        self.complaints.extend(other.complaints.into_iter().map(|lack| format!("{lack} (for {runs}, which runs)")));
        self.definitions |= other.definitions;
        self.newer |= other.newer;
        self.others |= other.others;
    }

    /// The commands that mend it.
    fn commands(&self, inputs: &ResolvedInputs, running: Option<&Version>) -> String {
        let scope = |scope: &str, more: &str| {
            format!(
                "meshwright render -f mesh.yaml --scope {scope} --kubernetes {}{more} | kubectl apply --server-side \
                 --force-conflicts -f -",
                inputs.kubernetes
            )
        };
        let mut commands = Vec::new();
        if self.definitions {
            let command = scope("definitions", "");
            let kept = " (with the newest mesh's version in mesh.yaml, since definitions of a newer release are there)";
            commands.push(if self.newer { command + kept } else { command });
        }
        if self.others {
            let beside = running.map(|running| format!(" --with-roles-of {running}")).unwrap_or_default();
            commands.push(scope("cluster", &beside));
        }
        commands.join(", then: ")
    }
}

/// Compares what somebody else applies with what is desired.
#[must_use]
pub fn wanting(desired: &[Arc<Desired>], live: &LiveObjects) -> Wanting {
    let mut wanting = Wanting::default();
    for desired in desired {
        let found = live.get(&desired.key);
        let definition = desired.key.kind == Kind::CustomResourceDefinition;
        wanting.newer |= definition && found.is_some_and(|live| live.is_ahead || live.marks.release > desired.release);
        let Some(complaint) = complaint(&desired.key, found) else { continue };
        // What is going, or coming, has no use for an apply.
        let settled =
            found.is_none_or(|live| !live.deleting && !matches!(live.facts, Facts::Definition { established: false }));
        wanting.definitions |= definition && settled;
        wanting.others |= !definition;
        wanting.complaints.push(complaint);
    }
    wanting
}

fn complaint(key: &ObjectKey, live: Option<&Live>) -> Option<String> {
    let Some(live) = live else { return Some(format!("{key} is missing")) };
    if live.deleting {
        return Some(format!("{key} is being deleted"));
    }
    match (&live.facts, &live.drift) {
        (Facts::Definition { established: false }, _) => Some(format!("{key} is not served yet")),
        // Definitions are never taken back to what an older release knows.
        _ if live.is_ahead => None,
        (_, Drift::Fields(fields)) => Some(format!("{key} differs in {}", few(fields))),
        (_, Drift::Extras(fields)) => Some(format!("{key} has {} that must not be there", few(fields))),
        (_, Drift::None | Drift::Unchecked) => None,
    }
}

/// Says what is wrong with them, and the commands that mend it; `None` where nothing is. `running` is the release that
/// runs, where another is to follow it.
#[must_use]
pub fn blocker(wanting: &Wanting, inputs: &ResolvedInputs, running: Option<&Version>) -> Option<Blocker> {
    if wanting.complaints.is_empty() {
        return None;
    }
    let commands = wanting.commands(inputs, running);
    // Without a cluster nobody finds out what it is.
    let found = (inputs.spec.platform.is_auto() && inputs.platform.name != GENERIC).then_some(&inputs.platform.name);
    let platform = found.map(|name| format!(" and spec.platform: {name} in it")).unwrap_or_default();
    let remedy = if commands.is_empty() {
        "The API server has to be done with them first".to_owned()
    } else {
        format!("Somebody with the rights has to run, with the MeshInstallation in mesh.yaml{platform}: {commands}")
    };
    let message = format!(
        "objects in no namespace are not as Istio {} needs them, and not the operator's to write: {}. {remedy}",
        inputs.version,
        few(&wanting.complaints)
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

    /// A definition that is served, with these fields.
    fn definition(name: &str, fields: &[&str]) -> Value {
        let properties: serde_json::Map<_, _> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
            "spec": {"versions": [{"name": "v1", "served": true, "schema": schema}]},
            "status": {"conditions": [{"type": "Established", "status": "True"}]},
        })
    }

    fn compared(pairs: Vec<(Value, Option<Value>)>) -> Wanting {
        let pairs: Vec<_> = pairs.into_iter().map(|(wanted, found)| (desired(wanted), found)).collect();
        let live = pairs.iter().filter_map(|(wanted, found)| {
            Some((wanted.key.clone(), Live::of(wanted.key.kind, found.as_ref()?, Some(wanted), None)))
        });
        let live = live.collect();
        wanting(&pairs.into_iter().map(|(wanted, _)| wanted).collect::<Vec<_>>(), &live)
    }

    /// What is wrong with the live object, for a mesh that wants the other.
    fn told(wanted: Value, found: Option<&Value>) -> Vec<String> {
        compared(vec![(wanted, found.cloned())]).complaints
    }

    fn message(wanting: &Wanting, spec: &Value, platform: &str, running: Option<&Version>) -> String {
        let inputs = json!({
            "spec": spec, "version": "1.32.0", "charts": {}, "kubernetes": "v1.33.4-gke.1245000", "platform": {"name": platform},
        });
        blocker(wanting, &serde_json::from_value(inputs).unwrap(), running).unwrap().message
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
        let wrong = compared(vec![(hook("https://a"), Some(hook("https://b")))]);
        let message = message(&wrong, &json!({"version": "1.32"}), "generic", Some(&Version::new(1, 31, 2)));
        let command = "in mesh.yaml: meshwright render -f mesh.yaml --scope cluster --kubernetes v1.33.4-gke.1245000 \
                       --with-roles-of 1.31.2 | kubectl apply --server-side --force-conflicts -f -";
        assert!(message.ends_with(command), "{message}");
    }

    #[test]
    fn a_platform_that_was_found_out_is_to_be_named_where_there_is_no_cluster() {
        let wrong = compared(vec![(hook("https://a"), None)]);
        let named = "mesh.yaml and spec.platform: openshift in it: meshwright";
        let message = |spec: Value, platform| message(&wrong, &spec, platform, None);
        assert!(message(json!({"version": "1.32"}), "openshift").contains(named));
        assert!(!message(json!({"version": "1.32", "platform": "openshift"}), "openshift").contains("spec.platform"));
        assert!(!message(json!({"version": "1.32"}), "generic").contains("spec.platform"));
    }

    #[test]
    fn definitions_are_asked_for_where_one_is_missing_or_older_and_never_taken_back() {
        let said = |wrong: &Wanting| message(wrong, &json!({"version": "1.32"}), "generic", None);
        let wanted = || definition("a", &["b", "c"]);
        let ahead = definition("a", &["b", "c", "d"]);
        assert_eq!(told(wanted(), Some(&ahead)), Vec::<String>::new());
        // A webhook is put right without them.
        let wrong = compared(vec![(wanted(), Some(ahead.clone())), (hook("https://a"), None)]);
        assert!(said(&wrong).contains("--scope cluster") && !said(&wrong).contains("definitions"), "{}", said(&wrong));
        for found in [None, Some(definition("a", &["b"]))] {
            let wrong = compared(vec![(wanted(), found)]);
            let said = said(&wrong);
            assert!(said.contains("--scope definitions --kubernetes") && !said.contains("cluster"), "{said}");
            assert!(!said.contains("newest"), "{said}");
        }
        let mut marked = definition("x", &["b"]);
        marked["metadata"]["annotations"] = json!({RELEASE_ANNOTATION: "1.33.0"});
        for newer in [(wanted(), Some(ahead)), (definition("x", &["b", "c"]), Some(marked))] {
            let wrong = compared(vec![newer, (definition("z", &["b"]), None)]);
            assert!(said(&wrong).contains("with the newest mesh's version in mesh.yaml"), "{}", said(&wrong));
        }
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
        let unserved = compared(vec![(crd.clone(), Some(crd))]);
        assert_eq!(unserved.complaints, ["CustomResourceDefinition x is not served yet"]);
        let said = message(&unserved, &json!({"version": "1.32"}), "generic", None);
        assert!(said.ends_with("The API server has to be done with them first"), "{said}");
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
