//! Ownership of tags, from the specs of all installations and the live webhooks.

use meshwright_api::conditions::Reason;

use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, ObjectKey};
use crate::mesh::observed::{ObjectState, ObservedObject};
use crate::mesh::peers::{Peer, PeerSet};
use crate::mesh::revisions::{DEFAULT, Revision};

/// A live injection webhook of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injector {
    /// Name of the installation.
    pub installation: String,
    /// The tag that it belongs to; `None` for a revision's own webhook.
    pub tag: Option<String>,
    /// Revisions and tags that it injects for; empty if it is deactivated.
    pub answers: Vec<String>,
    /// The API server can call it.
    pub ready: bool,
}

impl Injector {
    /// Reads a live object; `None` unless it is a managed injection webhook.
    #[must_use]
    pub fn of(key: &ObjectKey, live: &ObservedObject) -> Option<Self> {
        let ObjectState::Webhooks { without_ca, answers, .. } = &live.state else { return None };
        if key.kind != Kind::MutatingWebhookConfiguration {
            return None;
        }
        let tag = match &live.ownership.component {
            Some(Component::Tag(tag)) => Some(tag.clone()),
            _ => None,
        };
        Some(Self {
            installation: live.ownership.installation.clone()?,
            tag,
            answers: answers.clone(),
            ready: without_ca.is_empty() && !live.deleting,
        })
    }
}

/// Whether an installation without a revision serves this tag.
fn is_default_of(peer: &Peer, tag: &str) -> bool {
    tag == DEFAULT && peer.revision == Revision::Default
}

/// Ownership of tags, from the view of one installation.
#[derive(Clone, Copy, Debug)]
pub struct TagOwnership<'a> {
    /// The installation and its peers.
    pub peers: &'a PeerSet,
    /// The injection webhooks of all installations.
    pub injectors: &'a [Injector],
}

