//! In-place adoption of a mesh that Helm installed.

use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, operator_writes};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use super::{GATEWAY, MESH, install, managers, mesh_writes, pods, stalled};
use crate::cli::{file, meshwright};

/// Values of the istiod release.
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

/// Installs a mesh with a gateway.
async fn install_with_helm(lab: &Lab) -> TestResult {
    install(lab, "istio-base", "base", &json!({})).await?;
    install(lab, "istiod", "istiod", &istiod_values()).await?;
    objects::deployment_ready(&lab.client(), MESH, "istiod").await?;
    Mesh::connect(lab.client()).wait_fail_closed().await?;
    install(lab, GATEWAY, "gateway", &gateway_values()).await?;
    objects::deployment_ready(&lab.client(), MESH, GATEWAY).await?;
    Ok(())
}

#[test]
fn adopts_helm_installation_without_restarts() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        install_with_helm(lab).await?;
        let before = pods(lab).await?;

        let start = lab.settled_audit().await?.position();
        let mut spec = json!({"version": VERSION, "gateways": [{"name": GATEWAY}]});
        mesh.apply(NAME, spec.clone()).await?;
        let message = stalled(&mesh, "UnmanagedResource").await?;
        assert!(message.contains("spec.adoption"), "{message}");
        spec["adoption"] = "Adopt".into();
        mesh.apply(NAME, spec).await?;
        let message = stalled(&mesh, "AdoptionConflict").await?;
        let first = r#"Deployment istio-system/istio-ingressgateway spec.template.metadata.annotations["example.com/team"]: "edge" -> none"#;
        assert!(message.contains(first), "{message}");
        let audit = lab.settled_audit().await?;
        assert_eq!(mesh_writes(operator_writes(&audit, start)), [""; 0]);

        let adopt = meshwright(lab.kubeconfig(), &["adopt", "--name", NAME]).await?;
        assert_eq!(adopt.code, Some(0), "{}{}", adopt.stdout, adopt.stderr);
        assert!(adopt.stderr.contains("--selector owner=helm,name=istiod"), "{}", adopt.stderr);
        let proposed: Value = serde_saphyr::from_str(&adopt.stdout)?;
        let start = lab.settled_audit().await?.position();
        let started = Instant::now();
        mesh.apply(NAME, proposed["spec"].clone()).await?;
        mesh.wait_ready(NAME).await?;
        let duration = started.elapsed();
        assert_eq!(pods(lab).await?, before, "no Pod should be replaced or restarted");
        let writes = mesh_writes(operator_writes(&lab.settled_audit().await?, start));
        println!("adopted with {} object writes, Ready after {duration:.1?}", writes.len());
        let istiod = mesh.api("apps/v1", "Deployment", Some(MESH)).get("istiod").await?;
        assert!(!managers(&istiod).contains(&"helm".to_owned()), "{:?}", managers(&istiod));
        assert!(
            !istiod.annotations().contains_key("meta.helm.sh/release-name"),
            "Helm's annotations should be removed"
        );
        let service = mesh.api("v1", "Service", Some(MESH)).get(GATEWAY).await?;
        assert_eq!(service.annotations().get("example.com/pool").map(String::as_str), Some("edge"));
        assert_eq!(service.data.pointer("/spec/ports/1/nodePort"), Some(&json!(31080)));

        assert_managed(lab, &mesh).await
    });
}

/// Checks that drift of adopted objects is reverted and that they are uninstalled.
async fn assert_managed(lab: &Lab, mesh: &Mesh) -> TestResult {
    let secrets: Api<Secret> = Api::namespaced(lab.client(), MESH);
    let helm_releases = ListParams::default().labels("owner=helm");
    secrets.delete_collection(&DeleteParams::default(), &helm_releases).await?;
    let maps: Api<ConfigMap> = Api::namespaced(lab.client(), MESH);
    maps.delete("istio", &DeleteParams::default()).await?;
    wait::until(wait::TIMEOUT, "the ConfigMap to be recreated", async || {
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

/// Log levels of the proxies of the gateway's pods, by name.
async fn proxy_log_levels(lab: &Lab) -> TestResult<Vec<(String, String)>> {
    let api: Api<Pod> = Api::namespaced(lab.client(), MESH);
    let pods = api.list(&ListParams::default().labels("istio=ingressgateway")).await?.items.into_iter();
    let level = |pod: &Pod| {
        let args = objects::proxy(pod).and_then(|proxy| proxy.args.clone()).unwrap_or_default();
        args.iter().find_map(|arg| arg.strip_prefix("--proxyLogLevel=").map(str::to_owned))
    };
    Ok(pods.map(|pod| (pod.name_any(), level(&pod).unwrap_or_default())).collect())
}

#[test]
fn overwrite_applies_differences_and_rolls_gateways() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        install_with_helm(lab).await?;
        let before = pods(lab).await?;
        let was = proxy_log_levels(lab).await?;
        assert!(was.len() == 1 && was[0].1 == "info", "{was:?}");
        let adopt = meshwright(lab.kubeconfig(), &["adopt", "--name", NAME, "--overwrite"]).await?;
        // `--overwrite` rolls all gateways, which is reported although nothing differs.
        assert_eq!(adopt.code, Some(2), "{}{}", adopt.stdout, adopt.stderr);
        let mut spec = serde_saphyr::from_str::<Value>(&adopt.stdout)?["spec"].clone();
        spec["values"]["istiod"]["global"]["proxy"]["logLevel"] = "debug".into();
        let (_dir, path) = file(NAME, &spec, &json!({}))?;
        let plan = meshwright(lab.kubeconfig(), &["plan", "--file", &path, "--output", "json"]).await?;
        let plan: Value = serde_saphyr::from_str(&plan.stdout)?;
        let expected = json!([{"kind": "Deployment", "namespace": MESH, "name": GATEWAY, "action": "Roll",
            "because": "the injection inputs of its proxy change"}]);
        assert_eq!(plan["rollouts"], expected);

        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;
        wait::until(wait::TIMEOUT, "the gateway's pods to be replaced", async || {
            let now = proxy_log_levels(lab).await.map_err(|error| error.to_string())?;
            if now.len() == 1 && now[0].0 != was[0].0 && now[0].1 == "debug" { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await?;
        let now = pods(lab).await?;
        let istiod = before.iter().find(|(name, _)| name.starts_with("istiod-"));
        assert!(istiod.is_some_and(|(name, pod)| now.get(name) == Some(pod)), "istiod's pod should not be replaced");
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
