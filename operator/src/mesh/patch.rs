//! `spec.patches`: JSON patches on rendered objects. Which object it is and whose stays out of their reach.

use std::fmt;

use json_patch::PatchOperation;
use meshwright_api::ObjectPatch;
use serde_json::Value;

use super::kind::Kind;
use super::problem::Problem;

/// What the operator's own labels and annotations begin with.
const OURS: &str = "meshwright.dev/";
/// What says which object it is.
const IDENTITY: [&str; 4] = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"];
/// Where labels and annotations are.
const MARKED: [&str; 4] = [
    "/metadata/labels",
    "/metadata/annotations",
    "/spec/template/metadata/labels",
    "/spec/template/metadata/annotations",
];
/// The API server takes no larger object, in bytes; copies of copies would grow beyond all memory.
const LARGEST: usize = 1_500_000;

/// A patch and the object that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetedPatch {
    /// Where it stands in the spec's list.
    index: usize,
    target: Target,
    operations: Vec<PatchOperation>,
}

/// The object that a patch is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    kind: Kind,
    name: String,
    namespace: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A patch doesn't fit the objects that were rendered.
#[derive(Debug, thiserror::Error)]
pub enum PatchObjectError {
    /// The mesh has no such object.
    #[error("spec.patches[{index}].target: the mesh has no {target}; of that kind it has: {}", listed(.others))]
    Missed {
        /// Which patch.
        index: usize,
        /// Its target.
        target: Target,
        /// Objects of that kind.
        others: Vec<String>,
    },
    /// The mesh has several such objects.
    #[error("spec.patches[{index}].target: {target} is in several namespaces ({}): add one", listed(.namespaces))]
    Ambiguous {
        /// Which patch.
        index: usize,
        /// Its target.
        target: Target,
        /// Where they are.
        namespaces: Vec<String>,
    },
    /// The object isn't as the patch takes it to be.
    #[error("spec.patches[{index}].patch[{operation}] does not fit {target}: {} at {:?}", .source.kind, .source.path.as_str())]
    Operation {
        /// Which patch.
        index: usize,
        /// Its target.
        target: Target,
        /// Which operation of it.
        operation: usize,
        /// Cause.
        #[source]
        source: json_patch::PatchError,
    },
    /// The patch makes another object of it.
    #[error("spec.patches[{index}] must not change {field} of {target}: that says which object it is")]
    Identity {
        /// Which patch.
        index: usize,
        /// Its target.
        target: Target,
        /// The field.
        field: String,
    },
    /// The patch touches the operator's marks.
    #[error(
        "spec.patches[{index}] must not set {field} of {target} to {value}: labels and annotations stay maps, and those of {OURS} are the operator's"
    )]
    Marks {
        /// Which patch.
        index: usize,
        /// Its target.
        target: Target,
        /// The field.
        field: String,
        /// What it would become.
        value: Value,
    },
    /// The object grows too large.
    #[error(
        "spec.patches[{index}].patch[{operation}] makes {target} larger than the {LARGEST} bytes that the API server takes"
    )]
    TooLarge {
        /// Which patch.
        index: usize,
        /// Its target.
        target: Target,
        /// Which operation of it.
        operation: usize,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

impl TargetedPatch {
    /// Reads one of the spec's patches.
    pub fn parse(index: usize, patch: &ObjectPatch) -> Result<Self, Vec<Problem>> {
        let field = format!("spec.patches[{index}]");
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == patch.target.kind) else {
            let kinds = Kind::ALL.map(Kind::name).join(", ");
            let message = format!("{:?} is no kind that a mesh consists of; those are {kinds}", patch.target.kind);
            return Err(vec![Problem::new(format!("{field}.target.kind"), message)]);
        };
        if patch.target.namespace.is_some() && !kind.namespaced() {
            let message = format!("a {kind} is in no namespace: leave it out");
            return Err(vec![Problem::new(format!("{field}.target.namespace"), message)]);
        }
        let mut problems = Vec::new();
        let mut operations = Vec::new();
        for (at, operation) in patch.patch.iter().enumerate() {
            match serde_json::to_value(operation).and_then(serde_json::from_value) {
                Ok(operation) => operations.push(operation),
                Err(error) => problems.push(Problem::new(
                    format!("{field}.patch[{at}]"),
                    format!("{:?} at {:?} is no operation of a JSON patch: {error}", operation.op, operation.path),
                )),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let target = Target { kind, name: patch.target.name.clone(), namespace: patch.target.namespace.clone() };
        Ok(Self { index, target, operations })
    }

    fn apply(&self, object: &mut Value) -> Result<(), PatchObjectError> {
        let (index, target) = (self.index, || self.target.clone());
        let before = IDENTITY.map(|path| object.pointer(path).cloned());
        for (operation, step) in self.operations.iter().enumerate() {
            // What a failed patch leaves behind is thrown away with the whole render.
            json_patch::patch_unsafe(object, std::slice::from_ref(step))
                .map_err(|source| PatchObjectError::Operation { index, target: target(), operation, source })?;
            if matches!(step, PatchOperation::Copy(_)) && object.to_string().len() > LARGEST {
                return Err(PatchObjectError::TooLarge { index, target: target(), operation });
            }
        }
        for (path, before) in IDENTITY.into_iter().zip(before) {
            if object.pointer(path) != before.as_ref() {
                return Err(PatchObjectError::Identity { index, target: target(), field: dotted(path) });
            }
        }
        for path in MARKED {
            let value = match object.pointer(path) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(map)) if !map.keys().any(|key| key.starts_with(OURS)) => continue,
                Some(other) => other.clone(),
            };
            return Err(PatchObjectError::Marks { index, target: target(), field: dotted(path), value });
        }
        Ok(())
    }
}

