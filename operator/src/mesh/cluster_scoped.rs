//! Cluster-scoped resources that the operator may not write: a cluster administrator applies them first, and the
//! operator compares them with what a release renders.

use std::sync::Arc;

use clap::ValueEnum;
use meshwright_api::conditions::Reason;
use meshwright_api::{CrdPolicy, MeshInstallationSpec, ProxyUpdateMode, UpgradeStrategy};
use semver::Version;
use serde_json::Value;

use super::effective::ENFORCER_LABEL;
use super::health::Blocker;
use super::kind::Kind;
use super::object::{COMPONENT_LABEL, DesiredObject, INSTALLATION_LABEL, ObjectKey, ParseObjectError};
use super::observed::{Drift, ObjectState, ObservedObject, ObservedObjects};
use super::problem::Problem;
use super::revision::ResolvedInputs;
use super::revisions::REVISION_LABEL;
use super::text::abbreviate;
use crate::platform::GENERIC;

/// Who manages the cluster-scoped resources of a mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClusterScopedResources {
    /// The operator applies them, reverts drift and deletes them
    #[default]
    Managed,
    /// A cluster administrator applies them first, from `meshwright render` with `--scope crds` and `--scope
    /// cluster-scoped`; the operator only compares them, and needs write permissions only in the named namespaces
    External,
}

impl ClusterScopedResources {
    /// The fields of a spec that need write permissions outside of the operator's namespaces.
    #[must_use]
    pub fn problems(self, spec: &MeshInstallationSpec) -> Vec<Problem> {
        if self == Self::Managed {
            return Vec::new();
        }
        let unsupported = [
            (!spec.tags.is_empty(), "spec.tags", "moving a tag takes writes to webhook configurations"),
            (
                spec.upgrade.strategy == UpgradeStrategy::Canary,
                "spec.upgrade.strategy: Canary",
                "a second control plane needs its own webhook configurations and ClusterRoles",
            ),
            (spec.deletion.crds == CrdPolicy::Delete, "spec.deletion.crds: Delete", "CRDs are cluster-scoped"),
            (
                spec.proxy.update.mode == ProxyUpdateMode::Restart,
                "spec.proxy.update.mode: Restart",
                "the operator has no permissions in the namespaces of workloads",
            ),
        ];
        let used = unsupported.into_iter().filter(|(used, ..)| *used);
        let message =
            |why: &str| format!("not supported with the operator's flag --cluster-scoped-resources external: {why}");
        used.map(|(_, field, why)| Problem::new(field, message(why))).collect()
    }

    /// With `External`, replaces each cluster-scoped object by the form that is compared and never written.
    pub fn mark_external(self, desired: Vec<Arc<DesiredObject>>) -> Result<Vec<Arc<DesiredObject>>, ParseObjectError> {
        let is_external = |desired: &DesiredObject| self == Self::External && !desired.key.kind.namespaced();
        let to_external_form = |desired: Arc<DesiredObject>| {
            if is_external(&desired) { externally_applied_form(&desired).map(Arc::new) } else { Ok(desired) }
        };
        desired.into_iter().map(to_external_form).collect()
    }
}

/// The form of an object that an administrator applies, without the operator's metadata: no annotations, and of the
/// labels only those that Istio reads.
fn externally_applied_form(desired: &DesiredObject) -> Result<DesiredObject, ParseObjectError> {
    let mut object = desired.value();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            let is_ownership_label = |label: &str| [INSTALLATION_LABEL, COMPONENT_LABEL].contains(&label);
            let is_functional = |label: &str| [REVISION_LABEL, ENFORCER_LABEL].contains(&label);
            let is_compared = |label: &str| match desired.key.kind {
                Kind::Namespace => !is_ownership_label(label),
                _ => is_functional(label),
            };
            labels.retain(|label, _| is_compared(label));
        }
    }
    let mut revised = desired.with_content(object)?;
    revised.externally_managed = true;
    Ok(revised)
}

/// How the externally managed resources differ from what a release needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrerequisiteReport {
    /// One entry per resource that is missing or differs.
    deviations: Vec<String>,
    /// CRDs are missing or older than the release's.
    crds: bool,
    /// CRDs of a newer release exist, which another mesh may need.
    newer: bool,
    /// Resources other than CRDs have to be applied.
    other_resources: bool,
}

