//! A mesh that Helm installed becomes the operator's, in place.

use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, operator_writes};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use super::{GATEWAY, MESH, install, managers, pods, stalled, to_the_mesh};
use crate::cli::{file, meshwright};

/// What the team that installed it with Helm has in its values files.
fn istiod_values() -> Value {
    json!({
        "meshConfig": {"accessLogFile": "/dev/stdout", "defaultConfig": {"holdApplicationUntilProxyStarts": true}},
        "global": {"proxy": {"logLevel": "info"}, "logging": {"level": "default:info,ads:debug"}},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "env": {"PILOT_PUSH_THROTTLE": "50", "PILOT_STATUS_QPS": 80}, "autoscaleMin": 1, "autoscaleMax": 3, "traceSampling": 10.0,
    })
}

fn gateway_values() -> Value {
    let port = |name: &str, port: i32, node_port: i32| json!({"name": name, "port": port, "targetPort": port, "protocol": "TCP", "nodePort": node_port});
    json!({
        "service": {
            "type": "NodePort", "annotations": {"example.com/pool": "edge"},
            "ports": [port("status-port", 15021, 31021), port("http2", 80, 31080), port("https", 443, 31443)],
        },
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 2}, "podAnnotations": {"example.com/team": "edge"},
    })
}

/// A mesh with a gateway, by Helm.
async fn by_helm(lab: &Lab) -> TestResult {
    install(lab, "istio-base", "base", &json!({})).await?;
    install(lab, "istiod", "istiod", &istiod_values()).await?;
    objects::deployment_ready(&lab.client(), MESH, "istiod").await?;
    Mesh::of(lab.client()).wait_strict().await?;
    install(lab, GATEWAY, "gateway", &gateway_values()).await?;
    objects::deployment_ready(&lab.client(), MESH, GATEWAY).await?;
    Ok(())
}

#[test]
fn a_mesh_of_helms_becomes_ours_without_a_restart_and_what_differs_is_named_before() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        by_helm(lab).await?;
        let before = pods(lab).await?;

        let mark = lab.settled_audit().await?.mark();
        let mut spec = json!({"version": VERSION, "gateways": [{"name": GATEWAY}]});
        mesh.apply(NAME, spec.clone()).await?;
        let told = stalled(&mesh, "ForeignObject").await?;
        assert!(told.contains("spec.adoption"), "{told}");
        spec["adoption"] = "Adopt".into();
        mesh.apply(NAME, spec).await?;
        let told = stalled(&mesh, "AdoptionDiffers").await?;
        let first = r#"Deployment istio-system/istio-ingressgateway spec.template.metadata.annotations["example.com/team"]: "edge" -> none"#;
        assert!(told.contains(first), "{told}");
        let audit = lab.settled_audit().await?;
        assert_eq!(to_the_mesh(operator_writes(&audit, mark)), [""; 0]);

        let adopt = meshwright(lab.kubeconfig(), &["adopt", "--name", NAME]).await?;
        assert_eq!(adopt.code, Some(0), "{}{}", adopt.out, adopt.err);
        assert!(adopt.err.contains("--selector owner=helm,name=istiod"), "{}", adopt.err);
        let proposed: Value = serde_saphyr::from_str(&adopt.out)?;
        let mark = lab.settled_audit().await?.mark();
        let begun = Instant::now();
        mesh.apply(NAME, proposed["spec"].clone()).await?;
        mesh.wait_ready(NAME).await?;
        let took = begun.elapsed();
        assert_eq!(pods(lab).await?, before, "no Pod was replaced or restarted");
        let writes = to_the_mesh(operator_writes(&lab.settled_audit().await?, mark));
        println!("taken over with {} writes to objects, Ready after {took:.1?}", writes.len());
        let istiod = mesh.api("apps/v1", "Deployment", Some(MESH)).get("istiod").await?;
        assert!(!managers(&istiod).contains(&"helm".to_owned()), "{:?}", managers(&istiod));
        assert!(!istiod.annotations().contains_key("meta.helm.sh/release-name"), "only Helm wanted it");
        let service = mesh.api("v1", "Service", Some(MESH)).get(GATEWAY).await?;
        assert_eq!(service.annotations().get("example.com/pool").map(String::as_str), Some("edge"));
        assert_eq!(service.data.pointer("/spec/ports/1/nodePort"), Some(&json!(31080)));

        owned(lab, &mesh).await
    });
}

