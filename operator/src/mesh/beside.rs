//! Installations beside each other in one cluster: what of one excludes another, and which of the objects that both need
//! is whose to write.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::Reason;

use super::health::Blocker;
use super::kind::Kind;
use super::live::Live;
use super::object::{Component, Desired, ObjectKey};
use super::revisions::{Part, Revision};

/// An installation, as far as others must know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Namespace of its control plane.
    pub namespace: String,
    /// Labels that it wants on that namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Its revision.
    pub revision: Revision,
    /// Tags that its spec lists.
    pub tags: BTreeSet<String>,
    /// It is being deleted.
    pub leaving: bool,
}

impl Peer {
    /// What others must know of an installation.
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
            leaving: installation.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// One installation among all that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    me: Peer,
    earlier: Vec<Peer>,
    later: Vec<Peer>,
    /// Came first with the same revision.
    rival: Option<Peer>,
}

impl Beside {
    /// `me` among `all`, which are in the order of precedence. Of those with one revision only the first counts: the others
    /// have nothing in the cluster.
    #[must_use]
    pub fn new(me: Peer, all: impl IntoIterator<Item = Peer>) -> Self {
        let (mut earlier, mut later, mut rival) = (Vec::new(), Vec::new(), None);
        let (mut revisions, mut seen) = (BTreeSet::new(), false);
        for peer in all {
            let first = revisions.insert(peer.revision.clone());
            if peer.uid == me.uid {
                seen = true;
            } else if peer.revision == me.revision && !seen {
                rival = rival.or(Some(peer));
            } else if first && seen {
                later.push(peer);
            } else if first {
                earlier.push(peer);
            }
        }
        Self { me, earlier, later, rival }
    }

    /// The installation itself.
    #[must_use]
    pub const fn me(&self) -> &Peer {
        &self.me
    }

    /// All others, in the order of precedence.
    pub fn others(&self) -> impl Iterator<Item = &Peer> {
        self.earlier.iter().chain(&self.later)
    }

    /// All, in the order of precedence.
    pub fn all(&self) -> impl Iterator<Item = &Peer> {
        self.earlier.iter().chain([&self.me]).chain(&self.later)
    }

    /// The others that stay.
    pub fn staying(&self) -> impl Iterator<Item = &Peer> {
        self.others().filter(|peer| !peer.leaving)
    }

    /// The installation that came first with the same revision, so that this one can't be there at all.
    #[must_use]
    pub fn same_revision(&self) -> Option<Blocker> {
        let first = self.rival.as_ref()?;
        let message = match &self.me.revision {
            Revision::Default => format!(
                "the cluster has the mesh of {} already; a second one beside it needs a revision: make this one anew with \
                 spec.revision, or delete one of the two",
                first.name
            ),
            Revision::Named(name) => format!(
                "{name} is the revision of {} already: make this one anew with another, or delete one of the two",
                first.name
            ),
        };
        Some(Blocker { reason: Reason::AnotherInstallation, message })
    }

    /// What of the spec doesn't go together with that of an installation that came first.
    #[must_use]
    pub fn conflict(&self) -> Option<Blocker> {
        self.earlier.iter().find_map(|other| {
            let (field, said) = self.conflict_with(other)?;
            Some(Blocker { reason: Reason::InvalidSpec, message: format!("{field}: {said}") })
        })
    }

    fn conflict_with(&self, other: &Peer) -> Option<(String, String)> {
        let (me, their) = (&self.me, &other.name);
        if let Some(revision) = me.revision.name().filter(|name| other.tags.contains(*name)) {
            let said = format!("{revision:?} is a tag of installation {their}: take it off there, or choose another");
            return Some(("spec.revision".into(), said));
        }
        if let Some(tag) = other.revision.name().filter(|name| me.tags.contains(*name)) {
            let said = format!("{tag:?} is the revision of installation {their}: choose another");
            return Some((format!("spec.tags[{tag}].name"), said));
        }
        let same_place = me.namespace == other.namespace && !me.namespace_labels.is_empty();
        if same_place && me.namespace_labels != other.namespace_labels {
            let said = format!(
                "installation {their} has the namespace {} too and came first: set its labels there, and the same or none \
                 here",
                me.namespace
            );
            return Some(("spec.namespaceLabels".into(), said));
        }
        None
    }

