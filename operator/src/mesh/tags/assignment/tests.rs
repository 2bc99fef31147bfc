use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::mesh::peers::tests::peer;
use crate::mesh::peers::{Peer, PeerSet};
use crate::mesh::tags::Injector;

fn owner(of: &str) -> Owner {
    Owner { installation: of.into(), uid: of.into(), release: semver::Version::new(1, 31, 2) }
}

fn object(of: &str, kind: &str, name: &str, component: &Component, answers: &str) -> Arc<DesiredObject> {
    let selector = json!({"matchExpressions": [{"key": "istio.io/rev", "operator": "In", "values": [answers]}]});
    let webhook = json!({
        "name": "rev.namespace.sidecar-injector.istio.io",
        "clientConfig": {"service": {"name": of}}, "namespaceSelector": selector, "objectSelector": {},
    });
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": [webhook],
    });
    Arc::new(DesiredObject::from_rendered(object, component, &owner(of), "istio-system").unwrap())
}

const INJECTOR: &str = "MutatingWebhookConfiguration";
const VALIDATOR: &str = "ValidatingWebhookConfiguration";

/// The rendered objects of an installation: its own injector, a webhook per tag whose name ends in `suffix`, and the
/// default's validation webhook.
fn rendered(me: &Peer, suffix: &str) -> Vec<Arc<DesiredObject>> {
    let of = me.name.as_str();
    let own = me.revision.object_name("injector");
    let mut all = vec![object(of, INJECTOR, &own, &Component::Istiod, me.revision.label())];
    for tag in &me.tags {
        all.push(object(of, INJECTOR, &format!("tag-{tag}{suffix}"), &Component::Tag(tag.clone()), tag));
    }
    if me.revision == Revision::Default || me.tags.contains(DEFAULT) {
        all.push(object(of, VALIDATOR, "default-validator", &Component::Tag(DEFAULT.into()), ""));
    }
    all
}

#[test]
fn external_objects_are_neither_written_nor_pruned() {
    let me = peer("a", None, &[]);
    let peer_set = PeerSet::new(me.clone(), [me.clone()]);
    let tag_ownership = TagOwnership { peers: &peer_set, injectors: &[] };
    let injector = object("a", INJECTOR, "injector", &Component::Istiod, DEFAULT);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "istiod"}});
    let account =
        Arc::new(DesiredObject::from_rendered(account, &Component::Istiod, &owner("a"), "istio-system").unwrap());
    let remaining = object("a", VALIDATOR, "of-an-older-release", &Component::Istiod, "");
    let live = |all: &[&Arc<DesiredObject>]| -> ObservedObjects {
        all.iter().map(|d| (d.key.clone(), ObservedObject::of(d.key.kind, &d.value(), None, None))).collect()
    };
    let live = live(&[&account, &injector, &remaining]);
    let ours = assign_objects(&[injector.clone(), account.clone()], &owner("a"), &live, tag_ownership, true).unwrap();
    assert_eq!((ours.own().len(), ours.without_retained(&live).len()), (2, 3));

    let mut others = injector.as_ref().clone();
    others.externally_managed = true;
    let others = Arc::new(others);
    let assignment =
        assign_objects(&[others.clone(), account.clone()], &owner("a"), &live, tag_ownership, true).unwrap();
    assert_eq!((assignment.own(), assignment.externally_managed()), (vec![account.clone()], vec![others]));
    assert_eq!(assignment.with_peer_objects(&assignment.own()).len(), 2);
    assert_eq!(assignment.without_retained(&live).keys().collect::<Vec<_>>(), [&account.key]);
}

