//! Restrictions take effect and can be removed.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32};
use meshwright_e2e::restriction::Restriction;
use meshwright_e2e::{LabOptions, objects, run, wait};
use serde_json::json;

#[test]
fn quota_rejects_new_pods() {
    run(LabOptions::default(), async |lab| {
        objects::namespace(&lab.client(), "shop", &[]).await?;
        objects::workload(&lab.client(), 1, "shop").await?;
        let quota = Restriction::deny_pods(lab.client(), "shop").await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        let error = pods.create(&PostParams::default(), &objects::pod("one", &[])).await.unwrap_err();
        assert!(error.to_string().contains("exceeded quota"), "{error}");
        quota.remove().await?;
        wait::until(wait::TIMEOUT, "a Pod to be admitted", async || {
            pods.create(&PostParams::default(), &objects::pod("one", &[])).await.map_err(|error| error.to_string())
        })
        .await?;
        Ok(())
    });
}

#[test]
fn policy_denies_object_of_one_release() {
    run(LabOptions::default(), async |lab| {
        let config_maps: Api<ConfigMap> = Api::default_namespaced(lab.client());
        let set = async |name: &str, release: &str| {
            let patch = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "annotations": {"meshwright.dev/release": release}},
            });
            config_maps.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&patch)).await
        };
        set("one", LAB_1_31).await?;
        let resource = ApiResource::erase::<ConfigMap>(&());
        let one = DynamicObject::new("one", &resource).within("default");
        let policy = Restriction::deny_object(lab.client(), &one, LAB_1_32).await?;
        let error = set("one", LAB_1_32).await.unwrap_err().to_string();
        assert!(error.contains("one of release 1.32.0-lab.1 is denied by the test policy"), "{error}");
        set("one", LAB_1_31).await?;
        set("two", LAB_1_32).await?;
        policy.remove().await?;
        wait::until(wait::TIMEOUT, "the object to be admitted", async || {
            set("one", LAB_1_32).await.map_err(|error| error.to_string())
        })
        .await?;
        Ok(())
    });
}

#[test]
fn policy_keeps_gateways_of_one_release_unready() {
    run(LabOptions::default(), async |lab| {
        let _policy = Restriction::unready_gateways(lab.client(), LAB_1_32).await?;
        let pods: Api<Pod> = Api::default_namespaced(lab.client());
        for (name, release) in [("new", LAB_1_32), ("old", LAB_1_31)] {
            let mut pod = objects::pod(name, &[("app.kubernetes.io/version", release)]);
            pod.annotations_mut().insert("inject.istio.io/templates".into(), "gateway".into());
            pods.create(&PostParams::default(), &pod).await?;
        }
        wait::until(wait::TIMEOUT, "the old gateway to be ready and the new one to run", async || {
            let mut seen = Vec::new();
            for name in ["new", "old"] {
                let status = pods.get(name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
                let ready = status.conditions.unwrap_or_default().into_iter().find(|c| c.type_ == "Ready");
                seen.push((status.phase.unwrap_or_default(), ready.is_some_and(|ready| ready.status == "True")));
            }
            let running = "Running".to_owned();
            if seen == [(running.clone(), false), (running, true)] { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await?;
        Ok(())
    });
}
