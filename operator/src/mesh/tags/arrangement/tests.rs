use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::mesh::beside::tests::peer;
use crate::mesh::beside::{Beside, Peer};
use crate::mesh::tags::Injector;

fn owner(of: &str) -> Owner {
    Owner { installation: of.into(), uid: of.into(), release: semver::Version::new(1, 31, 2) }
}

fn object(of: &str, kind: &str, name: &str, component: &Component, answers: &str) -> Arc<Desired> {
    let selector = json!({"matchExpressions": [{"key": "istio.io/rev", "operator": "In", "values": [answers]}]});
    let webhook = json!({
        "name": "rev.namespace.sidecar-injector.istio.io",
        "clientConfig": {"service": {"name": of}}, "namespaceSelector": selector, "objectSelector": {},
    });
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": [webhook],
    });
    Arc::new(Desired::admit(object, component, &owner(of), "istio-system").unwrap())
}

const INJECTOR: &str = "MutatingWebhookConfiguration";
const VALIDATOR: &str = "ValidatingWebhookConfiguration";

/// What an installation renders: its own injector, the webhook of each tag in `place`, and the default's validation.
fn rendered(me: &Peer, place: &str) -> Vec<Arc<Desired>> {
    let of = me.name.as_str();
    let own = me.revision.of_object("injector");
    let mut all = vec![object(of, INJECTOR, &own, &Component::Istiod, me.revision.label())];
    for tag in &me.tags {
        all.push(object(of, INJECTOR, &format!("tag-{tag}{place}"), &Component::Tag(tag.clone()), tag));
    }
    if me.revision == Revision::Default || me.tags.contains(DEFAULT) {
        all.push(object(of, VALIDATOR, "default-validator", &Component::Tag(DEFAULT.into()), ""));
    }
    all
}

#[test]
fn what_somebody_else_applies_is_looked_at_and_neither_written_nor_pruned() {
    let me = peer("a", None, &[]);
    let beside = Beside::new(me.clone(), [me.clone()]);
    let standing = Standing { beside: &beside, injectors: &[] };
    let injector = object("a", INJECTOR, "injector", &Component::Istiod, DEFAULT);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "istiod"}});
    let account = Arc::new(Desired::admit(account, &Component::Istiod, &owner("a"), "istio-system").unwrap());
    let left = object("a", VALIDATOR, "of-an-older-release", &Component::Istiod, "");
    let live = |all: &[&Arc<Desired>]| -> LiveObjects {
        all.iter().map(|d| (d.key.clone(), Live::of(d.key.kind, &d.value(), None, None))).collect()
    };
    let live = live(&[&account, &injector, &left]);
    let ours = arrange(&[injector.clone(), account.clone()], &owner("a"), &live, standing, true).unwrap();
    assert_eq!((ours.own().len(), ours.without_kept(&live).len()), (2, 3));

    let mut others = injector.as_ref().clone();
    others.preinstalled = true;
    let others = Arc::new(others);
    let arranged = arrange(&[others.clone(), account.clone()], &owner("a"), &live, standing, true).unwrap();
    assert_eq!((arranged.own(), arranged.preinstalled()), (vec![account.clone()], vec![others]));
    assert_eq!(arranged.with_anothers(&arranged.own()).len(), 2);
    assert_eq!(arranged.without_kept(&live).keys().collect::<Vec<_>>(), [&account.key]);
}