/// A cluster in which the operator writes each installation's assigned objects, and istiods set the caBundle.
#[derive(Default)]
struct SimulatedCluster {
    peers: Vec<(Peer, &'static str)>,
    live: std::collections::BTreeMap<ObjectKey, (Value, bool)>,
}

impl SimulatedCluster {
    fn of(peers: &[(Peer, &'static str)]) -> Self {
        Self { peers: peers.to_vec(), ..Self::default() }
    }

    fn live(&self) -> ObservedObjects {
        let read = |(key, (object, certified)): (&ObjectKey, &(Value, bool))| {
            let mut object = object.clone();
            for hook in object["webhooks"].as_array_mut().unwrap() {
                hook["clientConfig"]["caBundle"] = if *certified { "x".into() } else { Value::Null };
            }
            (key.clone(), ObservedObject::of(key.kind, &object, None, None))
        };
        self.live.iter().map(read).collect()
    }

    fn injectors(&self) -> Vec<Injector> {
        self.live().iter().filter_map(|(key, live)| Injector::of(key, live)).collect()
    }

    fn assign_objects(&self, name: &str, injects: bool) -> ObjectAssignment {
        let (me, suffix) = self.peers.iter().find(|(peer, _)| peer.name == name).unwrap();
        let peer_set = PeerSet::new(me.clone(), self.peers.iter().map(|(peer, _)| peer.clone()));
        let injectors = self.injectors();
        let tag_ownership = TagOwnership { peers: &peer_set, injectors: &injectors };
        assign_objects(&rendered(me, suffix), &owner(name), &self.live(), tag_ownership, injects).unwrap()
    }

    /// One reconcile of an installation. Validation webhooks are written before injectors, and pruning comes last.
    fn reconcile(&mut self, name: &str, injects: bool) -> ObjectAssignment {
        let assignment = self.assign_objects(name, injects);
        for object in assignment.own() {
            let certified = self.live.get(&object.key).is_some_and(|(_, certified)| *certified);
            self.live.insert(object.key.clone(), (object.value(), certified));
        }
        let wanted: BTreeSet<ObjectKey> = assignment.desired.iter().map(|object| object.key.clone()).collect();
        let all = self.live();
        let remaining = assignment.without_retained(&all);
        let mine = |live: &ObservedObject| live.ownership.uid.as_deref() == Some(name);
        let deleted: Vec<&ObjectKey> =
            remaining.iter().filter(|(key, live)| mine(live) && !wanted.contains(key)).map(|(key, _)| key).collect();
        for key in deleted {
            self.live.remove(key);
        }
        assignment
    }

    fn certify(&mut self) {
        self.live.values_mut().for_each(|(_, certified)| *certified = true);
    }

    /// The installations whose ready webhooks serve a name, and whether a webhook that serves it is not ready.
    fn answer(&self, name: &str) -> (Vec<String>, bool) {
        let all = self.injectors();
        let selected: Vec<&Injector> = all.iter().filter(|i| i.answers.iter().any(|answer| answer == name)).collect();
        let mut by: Vec<String> = selected.iter().filter(|i| i.ready).map(|i| i.installation.clone()).collect();
        by.sort();
        (by, selected.iter().any(|i| !i.ready))
    }

    fn spec(&mut self, name: &str, tags: &[&str]) {
        let (peer, _) = self.peers.iter_mut().find(|(peer, _)| peer.name == name).unwrap();
        peer.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    }

    /// Reconciles all installations and sets certificates until no tag moves. At every step `tag` is served, and its
    /// pods are not denied.
    fn settle_tag(&mut self, tag: &str, injects: bool) {
        for round in 0..10 {
            let mut is_moving = false;
            for name in ["a", "b"] {
                is_moving |= !self.reconcile(name, injects).moving_tags.is_empty();
                let (by, denies) = self.answer(tag);
                assert!(!by.is_empty() && !denies, "round {round} after {name}: {by:?}, refuses: {denies}");
            }
            self.certify();
            if !is_moving {
                return;
            }
        }
        panic!("the tag never stops moving");
    }
}

/// Two installed meshes, in one namespace or in two, with all certificates set.
fn two(a: Peer, b: Peer, suffix_of_b: &'static str) -> SimulatedCluster {
    let mut cluster = SimulatedCluster::of(&[(a, ""), (b, suffix_of_b)]);
    for _ in 0..4 {
        cluster.reconcile("a", true);
        cluster.reconcile("b", true);
        cluster.certify();
    }
    cluster
}

fn names(cluster: &SimulatedCluster, of: &str) -> Vec<String> {
    let mine = |live: &ObservedObject| live.ownership.uid.as_deref() == Some(of);
    cluster.live().iter().filter(|(_, live)| mine(live)).map(|(key, _)| key.name.clone()).collect()
}

#[test]
fn tag_moves_without_interruption() {
    for suffix in ["", "-elsewhere"] {
        let mut cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), suffix);
        assert_eq!(cluster.answer("prod"), (vec!["a".to_owned()], false));
        cluster.spec("b", &["prod"]);
        cluster.spec("a", &[]);
        cluster.settle_tag("prod", true);
        assert_eq!(cluster.answer("prod").0, ["b"], "{suffix}");
        assert_eq!(names(&cluster, "a"), ["injector-one"]);
    }
}

#[test]
fn tag_stays_until_new_owner_injects() {
    let mut cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), "");
    cluster.spec("b", &["prod"]);
    cluster.spec("a", &[]);
    for _ in 0..3 {
        assert_eq!(cluster.reconcile("a", true).moving_tags, BTreeSet::from(["prod".to_owned()]));
        assert_eq!(cluster.reconcile("b", false).moving_tags, BTreeSet::from(["prod".to_owned()]));
        assert_eq!(cluster.answer("prod").0, ["a"]);
    }
    cluster.settle_tag("prod", true);
    assert_eq!(cluster.answer("prod").0, ["b"]);
}

