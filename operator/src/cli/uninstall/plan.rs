//! The plan of an uninstallation, and the conditions that block it. Pure.

use std::fmt::Write as _;

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;

use super::MeshPolicy;
use super::discover::{InstalledOperator, OperatorState};
use crate::mesh::kind::Kind;

/// The reason why nothing is deleted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UninstallBlocker {
    /// There are meshes, but no policy for them.
    #[error(
        "MeshInstallations exist: {0}; set --meshes uninstall to uninstall their meshes, or --meshes orphan to keep them \
         running without an operator"
    )]
    PolicyRequired(String),
    /// There are meshes to uninstall, but no operator that can do it.
    #[error(
        "only the operator can uninstall meshes, but it {state}; remaining MeshInstallations: {meshes}. Reinstall the operator \
         (docs/install.md), or keep the meshes running without one: --meshes orphan"
    )]
    OperatorUnavailable {
        /// The operator's state.
        state: &'static str,
        /// Names of the MeshInstallations.
        meshes: String,
    },
    /// The cluster-scoped RBAC resources belong to an operator in another namespace.
    #[error("the operator is in namespace {0}; set --operator-namespace {0}")]
    OtherNamespace(String),
}

/// The reason that blocks the uninstallation, if any.
pub(super) fn blocker(found: &InstalledOperator, policy: Option<MeshPolicy>) -> Option<UninstallBlocker> {
    if let (OperatorState::Absent, Some(other_namespace)) = (found.operator, &found.other_namespace) {
        return Some(UninstallBlocker::OtherNamespace(other_namespace.clone()));
    }
    if found.meshes.is_empty() {
        return None;
    }
    let meshes = names(&found.meshes);
    match (policy, found.operator) {
        (None, _) => Some(UninstallBlocker::PolicyRequired(meshes)),
        (Some(MeshPolicy::Uninstall), OperatorState::Absent) => {
            Some(UninstallBlocker::OperatorUnavailable { state: "is not installed", meshes })
        }
        (Some(MeshPolicy::Uninstall), OperatorState::Unavailable) => {
            Some(UninstallBlocker::OperatorUnavailable { state: "has no available pod", meshes })
        }
        _ => None,
    }
}

/// Whether nothing has to be deleted.
pub(super) fn is_done(found: &InstalledOperator, crd: bool) -> bool {
    let rest = found.managed_by.is_some() || found.parts.is_empty() && !(crd && found.crd_object.is_some());
    found.meshes.is_empty() && rest
}

/// The plan, one line per resource.
pub(super) fn text(found: &InstalledOperator, policy: Option<MeshPolicy>, crd: bool) -> String {
    let mut text = String::new();
    for mesh in &found.meshes {
        let action = match (policy, found.operator) {
            (Some(MeshPolicy::Orphan), OperatorState::Available) => "will be deleted; the mesh keeps running",
            (Some(MeshPolicy::Orphan), _) => {
                "will be deleted without its finalizer; the mesh keeps running and its resources keep the operator's \
                 labels"
            }
            _ => "will be deleted with its mesh",
        };
        line(&mut text, &format!("MeshInstallation {}", mesh.name_any()), action);
    }
    if let Some(managed_by) = &found.managed_by {
        line(&mut text, "the operator", &format!("will be kept; it is managed by {managed_by}"));
        return text;
    }
    if let Some(crd_object) = &found.crd_object {
        let action = if crd { "will be deleted" } else { "will be kept; --crd deletes it" };
        line(&mut text, &crd_object.key.to_string(), action);
    }
    for part in &found.parts {
        let action = if part.key.kind == Kind::Namespace {
            "will be deleted with all resources in it"
        } else {
            "will be deleted"
        };
        line(&mut text, &part.key.to_string(), action);
    }
    if found.parts.is_empty() {
        line(&mut text, "the operator", "not installed");
    }
    text
}

fn line(text: &mut String, what: &str, action: &str) {
    let _ = writeln!(text, "{what}: {action}");
}

/// Names of MeshInstallations, separated by commas.
pub(super) fn names(meshes: &[MeshInstallation]) -> String {
    let names: Vec<String> = meshes.iter().map(kube::ResourceExt::name_any).collect();
    names.join(", ")
}