fn dotted(path: &str) -> String {
    path.trim_start_matches('/').replace('/', ".")
}

/// The patches of one render, and what they have met.
pub struct Patching<'a> {
    patches: &'a [TargetedPatch],
    /// Per patch, the namespaces of the objects that it was applied to.
    met: Vec<Vec<String>>,
    /// Names of rendered objects of kinds that patches are for.
    seen: Vec<(Kind, String)>,
}

impl<'a> Patching<'a> {
    /// Begins a render.
    #[must_use]
    pub fn new(patches: &'a [TargetedPatch]) -> Self {
        Self { patches, met: vec![Vec::new(); patches.len()], seen: Vec::new() }
    }

    /// Applies the patches that are for this object; `default_namespace` is where it goes if it doesn't say.
    pub fn apply(&mut self, object: &mut Value, default_namespace: &str) -> Result<(), PatchObjectError> {
        if self.patches.is_empty() {
            return Ok(());
        }
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(kind) = Kind::of(&text("/apiVersion"), &text("/kind")) else { return Ok(()) };
        let (name, own) = (text("/metadata/name"), text("/metadata/namespace"));
        let namespace = if own.is_empty() { default_namespace.to_owned() } else { own };
        if self.patches.iter().any(|patch| patch.target.kind == kind) {
            self.seen.push((kind, name.clone()));
        }
        for (patch, met) in self.patches.iter().zip(&mut self.met) {
            let Target { kind: wanted, name: named, namespace: within } = &patch.target;
            if *wanted == kind && *named == name && within.as_ref().is_none_or(|within| *within == namespace) {
                patch.apply(object)?;
                met.push(namespace.clone());
            }
        }
        Ok(())
    }

