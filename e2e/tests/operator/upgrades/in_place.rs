//! From release to release: in which order things move, and that nobody notices.

use k8s_openapi::api::apps::v1::DaemonSet;
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_api::{UpgradeOutcome, UpgradeStep};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, LAB_1_32_PATCH, NAME};
use meshwright_e2e::witness::Seen;
use meshwright_e2e::{Fault, LabOptions, TestResult, run};

use super::{
    AGENTS, CONFIG, CONTROL_PLANE, GATEWAY, GATEWAYS, INJECTOR, ISTIOD, MESHES, ROLES, Scene, is_ready, rolled_out,
    spec,
};

impl Scene {
    /// Upgrades and checks the order of what moved.
    async fn upgrade(&self, from: &str, to: &str) -> TestResult {
        let begun = self.mesh.apply(NAME, spec(to)).await?;
        let ready = self.comes_to("True", "Healthy").await?;
        self.witness.caught_up().await?;
        let begun = begun.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or_default();
        let status = ready.status.unwrap_or_default();
        assert_eq!(status.version.running.as_deref(), Some(to));
        assert!(is_true(&status.conditions, ConditionType::Upgradeable), "{:?}", status.conditions);
        let upgrade = status.upgrade.ok_or("no status.upgrade")?;
        assert_eq!((upgrade.from.as_str(), upgrade.to.as_str()), (from, to));
        assert_eq!(upgrade.outcome, Some(UpgradeOutcome::Done));

        // The injector's configuration waits for istiod, the gateway for the proof, and Ready for all.
        let data = |seen: &Seen| seen.object.as_ref().map(|object| object["data"].clone());
        let injector = self.moved(CONFIG, INJECTOR, begun, |was, is| data(was) != data(is))?;
        let istiod = self.witness.before(CONTROL_PLANE, ISTIOD, injector.version).ok_or("no istiod before")?;
        assert!(rolled_out(&istiod, to), "the injector's configuration moved before istiod: {istiod:?}");
        let spec = |seen: &Seen| seen.object.as_ref().map(|object| object["spec"]["template"].clone());
        let gateway = self.moved(GATEWAYS, GATEWAY, begun, |was, is| spec(was) != spec(is))?;
        assert!(gateway.version > injector.version, "the gateway moved before the injector");
        let states = self.witness.states(MESHES, NAME);
        let ready = states.iter().find(|seen| seen.version > begun && is_ready(seen)).ok_or("never Ready")?;
        for (label, name) in [(CONTROL_PLANE, ISTIOD), (GATEWAYS, GATEWAY)] {
            let seen = self.witness.before(label, name, ready.version).ok_or("nothing before")?;
            assert!(rolled_out(&seen, to), "Ready before {name} was: {seen:?}");
        }

        let injections = self.all_were_injected().await?;
        assert!(injections.proxies.last().is_some_and(|image| image.ends_with(to)), "{:?}", injections.proxies);
        Ok(())
    }

    /// The first state of an object after a point in time that differs from the one before it.
    fn moved(&self, label: &str, name: &str, since: u64, differs: impl Fn(&Seen, &Seen) -> bool) -> TestResult<Seen> {
        let states = self.witness.states(label, name);
        let mut pairs = states.iter().zip(states.iter().skip(1));
        let moved = pairs.find(|(was, is)| is.version > since && differs(was, is));
        Ok(moved.map(|(_, is)| is.clone()).ok_or_else(|| format!("{label} {name} didn't move"))?)
    }
}

