//! Add-ons on a real API server, with pods simulated by kwok. They never block the mesh.

use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_e2e::mesh::{LAB_1_32, LAB_1_32_PATCH, Mesh, NAME, demo_spec, describe};
use meshwright_e2e::{LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::permissions::remove_permission;
use crate::stalled::assert_stalls;

const NAMES: [&str; 4] = ["prometheus", "grafana", "kiali", "jaeger"];

/// A mesh with these add-ons, in a namespace with Pod Security level *restricted*.
fn with(addons: &Value) -> Value {
    let mut spec = demo_spec();
    spec["namespaceLabels"] = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    spec["values"] = json!({"istiod": {"seccompProfile": {"type": "RuntimeDefault"}}});
    spec["addons"] = addons.clone();
    spec
}

fn all() -> Value {
    json!(NAMES.map(|name| json!({"name": name})))
}

/// Ready pods and message of a component in status.
fn component_status(installation: &MeshInstallation, name: &str) -> Option<(i32, String)> {
    let status = installation.status.as_ref()?;
    let found = status.components.iter().find(|component| component.name == name)?;
    Some((found.ready, found.message.clone().unwrap_or_default()))
}

/// Waits until the mesh is Ready and a condition is true.
async fn wait_ready_and(
    mesh: &Mesh,
    what: &str,
    condition: impl Fn(&MeshInstallation) -> bool,
) -> TestResult<MeshInstallation> {
    let ready = wait::until(wait::TIMEOUT, format!("Ready, and {what}"), async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let status = found.status.clone().unwrap_or_default();
        let current = Some(status.observed_generation) == found.metadata.generation;
        let ready = current && is_true(&status.conditions, ConditionType::Ready);
        if ready && condition(&found) {
            Ok(found)
        } else {
            Err(format!("{} {:?}", describe(&found), status.components))
        }
    });
    Ok(ready.await?)
}

/// Existing objects of add-ons, over all their kinds.
async fn existing_objects(mesh: &Mesh) -> Result<Vec<String>, kube::Error> {
    let mut found = Vec::new();
    for (api_version, kind) in [
        ("v1", "ServiceAccount"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("v1", "ConfigMap"),
        ("v1", "Service"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("apps/v1", "Deployment"),
    ] {
        let components = NAMES.map(|name| format!("addon.{name}")).join(",");
        let selector = ListParams::default().labels(&format!("meshwright.dev/component in ({components})"));
        let list = mesh.api(api_version, kind, None).list(&selector).await?;
        found.extend(list.iter().map(|object| format!("{kind} {}", object.name_any())));
    }
    Ok(found)
}

async fn wait_deleted(mesh: &Mesh) -> TestResult {
    wait::until(wait::TIMEOUT, "deletion of all add-on objects", async || {
        let left = existing_objects(mesh).await.map_err(|error| error.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    })
    .await?;
    Ok(())
}

#[test]
fn installs_updates_and_removes_addons() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, with(&all())).await?;
        let all_ready = |found: &MeshInstallation| {
            NAMES.iter().all(|name| component_status(found, name) == Some((1, String::new())))
        };
        let ready = wait_ready_and(&mesh, "every add-on ready", all_ready).await?;
        assert!(!ready.status.unwrap_or_default().message.unwrap_or_default().contains("add-on"));
        assert_eq!(existing_objects(&mesh).await?.len(), 26);

        let config = mesh.api("v1", "ConfigMap", Some("istio-system")).get("istio").await?;
        let config = config.data["data"]["mesh"].as_str().unwrap_or_default().to_owned();
        assert!(config.contains("jaeger-collector.istio-system.svc.cluster.local"), "{config}");

        for (api_version, kind, namespace, name) in [
            ("v1", "Service", Some("istio-system"), "grafana"),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", None, "kiali-istio-system"),
            ("apps/v1", "Deployment", Some("istio-system"), "jaeger"),
        ] {
            let api = mesh.api(api_version, kind, namespace);
            let before = api.get(name).await?.uid();
            api.delete(name, &DeleteParams::default()).await?;
            wait::until(wait::TIMEOUT, format!("{kind} {name} to be recreated"), async || {
                let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
                found.filter(|found| found.uid() != before).map(|_| ()).ok_or_else(|| "not recreated".to_owned())
            })
            .await?;
        }

        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = deployments.get("prometheus").await?.data["spec"]["template"].clone();
        let istiod = deployments.get("istiod").await?.data["spec"].clone();
        let mut changed = all();
        changed[0]["values"] = json!({"scrapeInterval": "30s"});
        mesh.apply(NAME, with(&changed)).await?;
        wait_ready_and(&mesh, "every add-on ready", all_ready).await?;
        wait::until(wait::TIMEOUT, "a rollout of Prometheus for its configuration", async || {
            let found = deployments.get("prometheus").await.map_err(|error| error.to_string())?;
            let template = &found.data["spec"]["template"];
            if *template == before { Err(template.to_string()) } else { Ok(()) }
        })
        .await?;
        objects::deployment_ready(&lab.client(), "istio-system", "prometheus").await?;
        assert_eq!(deployments.get("istiod").await?.data["spec"], istiod);

        let with_values = |values: Value| with(&json!([{"name": "prometheus", "values": values}]));
        let words = ["spec.addons[prometheus].values", "retention", "soon"];
        assert_stalls(&mesh, with_values(json!({"retention": "soon"})), "InvalidSpec", &words).await?;
        assert_stalls(&mesh, with_values(json!({"retentoin": "7d"})), "InvalidSpec", &["retentoin"]).await?;
        let unknown = mesh.apply(NAME, with(&json!([{"name": "loki"}]))).await.err().map(|error| error.to_string());
        assert!(unknown.as_ref().is_some_and(|text| text.contains("spec.addons[0].name")), "{unknown:?}");
        deployments.get("kiali").await?;

        mesh.apply(NAME, with(&json!([]))).await?;
        mesh.wait_ready(NAME).await?;
        wait_deleted(&mesh).await
    });
}

#[test]
fn failing_addons_block_neither_upgrade_nor_uninstall() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        // Without this permission Kiali's ClusterRole is denied; the missing claim keeps Prometheus' pod pending.
        remove_permission(&mesh, "cronjobs", "list").await?;
        let mut spec = demo_spec();
        spec["version"] = LAB_1_32.into();
        spec["addons"] = json!([
            {"name": "prometheus", "values": {"storage": {"claim": "nowhere"}}},
            {"name": "kiali"},
        ]);
        mesh.apply(NAME, spec.clone()).await?;
        let failing = |found: &MeshInstallation| {
            component_status(found, "prometheus")
                .is_some_and(|(ready, message)| ready == 0 && message.contains("its pod is not ready"))
                && component_status(found, "kiali").is_some_and(|(_, message)| message.contains("kiali-istio-system"))
        };
        let ready = wait_ready_and(&mesh, "two failing add-ons", failing).await?;
        let message = ready.status.unwrap_or_default().message.unwrap_or_default();
        assert!(message.contains("Add-ons not ready: kiali: ") && message.contains("prometheus: "), "{message}");

        spec["version"] = LAB_1_32_PATCH.into();
        mesh.apply(NAME, spec).await?;
        let upgraded = wait_ready_and(&mesh, "two failing add-ons", failing).await?;
        assert_eq!(upgraded.status.unwrap_or_default().version.running.as_deref(), Some(LAB_1_32_PATCH));

        mesh.delete(NAME, &DeleteParams::default()).await?;
        assert_eq!(existing_objects(&mesh).await?, Vec::<String>::new());
        Ok(())
    });
}
