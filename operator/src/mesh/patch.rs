//! `spec.patches`: JSON patches on rendered objects. They can't change an object's identity or ownership metadata.

mod error;

use std::fmt;

use json_patch::PatchOperation;
use meshwright_api::ObjectPatch;
use serde_json::Value;

use super::kind::Kind;
use super::problem::Problem;

pub use error::ApplyPatchError;

/// Prefix of the operator's own labels and annotations.
const RESERVED_PREFIX: &str = "meshwright.dev/";
/// Pointers to the fields that identify an object.
const IDENTITY: [&str; 4] = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"];
/// Pointers to labels and annotations of an object and its pods.
const METADATA_MAPS: [&str; 4] = [
    "/metadata/labels",
    "/metadata/annotations",
    "/spec/template/metadata/labels",
    "/spec/template/metadata/annotations",
];
/// The API server rejects larger objects, in bytes. Without this limit, repeated copies could exhaust the memory.
const MAX_OBJECT_SIZE: usize = 1_500_000;
/// Objects and arrays in each other. CRDs are the deepest objects of a mesh; recursive functions can't process
/// thousands.
const MAX_OBJECT_DEPTH: usize = 64;

/// A validated entry of `spec.patches`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedPatch {
    /// Index in the spec's list.
    index: usize,
    target: TargetObject,
    operations: Vec<PatchOperation>,
}

/// The object that a patch changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetObject {
    kind: Kind,
    name: String,
    namespace: Option<String>,
}

impl fmt::Display for TargetObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl ParsedPatch {
    /// Validates an entry of `spec.patches`.
    pub fn parse(index: usize, patch: &ObjectPatch) -> Result<Self, Vec<Problem>> {
        let field = format!("spec.patches[{index}]");
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == patch.target.kind) else {
            let kinds = Kind::ALL.map(Kind::name).join(", ");
            let message = format!("{:?} is not a kind of the mesh's objects; use one of {kinds}", patch.target.kind);
            return Err(vec![Problem::new(format!("{field}.target.kind"), message)]);
        };
        if patch.target.namespace.is_some() && !kind.namespaced() {
            let message = format!("{kind} is cluster-scoped; remove the namespace");
            return Err(vec![Problem::new(format!("{field}.target.namespace"), message)]);
        }
        let mut problems = Vec::new();
        let mut operations = Vec::new();
        for (at, operation) in patch.patch.iter().enumerate() {
            match serde_json::to_value(operation).and_then(serde_json::from_value) {
                Ok(operation) => operations.push(operation),
                Err(error) => problems.push(Problem::new(
                    format!("{field}.patch[{at}]"),
                    format!("{:?} at {:?} is not a JSON patch operation: {error}", operation.op, operation.path),
                )),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let target = TargetObject { kind, name: patch.target.name.clone(), namespace: patch.target.namespace.clone() };
        Ok(Self { index, target, operations })
    }

    fn apply(&self, object: &mut Value) -> Result<(), ApplyPatchError> {
        let (index, target) = (self.index, || self.target.clone());
        let before = IDENTITY.map(|path| object.pointer(path).cloned());
        for (operation, step) in self.operations.iter().enumerate() {
            // After a failed operation the whole rendering is discarded, so a partial change does no harm.
            json_patch::patch_unsafe(object, std::slice::from_ref(step))
                .map_err(|source| ApplyPatchError::Operation { index, target: target(), operation, source })?;
            // Each copy can double the depth, and the size, of the object.
            if !is_within_depth(object, MAX_OBJECT_DEPTH) {
                return Err(ApplyPatchError::TooDeep { index, target: target(), operation });
            }
            if matches!(step, PatchOperation::Copy(_)) && object.to_string().len() > MAX_OBJECT_SIZE {
                return Err(ApplyPatchError::TooLarge { index, target: target(), operation });
            }
        }
        for (path, before) in IDENTITY.into_iter().zip(before) {
            if object.pointer(path) != before.as_ref() {
                return Err(ApplyPatchError::Identity { index, target: target(), field: dotted(path) });
            }
        }
        for path in METADATA_MAPS {
            let value = match object.pointer(path) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(map)) if !map.keys().any(|key| key.starts_with(RESERVED_PREFIX)) => continue,
                Some(other) => other.clone(),
            };
            return Err(ApplyPatchError::ReservedMetadata { index, target: target(), field: dotted(path), value });
        }
        Ok(())
    }
}

fn is_within_depth(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Object(map), Some(below)) => map.values().all(|value| is_within_depth(value, below)),
        (Value::Array(list), Some(below)) => list.iter().all(|value| is_within_depth(value, below)),
        (Value::Object(_) | Value::Array(_), None) => false,
        _ => true,
    }
}

