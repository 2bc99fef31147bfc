//! In-place upgrades: the order of changes, without failed injection.

use k8s_openapi::api::apps::v1::DaemonSet;
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_api::{UpgradeOutcome, UpgradeStep};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, LAB_1_32_PATCH, NAME};
use meshwright_e2e::recorder::RecordedState;
use meshwright_e2e::{Fault, LabOptions, TestResult, run};

use super::{
    CONFIG, CONTROL_PLANE, DAEMON_SETS, GATEWAY, GATEWAYS, INJECTOR, ISTIOD, MESHES, ROLES, UpgradeTest, is_ready,
    rolled_out, spec,
};

impl UpgradeTest {
    /// Upgrades and checks the order of changes.
    async fn upgrade(&self, from: &str, to: &str) -> TestResult {
        let applied = self.mesh.apply(NAME, spec(to)).await?;
        let ready = self.wait_ready_condition("True", "Healthy").await?;
        self.recorder.wait_caught_up().await?;
        let start = applied.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or_default();
        let status = ready.status.unwrap_or_default();
        assert_eq!(status.version.running.as_deref(), Some(to));
        assert!(is_true(&status.conditions, ConditionType::Upgradeable), "{:?}", status.conditions);
        let upgrade = status.upgrade.ok_or("no status.upgrade")?;
        assert_eq!((upgrade.from.as_str(), upgrade.to.as_str()), (from, to));
        assert_eq!(upgrade.outcome, Some(UpgradeOutcome::Succeeded));

        // The injector configuration changes after istiod, the gateway after the injection check, and Ready last.
        let data = |state: &RecordedState| state.object.as_ref().map(|object| object["data"].clone());
        let injector = self.first_change(CONFIG, INJECTOR, start, |was, is| data(was) != data(is))?;
        let istiod =
            self.recorder.before(CONTROL_PLANE, ISTIOD, injector.resource_version).ok_or("no istiod before")?;
        assert!(rolled_out(&istiod, to), "the injector configuration changed before istiod: {istiod:?}");
        let spec = |state: &RecordedState| state.object.as_ref().map(|object| object["spec"]["template"].clone());
        let gateway = self.first_change(GATEWAYS, GATEWAY, start, |was, is| spec(was) != spec(is))?;
        assert!(
            gateway.resource_version > injector.resource_version,
            "the gateway changed before the injector configuration"
        );
        let states = self.recorder.states(MESHES, NAME);
        let ready =
            states.iter().find(|state| state.resource_version > start && is_ready(state)).ok_or("never Ready")?;
        for (label, name) in [(CONTROL_PLANE, ISTIOD), (GATEWAYS, GATEWAY)] {
            let state = self.recorder.before(label, name, ready.resource_version).ok_or("nothing before")?;
            assert!(rolled_out(&state, to), "Ready before {name} was rolled out: {state:?}");
        }

        let injections = self.assert_all_injected().await?;
        assert!(injections.proxies.last().is_some_and(|image| image.ends_with(to)), "{:?}", injections.proxies);
        Ok(())
    }

    /// The first state of an object after `start` that differs from the previous one.
    fn first_change(
        &self,
        label: &str,
        name: &str,
        start: u64,
        differs: impl Fn(&RecordedState, &RecordedState) -> bool,
    ) -> TestResult<RecordedState> {
        let states = self.recorder.states(label, name);
        let mut pairs = states.iter().zip(states.iter().skip(1));
        let changed = pairs.find(|(was, is)| is.resource_version > start && differs(was, is));
        Ok(changed.map(|(_, is)| is.clone()).ok_or_else(|| format!("{label} {name} didn't change"))?)
    }
}

