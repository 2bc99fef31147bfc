//! Reports objects that exceed the limits of responses by an Event about each.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::EventType;
use meshwright_api::conditions::Reason;

use super::events::EventSink;
use crate::mesh::object::INSTALLATION_LABEL;
use crate::runtime::response_limits::{ReplacedObject, ReplacedObjects};

/// Events that a leader publishes about such objects; anyone can create more. The log and the metric have the others.
const MAX_EVENTS: usize = 100;
/// The kind of objects in a list of metadata.
const METADATA: &str = "PartialObjectMetadata";

/// Publishes an Event about each object, once. Never returns.
pub async fn report_oversized(replaced: &ReplacedObjects, events: &EventSink) {
    let mut published = 0;
    while published < MAX_EVENTS {
        let found = replaced.next_unreported().await;
        for object in found.iter().filter(|object| is_reported(object)).take(MAX_EVENTS - published) {
            events.publish_about(about(object), EventType::Warning, Reason::ObjectTooLarge, "Read", &note(object));
            published += 1;
        }
    }
    std::future::pending::<()>().await;
}

/// MeshInstallations have a status that says so.
fn is_reported(object: &ReplacedObject) -> bool {
    let kind = object.identity.kind.as_str();
    !matches!(kind, "" | METADATA | "MeshInstallation")
}

fn about(object: &ReplacedObject) -> ObjectReference {
    let identity = object.identity.clone();
    ObjectReference {
        api_version: Some(identity.api_version),
        kind: Some(identity.kind),
        namespace: Some(identity.namespace).filter(|namespace| !namespace.is_empty()),
        name: Some(identity.name),
        uid: Some(identity.uid).filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    }
}

fn note(object: &ReplacedObject) -> String {
    let remedy = if object.resource == "pods" {
        "make it smaller, or its proxy counts as one of an unknown version".to_owned()
    } else {
        format!("make it smaller, or remove the label {INSTALLATION_LABEL} if it is not part of a mesh")
    };
    format!("Meshwright ignores some fields of this object, since it is {}; {remedy}", object.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::response_limits::ObjectIdentity;

    fn object(kind: &str, resource: &str, namespace: &str) -> ReplacedObject {
        let identity = ObjectIdentity {
            api_version: "v1".into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: "a".into(),
            uid: "u".into(),
        };
        ReplacedObject { resource: resource.into(), identity, reason: "larger than 512 KiB".into() }
    }

    #[test]
    fn reports_objects_of_known_kind_without_status() {
        assert!(is_reported(&object("ConfigMap", "configmaps", "n")));
        for kind in ["", METADATA, "MeshInstallation"] {
            assert!(!is_reported(&object(kind, "x", "")), "{kind}");
        }
    }

    #[test]
    fn names_object_limit_and_remedy() {
        let map = object("ConfigMap", "configmaps", "n");
        assert_eq!(
            note(&map),
            "Meshwright ignores some fields of this object, since it is larger than 512 KiB; make it smaller, or remove the \
             label meshwright.dev/installation if it is not part of a mesh"
        );
        assert_eq!((about(&map).namespace.as_deref(), about(&map).kind.as_deref()), (Some("n"), Some("ConfigMap")));
        assert_eq!(about(&object("Node", "nodes", "")).namespace, None);
        assert!(note(&object("Pod", "pods", "n")).contains("unknown version"));
    }
}