impl PrerequisiteReport {
    /// Adds the deviations from what the active release needs.
    pub fn add(&mut self, other: Self, active: &Version) {
        let for_active = |deviation: String| format!("{deviation} (for the active release {active})");
        self.deviations.extend(other.deviations.into_iter().map(for_active));
        self.crds |= other.crds;
        self.newer |= other.newer;
        self.other_resources |= other.other_resources;
    }

    /// The commands that apply what is missing.
    fn commands(&self, inputs: &ResolvedInputs, running: Option<&Version>) -> String {
        let scope = |scope: &str, more: &str| {
            format!(
                "meshwright render -f mesh.yaml --scope {scope} --kubernetes {}{more} | kubectl apply --server-side \
                 --force-conflicts -f -",
                inputs.kubernetes
            )
        };
        let mut commands = Vec::new();
        if self.crds {
            let command = scope("crds", "");
            let version_hint =
                " (with the newest mesh's version in mesh.yaml, since the cluster has CRDs of a newer release)";
            commands.push(if self.newer { command + version_hint } else { command });
        }
        if self.other_resources {
            let with_roles = running.map(|running| format!(" --with-roles-of {running}")).unwrap_or_default();
            commands.push(scope("cluster-scoped", &with_roles));
        }
        commands.join(", then: ")
    }
}

