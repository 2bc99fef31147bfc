//! Which live objects belong to an installation: those in the inventory of a revision record. Another object with the
//! label of the installation is a look-alike: it is reported, and decides nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt as _;
use meshwright_api::{MeshInstallation, MeshInstallationSpec};

use super::kind::Kind;
use super::object::{INSTALLATION_LABEL, ObjectKey};
use super::ownership::OwnershipMeta;
use super::revision::RevisionRecord;
use super::text::abbreviate;

/// Namespace of istio-cni and ztunnel with some profiles and platforms.
const NODE_NAMESPACE: &str = "kube-system";
/// Namespace of the `NetworkAttachmentDefinition` of istio-cni.
const NETWORK_NAMESPACE: &str = "default";

/// The objects of an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedObjects {
    installation: String,
    /// UIDs of the MeshInstallation, and of earlier ones for which its records were written.
    uids: BTreeSet<String>,
    /// Inventories of the revision records.
    recorded: Vec<Arc<BTreeSet<ObjectKey>>>,
    /// Objects of the revisions that were rendered in this reconcile.
    rendered: Vec<Arc<BTreeSet<ObjectKey>>>,
    /// The newest record has a complete inventory.
    is_complete: bool,
    /// Namespaces in which UID and field manager identify an object otherwise.
    namespaces: BTreeSet<String>,
}

impl OwnedObjects {
    /// The objects in the revision records, which are sorted from old to new.
    #[must_use]
    pub fn of(installation: &MeshInstallation, records: &[RevisionRecord]) -> Self {
        let specs = records.iter().map(|record| &record.inputs.spec).chain([&installation.spec]);
        let uids = records.iter().map(|record| record.uid.clone()).chain(installation.uid());
        Self {
            installation: installation.name_any(),
            uids: uids.filter(|uid| !uid.is_empty()).collect(),
            recorded: records.iter().map(|record| Arc::clone(&record.objects.keys)).collect(),
            rendered: Vec::new(),
            is_complete: records.last().is_some_and(|newest| newest.objects.is_complete),
            namespaces: specs.flat_map(namespaces).collect(),
        }
    }

    /// Adds the objects of a revision that was rendered.
    pub fn add_rendered(&mut self, keys: BTreeSet<ObjectKey>) {
        self.rendered.push(Arc::new(keys));
    }

    /// Whether the revision records list all objects that may exist.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether an object with the installation's label is its own.
    #[must_use]
    pub fn contains(&self, key: &ObjectKey, ownership: &OwnershipMeta) -> bool {
        self.recorded.iter().chain(&self.rendered).any(|keys| keys.contains(key)) || self.claims(key, ownership)
    }

    /// Whether UID and field manager identify an object, since no complete inventory says what exists.
    fn claims(&self, key: &ObjectKey, ownership: &OwnershipMeta) -> bool {
        let is_own_namespace = |namespace: &String| {
            let is_network = key.kind == Kind::NetworkAttachmentDefinition && namespace == NETWORK_NAMESPACE;
            is_network || self.namespaces.contains(namespace)
        };
        !self.is_complete
            && ownership.is_applied
            && ownership.uid.as_ref().is_some_and(|uid| self.uids.contains(uid))
            && key.namespace.as_ref().is_none_or(is_own_namespace)
    }

    /// Whether an object in the inventory still is the installation's. A user may have removed its label or its UID; a
    /// released object has neither, and one of another installation has another UID.
    #[must_use]
    pub fn is_marked(&self, ownership: &OwnershipMeta) -> bool {
        match &ownership.uid {
            Some(uid) => self.uids.contains(uid),
            None => ownership.installation.as_ref() == Some(&self.installation),
        }
    }

    /// All objects that are known by name.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<ObjectKey> {
        self.recorded.iter().chain(&self.rendered).flat_map(|keys| keys.iter().cloned()).collect()
    }

    /// Objects of other revisions than the one with these objects. They may be gone, even if an upgrade has rendered
    /// their revision.
    #[must_use]
    pub fn of_others_than(&self, target: &BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
        self.keys().difference(target).cloned().collect()
    }
}

