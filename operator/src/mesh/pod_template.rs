//! Annotations on the pod templates of rendered workloads.

use serde_json::{Value, json};

use super::kind::Kind;

/// Sets a checksum annotation on the pod template of a Deployment, so that a change of the inputs rolls its pods.
pub(super) fn annotate_pods(object: &mut Value, annotation: &str, checksum: &str) {
    if object.get("kind").and_then(Value::as_str) != Some(Kind::Deployment.name()) {
        return;
    }
    if let Some(metadata) = object.pointer_mut("/spec/template/metadata") {
        super::merge::merge(metadata, json!({"annotations": {annotation: checksum}}));
    }
}