/// What was taken over is looked after and removed like what the operator made.
async fn owned(lab: &Lab, mesh: &Mesh) -> TestResult {
    let secrets: Api<Secret> = Api::namespaced(lab.client(), MESH);
    let helms = ListParams::default().labels("owner=helm");
    secrets.delete_collection(&DeleteParams::default(), &helms).await?;
    let maps: Api<ConfigMap> = Api::namespaced(lab.client(), MESH);
    maps.delete("istio", &DeleteParams::default()).await?;
    wait::until(wait::PATIENCE, "the ConfigMap to be back", async || {
        maps.get("istio").await.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    mesh.wait_ready(NAME).await?;
    mesh.delete(NAME, &DeleteParams::default()).await?;
    assert!(mesh.api("apps/v1", "Deployment", Some(MESH)).list(&ListParams::default()).await?.items.is_empty());
    let services: Api<Service> = Api::namespaced(lab.client(), MESH);
    assert!(services.get_opt(GATEWAY).await?.is_none());
    Ok(())
}

/// The gateway's pods, by name: the level at which their proxies log.
async fn levels(lab: &Lab) -> TestResult<Vec<(String, String)>> {
    let api: Api<Pod> = Api::namespaced(lab.client(), MESH);
    let pods = api.list(&ListParams::default().labels("istio=ingressgateway")).await?.items.into_iter();
    let level = |pod: &Pod| {
        let args = objects::proxy(pod).and_then(|proxy| proxy.args.clone()).unwrap_or_default();
        args.iter().find_map(|arg| arg.strip_prefix("--proxyLogLevel=").map(str::to_owned))
    };
    Ok(pods.map(|pod| (pod.name_any(), level(&pod).unwrap_or_default())).collect())
}

#[test]
fn what_differs_is_changed_where_the_spec_says_so_and_gateways_get_pods_that_know_of_it() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        by_helm(lab).await?;
        let before = pods(lab).await?;
        let was = levels(lab).await?;
        assert!(was.len() == 1 && was[0].1 == "info", "{was:?}");
        let adopt = meshwright(lab.kubeconfig(), &["adopt", "--name", NAME, "--overwrite"]).await?;
        // All gateways get new pods, which is told even though nothing differs.
        assert_eq!(adopt.code, Some(2), "{}{}", adopt.out, adopt.err);
        let mut spec = serde_saphyr::from_str::<Value>(&adopt.out)?["spec"].clone();
        spec["values"]["istiod"]["global"]["proxy"]["logLevel"] = "debug".into();
        let (_dir, path) = file(NAME, &spec, &json!({}))?;
        let plan = meshwright(lab.kubeconfig(), &["plan", "--file", &path, "--output", "json"]).await?;
        let plan: Value = serde_saphyr::from_str(&plan.out)?;
        let told = json!([{"kind": "Deployment", "namespace": MESH, "name": GATEWAY, "action": "Roll",
            "because": "what the injector makes its proxy from changes"}]);
        assert_eq!(plan["rollouts"], told);

        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;
        wait::until(wait::PATIENCE, "the gateway's pods to be new", async || {
            let now = levels(lab).await.map_err(|error| error.to_string())?;
            if now.len() == 1 && now[0].0 != was[0].0 && now[0].1 == "debug" { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await?;
        let now = pods(lab).await?;
        let istiod = before.iter().find(|(name, _)| name.starts_with("istiod-"));
        assert!(istiod.is_some_and(|(name, pod)| now.get(name) == Some(pod)), "istiod's pod is the same");
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