fn dotted(path: &str) -> String {
    path.trim_start_matches('/').replace('/', ".")
}

/// Applies the patches of a spec during one rendering, and records which objects they matched.
pub struct ObjectPatcher<'a> {
    patches: &'a [ParsedPatch],
    /// For each patch, the namespaces of the objects that it was applied to.
    matched: Vec<Vec<String>>,
    /// Rendered objects of the kinds that patches target.
    candidates: Vec<(Kind, String)>,
}

impl<'a> ObjectPatcher<'a> {
    /// A patcher that has not matched any object yet.
    #[must_use]
    pub fn new(patches: &'a [ParsedPatch]) -> Self {
        Self { patches, matched: vec![Vec::new(); patches.len()], candidates: Vec::new() }
    }

    /// Applies the patches that target this object. `default_namespace` applies if the object sets none.
    pub fn apply(&mut self, object: &mut Value, default_namespace: &str) -> Result<(), ApplyPatchError> {
        if self.patches.is_empty() {
            return Ok(());
        }
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(kind) = Kind::of(&text("/apiVersion"), &text("/kind")) else { return Ok(()) };
        let (name, own) = (text("/metadata/name"), text("/metadata/namespace"));
        let namespace = if own.is_empty() { default_namespace.to_owned() } else { own };
        if self.patches.iter().any(|patch| patch.target.kind == kind) {
            self.candidates.push((kind, name.clone()));
        }
        for (patch, matched) in self.patches.iter().zip(&mut self.matched) {
            let TargetObject { kind: wanted, name: named, namespace: within } = &patch.target;
            if *wanted == kind && *named == name && within.as_ref().is_none_or(|within| *within == namespace) {
                patch.apply(object)?;
                matched.push(namespace.clone());
            }
        }
        Ok(())
    }

