//! Labels of the mesh's namespaces that keep gateways and ztunnel from starting, or the operator from checking injection.

use std::sync::Arc;

use super::input::CheckInput;
use super::snapshot::{ClusterSnapshot, ObjectInfo};
use super::{Finding, require};
use crate::mesh::injection_check::excluded_by;
use crate::mesh::kind::Kind;
use crate::mesh::namespace_rules::{Labels, NAME_LABEL, NamespaceObstacle};
use crate::mesh::object::{Component, DesiredObject};
use crate::mesh::revisions::DEFAULT;

const CHECK: &str = "namespace-labels";

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let namespaces = match require(CHECK, "namespace labels", &cluster.namespaces) {
        Ok(namespaces) => namespaces,
        Err(unknown) => return unknown,
    };
    let labels = labels(input, namespaces);
    let obstacles = match &input.installation {
        Some(Ok(mesh)) => {
            mesh.namespace_rules.obstacles(|name| labels.iter().find(|(of, _)| of == name).map(|(_, l)| l))
        }
        _ => Vec::new(),
    };
    let mut findings: Vec<Finding> = control_plane(input, &labels).into_iter().collect();
    findings.extend(obstacles.iter().map(obstacle));
    if findings.is_empty() {
        findings.push(Finding::pass(CHECK, "namespaces", "none excludes pods of the mesh from injection or discovery"));
    }
    findings
}

/// The labels that the namespaces have once the operator has applied its own.
fn labels(input: &CheckInput, namespaces: &[ObjectInfo]) -> Vec<(String, Labels)> {
    let desired: Vec<&Arc<DesiredObject>> = match &input.installation {
        Some(Ok(mesh)) => mesh.desired.iter().filter(|object| object.key.kind == Kind::Namespace).collect(),
        _ => Vec::new(),
    };
    let of = |name: &str| {
        let mut labels = Labels::from([(NAME_LABEL.to_owned(), name.to_owned())]);
        labels.extend(
            namespaces.iter().find(|live| live.name == name).map(|live| live.labels.clone()).unwrap_or_default(),
        );
        let written = desired.iter().find(|object| object.key.name == name);
        let written = written.and_then(|object| object.value().pointer("/metadata/labels").cloned());
        labels.extend(written.and_then(|labels| serde_json::from_value::<Labels>(labels).ok()).unwrap_or_default());
        labels
    };
    input.namespaces.keys().map(|name| (name.clone(), of(name))).collect()
}

/// The operator checks injection with a pod in the control plane's namespace.
fn control_plane(input: &CheckInput, labels: &[(String, Labels)]) -> Option<Finding> {
    let (namespace, labels) = labels.iter().find(|(name, _)| *name == input.namespace)?;
    let revision = match &input.installation {
        Some(Ok(mesh)) => mesh.namespace_rules.revision().unwrap_or(DEFAULT),
        _ => DEFAULT,
    };
    let label = excluded_by(labels, revision)?;
    let key = label.split('=').next().unwrap_or(&label);
    let reason =
        format!("the label {label} excludes its pods from injection, so the operator can't check injection there");
    let fix = format!("kubectl label namespace {namespace} {key}-");
    Some(Finding::fail(CHECK, format!("Namespace {namespace}"), reason).fix(fix))
}

fn obstacle(obstacle: &NamespaceObstacle) -> Finding {
    let subject = format!("Namespace {}", obstacle.namespace);
    let finding = if obstacle.component == Component::Istiod {
        Finding::warn(CHECK, subject, obstacle.reason())
    } else {
        Finding::fail(CHECK, subject, obstacle.reason())
    };
    finding.fix(obstacle.fix())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::super::CheckVerdict;
    use super::super::samples::{self, meta};
    use super::*;
    use crate::mesh::namespace_rules::NamespaceRules;
    use crate::mesh::object::Owner;
    use crate::mesh::validated::ValidatedSpec;

    /// Input with gateway `front` in namespace `ingress`.
    fn input(mesh_config: &str) -> CheckInput {
        let owner = Owner { installation: "mesh".into(), uid: String::new(), release: semver::Version::new(1, 31, 2) };
        let admit = |component: &Component, object: Value| {
            Arc::new(DesiredObject::from_rendered(object, component, &owner, "istio-system").unwrap())
        };
        let gateway = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "front", "namespace": "ingress"},
            "spec": {"template": {"spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}}}});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"},
            "data": {"mesh": mesh_config}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "istio-system", "labels": {"mesh": "joined"}}});
        let desired = [
            admit(&Component::Gateway("front".into()), gateway),
            admit(&Component::Istiod, map),
            admit(&Component::Namespaces, namespace),
        ];
        let mut input = samples::input();
        input.namespaces.insert("ingress".into(), BTreeMap::new());
        if let Some(Ok(mesh)) = &mut input.installation {
            mesh.namespace_rules = NamespaceRules::of(&ValidatedSpec::empty(owner.clone()), &desired);
            mesh.desired = desired.into();
        }
        input
    }

    fn found(input: &CheckInput, namespaces: Vec<ObjectInfo>) -> Vec<(CheckVerdict, String, Option<String>)> {
        let mut cluster = samples::cluster();
        cluster.namespaces = Ok(namespaces);
        let findings = findings(input, &cluster).into_iter();
        findings.map(|finding| (finding.verdict, finding.subject, finding.fix)).collect()
    }

    #[test]
    fn fails_for_gateway_namespace_without_injection() {
        let ingress = meta("Namespace", "", "ingress").labelled("istio-injection", "disabled");
        let fix = "remove the label: kubectl label namespace ingress istio-injection-";
        assert_eq!(
            found(&input(""), vec![ingress]),
            [(CheckVerdict::Fail, "Namespace ingress".to_owned(), Some(fix.to_owned()))]
        );
        let shop = meta("Namespace", "", "shop").labelled("istio-injection", "disabled");
        assert_eq!(found(&input(""), vec![shop])[0].0, CheckVerdict::Pass);
    }

    #[test]
    fn fails_for_control_plane_namespace_without_injection() {
        let system = || meta("Namespace", "", "istio-system").labelled("istio-injection", "disabled");
        let mut none = samples::input();
        none.installation = None;
        for input in [none, input("")] {
            let found = found(&input, vec![system()]);
            assert_eq!((found[0].0, found[0].1.as_str()), (CheckVerdict::Fail, "Namespace istio-system"));
        }
    }

    #[test]
    fn fails_for_namespace_that_istiod_does_not_discover() {
        let by_label = input("discoverySelectors: [{matchLabels: {mesh: joined}}]");
        let fix = "label it: kubectl label namespace ingress mesh=joined --overwrite";
        // The operator itself labels istio-system.
        assert_eq!(
            found(&by_label, vec![]),
            [(CheckVerdict::Fail, "Namespace ingress".to_owned(), Some(fix.to_owned()))]
        );
        let by_name = input("discoverySelectors: [{matchLabels: {kubernetes.io/metadata.name: ingress}}]");
        let found = found(&by_name, vec![]);
        assert_eq!((found[0].0, found[0].1.as_str()), (CheckVerdict::Warn, "Namespace istio-system"));
        assert_eq!(found.len(), 1);
    }
}