#[test]
fn a_mesh_moves_from_minor_to_minor_and_to_a_patch_and_no_pod_goes_without_a_proxy() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_31)).await?;
        scene.upgrade(LAB_1_31, LAB_1_32).await?;
        let proxies = scene.injections().await?.proxies;
        assert_eq!(proxies.len(), 2, "pods got the old proxy, then the new one: {proxies:?}");

        // While both istiods ran, both had their rights; what only the old release had went last.
        let roles = scene.witness.states(ROLES, "istiod-clusterrole-istio-system");
        let has = |seen: &Seen, resource: &str| {
            seen.object.as_ref().is_some_and(|o| o["rules"].to_string().contains(resource))
        };
        let union = roles.iter().find(|seen| has(seen, "\"deployments\"")).ok_or("no new rule")?;
        assert!(has(union, "\"daemonsets\""), "the old istiod lost a right while it ran");
        assert!(roles.last().is_some_and(|seen| !has(seen, "\"daemonsets\"")), "the old right stays");
        let leftover = scene.witness.states(CONFIG, "istio-lab-of-1.31");
        let gone = leftover.last().filter(|seen| seen.object.is_none()).ok_or("the old object stays")?;
        let gateway = scene.witness.before(GATEWAYS, GATEWAY, gone.version).ok_or("no gateway")?;
        assert!(rolled_out(&gateway, LAB_1_32), "the old object went before the upgrade was through");

        scene.upgrade(LAB_1_32, LAB_1_32_PATCH).await?;
        Ok(())
    });
}

#[test]
fn a_newer_release_that_is_given_up_for_an_older_one_lets_no_pod_go_without_a_proxy() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let scene = Scene::begin(lab, spec(LAB_1_31)).await?;
        lab.break_istiod(LAB_1_32_PATCH, Fault::NeverReady)?;
        scene.mesh.apply(NAME, spec(LAB_1_32_PATCH)).await?;
        scene.reaches(UpgradeStep::ControlPlane).await?;
        // Older than what was begun with, and newer than what serves.
        scene.upgrade(LAB_1_31, LAB_1_32).await
    });
}

/// Whether a DaemonSet is of a release, and rolled out.
fn agents_rolled_out(seen: &Seen, release: &str) -> bool {
    let object = seen.object.clone().unwrap_or_default();
    let Ok(agents) = serde_json::from_value::<DaemonSet>(object) else { return false };
    let containers = agents.spec.and_then(|spec| spec.template.spec).map(|pod| pod.containers).unwrap_or_default();
    let status = agents.status.unwrap_or_default();
    containers.iter().all(|container| container.image.as_ref().is_some_and(|image| image.contains(release)))
        && status.observed_generation == agents.metadata.generation
        && status.updated_number_scheduled == Some(status.desired_number_scheduled)
        && status.number_available == Some(status.desired_number_scheduled)
}

#[test]
fn in_an_ambient_mesh_node_agents_move_one_after_the_other_between_istiod_and_gateways() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let ambient = |release: &str| {
            let mut spec = spec(release);
            spec["profile"] = "ambient".into();
            spec
        };
        let scene = Scene::begin(lab, ambient(LAB_1_31)).await?;
        let begun = scene.mesh.apply(NAME, ambient(LAB_1_32)).await?;
        scene.comes_to("True", "Healthy").await?;
        scene.witness.caught_up().await?;
        let begun = begun.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or_default();
        let template = |seen: &Seen| seen.object.as_ref().map(|object| object["spec"]["template"].clone());
        let turned = |was: &Seen, is: &Seen| template(was) != template(is);
        let data = |seen: &Seen| seen.object.as_ref().map(|object| object["data"].clone());
        let injector = scene.moved(CONFIG, INJECTOR, begun, |was, is| data(was) != data(is))?;
        let mut last = injector.version;
        for (agents, before) in [("istio-cni-node", None), ("ztunnel", Some("istio-cni-node"))] {
            let moved = scene.moved(AGENTS, agents, begun, turned)?;
            assert!(moved.version > last, "{agents} moved too early");
            if let Some(before) = before {
                let seen = scene.witness.before(AGENTS, before, moved.version).ok_or("nothing before")?;
                assert!(agents_rolled_out(&seen, LAB_1_32), "{agents} moved before {before} was: {seen:?}");
            }
            last = moved.version;
        }
        let gateway = scene.moved(GATEWAYS, GATEWAY, begun, turned)?;
        let ztunnel = scene.witness.before(AGENTS, "ztunnel", gateway.version).ok_or("no ztunnel")?;
        assert!(agents_rolled_out(&ztunnel, LAB_1_32), "the gateway moved before ztunnel was: {ztunnel:?}");
        scene.all_were_injected().await?;
        Ok(())
    });
}