impl<'a> TagOwnership<'a> {
    /// The owner of a tag: of the installations that list it, the one with a live webhook for it, else the first. An
    /// installation that can't be read owns what its webhooks serve.
    #[must_use]
    pub fn owner(&self, tag: &str) -> Option<&'a Peer> {
        let lists = |peer: &&Peer| !peer.terminating && peer.tags.contains(tag);
        let has_webhook = |peer: &&Peer| {
            let is_own = |injector: &Injector| injector.installation == peer.name;
            self.injectors.iter().any(|injector| is_own(injector) && injector.tag.as_deref() == Some(tag))
        };
        let serves = |peer: &&Peer| {
            let mut own = self.injectors.iter().filter(|injector| injector.installation == peer.name);
            own.any(|injector| injector.answers.iter().any(|name| name == tag))
        };
        let is_default = |peer: &&Peer| !peer.terminating && is_default_of(peer, tag);
        let installations = || self.peers.all();
        installations()
            .find(|peer| lists(peer) && has_webhook(peer))
            .or_else(|| self.peers.unreadable().find(serves))
            .or_else(|| installations().find(lists))
            .or_else(|| installations().find(is_default))
            .or_else(|| self.peers.tag_keeper().filter(|me| me.tags.contains(tag) || is_default_of(me, tag)))
    }

    /// Whether this installation owns a tag.
    #[must_use]
    pub fn is_mine(&self, tag: &str) -> bool {
        self.owner(tag).is_some_and(|owner| owner.uid == self.peers.me().uid)
    }

    /// Whether an active webhook of a peer serves a tag.
    #[must_use]
    pub fn is_served_by_peer(&self, tag: &str) -> bool {
        let is_peer = |name: &str| self.peers.others().chain(self.peers.unreadable()).any(|peer| peer.name == name);
        self.injectors.iter().any(|injector| {
            injector.ready && is_peer(&injector.installation) && injector.answers.iter().any(|name| name == tag)
        })
    }

    /// The blocker for a tag of the spec that a peer owns.
    #[must_use]
    pub fn conflict(&self) -> Option<Blocker> {
        let me = self.peers.me();
        let conflict =
            |tag: &String| self.owner(tag).filter(|owner| owner.uid != me.uid).map(|owner| (tag.clone(), owner));
        let (tag, owner) = me.tags.iter().find_map(conflict)?;
        let message = format!(
            "spec.tags[{tag}]: MeshInstallation {} has this tag. Remove it there, and it moves here without interruption",
            owner.name
        );
        Some(Blocker { reason: Reason::TagConflict, message })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::mesh::peers::tests::peer;

    /// A ready webhook of a tag, or a revision's own.
    pub(in crate::mesh::tags) fn injector(of: &str, tag: Option<&str>, answers: &[&str]) -> Injector {
        Injector {
            installation: of.into(),
            tag: tag.map(str::to_owned),
            answers: answers.iter().map(|name| (*name).to_owned()).collect(),
            ready: true,
        }
    }

    fn owner(peers: &[Peer], injectors: &[Injector], tag: &str) -> Option<String> {
        let peer_set = PeerSet::new(peers[0].clone(), peers.to_vec());
        TagOwnership { peers: &peer_set, injectors }.owner(tag).map(|peer| peer.name.clone())
    }

    #[test]
    fn current_holder_owns_tag() {
        let peers = [peer("a", None, &["prod"]), peer("b", Some("next"), &["prod"])];
        assert_eq!(owner(&peers, &[], "prod").as_deref(), Some("a"));
        let live = [injector("b", Some("prod"), &["prod"])];
        assert_eq!(owner(&peers, &live, "prod").as_deref(), Some("b"));
        assert_eq!(owner(&peers, &live, "other"), None);
        let terminating = [peer("a", None, &["prod"]), Peer { terminating: true, ..peers[1].clone() }];
        assert_eq!(owner(&terminating, &live, "prod").as_deref(), Some("a"));

        // An installation whose uninstall waits keeps what no other one lists.
        let me = Peer { terminating: true, ..peer("c", Some("next"), &["prod", "own"]) };
        let keeps = |keeps: bool, tag: &str| {
            let peer_set = PeerSet::new(me.clone(), terminating.clone()).keeping_own_tags(keeps);
            TagOwnership { peers: &peer_set, injectors: &[] }.owner(tag).map(|peer| peer.name.clone())
        };
        assert_eq!(keeps(true, "own").as_deref(), Some("c"));
        assert_eq!(keeps(true, "prod").as_deref(), Some("a"));
        assert_eq!(keeps(false, "own"), None);
        let untagged = [peer("a", None, &["prod"]), peer("b", Some("next"), &[])];
        assert_eq!(
            owner(&untagged, &live, "prod").as_deref(),
            Some("a"),
            "an installation that no longer lists the tag loses it"
        );
    }

    #[test]
    fn default_tag_overrides_default_revision() {
        let peers = [peer("a", None, &[]), peer("b", Some("next"), &["default"])];
        assert_eq!(owner(&peers, &[injector("a", None, &["default"])], "default").as_deref(), Some("b"));
        let untagged = [peer("a", None, &[]), peer("b", Some("next"), &[])];
        assert_eq!(owner(&untagged, &[], "default").as_deref(), Some("a"));
        assert_eq!(owner(&untagged[1..], &[], "default"), None);
    }

    #[test]
    fn unreadable_installation_owns_tags_that_it_serves() {
        let me = peer("b", Some("next"), &["prod"]);
        let peer_set =
            PeerSet::new(me.clone(), [me.clone()]).with_unreadable([Peer::unreadable("a".into(), "a".into())]);
        let owner = |injectors: &[Injector]| {
            let ownership = TagOwnership { peers: &peer_set, injectors };
            let owner = ownership.owner("prod").map(|peer| peer.name.clone());
            (owner.unwrap_or_default(), ownership.is_served_by_peer("prod"), ownership.conflict().is_some())
        };
        assert_eq!(owner(&[]), ("b".into(), false, false));
        let of_unreadable = injector("a", Some("prod"), &["prod"]);
        assert_eq!(owner(std::slice::from_ref(&of_unreadable)), ("a".into(), true, true));
        assert_eq!(owner(&[injector("a", Some("prod"), &[])]), ("b".into(), false, false), "deactivated");
        let both = [of_unreadable, injector("b", Some("prod"), &["prod"])];
        assert_eq!(owner(&both), ("b".into(), true, false), "it served the tag before");
    }

    #[test]
    fn refuses_tag_of_peer() {
        let (a, b) = (peer("a", None, &["prod"]), peer("b", Some("next"), &["prod"]));
        let conflict = |me: &Peer| {
            let peer_set = PeerSet::new(me.clone(), [a.clone(), b.clone()]);
            TagOwnership { peers: &peer_set, injectors: &[] }.conflict()
        };
        assert_eq!(conflict(&a), None);
        let blocker = conflict(&b).unwrap();
        assert_eq!(blocker.reason, Reason::TagConflict);
        assert!(blocker.message.starts_with("spec.tags[prod]: MeshInstallation a has this tag"), "{}", blocker.message);
    }

    #[test]
    fn inactive_or_orphaned_webhook_serves_no_tag() {
        let peer_set = PeerSet::new(peer("b", None, &[]), [peer("a", Some("x"), &[]), peer("b", None, &[])]);
        let is_served =
            |injector: Injector| TagOwnership { peers: &peer_set, injectors: &[injector] }.is_served_by_peer("t");
        assert!(is_served(injector("a", Some("t"), &["t"])));
        assert!(!is_served(Injector { ready: false, ..injector("a", Some("t"), &["t"]) }));
        assert!(!is_served(injector("a", Some("t"), &[])), "deactivated");
        assert!(!is_served(injector("b", Some("t"), &["t"])), "its own webhook");
        assert!(!is_served(injector("gone", Some("t"), &["t"])));
    }
}