    /// Checks at the end of a rendering that every patch matched exactly one object.
    pub fn finish(self) -> Result<(), ApplyPatchError> {
        for (ParsedPatch { index, target, .. }, matched) in self.patches.iter().zip(self.matched) {
            let (index, target) = (*index, target.clone());
            if matched.is_empty() {
                let mut others: Vec<String> = self
                    .candidates
                    .iter()
                    .filter(|(kind, _)| *kind == target.kind)
                    .map(|(_, name)| name.clone())
                    .collect();
                others.sort();
                return Err(ApplyPatchError::TargetNotFound { index, target, others });
            }
            if matched.len() > 1 {
                return Err(ApplyPatchError::Ambiguous { index, target, namespaces: matched });
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
    fn patch(target: Value, operations: Value) -> Result<ParsedPatch, Vec<Problem>> {
        ParsedPatch::parse(3, &serde_json::from_value(json!({"target": target, "patch": operations})).unwrap())
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
        let mut applier = ObjectPatcher::new(&patches);
        applier.apply(&mut object, "x").map_err(|error| error.to_string())?;
        applier.finish().map_err(|error| error.to_string())?;
        Ok(object)
    }

    #[test]
    fn patches_only_the_target() {
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
        ObjectPatcher::new(&patches).apply(&mut object, "x").unwrap();
        assert_eq!(object, deployment("istio-system"));
    }

    #[test]
    fn rejects_deep_nesting() {
        let copy = json!({"op": "copy", "from": "/spec", "path": "/spec/a"});
        let error = patched(Value::Array(vec![copy; 63])).unwrap_err();
        assert!(error.contains("deeper than 64 levels"), "{error}");
        let around = json!([
            {"op": "copy", "from": "/spec", "path": "/metadata/a"},
            {"op": "move", "from": "/metadata/a", "path": "/spec/a"},
        ]);
        let steps: Vec<Value> = (0..63).flat_map(|_| around.as_array().unwrap().clone()).collect();
        assert!(patched(Value::Array(steps)).unwrap_err().contains("deeper than 64 levels"));
    }

    #[test]
    fn rejects_changes_of_identity() {
        for (path, field) in [
            ("/apiVersion", "apiVersion"),
            ("/kind", "kind"),
            ("/metadata/name", "metadata.name"),
            ("/metadata/namespace", "metadata.namespace"),
        ] {
            let error = patched(json!([{"op": "replace", "path": path, "value": "x"}])).unwrap_err();
            let expected =
                format!("spec.patches[3] must not change {field} of Deployment istiod, which identifies the object");
            assert_eq!(error, expected);
        }
        let error = patched(json!([{"op": "remove", "path": "/metadata"}])).unwrap_err();
        assert!(error.contains("metadata.name"), "{error}");
        let error = patched(json!([{"op": "replace", "path": "", "value": {}}])).unwrap_err();
        assert!(error.contains("apiVersion"), "{error}");
    }

    #[test]
    fn rejects_changes_of_ownership_metadata() {
        for path in ["/metadata/labels", "/spec/template/metadata/labels"] {
            let at = format!("{path}/meshwright.dev~1installation");
            let error = patched(json!([{"op": "add", "path": at, "value": "mine"}])).unwrap_err();
            assert!(error.contains(&dotted(path)) && error.contains("which are reserved"), "{error}");
        }
        let error =
            patched(json!([{"op": "add", "path": "/metadata/annotations", "value": {"meshwright.dev/x": "y"}}]))
                .unwrap_err();
        assert!(error.contains("metadata.annotations of Deployment istiod"), "{error}");
        let error = patched(json!([{"op": "replace", "path": "/metadata/labels", "value": "none"}])).unwrap_err();
        assert!(error.contains("must be maps"), "{error}");
    }

    #[test]
    fn error_names_operation_target_and_path() {
        let error = patched(json!([
            {"op": "test", "path": "/kind", "value": "Deployment"},
            {"op": "replace", "path": "/spec/nothing", "value": 1},
        ]))
        .unwrap_err();
        assert_eq!(
            error,
            "spec.patches[3].patch[1] can't be applied to Deployment istiod: path is invalid at \"/spec/nothing\""
        );
    }

    #[test]
    fn missing_target_lists_candidates() {
        let patches =
            [patch(json!({"kind": "Deployment", "name": "istoid"}), json!([{"op": "remove", "path": "/spec"}]))
                .unwrap()];
        let mut applier = ObjectPatcher::new(&patches);
        applier.apply(&mut deployment("istio-system"), "x").unwrap();
        assert_eq!(
            applier.finish().unwrap_err().to_string(),
            "spec.patches[3].target: Deployment istoid not found; the mesh has these of that kind: istiod"
        );
    }

    #[test]
    fn ambiguous_target_requires_namespace() {
        let change = json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]);
        let both = |target: Value| {
            let patches = [patch(target, change.clone()).unwrap()];
            let mut applier = ObjectPatcher::new(&patches);
            let mut objects = [deployment("one"), deployment("two")];
            for object in &mut objects {
                applier.apply(object, "x").unwrap();
            }
            applier.finish().map(|()| objects).map_err(|error| error.to_string())
        };
        let error = both(json!({"kind": "Deployment", "name": "istiod"})).unwrap_err();
        assert_eq!(
            error,
            "spec.patches[3].target: Deployment istiod exists in several namespaces (one, two); set target.namespace"
        );
        let [one, two] = both(json!({"kind": "Deployment", "name": "istiod", "namespace": "two"})).unwrap();
        assert_eq!((one["metadata"]["labels"].get("a"), &two["metadata"]["labels"]["a"]), (None, &json!("b")));
    }

    #[test]
    fn limits_size_of_patched_object() {
        let copies: Vec<Value> =
            (0..64).map(|n| json!({"op": "copy", "from": "/spec", "path": format!("/spec/copy{n}")})).collect();
        let error = patched(json!(copies)).unwrap_err();
        assert!(error.contains("larger than"), "{error}");
    }

    #[test]
    fn validates_operations_and_targets() {
        let message_of = |target, operations| patch(target, operations).unwrap_err()[0].to_string();
        let istiod = json!({"kind": "Deployment", "name": "istiod"});
        let error = message_of(istiod.clone(), json!([{"op": "add", "path": "/spec"}]));
        assert!(error.starts_with("spec.patches[3].patch[0]: ") && error.contains("missing field `value`"), "{error}");
        let error = message_of(istiod.clone(), json!([{"op": "remove", "path": "spec"}]));
        assert!(error.contains("\"spec\" is not a JSON patch operation"), "{error}");
        let error = message_of(json!({"kind": "Pod", "name": "x"}), json!([{"op": "remove", "path": "/spec"}]));
        assert!(error.starts_with("spec.patches[3].target.kind: \"Pod\" is not a kind"), "{error}");
        let error = message_of(
            json!({"kind": "ClusterRole", "name": "x", "namespace": "y"}),
            json!([{"op": "remove", "path": "/rules"}]),
        );
        assert!(error.starts_with("spec.patches[3].target.namespace: "), "{error}");
        assert!(patch(istiod, json!([{"op": "move", "from": "/a", "path": "/b"}])).is_ok());
    }
}
