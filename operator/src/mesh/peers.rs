//! Several installations in one cluster: which of their specs conflict, and which one writes the objects that they
//! share.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;

use super::health::Blocker;
use super::kind::Kind;
use super::object::{Component, DesiredObject, ObjectKey};
use super::observed::ObservedObject;
use super::revisions::{MeshPart, Revision};

/// The part of an installation that matters to other installations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The installation's `metadata.name`.
    pub name: String,
    /// The installation's `metadata.uid`.
    pub uid: String,
    /// `spec.namespace`, the control plane's.
    pub namespace: String,
    /// Labels in `spec.namespaceLabels`.
    pub namespace_labels: BTreeMap<String, String>,
    /// The revision in `spec.revision`.
    pub revision: Revision,
    /// Names in `spec.tags`.
    pub tags: BTreeSet<String>,
    /// The installation is being deleted.
    pub terminating: bool,
}

impl Peer {
    /// Reduces an installation.
    #[must_use]
    pub fn of(installation: &MeshInstallation) -> Self {
        let spec = &installation.spec;
        Self {
            name: installation.name_any(),
            uid: installation.uid().unwrap_or_default(),
            namespace: spec.namespace.clone(),
            namespace_labels: spec.namespace_labels.clone(),
            revision: Revision::of(spec),
            tags: spec.tags.iter().map(|tag| tag.name.clone()).collect(),
            terminating: installation.metadata.deletion_timestamp.is_some(),
        }
    }
}

impl Peer {
    /// An installation that can't be parsed: only its name and UID are known.
    #[must_use]
    pub fn unreadable(name: String, uid: String) -> Self {
        Self {
            name,
            uid,
            namespace: String::new(),
            namespace_labels: BTreeMap::new(),
            revision: Revision::Default,
            tags: BTreeSet::new(),
            terminating: false,
        }
    }
}

/// One installation and its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSet {
    me: Peer,
    earlier: Vec<Peer>,
    later: Vec<Peer>,
    /// Peers whose specs are unknown.
    unreadable: Vec<Peer>,
    /// An earlier installation with the same revision.
    duplicate: Option<Peer>,
    /// The uninstall of `me` waits: it keeps the tags that no other installation lists.
    keeps_own_tags: bool,
}

impl PeerSet {
    /// With installations that can't be parsed. What they need is unknown, so they count as needing every shared object
    /// until they can be read.
    #[must_use]
    pub fn with_unreadable(mut self, unreadable: impl IntoIterator<Item = Peer>) -> Self {
        self.unreadable.extend(unreadable.into_iter().filter(|peer| peer.uid != self.me.uid));
        self
    }

    /// The peers that can't be parsed.
    pub fn unreadable(&self) -> impl Iterator<Item = &Peer> {
        self.unreadable.iter()
    }

    /// With the tags of `me` that no other installation lists, although `me` is being deleted.
    #[must_use]
    pub fn keeping_own_tags(self, keeps_own_tags: bool) -> Self {
        Self { keeps_own_tags, ..self }
    }

    /// `me`, if it keeps its own tags.
    #[must_use]
    pub fn tag_keeper(&self) -> Option<&Peer> {
        self.keeps_own_tags.then_some(&self.me)
    }

    /// `all` is in order of precedence and may contain `me`. Of several installations with one revision only the first
    /// counts: the others have no objects.
    #[must_use]
    pub fn new(me: Peer, all: impl IntoIterator<Item = Peer>) -> Self {
        let (mut earlier, mut later, mut duplicate) = (Vec::new(), Vec::new(), None);
        let (mut revisions, mut seen) = (BTreeSet::new(), false);
        for peer in all {
            let first = revisions.insert(peer.revision.clone());
            if peer.uid == me.uid {
                seen = true;
            } else if peer.revision == me.revision && !seen {
                duplicate = duplicate.or(Some(peer));
            } else if first && seen {
                later.push(peer);
            } else if first {
                earlier.push(peer);
            }
        }
        Self { me, earlier, later, unreadable: Vec::new(), duplicate, keeps_own_tags: false }
    }