/// Whether the answer confirms; everything else aborts.
pub(super) fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::ObjectKey;
    use crate::mesh::uninstall::Removal;

    fn part(kind: Kind, namespace: Option<&str>, name: &str) -> Removal {
        let key = ObjectKey { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() };
        Removal { key, uid: "u".into(), resource_version: 0 }
    }

    fn found(meshes: &[&str], operator: OperatorState) -> InstalledOperator {
        let mesh = |name: &&str| {
            serde_json::from_value(json!({
                "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": name},
                "spec": {"version": "1.31"},
            }))
            .unwrap()
        };
        InstalledOperator {
            meshes: meshes.iter().map(mesh).collect(),
            parts: vec![part(Kind::Deployment, Some("ops"), "meshwright"), part(Kind::Namespace, None, "ops")],
            crd_object: Some(part(Kind::CustomResourceDefinition, None, "meshinstallations.meshwright.dev")),
            operator,
            other_namespace: None,
            managed_by: None,
        }
    }

    #[test]
    fn requires_policy_for_existing_meshes() {
        let rejected = blocker(&found(&["east", "west"], OperatorState::Available), None).unwrap().to_string();
        assert!(rejected.contains("east, west") && rejected.contains("--meshes orphan"), "{rejected}");
        assert_eq!(blocker(&found(&[], OperatorState::Absent), None), None);
    }

    #[test]
    fn only_available_operator_uninstalls_meshes() {
        for (operator, rejected) in
            [(OperatorState::Available, false), (OperatorState::Unavailable, true), (OperatorState::Absent, true)]
        {
            assert_eq!(
                blocker(&found(&["mesh"], operator), Some(MeshPolicy::Uninstall)).is_some(),
                rejected,
                "{operator:?}"
            );
            assert_eq!(blocker(&found(&["mesh"], operator), Some(MeshPolicy::Orphan)), None, "{operator:?}");
        }
    }

    #[test]
    fn rejects_operator_in_other_namespace() {
        let mut absent = found(&["mesh"], OperatorState::Absent);
        absent.other_namespace = Some("ops".into());
        let rejected = blocker(&absent, Some(MeshPolicy::Orphan)).unwrap().to_string();
        assert!(rejected.contains("--operator-namespace ops"), "{rejected}");
        absent.operator = OperatorState::Available;
        assert_eq!(blocker(&absent, Some(MeshPolicy::Orphan)), None);
    }

    #[test]
    fn lists_action_for_every_resource() {
        let expected = "\
MeshInstallation mesh: will be deleted with its mesh
CustomResourceDefinition meshinstallations.meshwright.dev: will be kept; --crd deletes it
Deployment ops/meshwright: will be deleted
Namespace ops: will be deleted with all resources in it
";
        assert_eq!(text(&found(&["mesh"], OperatorState::Available), Some(MeshPolicy::Uninstall), false), expected);
        let alone = text(&found(&["mesh"], OperatorState::Absent), Some(MeshPolicy::Orphan), true);
        assert!(alone.contains("without its finalizer") && alone.contains(".dev: will be deleted\n"), "{alone}");
    }

    #[test]
    fn keeps_operator_managed_by_other_tools() {
        let mut found = found(&["mesh"], OperatorState::Available);
        found.managed_by = Some("Helm release mw".into());
        let text = text(&found, Some(MeshPolicy::Orphan), true);
        assert!(text.contains("the operator: will be kept") && text.contains("Helm release mw"), "{text}");
        assert!(!text.contains("Deployment") && !text.contains("CustomResourceDefinition"), "{text}");
    }

    #[test]
    fn detects_completed_uninstallation() {
        let mut found = found(&[], OperatorState::Absent);
        assert!(!is_done(&found, false));
        found.parts.clear();
        assert!(is_done(&found, false) && !is_done(&found, true));
        found.crd_object = None;
        assert!(is_done(&found, true));
    }

    #[test]
    fn only_yes_confirms() {
        assert!(["y\n", "YES", " yes "].iter().all(|answer| is_yes(answer)));
        assert!(["", "\n", "n", "yep", "no"].iter().all(|answer| !is_yes(answer)));
    }
}
