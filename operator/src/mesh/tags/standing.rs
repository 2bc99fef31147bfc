//! Who holds a tag, by the specs of all installations and the webhooks that are live.

use meshwright_api::conditions::Reason;

use crate::mesh::beside::{Beside, Peer};
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::live::{Facts, Live};
use crate::mesh::object::{Component, ObjectKey};
use crate::mesh::revisions::{DEFAULT, Revision};

/// A live injection webhook of some installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injector {
    /// Name of the installation.
    pub installation: String,
    /// The tag that it is for, if it is for one.
    pub tag: Option<String>,
    /// Names that it answers for, as pods and namespaces ask by them; none where it is deactivated.
    pub answers: Vec<String>,
    /// The API server can call it.
    pub ready: bool,
}

impl Injector {
    /// Reads a live object; `None` unless it is a marked injection webhook.
    #[must_use]
    pub fn of(key: &ObjectKey, live: &Live) -> Option<Self> {
        let Facts::Webhooks { without_ca, answers, .. } = &live.facts else { return None };
        if key.kind != Kind::MutatingWebhookConfiguration {
            return None;
        }
        let tag = match &live.marks.component {
            Some(Component::Tag(tag)) => Some(tag.clone()),
            _ => None,
        };
        Some(Self {
            installation: live.marks.installation.clone()?,
            tag,
            answers: answers.clone(),
            ready: without_ca.is_empty() && !live.deleting,
        })
    }
}

/// How things stand with tags, seen by one installation.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The installation among the others.
    pub beside: &'a Beside,
    /// The injection webhooks of all.
    pub injectors: &'a [Injector],
}

impl<'a> Standing<'a> {
    /// Who is to answer for a tag: of those that list it the one that has it, or else the first.
    #[must_use]
    pub fn holder(&self, tag: &str) -> Option<&'a Peer> {
        let claims = |peer: &&Peer| !peer.leaving && peer.tags.contains(tag);
        let has = |peer: &&Peer| {
            let theirs = |injector: &Injector| injector.installation == peer.name;
            self.injectors.iter().any(|injector| theirs(injector) && injector.tag.as_deref() == Some(tag))
        };
        let by_default = |peer: &&Peer| !peer.leaving && tag == DEFAULT && peer.revision == Revision::Default;
        let all = || self.beside.all();
        all().find(|peer| claims(peer) && has(peer)).or_else(|| all().find(claims)).or_else(|| all().find(by_default))
    }

    /// Whether this installation is to answer for a tag.
    #[must_use]
    pub fn is_mine(&self, tag: &str) -> bool {
        self.holder(tag).is_some_and(|holder| holder.uid == self.beside.me().uid)
    }

    /// Whether the webhook of another installation answers for a tag now.
    #[must_use]
    pub fn is_answered_by_another(&self, tag: &str) -> bool {
        let others = |name: &str| self.beside.others().any(|peer| peer.name == name);
        self.injectors.iter().any(|injector| {
            injector.ready && others(&injector.installation) && injector.answers.iter().any(|name| name == tag)
        })
    }

    /// A tag of the spec that another has.
    #[must_use]
    pub fn taken(&self) -> Option<Blocker> {
        let me = self.beside.me();
        let taken =
            |tag: &String| self.holder(tag).filter(|holder| holder.uid != me.uid).map(|holder| (tag.clone(), holder));
        let (tag, holder) = me.tags.iter().find_map(taken)?;
        let message = format!(
            "spec.tags[{tag}]: installation {} has this tag: take it off there, and it moves here without a gap",
            holder.name
        );
        Some(Blocker { reason: Reason::TagTaken, message })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::mesh::beside::tests::peer;

    /// A ready webhook for a tag, or the one that a revision has of its own.
    pub(in crate::mesh::tags) fn injector(of: &str, tag: Option<&str>, answers: &[&str]) -> Injector {
        Injector {
            installation: of.into(),
            tag: tag.map(str::to_owned),
            answers: answers.iter().map(|name| (*name).to_owned()).collect(),
            ready: true,
        }
    }

    fn holder(peers: &[Peer], injectors: &[Injector], tag: &str) -> Option<String> {
        let beside = Beside::new(peers[0].clone(), peers.to_vec());
        Standing { beside: &beside, injectors }.holder(tag).map(|peer| peer.name.clone())
    }

    #[test]
    fn of_those_that_list_a_tag_the_one_that_has_it_holds_it() {
        let peers = [peer("a", None, &["prod"]), peer("b", Some("next"), &["prod"])];
        assert_eq!(holder(&peers, &[], "prod").as_deref(), Some("a"));
        let live = [injector("b", Some("prod"), &["prod"])];
        assert_eq!(holder(&peers, &live, "prod").as_deref(), Some("b"));
        assert_eq!(holder(&peers, &live, "other"), None);
        let gone = [peer("a", None, &["prod"]), Peer { leaving: true, ..peers[1].clone() }];
        assert_eq!(holder(&gone, &live, "prod").as_deref(), Some("a"));
        let untagged = [peer("a", None, &["prod"]), peer("b", Some("next"), &[])];
        assert_eq!(holder(&untagged, &live, "prod").as_deref(), Some("a"), "who lists it no longer gives it up");
    }

    #[test]
    fn the_default_is_whose_tag_it_is_and_else_of_the_one_without_revision() {
        let peers = [peer("a", None, &[]), peer("b", Some("next"), &["default"])];
        assert_eq!(holder(&peers, &[injector("a", None, &["default"])], "default").as_deref(), Some("b"));
        let untagged = [peer("a", None, &[]), peer("b", Some("next"), &[])];
        assert_eq!(holder(&untagged, &[], "default").as_deref(), Some("a"));
        assert_eq!(holder(&untagged[1..], &[], "default"), None);
    }

    #[test]
    fn a_tag_that_another_has_is_refused_by_its_name() {
        let (a, b) = (peer("a", None, &["prod"]), peer("b", Some("next"), &["prod"]));
        let taken = |me: &Peer| {
            let beside = Beside::new(me.clone(), [a.clone(), b.clone()]);
            Standing { beside: &beside, injectors: &[] }.taken()
        };
        assert_eq!(taken(&a), None);
        let blocker = taken(&b).unwrap();
        assert_eq!(blocker.reason, Reason::TagTaken);
        assert!(blocker.message.starts_with("spec.tags[prod]: installation a has this tag"), "{}", blocker.message);
    }

    #[test]
    fn a_webhook_that_cannot_be_called_or_is_nobodys_answers_for_nothing() {
        let beside = Beside::new(peer("b", None, &[]), [peer("a", Some("x"), &[]), peer("b", None, &[])]);
        let answered =
            |injector: Injector| Standing { beside: &beside, injectors: &[injector] }.is_answered_by_another("t");
        assert!(answered(injector("a", Some("t"), &["t"])));
        assert!(!answered(Injector { ready: false, ..injector("a", Some("t"), &["t"]) }));
        assert!(!answered(injector("a", Some("t"), &[])), "deactivated");
        assert!(!answered(injector("b", Some("t"), &["t"])), "its own");
        assert!(!answered(injector("gone", Some("t"), &["t"])));
    }
}
