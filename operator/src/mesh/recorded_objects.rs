//! The inventory of a revision record: every object that may exist once the revision is rolled out. A label doesn't say
//! what belongs to a mesh, since every client that may write an object can set it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::object::ObjectKey;

/// The most bytes of an inventory; all annotations of an object have at most 256 KiB.
const MAX_BYTES: usize = 192 * 1024;

/// The objects that a revision record lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedObjects {
    /// Objects of the revision, and of earlier ones unless they are known to be gone.
    pub keys: Arc<BTreeSet<ObjectKey>>,
    /// Whether the list is complete. It is not if an operator without inventories has written the record, or made it the
    /// newest one since.
    pub is_complete: bool,
}

/// The form in the annotation, in which kinds and namespaces are not repeated.
#[derive(Serialize, Deserialize)]
struct InventoryDocument {
    /// Number of the revision when the inventory was written.
    revision: i64,
    /// Names by kind and namespace, which is empty for cluster-scoped objects.
    objects: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl RecordedObjects {
    /// A complete list.
    #[must_use]
    pub fn new(keys: BTreeSet<ObjectKey>) -> Self {
        Self { keys: Arc::new(keys), is_complete: true }
    }

    /// Reads the annotation of the revision with this number.
    #[must_use]
    pub fn parse(text: Option<&str>, number: i64) -> Self {
        let document = text.and_then(|text| serde_json::from_str::<InventoryDocument>(text).ok());
        let Some(document) = document else { return Self::default() };
        let (mut keys, mut is_complete) = (BTreeSet::new(), document.revision == number);
        for (kind_name, namespaces) in document.objects {
            // A newer operator may know more kinds.
            let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == kind_name) else {
                is_complete = false;
                continue;
            };
            for (namespace, names) in namespaces {
                let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
                if namespace.is_some() == kind.namespaced() {
                    keys.extend(names.into_iter().map(|name| ObjectKey { kind, namespace: namespace.clone(), name }));
                } else {
                    is_complete = false;
                }
            }
        }
        Self { keys: Arc::new(keys), is_complete }
    }

    /// The annotation for the revision with this number; `None` if the list is too long for one.
    #[must_use]
    pub fn to_annotation(&self, number: i64) -> Option<String> {
        let mut document = InventoryDocument { revision: number, objects: BTreeMap::new() };
        for key in self.keys.iter() {
            let namespaces = document.objects.entry(key.kind.name().to_owned()).or_default();
            let names = namespaces.entry(key.namespace.clone().unwrap_or_default()).or_default();
            names.insert(key.name.clone());
        }
        serde_json::to_string(&document).ok().filter(|text| text.len() <= MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, namespace: Option<&str>, name: &str) -> ObjectKey {
        ObjectKey { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    #[test]
    fn annotation_has_each_object() {
        let keys = BTreeSet::from([
            key(Kind::ClusterRole, None, "istiod"),
            key(Kind::ConfigMap, Some("istio-system"), "istio"),
            key(Kind::ConfigMap, Some("istio-system"), "values"),
        ]);
        let recorded = RecordedObjects::new(keys.clone());
        let text = recorded.to_annotation(3).unwrap();
        let expected = r#"{"revision":3,"objects":{"ClusterRole":{"":["istiod"]},"ConfigMap":{"istio-system":["istio","values"]}}}"#;
        assert_eq!(text, expected);
        assert_eq!(RecordedObjects::parse(Some(&text), 3), recorded);
        let restored = RecordedObjects::parse(Some(&text), 4);
        assert!(!restored.is_complete, "an older operator made the revision the newest one again");
        assert_eq!(*restored.keys, keys);
    }

    #[test]
    fn missing_or_damaged_inventory_is_incomplete() {
        for text in [None, Some(""), Some("[]"), Some(r#"{"revision":1}"#)] {
            assert_eq!(RecordedObjects::parse(text, 1), RecordedObjects::default(), "{text:?}");
        }
        let damaged = [
            r#"{"revision":1,"objects":{"Future":{"a":["x"]},"Service":{"a":["x"]}}}"#,
            r#"{"revision":1,"objects":{"Namespace":{"a":["x"]},"Service":{"":["y"],"a":["x"]}},"more":1}"#,
        ];
        for text in damaged {
            let found = RecordedObjects::parse(Some(text), 1);
            assert!(!found.is_complete, "{text}");
            assert_eq!(*found.keys, BTreeSet::from([key(Kind::Service, Some("a"), "x")]), "{text}");
        }
    }

    #[test]
    fn long_inventory_is_not_written() {
        let of = |count: usize| {
            let name = |n: usize| format!("{n:04}-{}", "x".repeat(200));
            RecordedObjects::new((0..count).map(|n| key(Kind::Service, Some("edge"), &name(n))).collect())
        };
        assert!(of(500).to_annotation(1).is_some());
        assert_eq!(of(1000).to_annotation(1), None);
    }
}