    /// Whether a desired object is one that all installations need and another of them writes: it is then left to that
    /// one. CRDs are written by whoever has the newest.
    #[must_use]
    pub fn is_anothers(&self, desired: &Desired, live: Option<&Live>, mine: &semver::Version) -> bool {
        let Some(live) = live.filter(|_| is_needed_by_all(&desired.key, &desired.component)) else { return false };
        let holder = self.staying().find(|peer| live.marks.uid.as_deref() == Some(&peer.uid));
        let older = live.marks.release.as_ref().is_some_and(|theirs| theirs < mine);
        holder.is_some() && !(desired.key.kind == Kind::CustomResourceDefinition && older)
    }

    /// Whether an object that goes with this installation must stay for another, which takes it over.
    #[must_use]
    pub fn is_needed(&self, key: &ObjectKey, live: &Live) -> bool {
        let component = live.marks.component.as_ref();
        // Namespaces and CRDs stay anyhow, and lose their marks.
        !key.kind.shared()
            && component.is_some_and(|component| is_needed_by_all(key, component))
            && self.staying().any(|peer| key.namespace.as_ref().is_none_or(|namespace| *namespace == peer.namespace))
    }
}

fn is_needed_by_all(key: &ObjectKey, component: &Component) -> bool {
    key.kind.shared() || Part::of(component) == Part::Shared
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::Owner;

    /// An installation called `name`, whose UID is its name too.
    pub(crate) fn peer(name: &str, revision: Option<&str>, tags: &[&str]) -> Peer {
        Peer {
            name: name.into(),
            uid: name.into(),
            namespace: "istio-system".into(),
            namespace_labels: BTreeMap::new(),
            revision: revision.map_or(Revision::Default, |name| Revision::Named(name.into())),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            leaving: false,
        }
    }

    fn second(first: Peer, me: &Peer) -> Beside {
        Beside::new(me.clone(), [first, me.clone()])
    }

    fn conflict(first: Peer, me: &Peer) -> String {
        second(first, me).conflict().map(|blocker| blocker.message).unwrap_or_default()
    }

    #[test]
    fn only_the_same_revision_excludes_another_installation_and_only_the_later_one() {
        let (a, b) = (peer("a", None, &[]), peer("b", None, &[]));
        assert!(second(a.clone(), &b).same_revision().unwrap().message.contains("the mesh of a already"));
        assert_eq!(Beside::new(a.clone(), [a.clone(), b]).same_revision(), None);
        assert_eq!(second(a.clone(), &peer("b", Some("canary"), &[])).same_revision(), None);
        let canaries = second(peer("a", Some("canary"), &[]), &peer("b", Some("canary"), &[])).same_revision();
        assert!(canaries.unwrap().message.starts_with("canary is the revision of a already"));
        // Not listed yet: it counts as the last.
        let unlisted = Beside::new(peer("b", None, &[]), [a]);
        assert!(unlisted.same_revision().is_some());
    }

    #[test]
    fn one_that_can_not_be_there_counts_for_nothing() {
        let (a, b) = (peer("a", None, &["prod"]), peer("b", Some("x"), &[]));
        let beside = Beside::new(a.clone(), [a, peer("c", None, &[]), b.clone(), peer("d", Some("x"), &[])]);
        assert_eq!(beside.staying().collect::<Vec<_>>(), [&b]);
    }

    #[test]
    fn a_name_is_a_revision_here_or_a_tag_there_but_not_both() {
        let tagged = peer("a", None, &["canary"]);
        let said = conflict(tagged.clone(), &peer("b", Some("canary"), &[]));
        assert_eq!(said, "spec.revision: \"canary\" is a tag of installation a: take it off there, or choose another");
        let said = conflict(peer("a", Some("canary"), &[]), &peer("b", None, &["canary"]));
        assert!(said.starts_with("spec.tags[canary].name: \"canary\" is the revision of installation a"), "{said}");
        assert_eq!(conflict(tagged, &peer("b", Some("next"), &["prod"])), "");
    }

    #[test]
    fn the_labels_of_a_namespace_come_from_one_installation() {
        let labels = || BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let labelled = |name: &str, revision| Peer { namespace_labels: labels(), ..peer(name, revision, &[]) };
        let me = labelled("b", Some("canary"));
        let said = conflict(peer("a", None, &[]), &me);
        assert!(said.starts_with("spec.namespaceLabels: installation a has the namespace istio-system too"), "{said}");
        assert_eq!(conflict(labelled("a", None), &me), "");
        assert_eq!(conflict(Peer { namespace: "other".into(), ..peer("a", None, &[]) }, &me), "");
        assert_eq!(conflict(labelled("a", None), &peer("b", Some("canary"), &[])), "");
    }

    fn live(kind: &str, api_version: &str, component: &Component, of: &str, release: &str) -> (Desired, Live) {
        let owner = Owner { installation: of.into(), uid: of.into(), release: release.parse().unwrap() };
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
        let desired = Desired::admit(object, component, &owner, "istio-system").unwrap();
        let live = Live::of(desired.key.kind, &desired.value(), None, None);
        (desired, live)
    }

    const CRD: (&str, &str) = ("CustomResourceDefinition", "apiextensions.k8s.io/v1");

    #[test]
    fn what_all_need_is_left_to_whoever_has_it_and_definitions_to_the_newest() {
        let me = peer("b", Some("canary"), &[]);
        let beside = second(peer("a", None, &[]), &me);
        let is_anothers =
            |(kind, version): (&str, &str), component: &Component, of: &str, release: &str, mine: &str| {
                let (desired, live) = live(kind, version, component, of, release);
                beside.is_anothers(&desired, Some(&live), &mine.parse().unwrap())
            };
        assert!(is_anothers(CRD, &Component::Base, "a", "1.31.2", "1.31.2"));
        assert!(is_anothers(CRD, &Component::Base, "a", "1.32.0", "1.31.2"));
        assert!(!is_anothers(CRD, &Component::Base, "a", "1.31.2", "1.32.0"), "the newer takes them over");
        assert!(!is_anothers(CRD, &Component::Base, "b", "1.31.2", "1.31.2"));
        assert!(!is_anothers(CRD, &Component::Base, "gone", "1.31.2", "1.31.2"));
        let account = ("ServiceAccount", "v1");
        assert!(is_anothers(account, &Component::Base, "a", "1.31.2", "1.32.0"));
        assert!(!is_anothers(account, &Component::Istiod, "a", "1.31.2", "1.32.0"), "that is a clash");
        assert!(is_anothers(("Namespace", "v1"), &Component::Namespaces, "a", "1.31.2", "1.32.0"));
    }

    #[test]
    fn what_another_needs_of_one_that_goes_stays_where_the_other_is() {
        let needed = |beside: &Beside, component: &Component| {
            let (desired, live) = live("ServiceAccount", "v1", component, "a", "1.31.2");
            beside.is_needed(&desired.key, &live)
        };
        let (me, other) = (peer("a", None, &[]), peer("b", Some("canary"), &[]));
        let beside = second(other.clone(), &me);
        assert!(needed(&beside, &Component::Base));
        assert!(!needed(&beside, &Component::Istiod));
        assert!(!needed(&second(Peer { namespace: "mesh".into(), ..other.clone() }, &me), &Component::Base));
        assert!(!needed(&second(Peer { leaving: true, ..other }, &me), &Component::Base));
    }
}
