//! A correct spec brings back any mesh: upgrades with simulated istiods that crash, disappear and return.

use std::time::Duration;

use super::*;
use crate::mesh::upgrade::{has_ready_istiod, is_down};

/// Simulated time between two reconciles.
const ROUND: Duration = Duration::from_secs(5);
/// Reconciles of a change that waits for nothing but its istiod.
const PROMPT: usize = 12;
/// As [`PROMPT`], after the minute in which no istiod answers.
const AFTER_MINUTE: usize = PROMPT + 13;

/// A spec, reduced to what decides whether its istiod starts.
#[derive(Clone, Copy, Debug)]
struct SimulatedSpec {
    release: &'static str,
    /// istiod can decode the configuration.
    is_loadable: bool,
    /// istiod's image exists.
    has_image: bool,
}

const fn good(release: &'static str) -> SimulatedSpec {
    SimulatedSpec { release, is_loadable: true, has_image: true }
}

const fn bad_value(release: &'static str) -> SimulatedSpec {
    SimulatedSpec { is_loadable: false, ..good(release) }
}

const fn bad_image(release: &'static str) -> SimulatedSpec {
    SimulatedSpec { has_image: false, ..good(release) }
}

fn objects(spec: SimulatedSpec) -> Vec<Arc<DesiredObject>> {
    let version: Version = spec.release.parse().unwrap();
    let image = if spec.has_image { spec.release.to_owned() } else { format!("missing-{}", spec.release) };
    let container = json!({"name": "discovery", "image": image});
    let istiod = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}}});
    let injector = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector"},
        "data": {"release": spec.release, "loadable": spec.is_loadable.to_string()}});
    [istiod, injector].map(|value| object(&Component::Istiod, &version, value)).into()
}

#[derive(Debug)]
struct IstiodPod {
    template: Value,
    image: String,
    /// Its node is down.
    is_away: bool,
    is_ready: bool,
}

/// A cluster with one istiod Deployment, and the operator's state about it.
#[derive(Default)]
struct Simulation {
    cluster: SimulatedCluster,
    pods: Vec<IstiodPod>,
    away_for: Duration,
    /// The template in force was applied while no istiod could answer.
    is_ungated: bool,
    target: Vec<Arc<DesiredObject>>,
    version: Option<Version>,
    deployed: Option<(Version, Vec<Arc<DesiredObject>>)>,
    /// Revisions that were tried since.
    tried: Vec<(Version, Vec<Arc<DesiredObject>>)>,
    direction: Option<UpgradeDirection>,
    step: Option<RolloutStep>,
}

impl Simulation {
    fn deployed(spec: SimulatedSpec) -> Self {
        let mut simulation = Self::default();
        simulation.change(spec);
        simulation.assert_recovers(PROMPT);
        simulation
    }

    fn change(&mut self, spec: SimulatedSpec) {
        let is_deployed = self.deployed.as_ref().is_some_and(|(_, deployed)| hashes(deployed) == hashes(&self.target));
        let previous = std::mem::replace(&mut self.target, objects(spec));
        let version: Version = spec.release.parse().unwrap();
        if let Some(tried) = self.version.replace(version.clone()).filter(|_| !is_deployed) {
            self.tried.push((tried, previous));
        }
        let newer_abandoned = self.tried.iter().any(|(tried, _)| *tried > version);
        let deployed = self.deployed.as_ref().map(|(deployed, _)| deployed);
        self.direction = Some(direction(&version, &self.cluster.live(), deployed, newer_abandoned));
        self.step = None;
    }