/// A cluster in which each installation's operator writes what its arrangement says, and istiods fill in certificates.
#[derive(Default)]
struct Cluster {
    peers: Vec<(Peer, &'static str)>,
    live: std::collections::BTreeMap<ObjectKey, (Value, bool)>,
}

impl Cluster {
    fn of(peers: &[(Peer, &'static str)]) -> Self {
        Self { peers: peers.to_vec(), ..Self::default() }
    }

    fn live(&self) -> LiveObjects {
        let read = |(key, (object, certified)): (&ObjectKey, &(Value, bool))| {
            let mut object = object.clone();
            for hook in object["webhooks"].as_array_mut().unwrap() {
                hook["clientConfig"]["caBundle"] = if *certified { "x".into() } else { Value::Null };
            }
            (key.clone(), Live::of(key.kind, &object, None, None))
        };
        self.live.iter().map(read).collect()
    }

    fn injectors(&self) -> Vec<Injector> {
        self.live().iter().filter_map(|(key, live)| Injector::of(key, live)).collect()
    }

    fn arrange(&self, name: &str, proved: bool) -> Arrangement {
        let (me, place) = self.peers.iter().find(|(peer, _)| peer.name == name).unwrap();
        let beside = Beside::new(me.clone(), self.peers.iter().map(|(peer, _)| peer.clone()));
        let injectors = self.injectors();
        let standing = Standing { beside: &beside, injectors: &injectors };
        arrange(&rendered(me, place), &owner(name), &self.live(), standing, proved).unwrap()
    }

    /// One reconcile of an installation. Validation is written before injection, and what is no longer needed goes last.
    fn reconcile(&mut self, name: &str, proved: bool) -> Arrangement {
        let arranged = self.arrange(name, proved);
        for object in arranged.own() {
            let certified = self.live.get(&object.key).is_some_and(|(_, certified)| *certified);
            self.live.insert(object.key.clone(), (object.value(), certified));
        }
        let wanted: BTreeSet<ObjectKey> = arranged.desired.iter().map(|object| object.key.clone()).collect();
        let all = self.live();
        let left = arranged.without_kept(&all);
        let mine = |live: &Live| live.marks.uid.as_deref() == Some(name);
        let gone: Vec<&ObjectKey> =
            left.iter().filter(|(key, live)| mine(live) && !wanted.contains(key)).map(|(key, _)| key).collect();
        for key in gone {
            self.live.remove(key);
        }
        arranged
    }

    fn certify(&mut self) {
        self.live.values_mut().for_each(|(_, certified)| *certified = true);
    }

    /// The installations whose ready webhooks answer for a name, and whether one that answers isn't ready.
    fn answer(&self, name: &str) -> (Vec<String>, bool) {
        let all = self.injectors();
        let asked: Vec<&Injector> = all.iter().filter(|i| i.answers.iter().any(|answer| answer == name)).collect();
        let mut by: Vec<String> = asked.iter().filter(|i| i.ready).map(|i| i.installation.clone()).collect();
        by.sort();
        (by, asked.iter().any(|i| !i.ready))
    }

    fn spec(&mut self, name: &str, tags: &[&str]) {
        let (peer, _) = self.peers.iter_mut().find(|(peer, _)| peer.name == name).unwrap();
        peer.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    }

    /// Everybody reconciles and istiods certify until nothing moves; at no moment is `tag` without an answer, or are its
    /// pods refused.
    fn settle(&mut self, tag: &str, proved: bool) {
        for round in 0..10 {
            let mut moving = false;
            for name in ["a", "b"] {
                moving |= !self.reconcile(name, proved).moving.is_empty();
                let (by, refuses) = self.answer(tag);
                assert!(!by.is_empty() && !refuses, "round {round} after {name}: {by:?}, refuses: {refuses}");
            }
            self.certify();
            if !moving {
                return;
            }
        }
        panic!("the tag is on the move for ever");
    }
}

/// Both are there, in one namespace or in two, and what they have is certified.
fn two(a: Peer, b: Peer, place_of_b: &'static str) -> Cluster {
    let mut cluster = Cluster::of(&[(a, ""), (b, place_of_b)]);
    for _ in 0..4 {
        cluster.reconcile("a", true);
        cluster.reconcile("b", true);
        cluster.certify();
    }
    cluster
}

fn names(cluster: &Cluster, of: &str) -> Vec<String> {
    let mine = |live: &Live| live.marks.uid.as_deref() == Some(of);
    cluster.live().iter().filter(|(_, live)| mine(live)).map(|(key, _)| key.name.clone()).collect()
}

#[test]
fn a_tag_moves_without_a_moment_in_which_nobody_answers() {
    for place in ["", "-elsewhere"] {
        let mut cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), place);
        assert_eq!(cluster.answer("prod"), (vec!["a".to_owned()], false));
        cluster.spec("b", &["prod"]);
        cluster.spec("a", &[]);
        cluster.settle("prod", true);
        assert_eq!(cluster.answer("prod").0, ["b"], "{place}");
        assert_eq!(names(&cluster, "a"), ["injector-one"]);
    }
}

#[test]
fn a_tag_stays_where_it_is_until_the_other_injects() {
    let mut cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), "");
    cluster.spec("b", &["prod"]);
    cluster.spec("a", &[]);
    for _ in 0..3 {
        assert_eq!(cluster.reconcile("a", true).moving, BTreeSet::from(["prod".to_owned()]));
        assert_eq!(cluster.reconcile("b", false).moving, BTreeSet::from(["prod".to_owned()]));
        assert_eq!(cluster.answer("prod").0, ["a"]);
    }
    cluster.settle("prod", true);
    assert_eq!(cluster.answer("prod").0, ["b"]);
}

