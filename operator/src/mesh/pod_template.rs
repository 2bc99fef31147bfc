//! What is written into the pod templates of rendered workloads.

use serde_json::{Value, json};

use super::kind::Kind;

/// Pods are rolled when what they are made from changes: a gateway's are made by the injector, so its inputs are theirs.
pub(super) fn annotate_pods(object: &mut Value, annotation: &str, checksum: &str) {
    if object.get("kind").and_then(Value::as_str) != Some(Kind::Deployment.name()) {
        return;
    }
    if let Some(metadata) = object.pointer_mut("/spec/template/metadata") {
        super::merge::merge(metadata, json!({"annotations": {annotation: checksum}}));
    }
}