    /// One reconcile, as [`crate::controller`] does it.
    fn reconcile(&mut self) {
        let revisions = || self.deployed.iter().chain(self.tried.iter().rev());
        let sources: Vec<&[Arc<DesiredObject>]> = revisions().map(|(_, objects)| objects.as_slice()).collect();
        if sources.is_empty() {
            return self.apply(&self.target.clone(), true);
        }
        let live = self.cluster.live();
        let same_release = revisions().all(|(version, _)| Some(version) == self.version.as_ref())
            && is_same_release(&self.target, &sources);
        assert_eq!(has_ready_istiod(&live), self.pods.iter().any(|pod| pod.is_ready));
        let is_down = is_down(&live, self.away_for);
        let direction = self.direction.unwrap();
        let order = ConfigurationOrder::new(direction, same_release, is_down);
        let plan = UpgradePlan::new(direction, order, &self.target, &sources, self.deployed.is_some()).unwrap();
        let found = current_step(&plan, &live, injected, self.step.as_ref());
        let desired = found.as_ref().map_or_else(|| self.target.clone(), |found| found.desired.clone());
        self.step = found.map(|found| found.step);
        self.apply(&desired, is_down);
    }

    fn apply(&mut self, desired: &[Arc<DesiredObject>], is_ungated: bool) {
        let before = self.template_release();
        self.cluster.apply(desired);
        if self.template_release() != before {
            self.is_ungated = is_ungated;
        }
    }

    /// The Deployment's controller and the kubelets.
    fn run_pods(&mut self) {
        let Some(istiod) = self.cluster.objects.iter().find(|(key, _)| key.kind == Kind::Deployment) else { return };
        let template = istiod.1["spec"]["template"].clone();
        if self.pods.iter().all(|pod| pod.template != template) {
            let image = template["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
            self.pods.push(IstiodPod { template: template.clone(), image, is_away: false, is_ready: false });
        }
        let is_loadable = self.injector().is_some_and(|injector| injector["data"]["loadable"] == "true");
        for pod in &mut self.pods {
            pod.is_ready = is_loadable && !pod.is_away && !pod.image.starts_with("missing-");
        }
        if self.pods.iter().any(|pod| pod.is_ready && pod.template == template) {
            self.pods.retain(|pod| pod.template == template);
        }
        let ready = self.pods.iter().filter(|pod| pod.is_ready).count();
        let updated = self.pods.iter().filter(|pod| pod.template == template).count();
        let status = json!({"observedGeneration": 2, "replicas": self.pods.len(), "updatedReplicas": updated,
            "readyReplicas": ready, "availableReplicas": ready});
        for (_, deployment) in self.cluster.objects.iter_mut().filter(|(key, _)| key.kind == Kind::Deployment) {
            deployment["status"] = status.clone();
        }
        self.away_for = if ready > 0 { Duration::ZERO } else { self.away_for + ROUND };
    }

    fn injector(&self) -> Option<&Value> {
        self.cluster.objects.iter().find(|(key, _)| key.is_injector_configuration()).map(|(_, injector)| injector)
    }

    fn template_release(&self) -> Option<Version> {
        self.injector()?["data"]["release"].as_str()?.parse().ok()
    }

    fn round(&mut self) {
        self.reconcile();
        self.run_pods();
        if self.is_recovered() && self.step.is_none() {
            self.deployed = self.version.clone().map(|version| (version, self.target.clone()));
            self.tried.clear();
        }
    }

    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.round();
        }
    }

    fn is_recovered(&self) -> bool {
        self.cluster.hashes() == hashes(&self.target) && self.pods.iter().all(|pod| pod.is_ready)
    }

    fn assert_recovers(&mut self, rounds: usize) {
        self.run(rounds);
        assert!(self.is_recovered(), "step {:?}, pods {:#?}, {:?}", self.step, self.pods, self.cluster.applied);
    }

    /// No istiod that may answer gets a template of a newer release.
    fn assert_template_is_understood(&self) {
        let newest = self.template_release();
        let release = |pod: &IstiodPod| pod.image.trim_start_matches("missing-").parse::<Version>().ok();
        let is_older = |pod: &IstiodPod| pod.is_ready && release(pod) < newest;
        assert!(!self.is_ungated && !self.pods.iter().any(is_older), "{newest:?} for {:#?}", self.pods);
    }

    fn set_away(&mut self, is_away: bool) {
        self.pods.iter_mut().for_each(|pod| pod.is_away = is_away);
    }
}

