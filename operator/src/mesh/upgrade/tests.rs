//! Whole upgrades on simulated live objects.

mod recovery;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshwright_api::{UpgradeDirection, UpgradeStep};
use proptest::prelude::*;
use semver::Version;
use serde_json::{Value, json};

use super::{ConfigurationOrder, CurrentStep, RolloutStep, UpgradePlan, current_step, direction, is_same_release};
use crate::mesh::health::Injection;
use crate::mesh::injection_check::InjectionOutcome;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject, ObjectKey, Owner};
use crate::mesh::observed::{ObservedObject, ObservedObjects};

const UID: &str = "u-1";

fn object(component: &Component, release: &Version, object: Value) -> Arc<DesiredObject> {
    let owner = Owner { installation: "mesh".into(), uid: UID.into(), release: release.clone() };
    Arc::new(DesiredObject::from_rendered(object, component, &owner, "istio-system").unwrap())
}

/// The objects of a release: a role, an object that only this release has, istiod, the injector's ConfigMap, a gateway.
fn mesh(release: &str) -> Vec<Arc<DesiredObject>> {
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

/// The live objects of a cluster, and the order in which they were applied.
#[derive(Default)]
struct SimulatedCluster {
    objects: BTreeMap<ObjectKey, Value>,
    /// The release of the available istiod.
    active_istiod: Option<Version>,
    applied: Vec<String>,
}

impl SimulatedCluster {
    fn apply(&mut self, desired: &[Arc<DesiredObject>]) {
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
                // The pods of the old template stay available.
                Some(known) => {
                    json!({"observedGeneration": 1, "availableReplicas": known["status"]["availableReplicas"]})
                }
                None => json!({"observedGeneration": 1}),
            };
            let what = [&value["data"]["release"], &value["spec"]["template"]["spec"]["containers"][0]["image"]];
            let release = what.into_iter().find_map(Value::as_str).unwrap_or_default();
            self.applied.push(format!("{} {release}", wanted.key.name));
            self.objects.insert(wanted.key.clone(), value);
        }
        self.objects.retain(|key, _| desired.iter().any(|wanted| wanted.key == *key));
    }

    fn istiod(&self) -> &Value {
        let istiod = self.objects.iter().find(|(key, _)| key.name == "istiod" && key.kind == Kind::Deployment);
        istiod.unwrap().1
    }

    fn delete(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
        if key.name == "istiod" && key.kind == Kind::Deployment {
            self.active_istiod = None;
        }
    }

    /// Whether the available istiod understands the applied injection template.
    fn template_is_understood(&self) -> bool {
        let injector = self.objects.iter().find(|(key, _)| key.is_injector_configuration());
        let template = injector.and_then(|(_, map)| map["data"]["release"].as_str()?.parse::<Version>().ok());
        self.active_istiod.as_ref().zip(template).is_none_or(|(active_istiod, template)| template <= *active_istiod)
    }

    fn roll_out(&mut self) {
        for (key, value) in &mut self.objects {
            if key.kind == Kind::Deployment {
                if key.name == "istiod" {
                    let image = value["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
                    self.active_istiod = image.and_then(|image| image.parse().ok());
                }
                value["status"] =
                    json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
            }
        }
    }

    fn live(&self) -> ObservedObjects {
        self.objects.iter().map(|(key, value)| (key.clone(), ObservedObject::of(key.kind, value, None, None))).collect()
    }

    fn hashes(&self) -> Vec<(ObjectKey, Option<String>)> {
        self.live().into_iter().map(|(key, live)| (key, live.ownership.hash)).collect()
    }
}

fn hashes(of: &[Arc<DesiredObject>]) -> Vec<(ObjectKey, Option<String>)> {
    let mut all: Vec<_> = of.iter().map(|desired| (desired.key.clone(), Some(desired.hash.clone()))).collect();
    all.sort();
    all
}

fn injected(_: &[Arc<DesiredObject>]) -> Injection {
    Injection::Checked(InjectionOutcome::Injected("proxy".into()))
}

fn upgrade_plan(
    direction: UpgradeDirection,
    target: &[Arc<DesiredObject>],
    sources: &[&[Arc<DesiredObject>]],
) -> UpgradePlan {
    new_plan(direction, target, sources, true)
}

/// The plan with the order that the revisions' releases give.
fn new_plan(
    direction: UpgradeDirection,
    target: &[Arc<DesiredObject>],
    sources: &[&[Arc<DesiredObject>]],
    first_is_deployed: bool,
) -> UpgradePlan {
    let same_release = is_same_release(target, sources);
    let order = ConfigurationOrder::new(direction, same_release, false);
    UpgradePlan::new(direction, order, target, sources, first_is_deployed).unwrap()
}

