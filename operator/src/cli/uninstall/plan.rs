//! What is going to be done, and when it must not be. Pure.

use std::fmt::Write as _;

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;

use super::Fate;
use super::found::{Found, Standing};
use crate::mesh::kind::Kind;

/// Why nothing is done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are meshes, and nobody said what becomes of them.
    #[error(
        "there are MeshInstallations: {0}. Say what becomes of their meshes: --meshes uninstall removes them, --meshes orphan \
         lets them go on without an operator"
    )]
    Undecided(String),
    /// There are meshes to remove, and nobody to do it.
    #[error(
        "only the operator removes meshes, and it {state}, so that these would stay: {meshes}. Put it back \
         (docs/install.md), or let them go on without one: --meshes orphan"
    )]
    NobodyThere {
        /// What is the matter with the operator.
        state: &'static str,
        /// The meshes.
        meshes: String,
    },
    /// The rights that are not in a namespace are another's.
    #[error("the operator is in namespace {0}: say --operator-namespace {0}")]
    Elsewhere(String),
}

/// Why it must not be done, if so.
pub(super) fn refusal(found: &Found, fate: Option<Fate>) -> Option<Refusal> {
    if let (Standing::Absent, Some(elsewhere)) = (found.operator, &found.elsewhere) {
        return Some(Refusal::Elsewhere(elsewhere.clone()));
    }
    if found.meshes.is_empty() {
        return None;
    }
    let meshes = names(&found.meshes);
    match (fate, found.operator) {
        (None, _) => Some(Refusal::Undecided(meshes)),
        (Some(Fate::Uninstall), Standing::Absent) => Some(Refusal::NobodyThere { state: "isn't there", meshes }),
        (Some(Fate::Uninstall), Standing::Down) => {
            Some(Refusal::NobodyThere { state: "has no pod that is ready", meshes })
        }
        _ => None,
    }
}

/// Whether there is nothing to do.
pub(super) fn is_done(found: &Found, crd: bool) -> bool {
    let rest = found.maker.is_some() || found.parts.is_empty() && !(crd && found.definition.is_some());
    found.meshes.is_empty() && rest
}

/// All that is going to be done, a line for each thing.
pub(super) fn text(found: &Found, fate: Option<Fate>, crd: bool) -> String {
    let mut text = String::new();
    for mesh in &found.meshes {
        let becomes = match (fate, found.operator) {
            (Some(Fate::Orphan), Standing::Serves) => "goes; the mesh goes on running",
            (Some(Fate::Orphan), _) => {
                "goes, without its finalizer; the mesh goes on running, and its objects keep the operator's labels"
            }
            _ => "goes, and the mesh with it",
        };
        line(&mut text, &format!("MeshInstallation {}", mesh.name_any()), becomes);
    }
    if let Some(maker) = &found.maker {
        line(&mut text, "the operator", &format!("stays: remove it where it comes from, {maker}"));
        return text;
    }
    if let Some(definition) = &found.definition {
        let becomes = if crd { "goes" } else { "stays; --crd removes it" };
        line(&mut text, &definition.key.to_string(), becomes);
    }
    for part in &found.parts {
        let whole = if part.key.kind == Kind::Namespace { "goes, with all that is in it" } else { "goes" };
        line(&mut text, &part.key.to_string(), whole);
    }
    if found.parts.is_empty() {
        line(&mut text, "the operator", "isn't there");
    }
    text
}

fn line(text: &mut String, what: &str, becomes: &str) {
    let _ = writeln!(text, "{what}: {becomes}");
}

/// Installations by name, as a list.
pub(super) fn names(meshes: &[MeshInstallation]) -> String {
    let names: Vec<String> = meshes.iter().map(kube::ResourceExt::name_any).collect();
    names.join(", ")
}

/// Whether an answer is a yes; all else is none.
pub(super) fn means_yes(answer: &str) -> bool {
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
        Removal { key, uid: "u".into() }
    }

    fn found(meshes: &[&str], operator: Standing) -> Found {
        let mesh = |name: &&str| {
            serde_json::from_value(json!({
                "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": name},
                "spec": {"version": "1.31"},
            }))
            .unwrap()
        };
        Found {
            meshes: meshes.iter().map(mesh).collect(),
            parts: vec![part(Kind::Deployment, Some("ops"), "meshwright"), part(Kind::Namespace, None, "ops")],
            definition: Some(part(Kind::CustomResourceDefinition, None, "meshinstallations.meshwright.dev")),
            operator,
            elsewhere: None,
            maker: None,
        }
    }

    #[test]
    fn meshes_of_which_nothing_was_said_are_named_and_stop_it() {
        let refused = refusal(&found(&["east", "west"], Standing::Serves), None).unwrap().to_string();
        assert!(refused.contains("east, west") && refused.contains("--meshes orphan"), "{refused}");
        assert_eq!(refusal(&found(&[], Standing::Absent), None), None);
    }

    #[test]
    fn nobody_is_asked_to_remove_meshes_but_an_operator_that_runs() {
        for (operator, refused) in [(Standing::Serves, false), (Standing::Down, true), (Standing::Absent, true)] {
            assert_eq!(refusal(&found(&["mesh"], operator), Some(Fate::Uninstall)).is_some(), refused, "{operator:?}");
            assert_eq!(refusal(&found(&["mesh"], operator), Some(Fate::Orphan)), None, "{operator:?}");
        }
    }

    #[test]
    fn an_operator_in_another_namespace_keeps_its_rights_and_its_meshes() {
        let mut absent = found(&["mesh"], Standing::Absent);
        absent.elsewhere = Some("ops".into());
        let refused = refusal(&absent, Some(Fate::Orphan)).unwrap().to_string();
        assert!(refused.contains("--operator-namespace ops"), "{refused}");
        absent.operator = Standing::Serves;
        assert_eq!(refusal(&absent, Some(Fate::Orphan)), None);
    }

    #[test]
    fn every_object_has_a_line_that_says_what_becomes_of_it() {
        let expected = "\
MeshInstallation mesh: goes, and the mesh with it
CustomResourceDefinition meshinstallations.meshwright.dev: stays; --crd removes it
Deployment ops/meshwright: goes
Namespace ops: goes, with all that is in it
";
        assert_eq!(text(&found(&["mesh"], Standing::Serves), Some(Fate::Uninstall), false), expected);
        let alone = text(&found(&["mesh"], Standing::Absent), Some(Fate::Orphan), true);
        assert!(alone.contains("without its finalizer") && alone.contains(".dev: goes\n"), "{alone}");
    }

    #[test]
    fn what_others_have_made_is_left_to_them() {
        let mut found = found(&["mesh"], Standing::Serves);
        found.maker = Some("Helm's release mw".into());
        let text = text(&found, Some(Fate::Orphan), true);
        assert!(text.contains("the operator: stays") && text.contains("Helm's release mw"), "{text}");
        assert!(!text.contains("Deployment") && !text.contains("CustomResourceDefinition"), "{text}");
    }

    #[test]
    fn it_is_done_when_nothing_is_left_that_was_to_go() {
        let mut found = found(&[], Standing::Absent);
        assert!(!is_done(&found, false));
        found.parts.clear();
        assert!(is_done(&found, false) && !is_done(&found, true));
        found.definition = None;
        assert!(is_done(&found, true));
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(["y\n", "YES", " yes "].iter().all(|answer| means_yes(answer)));
        assert!(["", "\n", "n", "yep", "no"].iter().all(|answer| !means_yes(answer)));
    }
}