/// Compares the externally managed resources with the desired ones.
#[must_use]
pub fn check_prerequisites(desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> PrerequisiteReport {
    let mut report = PrerequisiteReport::default();
    for desired in desired {
        let found = live.get(&desired.key);
        let is_crd = desired.key.kind == Kind::CustomResourceDefinition;
        report.newer |=
            is_crd && found.is_some_and(|live| live.is_newer_crd || live.ownership.release > desired.release);
        let Some(deviation) = deviation(&desired.key, found) else { continue };
        // Applying a CRD that is being deleted or established changes nothing.
        let settled =
            found.is_none_or(|live| !live.deleting && !matches!(live.state, ObjectState::Crd { established: false }));
        report.crds |= is_crd && settled;
        report.other_resources |= !is_crd;
        report.deviations.push(deviation);
    }
    report
}

fn deviation(key: &ObjectKey, live: Option<&ObservedObject>) -> Option<String> {
    let Some(live) = live else { return Some(format!("{key} is missing")) };
    if live.deleting {
        return Some(format!("{key} is being deleted"));
    }
    match (&live.state, &live.drift) {
        (ObjectState::Crd { established: false }, _) => Some(format!("{key} is not served yet")),
        // CRDs are never downgraded.
        _ if live.is_newer_crd => None,
        (_, Drift::Fields(fields)) => Some(format!("{key} differs in {}", abbreviate(fields))),
        (_, Drift::Extras(fields)) => Some(format!("{key} has unexpected {}", abbreviate(fields))),
        (_, Drift::None | Drift::Unchecked) => None,
    }
}

/// The deviations and the commands that fix them; `None` without deviations. `running` is the active release during an
/// upgrade to another one.
#[must_use]
pub fn blocker(report: &PrerequisiteReport, inputs: &ResolvedInputs, running: Option<&Version>) -> Option<Blocker> {
    if report.deviations.is_empty() {
        return None;
    }
    let commands = report.commands(inputs, running);
    // `meshwright render` has no cluster from which to detect the platform.
    let found = (inputs.spec.platform.is_auto() && inputs.platform.name != GENERIC).then_some(&inputs.platform.name);
    let platform = found.map(|name| format!(" and spec.platform: {name} in it")).unwrap_or_default();
    let remedy = if commands.is_empty() {
        "Wait until the API server has finished with them".to_owned()
    } else {
        format!("Run as a cluster administrator, with the MeshInstallation in mesh.yaml{platform}: {commands}")
    };
    let message = format!(
        "cluster-scoped resources don't match Istio {}, and the operator may not write them. {}. {remedy}",
        inputs.version,
        abbreviate(&report.deviations)
    );
    Some(Blocker { reason: Reason::ClusterScopedResourcesMissing, message })
}

/// Whether a webhook configuration makes the API server reject objects when one of these Services doesn't answer.
#[must_use]
pub fn depends_on(configuration: &Value, services: &[&ObjectKey]) -> bool {
    let entries = configuration.get("webhooks").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        let of = |path: &str| entry.pointer(path).and_then(Value::as_str);
        let rejects = of("/failurePolicy") != Some("Ignore");
        let (namespace, name) = (of("/clientConfig/service/namespace"), of("/clientConfig/service/name"));
        rejects && services.iter().any(|key| key.namespace.as_deref() == namespace && Some(key.name.as_str()) == name)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::{Component, HASH_ANNOTATION, Owner, RELEASE_ANNOTATION};

    fn desired(value: Value) -> Arc<DesiredObject> {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: Version::new(1, 32, 0) };
        let desired = DesiredObject::from_rendered(value, &Component::Istiod, &owner, "istio-system").unwrap();
        Arc::new(externally_applied_form(&desired).unwrap())
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

    /// An established CRD with these fields in its schema.
    fn crd_with_fields(name: &str, fields: &[&str]) -> Value {
        let properties: serde_json::Map<_, _> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
            "spec": {"versions": [{"name": "v1", "served": true, "schema": schema}]},
            "status": {"conditions": [{"type": "Established", "status": "True"}]},
        })
    }

    fn compared(pairs: Vec<(Value, Option<Value>)>) -> PrerequisiteReport {
        let pairs: Vec<_> = pairs.into_iter().map(|(wanted, found)| (desired(wanted), found)).collect();
        let live = pairs.iter().filter_map(|(wanted, found)| {
            Some((wanted.key.clone(), ObservedObject::of(wanted.key.kind, found.as_ref()?, Some(wanted), None)))
        });
        let live = live.collect();
        check_prerequisites(&pairs.into_iter().map(|(wanted, _)| wanted).collect::<Vec<_>>(), &live)
    }

    /// How the live object deviates from the desired one.
    fn deviations_of(wanted: Value, found: Option<&Value>) -> Vec<String> {
        compared(vec![(wanted, found.cloned())]).deviations
    }

    fn message(report: &PrerequisiteReport, spec: &Value, platform: &str, running: Option<&Version>) -> String {
        let inputs = json!({
            "spec": spec, "version": "1.32.0", "charts": {}, "kubernetes": "v1.33.4-gke.1245000", "platform": {"name": platform},
        });
        blocker(report, &serde_json::from_value(inputs).unwrap(), running).unwrap().message
    }

    #[test]
    fn names_deviating_field_and_command() {
        let wrong = deviations_of(hook("https://a"), None);
        assert_eq!(wrong, ["MutatingWebhookConfiguration injector is missing"]);
        let wrong = deviations_of(hook("https://a"), Some(&hook("https://b")));
        assert!(
            wrong[0].starts_with("MutatingWebhookConfiguration injector differs in webhooks[name=a.istio.io]"),
            "{wrong:?}"
        );
        let wrong = compared(vec![(hook("https://a"), Some(hook("https://b")))]);
        let message = message(&wrong, &json!({"version": "1.32"}), "generic", Some(&Version::new(1, 31, 2)));
        let command = "in mesh.yaml: meshwright render -f mesh.yaml --scope cluster-scoped --kubernetes v1.33.4-gke.1245000 \
                       --with-roles-of 1.31.2 | kubectl apply --server-side --force-conflicts -f -";
        assert!(message.ends_with(command), "{message}");
    }

    #[test]
    fn names_detected_platform_for_render() {
        let wrong = compared(vec![(hook("https://a"), None)]);
        let named = "mesh.yaml and spec.platform: openshift in it: meshwright";
        let message = |spec: Value, platform| message(&wrong, &spec, platform, None);
        assert!(message(json!({"version": "1.32"}), "openshift").contains(named));
        assert!(!message(json!({"version": "1.32", "platform": "openshift"}), "openshift").contains("spec.platform"));
        assert!(!message(json!({"version": "1.32"}), "generic").contains("spec.platform"));
    }

    #[test]
    fn requests_missing_crds_and_never_downgrades() {
        let text = |wrong: &PrerequisiteReport| message(wrong, &json!({"version": "1.32"}), "generic", None);
        let wanted = || crd_with_fields("a", &["b", "c"]);
        let ahead = crd_with_fields("a", &["b", "c", "d"]);
        assert_eq!(deviations_of(wanted(), Some(&ahead)), Vec::<String>::new());
        // Applying a webhook configuration takes no CRDs.
        let wrong = compared(vec![(wanted(), Some(ahead.clone())), (hook("https://a"), None)]);
        assert!(
            text(&wrong).contains("--scope cluster-scoped") && !text(&wrong).contains("--scope crds"),
            "{}",
            text(&wrong)
        );
        for found in [None, Some(crd_with_fields("a", &["b"]))] {
            let wrong = compared(vec![(wanted(), found)]);
            let text = text(&wrong);
            assert!(text.contains("--scope crds --kubernetes") && !text.contains("--scope cluster-scoped"), "{text}");
            assert!(!text.contains("newest"), "{text}");
        }
        let mut of_newer_release = crd_with_fields("x", &["b"]);
        of_newer_release["metadata"]["annotations"] = json!({RELEASE_ANNOTATION: "1.33.0"});
        for newer in [(wanted(), Some(ahead)), (crd_with_fields("x", &["b", "c"]), Some(of_newer_release))] {
            let wrong = compared(vec![newer, (crd_with_fields("z", &["b"]), None)]);
            assert!(text(&wrong).contains("with the newest mesh's version in mesh.yaml"), "{}", text(&wrong));
        }
    }

    #[test]
    fn ignores_ownership_metadata_and_unused_labels() {
        let mut found = hook("https://a");
        found["metadata"] = json!({"name": "injector", "labels": {"istio.io/rev": "default"}});
        assert_eq!(deviations_of(hook("https://a"), Some(&found)), Vec::<String>::new());
        found["metadata"]["labels"]["istio.io/rev"] = "canary".into();
        assert!(
            deviations_of(hook("https://a"), Some(&found))[0].contains("metadata.labels"),
            "istiod reads this label"
        );
        let object = desired(hook("https://a")).value();
        assert_eq!(object["metadata"].get("annotations").and_then(|all| all.get(HASH_ANNOTATION)), None);
    }

    #[test]
    fn role_may_allow_more_than_desired() {
        let wanted = role(&json!([rule(&["pods", "nodes"], &["get", "list"])]));
        let more = role(&json!([rule(&["*"], &["get"]), rule(&["nodes", "pods", "secrets"], &["list", "watch"])]));
        assert_eq!(deviations_of(wanted.clone(), Some(&more)), Vec::<String>::new());
        let less = role(&json!([rule(&["pods"], &["get", "list"]), rule(&["nodes"], &["get"])]));
        assert_eq!(
            deviations_of(wanted, Some(&less)),
            ["ClusterRole istiod differs in rules, which don't allow to list nodes"]
        );
    }

    #[test]
    fn ignores_newer_release_except_for_roles() {
        let newer = |mut object: Value| {
            object["metadata"]["annotations"] = json!({RELEASE_ANNOTATION: "1.33.0"});
            object
        };
        assert_eq!(deviations_of(hook("https://a"), Some(&newer(hook("https://b")))), Vec::<String>::new());
        let found = newer(role(&json!([])));
        assert_eq!(deviations_of(role(&json!([rule(&["pods"], &["get"])])), Some(&found)).len(), 1);
    }

    #[test]
    fn reports_unestablished_crd_and_deletion() {
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"}});
        let unserved = compared(vec![(crd.clone(), Some(crd))]);
        assert_eq!(unserved.deviations, ["CustomResourceDefinition x is not served yet"]);
        let text = message(&unserved, &json!({"version": "1.32"}), "generic", None);
        assert!(text.ends_with("Wait until the API server has finished with them"), "{text}");
        let mut terminating = hook("https://a");
        terminating["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(
            deviations_of(hook("https://a"), Some(&terminating)),
            ["MutatingWebhookConfiguration injector is being deleted"]
        );
    }

    #[test]
    fn external_mode_refuses_fields_needing_cluster_writes() {
        let spec: MeshInstallationSpec = serde_json::from_value(json!({
            "version": "1.32", "tags": [{"name": "prod"}], "upgrade": {"strategy": "Canary"},
            "deletion": {"crds": "Delete"}, "proxy": {"update": {"mode": "Restart"}},
        }))
        .unwrap();
        let fields: Vec<String> =
            ClusterScopedResources::External.problems(&spec).into_iter().map(|problem| problem.field).collect();
        let expected = [
            "spec.tags",
            "spec.upgrade.strategy: Canary",
            "spec.deletion.crds: Delete",
            "spec.proxy.update.mode: Restart",
        ];
        assert_eq!(fields, expected);
        assert_eq!(ClusterScopedResources::Managed.problems(&spec), []);
        let empty: MeshInstallationSpec = serde_json::from_value(json!({"version": "1.32"})).unwrap();
        assert_eq!(ClusterScopedResources::External.problems(&empty), []);
    }

    #[test]
    fn only_failing_webhooks_of_same_service_depend() {
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