#[test]
fn the_default_moves_from_the_mesh_without_revision_which_is_deactivated_and_back() {
    for place in ["", "-elsewhere"] {
        let mut cluster = two(peer("a", None, &[]), peer("b", Some("two"), &[]), place);
        assert_eq!(names(&cluster, "a"), ["default-validator", "injector"]);
        cluster.spec("b", &["default"]);
        cluster.settle("default", true);
        assert_eq!(cluster.answer("default").0, ["b"]);
        assert_eq!(names(&cluster, "a"), ["injector"], "the webhook stays, and takes no pod");
        let mut of_b = names(&cluster, "b");
        of_b.sort();
        assert_eq!(of_b, ["default-validator".to_owned(), "injector-two".into(), format!("tag-default{place}")]);

        cluster.spec("b", &[]);
        cluster.settle("default", true);
        assert_eq!(cluster.answer("default").0, ["a"]);
        assert_eq!(names(&cluster, "a"), ["default-validator", "injector"]);
        assert_eq!(names(&cluster, "b"), ["injector-two"]);
    }
}

#[test]
fn a_tag_that_nobody_lists_goes_at_once() {
    let mut cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), "");
    cluster.spec("a", &[]);
    assert!(cluster.reconcile("a", true).moving.is_empty());
    assert_eq!(cluster.answer("prod"), (Vec::new(), false));
}

#[test]
fn a_webhook_that_somebody_deletes_comes_back_switched_on() {
    let mut cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), "");
    cluster.live.retain(|key, _| key.name != "tag-prod");
    cluster.reconcile("a", true);
    assert_eq!(cluster.answer("prod"), (Vec::new(), true), "pods are refused rather than let through without a proxy");
}

#[test]
fn a_mesh_without_revision_that_comes_later_leaves_the_default_where_it_is() {
    let mut cluster = Cluster::of(&[(peer("b", Some("two"), &["default"]), "")]);
    for _ in 0..3 {
        cluster.reconcile("b", true);
        cluster.certify();
    }
    cluster.peers.push((peer("a", None, &[]), ""));
    cluster.settle("default", true);
    assert_eq!(cluster.answer("default").0, ["b"]);
}

#[test]
fn an_installation_that_goes_waits_for_the_one_that_takes_its_tags_over() {
    let mut cluster = two(peer("a", None, &[]), peer("b", Some("two"), &[]), "");
    let goes = |cluster: &Cluster| {
        let me = Peer { leaving: true, ..cluster.peers[0].0.clone() };
        let beside = Beside::new(me.clone(), [me, cluster.peers[1].0.clone()]);
        let injectors = cluster.injectors();
        let mine = cluster.live().into_iter().filter(|(_, live)| live.marks.uid.as_deref() == Some("a")).collect();
        awaited(&mine, Standing { beside: &beside, injectors: &injectors })
    };
    assert_eq!(goes(&cluster), BTreeSet::new(), "nobody is to have the default");
    cluster.spec("b", &["default"]);
    assert_eq!(goes(&cluster), BTreeSet::from(["default".to_owned()]));
    cluster.settle("default", true);
    assert_eq!(goes(&cluster), BTreeSet::new());
}

/// What can happen in a cluster, in any order.
#[derive(Clone, Debug)]
enum Event {
    Reconcile {
        name: &'static str,
        proved: bool,
    },
    Certify,
    /// Which of the two list the tag from now on.
    Specs {
        a: bool,
        b: bool,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let reconcile = (any::<bool>(), any::<bool>())
        .prop_map(|(first, proved)| Event::Reconcile { name: if first { "a" } else { "b" }, proved });
    let specs = (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Event::Specs { a, b });
    prop::collection::vec(prop_oneof![6 => reconcile, 2 => Just(Event::Certify), 1 => specs], 0..40)
}

/// Lets things happen, and after each looks whether pods that ask for the tag get a proxy.
fn live_through(mut cluster: Cluster, tag: &str, always_listed: bool, events: &[Event]) {
    for (n, event) in events.iter().enumerate() {
        match event {
            Event::Reconcile { name, proved } => _ = cluster.reconcile(name, *proved),
            Event::Certify => cluster.certify(),
            // A tag that nobody lists is to go; the default is always somebody's.
            Event::Specs { a: false, b: false } if !always_listed => {}
            Event::Specs { a, b } => {
                let listed = |on: bool| if on { vec![tag] } else { vec![] };
                if !always_listed {
                    cluster.spec("a", &listed(*a));
                }
                cluster.spec("b", &listed(*b));
            }
        }
        let (by, refuses) = cluster.answer(tag);
        assert!(!by.is_empty() && !refuses, "{n}, {event:?}: {by:?}, refuses: {refuses}");
    }
}

proptest! {
    #[test]
    fn a_tag_that_somebody_lists_is_answered_whatever_happens_when(events in events(), apart in any::<bool>()) {
        let place = if apart { "-elsewhere" } else { "" };
        let cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), place);
        live_through(cluster, "prod", false, &events);
    }

    #[test]
    fn the_default_is_answered_whatever_happens_when(events in events(), apart in any::<bool>()) {
        let place = if apart { "-elsewhere" } else { "" };
        let cluster = two(peer("a", None, &[]), peer("b", Some("two"), &[]), place);
        live_through(cluster, "default", true, &events);
    }
}