/// The namespaces that a spec names, and those of components without a namespace in the spec.
fn namespaces(spec: &MeshInstallationSpec) -> impl Iterator<Item = String> {
    let of_gateways = spec.gateways.iter().map(move |gateway| spec.gateway_namespace(gateway));
    let of_components = [&spec.cni, &spec.ztunnel].into_iter().filter_map(|component| component.namespace.as_deref());
    [spec.namespace.as_str(), NODE_NAMESPACE].into_iter().chain(of_gateways).chain(of_components).map(str::to_owned)
}

/// The warning about objects with the label of an installation that are not its own.
#[must_use]
pub fn lookalike_warning(installation: &str, lookalikes: &[ObjectKey]) -> Option<String> {
    let names = abbreviate(lookalikes);
    let label = format!("{INSTALLATION_LABEL}={installation}");
    let warning = format!(
        "unmanaged resources with the label {label} are ignored: {names}. The mesh's inventory doesn't list them; remove \
         the label"
    );
    (!lookalikes.is_empty()).then_some(warning)
}

/// The warning about objects that an uninstall leaves, since their metadata is too large to show whose they are.
#[must_use]
pub fn unknown_owner_warning(unknown: &[ObjectKey]) -> Option<String> {
    let names = abbreviate(unknown);
    let warning = format!("not deleted, since the metadata is too large to read: {names}. Delete what no mesh needs");
    (!unknown.is_empty()).then_some(warning)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::object::{FIELD_MANAGER, REPLACED_ANNOTATION};
    use crate::mesh::recorded_objects::RecordedObjects;

    #[allow(clippy::needless_pass_by_value, reason = "tests read better without a reference to each literal")]
    fn installation(spec: Value) -> MeshInstallation {
        let metadata = json!({"name": "mesh", "uid": "u"});
        serde_json::from_value(
            json!({"apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": metadata, "spec": spec}),
        )
        .unwrap()
    }

    fn record(uid: &str, objects: RecordedObjects) -> RevisionRecord {
        let spec = json!({"version": "1.31.2", "gateways": [{"name": "old", "namespace": "old"}]});
        let sample = RevisionRecord::sample(1, installation(spec).spec, semver::Version::new(1, 31, 2));
        RevisionRecord { uid: uid.into(), objects, ..sample }
    }

    fn service(namespace: &str, name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::Service, namespace: Some(namespace.into()), name: name.into() }
    }

    fn ownership(uid: Option<&str>, is_applied: bool) -> OwnershipMeta {
        OwnershipMeta {
            installation: Some("mesh".into()),
            uid: uid.map(str::to_owned),
            is_applied,
            ..OwnershipMeta::default()
        }
    }

    fn spec() -> Value {
        json!({"version": "1.31.2", "gateways": [{"name": "edge", "namespace": "edge"}]})
    }

    #[test]
    fn inventory_decides_about_copied_metadata() {
        let listed = RecordedObjects::new([service("edge", "edge")].into());
        let mut owned = OwnedObjects::of(&installation(spec()), &[record("u", listed)]);
        let copied = ownership(Some("u"), true);
        assert!(owned.contains(&service("edge", "edge"), &copied));
        assert!(!owned.contains(&service("edge", "copy"), &copied));
        assert!(!owned.contains(&service("tenant", "edge"), &copied));
        owned.add_rendered([service("edge", "copy")].into());
        assert!(owned.contains(&service("edge", "copy"), &copied));
    }

    #[test]
    fn rendered_objects_of_earlier_revisions_may_be_gone() {
        let listed = RecordedObjects::new([service("edge", "target"), service("edge", "recorded")].into());
        let mut owned = OwnedObjects::of(&installation(spec()), &[record("u", listed)]);
        let target = BTreeSet::from([service("edge", "target"), service("edge", "new")]);
        owned.add_rendered(target.clone());
        owned.add_rendered([service("edge", "target"), service("edge", "rendered")].into());
        let others = BTreeSet::from([service("edge", "recorded"), service("edge", "rendered")]);
        assert_eq!(owned.of_others_than(&target), others);
    }

    #[test]
    fn older_records_claim_by_uid_and_manager() {
        let older = record("u", RecordedObjects::default());
        for records in [vec![older.clone()], vec![record("u", RecordedObjects::new(BTreeSet::new())), older]] {
            let owned = OwnedObjects::of(&installation(spec()), &records);
            assert!(!owned.is_complete());
            for namespace in ["istio-system", "edge", "old"] {
                assert!(owned.contains(&service(namespace, "x"), &ownership(Some("u"), true)), "{namespace}");
            }
            assert!(!owned.contains(&service("tenant", "x"), &ownership(Some("u"), true)));
            for copied in [ownership(Some("u"), false), ownership(Some("other"), true), ownership(None, true)] {
                assert!(!owned.contains(&service("edge", "x"), &copied), "{copied:?}");
            }
        }
        let lost = OwnedObjects::of(&installation(spec()), &[]);
        let role = ObjectKey { kind: Kind::ClusterRole, namespace: None, name: "x".into() };
        assert!(lost.contains(&role, &ownership(Some("u"), true)));
    }

    #[test]
    fn released_objects_and_those_of_others_are_not_marked() {
        let owned = OwnedObjects::of(&installation(spec()), &[record("restored-from", RecordedObjects::default())]);
        let unlabelled = OwnershipMeta { installation: None, ..ownership(Some("u"), true) };
        for marked in [unlabelled, ownership(None, false), ownership(Some("restored-from"), true)] {
            assert!(owned.is_marked(&marked), "{marked:?}");
        }
        let released = OwnershipMeta { is_applied: true, ..OwnershipMeta::default() };
        let other_label = OwnershipMeta { installation: Some("other".into()), ..OwnershipMeta::default() };
        for gone in [released, other_label, ownership(Some("other"), true)] {
            assert!(!owned.is_marked(&gone), "{gone:?}");
        }
    }

    #[test]
    fn manager_of_applied_fields_is_read() {
        let of = |manager: &str| {
            OwnershipMeta::of(
                &json!({"metadata": {"name": "x", "managedFields": [{"manager": manager, "operation": "Apply"}]}}),
            )
        };
        assert!(of(FIELD_MANAGER).is_applied);
        assert!(!of("kubectl").is_applied);
    }

    #[test]
    fn owner_is_unknown_without_metadata() {
        let of = |labels: Value, annotations: Value| {
            OwnershipMeta::of(&json!({"metadata": {"name": "x", "labels": labels, "annotations": annotations}}))
        };
        let replaced = || json!({REPLACED_ANNOTATION: "larger than 512 KiB"});
        assert!(of(Value::Null, replaced()).is_unknown());
        assert!(!of(json!({INSTALLATION_LABEL: "other"}), replaced()).is_unknown(), "only other fields were left out");
        assert!(!of(Value::Null, json!({})).is_unknown(), "a released object");
        assert_eq!(unknown_owner_warning(&[]), None);
        assert!(unknown_owner_warning(&[service("edge", "a")]).unwrap().contains("Service edge/a"));
    }

    #[test]
    fn warning_names_few_lookalikes() {
        assert_eq!(lookalike_warning("mesh", &[]), None);
        let keys: Vec<ObjectKey> = (0..9).map(|n| service("tenant", &format!("copy-{n}"))).collect();
        let warning = lookalike_warning("mesh", &keys).unwrap();
        assert!(
            warning.contains("meshwright.dev/installation=mesh") && warning.contains("copy-4 and 4 more"),
            "{warning}"
        );
    }
}