#[test]
fn removing_bad_value_recovers_ready_mesh() {
    let mut simulation = Simulation::deployed(good("1.32.0"));
    simulation.change(bad_value("1.32.0"));
    simulation.run(PROMPT);
    assert!(!simulation.is_recovered());
    simulation.change(good("1.32.0"));
    simulation.assert_recovers(PROMPT);
}

#[test]
fn correcting_first_install_recovers() {
    for (corrected, rounds) in [("1.32.0", PROMPT), ("1.33.0", AFTER_MINUTE), ("1.31.0", AFTER_MINUTE)] {
        let mut simulation = Simulation::default();
        simulation.change(bad_value("1.32.0"));
        simulation.run(PROMPT);
        assert!(!simulation.is_recovered());
        simulation.change(good(corrected));
        simulation.assert_recovers(rounds);
    }
}

#[test]
fn short_absence_of_istiod_keeps_order() {
    for at in 0..PROMPT {
        let mut simulation = Simulation::deployed(good("1.31.0"));
        // The first install applies everything at once.
        simulation.is_ungated = false;
        simulation.change(good("1.32.0"));
        for round in 0..PROMPT {
            simulation.set_away(round == at);
            simulation.round();
            simulation.assert_template_is_understood();
        }
        simulation.set_away(false);
        simulation.assert_recovers(PROMPT);
    }
}

#[test]
fn upgrade_completes_when_old_istiod_returns() {
    for returns_at in 0..AFTER_MINUTE {
        let mut simulation = Simulation::deployed(good("1.31.0"));
        simulation.set_away(true);
        simulation.run(PROMPT + 1);
        simulation.change(bad_image("1.32.0"));
        simulation.run(returns_at);
        simulation.set_away(false);
        simulation.run(PROMPT);
        simulation.change(good("1.32.1"));
        simulation.assert_recovers(AFTER_MINUTE);
    }
}

#[test]
fn bad_image_leaves_old_istiod_serving() {
    let mut simulation = Simulation::deployed(good("1.31.0"));
    simulation.is_ungated = false;
    simulation.change(bad_image("1.32.0"));
    for _ in 0..3 * AFTER_MINUTE {
        simulation.round();
        simulation.assert_template_is_understood();
        assert!(simulation.pods.iter().any(|pod| pod.is_ready));
    }
    simulation.change(good("1.32.0"));
    simulation.assert_recovers(PROMPT);
}

#[test]
fn recovers_from_bad_value_and_bad_image() {
    for corrected in ["1.31.0", "1.32.0", "1.33.0"] {
        let mut simulation = Simulation::deployed(good("1.31.0"));
        simulation.change(bad_value("1.31.0"));
        simulation.run(PROMPT);
        simulation.change(bad_image("1.32.0"));
        simulation.run(2 * AFTER_MINUTE);
        simulation.change(good(corrected));
        simulation.assert_recovers(AFTER_MINUTE);
    }
}

proptest! {
    #[test]
    fn correct_spec_recovers_any_mesh(
        tried in prop::collection::vec((0..3usize, any::<bool>(), any::<bool>(), 0..AFTER_MINUTE), 0..4),
        absences in prop::collection::vec(any::<bool>(), 4 * AFTER_MINUTE),
        last in 0..3usize,
    ) {
        let releases = ["1.31.0", "1.31.5", "1.32.0"];
        let mut simulation = Simulation::default();
        let mut absences = absences.into_iter();
        for (release, is_loadable, has_image, rounds) in tried {
            simulation.change(SimulatedSpec { release: releases[release], is_loadable, has_image });
            for _ in 0..rounds {
                simulation.set_away(absences.next().unwrap_or_default());
                simulation.round();
            }
        }
        simulation.set_away(false);
        simulation.change(good(releases[last]));
        simulation.run(2 * AFTER_MINUTE);
        prop_assert!(simulation.is_recovered(), "step {:?}, pods {:#?}, {:?}", simulation.step, simulation.pods, simulation.cluster.applied);
    }
}
