//! Whole ways, walked through on pretended live objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwright_api::{UpgradeDirection, UpgradeStep};
use proptest::prelude::*;
use semver::Version;
use serde_json::{Value, json};

use super::{Position, Route, Step, direction, position};
use crate::mesh::health::Injection;
use crate::mesh::kind::Kind;
use crate::mesh::live::{Live, LiveObjects};
use crate::mesh::object::{Component, Desired, ObjectKey, Owner};
use crate::mesh::probe::Outcome;

const UID: &str = "u-1";

fn object(component: &Component, release: &Version, object: Value) -> Arc<Desired> {
    let owner = Owner { installation: "mesh".into(), uid: UID.into(), release: release.clone() };
    Arc::new(Desired::admit(object, component, &owner, "istio-system").unwrap())
}

/// A mesh of a release: its own role, an object that only it has, istiod, the injector's configuration, a gateway.
fn mesh(release: &str) -> Vec<Arc<Desired>> {
    let version: Version = release.parse().unwrap();
    let of = |component: &Component, value: Value| object(component, &version, value);
    let edge = Component::Gateway("edge".into());
    let deployment = |name: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": release}]}}}})
    };
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"release": release}});
    vec![
        of(
            &Component::Istiod,
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "istiod"}, "rules": [{"resources": [release]}]}),
        ),
        of(&Component::Istiod, map(&format!("only-{release}"))),
        of(&Component::Istiod, deployment("istiod")),
        of(&Component::Istiod, map("istio-sidecar-injector")),
        of(&edge, deployment("edge")),
    ]
}

/// What a cluster has, and what of it was seen.
#[derive(Default)]
struct Cluster {
    objects: BTreeMap<ObjectKey, Value>,
    /// The release of the istiod that serves.
    serving: Option<Version>,
    history: Vec<String>,
}

impl Cluster {
    fn apply(&mut self, desired: &[Arc<Desired>]) {
        for wanted in desired {
            let mut value = wanted.value();
            let known = self.objects.get(&wanted.key);
            let hash = |object: &Value| object.pointer("/metadata/annotations").cloned();
            if known.is_some_and(|known| hash(known) == hash(&value)) {
                continue;
            }
            value["metadata"]["uid"] = "live".into();
            value["metadata"]["generation"] = 2.into();
            let rolls = known.is_none_or(|known| known["spec"]["template"] != value["spec"]["template"]);
            value["status"] = match known {
                Some(known) if !rolls => known["status"].clone(),
                // The pods of the old template serve on.
                Some(known) => {
                    json!({"observedGeneration": 1, "availableReplicas": known["status"]["availableReplicas"]})
                }
                None => json!({"observedGeneration": 1}),
            };
            let what = [&value["data"]["release"], &value["spec"]["template"]["spec"]["containers"][0]["image"]];
            let release = what.into_iter().find_map(Value::as_str).unwrap_or_default();
            self.history.push(format!("{} {release}", wanted.key.name));
            self.objects.insert(wanted.key.clone(), value);
        }
        self.objects.retain(|key, _| desired.iter().any(|wanted| wanted.key == *key));
    }

    fn istiod(&self) -> &Value {
        let istiod = self.objects.iter().find(|(key, _)| key.name == "istiod" && key.kind == Kind::Deployment);
        istiod.unwrap().1
    }

    fn lose(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
        if key.name == "istiod" && key.kind == Kind::Deployment {
            self.serving = None;
        }
    }

    /// Whether the istiod that serves understands the injection template that is in force.
    fn is_understood(&self) -> bool {
        let injector = self.objects.iter().find(|(key, _)| key.is_injector_configuration());
        let template = injector.and_then(|(_, map)| map["data"]["release"].as_str()?.parse::<Version>().ok());
        self.serving.as_ref().zip(template).is_none_or(|(serving, template)| template <= *serving)
    }

