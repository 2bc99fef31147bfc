//! Add-ons on a real API server; their pods are kwok's. They are looked after like the rest, and never in its way.

use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_e2e::mesh::{LAB_1_32, LAB_1_32_PATCH, Mesh, NAME, picture, small};
use meshwright_e2e::{LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::rights::take_away;
use crate::stalling::stalls;

const NAMES: [&str; 4] = ["prometheus", "grafana", "kiali", "jaeger"];

/// A mesh with these add-ons, in a namespace that takes no pod but those that Pod Security *restricted* allows.
fn with(addons: &Value) -> Value {
    let mut spec = small();
    spec["namespaceLabels"] = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    spec["values"] = json!({"istiod": {"seccompProfile": {"type": "RuntimeDefault"}}});
    spec["addons"] = addons.clone();
    spec
}

fn all() -> Value {
    json!(NAMES.map(|name| json!({"name": name})))
}

/// Ready pods and message of a component, as status tells them.
fn told(installation: &MeshInstallation, name: &str) -> Option<(i32, String)> {
    let status = installation.status.as_ref()?;
    let found = status.components.iter().find(|component| component.name == name)?;
    Some((found.ready, found.message.clone().unwrap_or_default()))
}

/// Waits until the mesh is Ready and status tells this of it.
async fn ready_and(mesh: &Mesh, what: &str, holds: impl Fn(&MeshInstallation) -> bool) -> TestResult<MeshInstallation> {
    let seen = wait::until(wait::PATIENCE, format!("Ready, and {what}"), async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let status = found.status.clone().unwrap_or_default();
        let current = Some(status.observed_generation) == found.metadata.generation;
        let ready = current && is_true(&status.conditions, ConditionType::Ready);
        if ready && holds(&found) { Ok(found) } else { Err(format!("{} {:?}", picture(&found), status.components)) }
    });
    Ok(seen.await?)
}

/// What is left of add-ons, over all kinds that they have.
async fn remains(mesh: &Mesh) -> Result<Vec<String>, kube::Error> {
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
        let ours = ListParams::default().labels(&format!("meshwright.dev/component in ({components})"));
        let list = mesh.api(api_version, kind, None).list(&ours).await?;
        found.extend(list.iter().map(|object| format!("{kind} {}", object.name_any())));
    }
    Ok(found)
}

async fn wait_until_gone(mesh: &Mesh) -> TestResult {
    wait::until(wait::PATIENCE, "every object of the add-ons to be gone", async || {
        let left = remains(mesh).await.map_err(|error| error.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    })
    .await?;
    Ok(())
}

#[test]
fn add_ons_come_up_restricted_heal_roll_with_their_values_and_go_without_a_trace() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, with(&all())).await?;
        let up = |found: &MeshInstallation| NAMES.iter().all(|name| told(found, name) == Some((1, String::new())));
        let ready = ready_and(&mesh, "every add-on up", up).await?;
        assert!(!ready.status.unwrap_or_default().message.unwrap_or_default().contains("add-on"));
        assert_eq!(remains(&mesh).await?.len(), 26);

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
            wait::until(wait::PATIENCE, format!("{kind} {name} to be back"), async || {
                let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
                found.filter(|found| found.uid() != before).map(|_| ()).ok_or_else(|| "not there".to_owned())
            })
            .await?;
        }

        let prometheus = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = prometheus.get("prometheus").await?.data["spec"]["template"].clone();
        let istiod = prometheus.get("istiod").await?.data["spec"].clone();
        let mut changed = all();
        changed[0]["values"] = json!({"scrapeInterval": "30s"});
        mesh.apply(NAME, with(&changed)).await?;
        ready_and(&mesh, "every add-on up", up).await?;
        wait::until(wait::PATIENCE, "Prometheus to be rolled for its configuration", async || {
            let found = prometheus.get("prometheus").await.map_err(|error| error.to_string())?;
            let template = &found.data["spec"]["template"];
            if *template == before { Err(template.to_string()) } else { Ok(()) }
        })
        .await?;
        objects::deployment_ready(&lab.client(), "istio-system", "prometheus").await?;
        assert_eq!(prometheus.get("istiod").await?.data["spec"], istiod);

        let wrong = |values: Value| with(&json!([{"name": "prometheus", "values": values}]));
        let words = ["spec.addons[prometheus].values", "retention", "soon"];
        stalls(&mesh, wrong(json!({"retention": "soon"})), "InvalidSpec", &words).await?;
        stalls(&mesh, wrong(json!({"retentoin": "7d"})), "InvalidSpec", &["retentoin"]).await?;
        let unknown = mesh.apply(NAME, with(&json!([{"name": "loki"}]))).await.err().map(|error| error.to_string());
        assert!(unknown.as_ref().is_some_and(|said| said.contains("spec.addons[0].name")), "{unknown:?}");
        prometheus.get("kiali").await?;

        mesh.apply(NAME, with(&json!([]))).await?;
        mesh.wait_ready(NAME).await?;
        wait_until_gone(&mesh).await
    });
}

#[test]
fn an_add_on_that_cannot_come_up_is_told_and_hinders_neither_ready_nor_an_upgrade_nor_the_end() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        // Kiali's role may then not be made, and no pod finds this claim.
        take_away(&mesh, "cronjobs", "list").await?;
        let mut spec = small();
        spec["version"] = LAB_1_32.into();
        spec["addons"] = json!([
            {"name": "prometheus", "values": {"storage": {"claim": "nowhere"}}},
            {"name": "kiali"},
        ]);
        mesh.apply(NAME, spec.clone()).await?;
        let lame = |found: &MeshInstallation| {
            told(found, "prometheus")
                .is_some_and(|(ready, message)| ready == 0 && message.contains("its pod is not ready"))
                && told(found, "kiali").is_some_and(|(_, message)| message.contains("kiali-istio-system"))
        };
        let ready = ready_and(&mesh, "two add-ons that lag", lame).await?;
        let message = ready.status.unwrap_or_default().message.unwrap_or_default();
        assert!(message.contains("of its add-ons, kiali: ") && message.contains("prometheus: "), "{message}");

        spec["version"] = LAB_1_32_PATCH.into();
        mesh.apply(NAME, spec).await?;
        let moved = ready_and(&mesh, "two add-ons that lag", lame).await?;
        assert_eq!(moved.status.unwrap_or_default().version.running.as_deref(), Some(LAB_1_32_PATCH));

        mesh.delete(NAME, &DeleteParams::default()).await?;
        assert_eq!(remains(&mesh).await?, Vec::<String>::new());
        Ok(())
    });
}