    /// The installation whose peers these are.
    #[must_use]
    pub const fn me(&self) -> &Peer {
        &self.me
    }

    /// Its peers in order of precedence, as far as they can be read.
    pub fn others(&self) -> impl Iterator<Item = &Peer> {
        self.earlier.iter().chain(&self.later)
    }

    /// All installations in order of precedence, as far as they can be read.
    pub fn all(&self) -> impl Iterator<Item = &Peer> {
        self.earlier.iter().chain([&self.me]).chain(&self.later)
    }

    /// The peers that are not being deleted, and those that can't be read.
    pub fn remaining(&self) -> impl Iterator<Item = &Peer> {
        self.others().filter(|peer| !peer.terminating).chain(&self.unreadable)
    }

    /// Whether a peer has its control plane in a namespace, or may have it.
    #[must_use]
    pub fn is_namespace_of_peer(&self, namespace: &str) -> bool {
        !self.unreadable.is_empty() || self.remaining().any(|peer| peer.namespace == *namespace)
    }

    /// Blocks an installation whose revision an earlier one has.
    #[must_use]
    pub fn duplicate_revision(&self) -> Option<Blocker> {
        let first = self.duplicate.as_ref()?;
        let message = match &self.me.revision {
            Revision::Default => format!(
                "MeshInstallation {} already has the default revision; recreate this one with spec.revision set, or \
                 delete one of the two",
                first.name
            ),
            Revision::Named(name) => format!(
                "MeshInstallation {} already has revision {name}; recreate this one with another spec.revision, or delete \
                 one of the two",
                first.name
            ),
        };
        Some(Blocker { reason: Reason::InstallationConflict, message })
    }

    /// A field of the spec that conflicts with an earlier installation.
    #[must_use]
    pub fn conflict(&self) -> Option<Blocker> {
        self.earlier.iter().find_map(|other| {
            let (field, message) = self.conflict_between(other)?;
            Some(Blocker { reason: Reason::InvalidSpec, message: format!("{field}: {message}") })
        })
    }

    fn conflict_between(&self, other: &Peer) -> Option<(String, String)> {
        let (me, their) = (&self.me, &other.name);
        if let Some(revision) = me.revision.name().filter(|name| other.tags.contains(*name)) {
            let message = format!(
                "{revision:?} is a tag of MeshInstallation {their}; remove the tag there, or choose another revision"
            );
            return Some(("spec.revision".into(), message));
        }
        if let Some(tag) = other.revision.name().filter(|name| me.tags.contains(*name)) {
            let message = format!("{tag:?} is the revision of MeshInstallation {their}; choose another tag");
            return Some((format!("spec.tags[{tag}].name"), message));
        }
        let same_namespace = me.namespace == other.namespace && !me.namespace_labels.is_empty();
        if same_namespace && me.namespace_labels != other.namespace_labels {
            let message = format!(
                "MeshInstallation {their} already sets the labels of Namespace {}; set them there, and the same or none \
                 here",
                me.namespace
            );
            return Some(("spec.namespaceLabels".into(), message));
        }
        None
    }

    /// Whether a desired object is shared and a peer writes it. CRDs are written by the installation with the newest
    /// release.
    #[must_use]
    pub fn is_written_by_peer(
        &self,
        desired: &DesiredObject,
        live: Option<&ObservedObject>,
        mine: &semver::Version,
    ) -> bool {
        let Some(live) = live.filter(|_| is_shared(&desired.key, &desired.component)) else { return false };
        let holder = self.remaining().find(|peer| live.ownership.uid.as_deref() == Some(&peer.uid));
        let older = live.ownership.release.as_ref().is_some_and(|theirs| theirs < mine);
        holder.is_some() && !(desired.key.kind == Kind::CustomResourceDefinition && older)
    }