/// One reconcile; returns the step before it.
fn reconcile(
    cluster: &mut SimulatedCluster,
    plan: &UpgradePlan,
    target: &[Arc<DesiredObject>],
    min_step: Option<&RolloutStep>,
) -> Option<CurrentStep> {
    let found = current_step(plan, &cluster.live(), injected, min_step);
    cluster.apply(found.as_ref().map_or(target, |found| &found.desired));
    found
}

fn at(cluster: &SimulatedCluster, name: &str) -> usize {
    cluster.applied.iter().position(|entry| entry == name).unwrap_or_else(|| panic!("{name}: {:?}", cluster.applied))
}

fn deployed(release: &str) -> (SimulatedCluster, Vec<Arc<DesiredObject>>) {
    let mesh = mesh(release);
    let mut cluster = SimulatedCluster::default();
    cluster.apply(&mesh);
    cluster.roll_out();
    cluster.applied.clear();
    (cluster, mesh)
}

#[test]
fn upgrade_updates_istiod_then_configuration_then_gateways() {
    let (mut cluster, old) = deployed("1.31.0");
    let new = mesh("1.32.0");
    let plan = upgrade_plan(UpgradeDirection::Forward, &new, &[&old]);
    for _ in 0..5 {
        reconcile(&mut cluster, &plan, &new, None);
    }
    assert_eq!(cluster.applied.last().unwrap(), "istiod 1.32.0", "no later step until istiod is rolled out");
    for _ in 0..8 {
        cluster.roll_out();
        reconcile(&mut cluster, &plan, &new, None);
    }
    assert!(at(&cluster, "istiod 1.32.0") < at(&cluster, "istio-sidecar-injector 1.32.0"));
    assert!(at(&cluster, "istio-sidecar-injector 1.32.0") < at(&cluster, "edge 1.32.0"));
    assert_eq!(cluster.hashes(), hashes(&new));
}

#[test]
fn rollback_updates_configuration_before_istiod() {
    let (mut cluster, bad) = deployed("1.32.0");
    let good = mesh("1.31.0");
    let plan = upgrade_plan(UpgradeDirection::Rollback, &good, &[&bad]);
    for _ in 0..10 {
        reconcile(&mut cluster, &plan, &good, None);
        cluster.roll_out();
    }
    assert!(at(&cluster, "istio-sidecar-injector 1.31.0") < at(&cluster, "istiod 1.31.0"));
    assert_eq!(cluster.hashes(), hashes(&good));
}

#[test]
fn role_grants_rules_of_both_releases() {
    let (mut cluster, old) = deployed("1.31.0");
    let new = mesh("1.32.0");
    let plan = upgrade_plan(UpgradeDirection::Forward, &new, &[&old]);
    reconcile(&mut cluster, &plan, &new, None);
    reconcile(&mut cluster, &plan, &new, None);
    let role = cluster.objects.iter().find(|(key, _)| key.kind == Kind::ClusterRole).unwrap().1;
    assert_eq!(role["rules"], json!([{"resources": ["1.32.0"]}, {"resources": ["1.31.0"]}]));
    assert!(cluster.objects.keys().any(|key| key.name == "only-1.31.0"));
    assert!(
        cluster.objects.keys().any(|key| key.name == "only-1.32.0"),
        "a ConfigMap that the new istiod may mount is applied before it"
    );
}

#[test]
fn min_ready_seconds_is_set_only_during_upgrade() {
    let (mut cluster, old) = deployed("1.31.0");
    let new = mesh("1.32.0");
    let plan = upgrade_plan(UpgradeDirection::Forward, &new, &[&old]);
    let settle_time = |cluster: &SimulatedCluster| cluster.istiod()["spec"].get("minReadySeconds").cloned();
    for _ in 0..3 {
        reconcile(&mut cluster, &plan, &new, None);
    }
    assert_eq!(settle_time(&cluster), Some(json!(10)));
    for _ in 0..8 {
        cluster.roll_out();
        reconcile(&mut cluster, &plan, &new, None);
    }
    assert_eq!(settle_time(&cluster), None);
}

#[test]
fn unsettled_istiod_stays_unsettled_on_rollback() {
    let (mut cluster, old) = deployed("1.31.0");
    let new = mesh("1.32.0");
    let forward = upgrade_plan(UpgradeDirection::Forward, &new, &[&old]);
    for _ in 0..3 {
        reconcile(&mut cluster, &forward, &new, None);
    }
    let settling = cluster.istiod()["spec"].clone();
    let back = new_plan(UpgradeDirection::Rollback, &old, &[&new], false);
    let found = current_step(&back, &cluster.live(), injected, None).unwrap();
    assert_eq!(found.step.name, UpgradeStep::Rbac);
    cluster.apply(&found.desired);
    assert_eq!(cluster.istiod()["spec"], settling, "unchanged until its step");
}