    /// Ends a render: every patch must have met one object.
    pub fn finish(self) -> Result<(), PatchObjectError> {
        for (TargetedPatch { index, target, .. }, met) in self.patches.iter().zip(self.met) {
            let (index, target) = (*index, target.clone());
            if met.is_empty() {
                let mut others: Vec<String> =
                    self.seen.iter().filter(|(kind, _)| *kind == target.kind).map(|(_, name)| name.clone()).collect();
                others.sort();
                return Err(PatchObjectError::Missed { index, target, others });
            }
            if met.len() > 1 {
                return Err(PatchObjectError::Ambiguous { index, target, namespaces: met });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "tests read better without a reference to each literal")]
    fn patch(target: Value, operations: Value) -> Result<TargetedPatch, Vec<Problem>> {
        TargetedPatch::parse(3, &serde_json::from_value(json!({"target": target, "patch": operations})).unwrap())
    }

    fn deployment(namespace: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "istiod", "namespace": namespace, "labels": {"app": "istiod"}},
            "spec": {"template": {"metadata": {"labels": {"app": "istiod"}}, "spec": {"containers": [{"name": "discovery"}]}}},
        })
    }

    /// Patches istiod's Deployment.
    fn patched(operations: Value) -> Result<Value, String> {
        let patches = [patch(json!({"kind": "Deployment", "name": "istiod"}), operations).unwrap()];
        let mut object = deployment("istio-system");
        let mut patching = Patching::new(&patches);
        patching.apply(&mut object, "x").map_err(|error| error.to_string())?;
        patching.finish().map_err(|error| error.to_string())?;
        Ok(object)
    }

    #[test]
    fn a_patch_changes_its_target_and_nothing_else() {
        let object = patched(json!([
            {"op": "add", "path": "/spec/template/spec/priorityClassName", "value": "high"},
            {"op": "add", "path": "/metadata/labels/team", "value": "mesh"},
        ]))
        .unwrap();
        assert_eq!(object["spec"]["template"]["spec"]["priorityClassName"], "high");
        assert_eq!(object["metadata"]["labels"], json!({"app": "istiod", "team": "mesh"}));

        let patches =
            [patch(json!({"kind": "Deployment", "name": "other"}), json!([{"op": "remove", "path": "/spec"}]))
                .unwrap()];
        let mut object = deployment("istio-system");
        Patching::new(&patches).apply(&mut object, "x").unwrap();
        assert_eq!(object, deployment("istio-system"));
    }

    #[test]
    fn which_object_it_is_cannot_be_patched() {
        for (path, field) in [
            ("/apiVersion", "apiVersion"),
            ("/kind", "kind"),
            ("/metadata/name", "metadata.name"),
            ("/metadata/namespace", "metadata.namespace"),
        ] {
            let error = patched(json!([{"op": "replace", "path": path, "value": "x"}])).unwrap_err();
            let expected =
                format!("spec.patches[3] must not change {field} of Deployment istiod: that says which object it is");
            assert_eq!(error, expected);
        }
        let error = patched(json!([{"op": "remove", "path": "/metadata"}])).unwrap_err();
        assert!(error.contains("metadata.name"), "{error}");
        let error = patched(json!([{"op": "replace", "path": "", "value": {}}])).unwrap_err();
        assert!(error.contains("apiVersion"), "{error}");
    }

    #[test]
    fn the_operators_marks_cannot_be_patched() {
        for path in ["/metadata/labels", "/spec/template/metadata/labels"] {
            let at = format!("{path}/meshwright.dev~1installation");
            let error = patched(json!([{"op": "add", "path": at, "value": "mine"}])).unwrap_err();
            assert!(error.contains(&dotted(path)) && error.contains("the operator's"), "{error}");
        }
        let error =
            patched(json!([{"op": "add", "path": "/metadata/annotations", "value": {"meshwright.dev/x": "y"}}]))
                .unwrap_err();
        assert!(error.contains("metadata.annotations of Deployment istiod"), "{error}");
        let error = patched(json!([{"op": "replace", "path": "/metadata/labels", "value": "none"}])).unwrap_err();
        assert!(error.contains("stay maps"), "{error}");
    }

    #[test]
    fn what_does_not_fit_the_object_is_named_with_patch_operation_target_and_path() {
        let error = patched(json!([
            {"op": "test", "path": "/kind", "value": "Deployment"},
            {"op": "replace", "path": "/spec/nothing", "value": 1},
        ]))
        .unwrap_err();
        assert_eq!(
            error,
            "spec.patches[3].patch[1] does not fit Deployment istiod: path is invalid at \"/spec/nothing\""
        );
    }

    #[test]
    fn a_target_that_is_not_there_is_an_error_that_lists_what_is() {
        let patches =
            [patch(json!({"kind": "Deployment", "name": "istoid"}), json!([{"op": "remove", "path": "/spec"}]))
                .unwrap()];
        let mut patching = Patching::new(&patches);
        patching.apply(&mut deployment("istio-system"), "x").unwrap();
        assert_eq!(
            patching.finish().unwrap_err().to_string(),
            "spec.patches[3].target: the mesh has no Deployment istoid; of that kind it has: istiod"
        );
    }

    #[test]
    fn a_target_in_two_namespaces_needs_one_of_them() {
        let change = json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]);
        let both = |target: Value| {
            let patches = [patch(target, change.clone()).unwrap()];
            let mut patching = Patching::new(&patches);
            let mut objects = [deployment("one"), deployment("two")];
            for object in &mut objects {
                patching.apply(object, "x").unwrap();
            }
            patching.finish().map(|()| objects).map_err(|error| error.to_string())
        };
        let error = both(json!({"kind": "Deployment", "name": "istiod"})).unwrap_err();
        assert_eq!(error, "spec.patches[3].target: Deployment istiod is in several namespaces (one, two): add one");
        let [one, two] = both(json!({"kind": "Deployment", "name": "istiod", "namespace": "two"})).unwrap();
        assert_eq!((one["metadata"]["labels"].get("a"), &two["metadata"]["labels"]["a"]), (None, &json!("b")));
    }

    #[test]
    fn copies_of_copies_end_before_memory_does() {
        let copies: Vec<Value> =
            (0..64).map(|n| json!({"op": "copy", "from": "/spec", "path": format!("/spec/copy{n}")})).collect();
        let error = patched(json!(copies)).unwrap_err();
        assert!(error.contains("larger than"), "{error}");
    }

    #[test]
    fn operations_and_targets_are_checked_before_anything_is_rendered() {
        let said = |target, operations| patch(target, operations).unwrap_err()[0].to_string();
        let istiod = json!({"kind": "Deployment", "name": "istiod"});
        let error = said(istiod.clone(), json!([{"op": "add", "path": "/spec"}]));
        assert!(error.starts_with("spec.patches[3].patch[0]: ") && error.contains("missing field `value`"), "{error}");
        let error = said(istiod.clone(), json!([{"op": "remove", "path": "spec"}]));
        assert!(error.contains("\"spec\" is no operation"), "{error}");
        let error = said(json!({"kind": "Pod", "name": "x"}), json!([{"op": "remove", "path": "/spec"}]));
        assert!(error.starts_with("spec.patches[3].target.kind: \"Pod\" is no kind"), "{error}");
        let error = said(
            json!({"kind": "ClusterRole", "name": "x", "namespace": "y"}),
            json!([{"op": "remove", "path": "/rules"}]),
        );
        assert!(error.starts_with("spec.patches[3].target.namespace: "), "{error}");
        assert!(patch(istiod, json!([{"op": "move", "from": "/a", "path": "/b"}])).is_ok());
    }
}