    /// Whether an object must survive the deletion of this installation, since a peer takes it over.
    #[must_use]
    pub fn is_needed_by_peer(&self, key: &ObjectKey, live: &ObservedObject) -> bool {
        let component = live.ownership.component.as_ref();
        // Namespaces and CRDs stay anyway, without ownership metadata.
        !key.kind.shared()
            && component.is_some_and(|component| is_shared(key, component))
            && match &key.namespace {
                Some(namespace) => self.is_namespace_of_peer(namespace),
                None => self.remaining().next().is_some(),
            }
    }
}

fn is_shared(key: &ObjectKey, component: &Component) -> bool {
    key.kind.shared() || MeshPart::of(component) == MeshPart::Shared
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::Owner;

    /// An installation whose UID equals its name.
    pub(crate) fn peer(name: &str, revision: Option<&str>, tags: &[&str]) -> Peer {
        Peer {
            name: name.into(),
            uid: name.into(),
            namespace: "istio-system".into(),
            namespace_labels: BTreeMap::new(),
            revision: revision.map_or(Revision::Default, |name| Revision::Named(name.into())),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            terminating: false,
        }
    }

    fn peer_set(first: Peer, me: &Peer) -> PeerSet {
        PeerSet::new(me.clone(), [first, me.clone()])
    }

    fn conflict(first: Peer, me: &Peer) -> String {
        peer_set(first, me).conflict().map(|blocker| blocker.message).unwrap_or_default()
    }

    #[test]
    fn blocks_later_installation_with_same_revision() {
        let (a, b) = (peer("a", None, &[]), peer("b", None, &[]));
        let duplicate = peer_set(a.clone(), &b).duplicate_revision().unwrap();
        assert!(duplicate.message.starts_with("MeshInstallation a already has the default revision"));
        assert_eq!(PeerSet::new(a.clone(), [a.clone(), b]).duplicate_revision(), None);
        assert_eq!(peer_set(a.clone(), &peer("b", Some("canary"), &[])).duplicate_revision(), None);
        let canaries = peer_set(peer("a", Some("canary"), &[]), &peer("b", Some("canary"), &[])).duplicate_revision();
        assert!(canaries.unwrap().message.starts_with("MeshInstallation a already has revision canary"));
        // An installation that the list lacks counts as the last.
        let unlisted = PeerSet::new(peer("b", None, &[]), [a]);
        assert!(unlisted.duplicate_revision().is_some());
    }

    #[test]
    fn ignores_installation_with_duplicate_revision() {
        let (a, b) = (peer("a", None, &["prod"]), peer("b", Some("x"), &[]));
        let peers = PeerSet::new(a.clone(), [a, peer("c", None, &[]), b.clone(), peer("d", Some("x"), &[])]);
        assert_eq!(peers.remaining().collect::<Vec<_>>(), [&b]);
    }

    #[test]
    fn revision_and_tag_names_must_differ() {
        let tagged = peer("a", None, &["canary"]);
        let message = conflict(tagged.clone(), &peer("b", Some("canary"), &[]));
        let expected = "spec.revision: \"canary\" is a tag of MeshInstallation a; remove the tag there, or choose another revision";
        assert_eq!(message, expected);
        let message = conflict(peer("a", Some("canary"), &[]), &peer("b", None, &["canary"]));
        let expected = "spec.tags[canary].name: \"canary\" is the revision of MeshInstallation a";
        assert!(message.starts_with(expected), "{message}");
        assert_eq!(conflict(tagged, &peer("b", Some("next"), &["prod"])), "");
    }

    #[test]
    fn one_installation_sets_namespace_labels() {
        let labels = || BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let labelled = |name: &str, revision| Peer { namespace_labels: labels(), ..peer(name, revision, &[]) };
        let me = labelled("b", Some("canary"));
        let message = conflict(peer("a", None, &[]), &me);
        let expected = "spec.namespaceLabels: MeshInstallation a already sets the labels of Namespace istio-system";
        assert!(message.starts_with(expected), "{message}");
        assert_eq!(conflict(labelled("a", None), &me), "");
        assert_eq!(conflict(Peer { namespace: "other".into(), ..peer("a", None, &[]) }, &me), "");
        assert_eq!(conflict(labelled("a", None), &peer("b", Some("canary"), &[])), "");
    }

    fn live(
        kind: &str,
        api_version: &str,
        component: &Component,
        of: &str,
        release: &str,
    ) -> (DesiredObject, ObservedObject) {
        let owner = Owner { installation: of.into(), uid: of.into(), release: release.parse().unwrap() };
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
        let desired = DesiredObject::from_rendered(object, component, &owner, "istio-system").unwrap();
        let live = ObservedObject::of(desired.key.kind, &desired.value(), None, None);
        (desired, live)
    }

    #[test]
    fn unreadable_peer_needs_every_shared_object() {
        let me = peer("a", None, &["prod"]);
        let unreadable = [Peer::unreadable("b".into(), "b".into()), Peer::unreadable("a".into(), "a".into())];
        let peers = PeerSet::new(me.clone(), [me.clone()]).with_unreadable(unreadable);
        let names: Vec<&str> = peers.remaining().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["b"], "without the installation itself");
        assert_eq!((peers.duplicate_revision(), peers.conflict()), (None, None));
        assert!(peers.is_namespace_of_peer("istio-system") && peers.is_namespace_of_peer("any"));
        let is_needed = |component: &Component| {
            let (desired, live) = live("ServiceAccount", "v1", component, "a", "1.31.2");
            peers.is_needed_by_peer(&desired.key, &live)
        };
        assert!(is_needed(&Component::Base) && !is_needed(&Component::Istiod));
        let (namespace, held) = live("Namespace", "v1", &Component::Namespaces, "b", "1.31.2");
        assert!(peers.is_written_by_peer(&namespace, Some(&held), &"1.32.0".parse().unwrap()));
    }

    const CRD: (&str, &str) = ("CustomResourceDefinition", "apiextensions.k8s.io/v1");

    #[test]
    fn shared_objects_belong_to_current_writer() {
        let me = peer("b", Some("canary"), &[]);
        let peers = peer_set(peer("a", None, &[]), &me);
        let is_written_by_peer =
            |(kind, version): (&str, &str), component: &Component, of: &str, release: &str, mine: &str| {
                let (desired, live) = live(kind, version, component, of, release);
                peers.is_written_by_peer(&desired, Some(&live), &mine.parse().unwrap())
            };
        assert!(is_written_by_peer(CRD, &Component::Base, "a", "1.31.2", "1.31.2"));
        assert!(is_written_by_peer(CRD, &Component::Base, "a", "1.32.0", "1.31.2"));
        assert!(
            !is_written_by_peer(CRD, &Component::Base, "a", "1.31.2", "1.32.0"),
            "the newer release takes CRDs over"
        );
        assert!(!is_written_by_peer(CRD, &Component::Base, "b", "1.31.2", "1.31.2"));
        assert!(!is_written_by_peer(CRD, &Component::Base, "gone", "1.31.2", "1.31.2"));
        let account = ("ServiceAccount", "v1");
        assert!(is_written_by_peer(account, &Component::Base, "a", "1.31.2", "1.32.0"));
        assert!(!is_written_by_peer(account, &Component::Istiod, "a", "1.31.2", "1.32.0"), "a conflict");
        assert!(is_written_by_peer(("Namespace", "v1"), &Component::Namespaces, "a", "1.31.2", "1.32.0"));
    }

    #[test]
    fn keeps_objects_that_peer_needs() {
        let is_needed = |peers: &PeerSet, component: &Component| {
            let (desired, live) = live("ServiceAccount", "v1", component, "a", "1.31.2");
            peers.is_needed_by_peer(&desired.key, &live)
        };
        let (me, other) = (peer("a", None, &[]), peer("b", Some("canary"), &[]));
        let peers = peer_set(other.clone(), &me);
        assert!(is_needed(&peers, &Component::Base));
        assert!(!is_needed(&peers, &Component::Istiod));
        assert!(!is_needed(&peer_set(Peer { namespace: "mesh".into(), ..other.clone() }, &me), &Component::Base));
        assert!(!is_needed(&peer_set(Peer { terminating: true, ..other }, &me), &Component::Base));
    }
}