#[test]
fn upgrades_in_order_without_failed_injection() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_31)).await?;
        test.upgrade(LAB_1_31, LAB_1_32).await?;
        let proxies = test.injections().await?.proxies;
        assert_eq!(proxies.len(), 2, "pods should get the old proxy, then the new one: {proxies:?}");

        // While both istiods ran, the ClusterRole had the permissions of both. Objects of the old release were deleted
        // last.
        let roles = test.recorder.states(ROLES, "istiod-clusterrole-istio-system");
        let has = |state: &RecordedState, resource: &str| {
            state.object.as_ref().is_some_and(|o| o["rules"].to_string().contains(resource))
        };
        let union = roles.iter().find(|state| has(state, "\"deployments\"")).ok_or("no new rule")?;
        assert!(has(union, "\"daemonsets\""), "the old istiod lost a permission while it ran");
        assert!(
            roles.last().is_some_and(|state| !has(state, "\"daemonsets\"")),
            "the old permission should be removed"
        );
        let leftover = test.recorder.states(CONFIG, "istio-lab-of-1.31");
        let deleted = leftover.last().filter(|state| state.object.is_none()).ok_or("the old object was not deleted")?;
        let gateway = test.recorder.before(GATEWAYS, GATEWAY, deleted.resource_version).ok_or("no gateway")?;
        assert!(rolled_out(&gateway, LAB_1_32), "the old object was deleted before the gateway was upgraded");

        test.upgrade(LAB_1_32, LAB_1_32_PATCH).await?;
        Ok(())
    });
}

#[test]
fn retargets_upgrade_to_older_version() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let test = UpgradeTest::start(lab, spec(LAB_1_31)).await?;
        lab.inject_istiod_fault(LAB_1_32_PATCH, Fault::NeverReady)?;
        test.mesh.apply(NAME, spec(LAB_1_32_PATCH)).await?;
        test.wait_step(UpgradeStep::ControlPlane).await?;
        // The new target is older than the first one and newer than the running version.
        test.upgrade(LAB_1_31, LAB_1_32).await
    });
}

/// Whether a DaemonSet has a release's images and is rolled out.
fn daemon_set_rolled_out(state: &RecordedState, release: &str) -> bool {
    let object = state.object.clone().unwrap_or_default();
    let Ok(daemon_set) = serde_json::from_value::<DaemonSet>(object) else { return false };
    let template = daemon_set.spec.and_then(|spec| spec.template.spec);
    let containers = template.map(|pod| pod.containers).unwrap_or_default();
    let status = daemon_set.status.unwrap_or_default();
    containers.iter().all(|container| container.image.as_ref().is_some_and(|image| image.contains(release)))
        && status.observed_generation == daemon_set.metadata.generation
        && status.updated_number_scheduled == Some(status.desired_number_scheduled)
        && status.number_available == Some(status.desired_number_scheduled)
}

#[test]
fn upgrades_cni_and_ztunnel_before_gateways() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let ambient = |release: &str| {
            let mut spec = spec(release);
            spec["profile"] = "ambient".into();
            spec
        };
        let test = UpgradeTest::start(lab, ambient(LAB_1_31)).await?;
        let applied = test.mesh.apply(NAME, ambient(LAB_1_32)).await?;
        test.wait_ready_condition("True", "Healthy").await?;
        test.recorder.wait_caught_up().await?;
        let start = applied.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or_default();
        let template = |state: &RecordedState| state.object.as_ref().map(|object| object["spec"]["template"].clone());
        let changed = |was: &RecordedState, is: &RecordedState| template(was) != template(is);
        let data = |state: &RecordedState| state.object.as_ref().map(|object| object["data"].clone());
        let injector = test.first_change(CONFIG, INJECTOR, start, |was, is| data(was) != data(is))?;
        let mut last = injector.resource_version;
        for (name, previous) in [("istio-cni-node", None), ("ztunnel", Some("istio-cni-node"))] {
            let first = test.first_change(DAEMON_SETS, name, start, changed)?;
            assert!(first.resource_version > last, "{name} changed too early");
            if let Some(previous) = previous {
                let state =
                    test.recorder.before(DAEMON_SETS, previous, first.resource_version).ok_or("nothing before")?;
                assert!(
                    daemon_set_rolled_out(&state, LAB_1_32),
                    "{name} changed before {previous} was rolled out: {state:?}"
                );
            }
            last = first.resource_version;
        }
        let gateway = test.first_change(GATEWAYS, GATEWAY, start, changed)?;
        let ztunnel = test.recorder.before(DAEMON_SETS, "ztunnel", gateway.resource_version).ok_or("no ztunnel")?;
        assert!(
            daemon_set_rolled_out(&ztunnel, LAB_1_32),
            "the gateway changed before ztunnel was rolled out: {ztunnel:?}"
        );
        test.assert_all_injected().await?;
        Ok(())
    });
}