    fn roll_out(&mut self) {
        for (key, value) in &mut self.objects {
            if key.kind == Kind::Deployment {
                if key.name == "istiod" {
                    let image = value["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
                    self.serving = image.and_then(|image| image.parse().ok());
                }
                value["status"] =
                    json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
            }
        }
    }

    fn live(&self) -> LiveObjects {
        self.objects.iter().map(|(key, value)| (key.clone(), Live::of(key.kind, value, None, None))).collect()
    }

    fn hashes(&self) -> Vec<(ObjectKey, Option<String>)> {
        self.live().into_iter().map(|(key, live)| (key, live.marks.hash)).collect()
    }
}

fn hashes(of: &[Arc<Desired>]) -> Vec<(ObjectKey, Option<String>)> {
    let mut all: Vec<_> = of.iter().map(|desired| (desired.key.clone(), Some(desired.hash.clone()))).collect();
    all.sort();
    all
}

fn proved(_: &[Arc<Desired>]) -> Injection {
    Injection::Seen(Outcome::Proved("proxy".into()))
}

fn way(direction: UpgradeDirection, target: &[Arc<Desired>], sources: &[&[Arc<Desired>]]) -> Route {
    Route::new(direction, target, sources, true).unwrap()
}

/// One turn of the operator: answers where the mesh was.
fn turn(cluster: &mut Cluster, route: &Route, target: &[Arc<Desired>], furthest: Option<&Step>) -> Option<Position> {
    let found = position(route, &cluster.live(), proved, furthest);
    cluster.apply(found.as_ref().map_or(target, |found| &found.desired));
    found
}

fn at(cluster: &Cluster, name: &str) -> usize {
    cluster.history.iter().position(|entry| entry == name).unwrap_or_else(|| panic!("{name}: {:?}", cluster.history))
}

fn standing(release: &str) -> (Cluster, Vec<Arc<Desired>>) {
    let mesh = mesh(release);
    let mut cluster = Cluster::default();
    cluster.apply(&mesh);
    cluster.roll_out();
    cluster.history.clear();
    (cluster, mesh)
}

#[test]
fn the_injectors_configuration_waits_for_istiod_and_the_gateway_for_both() {
    let (mut cluster, old) = standing("1.31.0");
    let new = mesh("1.32.0");
    let route = way(UpgradeDirection::Forward, &new, &[&old]);
    for _ in 0..5 {
        turn(&mut cluster, &route, &new, None);
    }
    assert_eq!(cluster.history.last().unwrap(), "istiod 1.32.0", "nothing more until istiod is rolled out");
    for _ in 0..8 {
        cluster.roll_out();
        turn(&mut cluster, &route, &new, None);
    }
    assert!(at(&cluster, "istiod 1.32.0") < at(&cluster, "istio-sidecar-injector 1.32.0"));
    assert!(at(&cluster, "istio-sidecar-injector 1.32.0") < at(&cluster, "edge 1.32.0"));
    assert_eq!(cluster.hashes(), hashes(&new));
}

#[test]
fn on_the_way_back_the_configuration_goes_before_istiod() {
    let (mut cluster, bad) = standing("1.32.0");
    let good = mesh("1.31.0");
    let route = way(UpgradeDirection::Back, &good, &[&bad]);
    for _ in 0..10 {
        turn(&mut cluster, &route, &good, None);
        cluster.roll_out();
    }
    assert!(at(&cluster, "istio-sidecar-injector 1.31.0") < at(&cluster, "istiod 1.31.0"));
    assert_eq!(cluster.hashes(), hashes(&good));
}

#[test]
fn while_both_run_the_role_grants_what_either_needs_and_what_only_the_old_one_has_stays() {
    let (mut cluster, old) = standing("1.31.0");
    let new = mesh("1.32.0");
    let route = way(UpgradeDirection::Forward, &new, &[&old]);
    turn(&mut cluster, &route, &new, None);
    turn(&mut cluster, &route, &new, None);
    let role = cluster.objects.iter().find(|(key, _)| key.kind == Kind::ClusterRole).unwrap().1;
    assert_eq!(role["rules"], json!([{"resources": ["1.32.0"]}, {"resources": ["1.31.0"]}]));
    assert!(cluster.objects.keys().any(|key| key.name == "only-1.31.0"));
    assert!(
        cluster.objects.keys().any(|key| key.name == "only-1.32.0"),
        "what a new istiod may mount is there before it"
    );
}

#[test]
fn an_istiod_that_is_replaced_must_serve_for_a_while_and_afterwards_no_longer() {
    let (mut cluster, old) = standing("1.31.0");
    let new = mesh("1.32.0");
    let route = way(UpgradeDirection::Forward, &new, &[&old]);
    let settles = |cluster: &Cluster| cluster.istiod()["spec"].get("minReadySeconds").cloned();
    for _ in 0..3 {
        turn(&mut cluster, &route, &new, None);
    }
    assert_eq!(settles(&cluster), Some(json!(10)));
    for _ in 0..8 {
        cluster.roll_out();
        turn(&mut cluster, &route, &new, None);
    }
    assert_eq!(settles(&cluster), None);
}

#[test]
fn an_istiod_that_is_left_before_it_has_settled_doesnt_count_as_settled() {
    let (mut cluster, old) = standing("1.31.0");
    let new = mesh("1.32.0");
    let forward = way(UpgradeDirection::Forward, &new, &[&old]);
    for _ in 0..3 {
        turn(&mut cluster, &forward, &new, None);
    }
    let settling = cluster.istiod()["spec"].clone();
    let back = Route::new(UpgradeDirection::Back, &old, &[&new], false).unwrap();
    let found = position(&back, &cluster.live(), proved, None).unwrap();
    assert_eq!(found.step.name, UpgradeStep::Rights);
    cluster.apply(&found.desired);
    assert_eq!(cluster.istiod()["spec"], settling, "until its step comes");
}

#[test]
fn what_a_failed_try_had_is_new_again_to_the_next() {
    let (mut cluster, old) = standing("1.31.0");
    let (failed, new) = (mesh("1.32.0"), mesh("1.32.0"));
    let route = way(UpgradeDirection::Forward, &new, &[&old, &failed]);
    turn(&mut cluster, &route, &new, None);
    turn(&mut cluster, &route, &new, None);
    let has = |name: &str| cluster.objects.keys().any(|key| key.name == name);
    assert!(has("only-1.32.0"), "what a new istiod mounts is there before it: {:?}", cluster.history);
}

#[test]
fn an_injector_that_refuses_for_good_is_waited_for_in_vain_and_one_that_cant_be_called_is_not() {
    let (mut cluster, old) = standing("1.31.0");
    let new = mesh("1.32.0");
    let route = way(UpgradeDirection::Forward, &new, &[&old]);
    for _ in 0..5 {
        turn(&mut cluster, &route, &new, None);
        cluster.roll_out();
    }
    let at = |outcome: Outcome, furthest: Option<UpgradeStep>| {
        let furthest = furthest.map(Step::from);
        let seen = |_: &[Arc<Desired>]| Injection::Seen(outcome.clone());
        let found = position(&route, &cluster.live(), seen, furthest.as_ref()).unwrap();
        (found.step.name, found.in_vain)
    };
    let refuses = |lasting| Outcome::InjectorRefuses { why: "no such field".into(), lasting };
    assert_eq!(at(refuses(true), None), (UpgradeStep::Injection, true));
    assert_eq!(at(refuses(false), None), (UpgradeStep::Injection, false));
    assert_eq!(at(Outcome::WebhookFailed("connection refused".into()), None), (UpgradeStep::Injection, false));
    assert_eq!(at(refuses(true), Some(UpgradeStep::Cni)), (UpgradeStep::Cni, false), "it was proved before");
}

proptest! {
    #[test]
    fn however_often_it_is_killed_forgets_or_changes_its_mind_the_mesh_ends_as_the_last_spec_says(
        rolls in prop::collection::vec(any::<bool>(), 1..30),
        forgets in prop::collection::vec(any::<bool>(), 30),
        lost in prop::collection::vec(0..5usize, 30),
        changes_at in 0..12usize,
        last in prop::sample::select(vec!["1.31.0", "1.31.5", "1.33.0"]),
    ) {
        let (mut cluster, old) = standing("1.31.0");
        let (first, second) = (mesh("1.32.0"), mesh(last));
        let (to_first, to_second) = ("1.32.0".parse().unwrap(), last.parse().unwrap());
        let run = Version::new(1, 31, 0);
        // Where it goes, chosen anew when it has forgotten.
        let chosen = |cluster: &Cluster, changed: bool| {
            let (to, target) = if changed { (&to_second, &second) } else { (&to_first, &first) };
            let (sources, ran): (&[&[Arc<Desired>]], bool) = match (changed, last) {
                (false, _) => (&[&old], true),
                (true, "1.31.0") => (&[&first], false),
                (true, _) => (&[&old, &first], true),
            };
            let direction = direction(to, &cluster.live(), Some(&run), changed && to < &to_first);
            Route::new(direction, target, sources, ran).unwrap()
        };
        let mut route = chosen(&cluster, false);
        let mut furthest: Option<Step> = None;
        for (round, rolls) in rolls.iter().enumerate() {
            let changed = round >= changes_at;
            if round == changes_at || forgets[round] {
                furthest = None;
                route = chosen(&cluster, changed);
            }
            // Somebody deletes an object now and then.
            if let Some(key) = cluster.objects.keys().nth(lost[round]).cloned().filter(|_| round % 3 == 0) {
                cluster.lose(&key);
            }
            let target = if changed { &second } else { &first };
            furthest = turn(&mut cluster, &route, target, furthest.as_ref()).map(|found| found.step);
            prop_assert!(cluster.is_understood(), "{:?}", cluster.history);
            if *rolls {
                cluster.roll_out();
            }
        }
        route = chosen(&cluster, true);
        furthest = None;
        for _ in 0..15 {
            furthest = turn(&mut cluster, &route, &second, furthest.as_ref()).map(|found| found.step);
            prop_assert!(cluster.is_understood(), "{:?}", cluster.history);
            cluster.roll_out();
        }
        prop_assert_eq!(cluster.hashes(), hashes(&second));
        // And then nothing more happens.
        cluster.history.clear();
        prop_assert!(turn(&mut cluster, &route, &second, None).is_none());
        prop_assert_eq!(&cluster.history, &Vec::<String>::new());
    }
}