#[test]
fn retry_applies_new_config_maps_first() {
    let (mut cluster, old) = deployed("1.31.0");
    let (failed, new) = (mesh("1.32.0"), mesh("1.32.0"));
    let plan = upgrade_plan(UpgradeDirection::Forward, &new, &[&old, &failed]);
    reconcile(&mut cluster, &plan, &new, None);
    reconcile(&mut cluster, &plan, &new, None);
    let has = |name: &str| cluster.objects.keys().any(|key| key.name == name);
    assert!(has("only-1.32.0"), "a ConfigMap that the new istiod mounts is applied before it: {:?}", cluster.applied);
}

#[test]
fn only_permanent_denial_cannot_succeed() {
    let (mut cluster, old) = deployed("1.31.0");
    let new = mesh("1.32.0");
    let plan = upgrade_plan(UpgradeDirection::Forward, &new, &[&old]);
    for _ in 0..5 {
        reconcile(&mut cluster, &plan, &new, None);
        cluster.roll_out();
    }
    let at = |outcome: InjectionOutcome, min_step: Option<UpgradeStep>| {
        let min_step = min_step.map(RolloutStep::from);
        let seen = |_: &[Arc<DesiredObject>]| Injection::Checked(outcome.clone());
        let found = current_step(&plan, &cluster.live(), seen, min_step.as_ref()).unwrap();
        (found.step.name, found.cannot_succeed)
    };
    let denied = |lasting| InjectionOutcome::InjectorDenied { why: "no such field".into(), lasting };
    assert_eq!(at(denied(true), None), (UpgradeStep::InjectionCheck, true));
    assert_eq!(at(denied(false), None), (UpgradeStep::InjectionCheck, false));
    assert_eq!(
        at(InjectionOutcome::WebhookFailed("connection refused".into()), None),
        (UpgradeStep::InjectionCheck, false)
    );
    let not_loaded = InjectionOutcome::NotLoaded { what: "ConfigMap istio-system/istio".into(), lasting: false };
    assert_eq!(at(not_loaded, None), (UpgradeStep::InjectionCheck, false));
    assert_eq!(at(denied(true), Some(UpgradeStep::Cni)), (UpgradeStep::Cni, false), "injection was checked earlier");
}

proptest! {
    #[test]
    fn mesh_converges_to_last_spec(
        rolls in prop::collection::vec(any::<bool>(), 1..30),
        restarts in prop::collection::vec(any::<bool>(), 30),
        deleted in prop::collection::vec(0..5usize, 30),
        spec_changes_at in 0..12usize,
        last in prop::sample::select(vec!["1.31.0", "1.31.5", "1.33.0"]),
    ) {
        let (mut cluster, old) = deployed("1.31.0");
        let (first, second) = (mesh("1.32.0"), mesh(last));
        let (to_first, to_second) = ("1.32.0".parse().unwrap(), last.parse().unwrap());
        let deployed_version = Version::new(1, 31, 0);
        // The plan is chosen again after a restart.
        let choose_plan = |cluster: &SimulatedCluster, changed: bool| {
            let (to, target) = if changed { (&to_second, &second) } else { (&to_first, &first) };
            let (sources, ran): (&[&[Arc<DesiredObject>]], bool) = match (changed, last) {
                (false, _) => (&[&old], true),
                (true, "1.31.0") => (&[&first], false),
                (true, _) => (&[&old, &first], true),
            };
            let direction = direction(to, &cluster.live(), Some(&deployed_version), changed && to < &to_first);
            new_plan(direction, target, sources, ran)
        };
        let mut plan = choose_plan(&cluster, false);
        let mut min_step: Option<RolloutStep> = None;
        for (round, rolls) in rolls.iter().enumerate() {
            let changed = round >= spec_changes_at;
            if round == spec_changes_at || restarts[round] {
                min_step = None;
                plan = choose_plan(&cluster, changed);
            }
            // An object is deleted now and then.
            if let Some(key) = cluster.objects.keys().nth(deleted[round]).cloned().filter(|_| round % 3 == 0) {
                cluster.delete(&key);
            }
            let target = if changed { &second } else { &first };
            min_step = reconcile(&mut cluster, &plan, target, min_step.as_ref()).map(|found| found.step);
            prop_assert!(cluster.template_is_understood(), "{:?}", cluster.applied);
            if *rolls {
                cluster.roll_out();
            }
        }
        plan = choose_plan(&cluster, true);
        min_step = None;
        for _ in 0..15 {
            min_step = reconcile(&mut cluster, &plan, &second, min_step.as_ref()).map(|found| found.step);
            prop_assert!(cluster.template_is_understood(), "{:?}", cluster.applied);
            cluster.roll_out();
        }
        prop_assert_eq!(cluster.hashes(), hashes(&second));
        // Afterwards nothing is applied.
        cluster.applied.clear();
        prop_assert!(reconcile(&mut cluster, &plan, &second, None).is_none());
        prop_assert_eq!(&cluster.applied, &Vec::<String>::new());
    }
}