#[test]
fn default_tag_moves_and_returns() {
    for suffix in ["", "-elsewhere"] {
        let mut cluster = two(peer("a", None, &[]), peer("b", Some("two"), &[]), suffix);
        assert_eq!(names(&cluster, "a"), ["default-validator", "injector"]);
        cluster.spec("b", &["default"]);
        cluster.settle_tag("default", true);
        assert_eq!(cluster.answer("default").0, ["b"]);
        assert_eq!(names(&cluster, "a"), ["injector"], "the webhook stays and matches no pod");
        let mut of_b = names(&cluster, "b");
        of_b.sort();
        assert_eq!(of_b, ["default-validator".to_owned(), "injector-two".into(), format!("tag-default{suffix}")]);

        cluster.spec("b", &[]);
        cluster.settle_tag("default", true);
        assert_eq!(cluster.answer("default").0, ["a"]);
        assert_eq!(names(&cluster, "a"), ["default-validator", "injector"]);
        assert_eq!(names(&cluster, "b"), ["injector-two"]);
    }
}

#[test]
fn unlisted_tag_is_removed_at_once() {
    let mut cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), "");
    cluster.spec("a", &[]);
    assert!(cluster.reconcile("a", true).moving_tags.is_empty());
    assert_eq!(cluster.answer("prod"), (Vec::new(), false));
}

#[test]
fn deleted_webhook_is_recreated_active() {
    let mut cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), "");
    cluster.live.retain(|key, _| key.name != "tag-prod");
    cluster.reconcile("a", true);
    assert_eq!(cluster.answer("prod"), (Vec::new(), true), "pods are denied rather than admitted without a proxy");
}

#[test]
fn later_default_revision_does_not_take_tag() {
    let mut cluster = SimulatedCluster::of(&[(peer("b", Some("two"), &["default"]), "")]);
    for _ in 0..3 {
        cluster.reconcile("b", true);
        cluster.certify();
    }
    cluster.peers.push((peer("a", None, &[]), ""));
    cluster.settle_tag("default", true);
    assert_eq!(cluster.answer("default").0, ["b"]);
}

#[test]
fn deletion_waits_for_new_tag_owner() {
    let mut cluster = two(peer("a", None, &[]), peer("b", Some("two"), &[]), "");
    let awaited_on_deletion = |cluster: &SimulatedCluster| {
        let me = Peer { terminating: true, ..cluster.peers[0].0.clone() };
        let peer_set = PeerSet::new(me.clone(), [me, cluster.peers[1].0.clone()]);
        let injectors = cluster.injectors();
        let mine = cluster.live().into_iter().filter(|(_, live)| live.ownership.uid.as_deref() == Some("a")).collect();
        awaited_tags(&mine, TagOwnership { peers: &peer_set, injectors: &injectors })
    };
    assert_eq!(awaited_on_deletion(&cluster), BTreeSet::new(), "no installation takes over the default");
    cluster.spec("b", &["default"]);
    assert_eq!(awaited_on_deletion(&cluster), BTreeSet::from(["default".to_owned()]));
    cluster.settle_tag("default", true);
    assert_eq!(awaited_on_deletion(&cluster), BTreeSet::new());
}

/// An event in a cluster.
#[derive(Clone, Debug)]
enum Event {
    Reconcile {
        name: &'static str,
        injects: bool,
    },
    Certify,
    /// Changes which of the two installations list the tag.
    Specs {
        a: bool,
        b: bool,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let reconcile = (any::<bool>(), any::<bool>())
        .prop_map(|(first, injects)| Event::Reconcile { name: if first { "a" } else { "b" }, injects });
    let specs = (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Event::Specs { a, b });
    prop::collection::vec(prop_oneof![6 => reconcile, 2 => Just(Event::Certify), 1 => specs], 0..40)
}

/// Runs the events; checks after each that pods with the tag get a proxy.
fn run_events(mut cluster: SimulatedCluster, tag: &str, always_listed: bool, events: &[Event]) {
    for (n, event) in events.iter().enumerate() {
        match event {
            Event::Reconcile { name, injects } => _ = cluster.reconcile(name, *injects),
            Event::Certify => cluster.certify(),
            // A tag that no installation lists is deleted; the default always has an owner.
            Event::Specs { a: false, b: false } if !always_listed => {}
            Event::Specs { a, b } => {
                let listed = |on: bool| if on { vec![tag] } else { vec![] };
                if !always_listed {
                    cluster.spec("a", &listed(*a));
                }
                cluster.spec("b", &listed(*b));
            }
        }
        let (by, denies) = cluster.answer(tag);
        assert!(!by.is_empty() && !denies, "{n}, {event:?}: {by:?}, refuses: {denies}");
    }
}

proptest! {
    #[test]
    fn listed_tag_is_always_served(events in events(), apart in any::<bool>()) {
        let suffix = if apart { "-elsewhere" } else { "" };
        let cluster = two(peer("a", Some("one"), &["prod"]), peer("b", Some("two"), &[]), suffix);
        run_events(cluster, "prod", false, &events);
    }

    #[test]
    fn default_is_always_served(events in events(), apart in any::<bool>()) {
        let suffix = if apart { "-elsewhere" } else { "" };
        let cluster = two(peer("a", None, &[]), peer("b", Some("two"), &[]), suffix);
        run_events(cluster, "default", true, &events);
    }
}
