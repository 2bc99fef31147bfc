//! Reporting of proxy versions, and restarts of workloads with outdated proxies.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::{ConditionType, get};
use meshwright_api::{PROXY_UPDATE, ProxiesStatus};
use meshwright_e2e::audit::Audit;
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, OPERATOR, OPERATOR_NAMESPACE, VERSION, demo_spec};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::cli::meshwright;
use crate::stalled::assert_stalls;

/// Proxy version of the pods before a restart.
const OLD: &str = "1.30.3";
/// Annotation in the pod template of a restarted workload.
const RESTARTED_FOR: &str = "meshwright.dev/proxy-restarted-for";

/// A mesh of the current version that injects old proxies.
fn injecting_old_proxies() -> Value {
    let mut spec = demo_spec();
    let image = format!("registry.istio.io/release/proxyv2:{OLD}");
    spec["values"] = json!({"istiod": {"global": {"proxy": {"image": image}}}});
    spec
}

/// The same mesh with current proxies and restarts enabled.
fn restarting(update: &Value) -> Value {
    let mut spec = demo_spec();
    spec["proxy"] = json!({"update": {"mode": "Restart"}});
    for (key, value) in update.as_object().into_iter().flatten() {
        spec["proxy"]["update"][key] = value.clone();
    }
    spec
}

fn deployments(lab: &Lab, namespace: &str) -> Api<Deployment> {
    Api::namespaced(lab.client(), namespace)
}

/// Creates Deployments with one pod each in an injected namespace and waits until they are ready.
async fn create_workloads(lab: &Lab, namespace: &str, labels: &[(&str, &str)], names: &[&str]) -> TestResult {
    let labels: Vec<_> = labels.iter().copied().chain([("istio-injection", "enabled")]).collect();
    objects::namespace(&lab.client(), namespace, &labels).await?;
    for name in names {
        deployments(lab, namespace).create(&PostParams::default(), &objects::deployment(name, 1)).await?;
    }
    for name in names {
        objects::deployment_ready(&lab.client(), namespace, name).await?;
    }
    Ok(())
}

/// Output of `meshwright status --proxies`, as `namespace/kind/name` and version.
async fn shown_proxies(lab: &Lab) -> TestResult<Vec<(String, String)>> {
    let output = meshwright(lab.kubeconfig(), &["status", "--proxies", "-o", "json"]).await?;
    let report: Value = serde_json::from_str(&output.stdout)
        .map_err(|error| format!("{error}: {} {}", output.stdout, output.stderr))?;
    let text = |proxy: &Value, key: &str| proxy[key].as_str().unwrap_or_default().to_owned();
    let proxies = report["proxies"].as_array().cloned().unwrap_or_default();
    let of = |proxy: &Value| {
        assert_eq!(proxy["outdated"], proxy["version"] != proxy["meshVersion"], "{proxy}");
        let workload = format!("{}/{}/{}", text(proxy, "namespace"), text(proxy, "kind"), text(proxy, "name"));
        (workload, text(proxy, "version"))
    };
    Ok(proxies.iter().map(of).collect())
}

async fn wait_shown(lab: &Lab, expected: &[(impl AsRef<str>, &str)]) -> TestResult {
    let expected: Vec<_> = expected.iter().map(|(workload, version)| (workload.as_ref(), *version)).collect();
    wait::until(wait::TIMEOUT, format!("the proxies to be {expected:?}"), async || {
        let shown = shown_proxies(lab).await.map_err(|error| error.to_string())?;
        let found: Vec<_> = shown.iter().map(|(workload, version)| (workload.as_str(), version.as_str())).collect();
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await?;
    Ok(())
}

async fn wait_reported(mesh: &Mesh, what: &str, matches: impl Fn(&ProxiesStatus) -> bool) -> TestResult {
    wait::until(wait::TIMEOUT, format!("status to report {what}"), async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let proxies = found.status.and_then(|status| status.proxies).unwrap_or_default();
        if matches(&proxies) { Ok(()) } else { Err(format!("{proxies:?}")) }
    })
    .await?;
    Ok(())
}

fn message_contains(proxies: &ProxiesStatus, part: &str) -> bool {
    proxies.message.as_ref().is_some_and(|message| message.contains(part))
}

/// Version for which each Deployment of a namespace was restarted.
async fn restarted_for(lab: &Lab, namespace: &str) -> TestResult<Vec<(String, Option<String>)>> {
    let list = deployments(lab, namespace).list(&ListParams::default()).await?;
    let version = |deployment: Deployment| {
        let name = deployment.name_any();
        let template = deployment.spec.unwrap_or_default().template.metadata.unwrap_or_default();
        (name, template.annotations.unwrap_or_default().get(RESTARTED_FOR).cloned())
    };
    Ok(list.items.into_iter().map(version).collect())
}

/// The operator's restarts in a namespace, in order.
fn restarts(audit: &Audit, namespace: &str) -> Vec<String> {
    let writes = audit.writes(OPERATOR).filter(|entry| entry.verb == "patch" && entry.namespace == namespace);
    writes.filter(|entry| entry.code == 200).map(|entry| format!("{}/{}", entry.resource, entry.name)).collect()
}

#[test]
fn reports_outdated_proxies() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, injecting_old_proxies()).await?;
        mesh.wait_ready(NAME).await?;
        create_workloads(lab, "shop", &[(PROXY_UPDATE, "restart")], &["web"]).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &objects::pod("debug", &[("app", "debug")])).await?;

        wait_shown(lab, &[("shop/Deployment/web", OLD), ("shop/Pod/debug", OLD)]).await?;
        wait_reported(&mesh, "the old version", |proxies| proxies.outdated && proxies.versions == [OLD]).await?;
        let text = meshwright(lab.kubeconfig(), &["status", "--proxies"]).await?.stdout;
        assert!(text.contains("Deployment/web") && text.contains("2 pods with a proxy, 2 outdated"), "{text}");

        // Outdated proxies block an upgrade to a control plane that doesn't support them.
        let status = mesh.installations().get(NAME).await?.status.unwrap_or_default();
        let upgradeable = get(&status.conditions, ConditionType::Upgradeable).ok_or("no Upgradeable condition")?;
        assert_eq!((upgradeable.status.as_str(), upgradeable.reason.as_str()), ("False", "ProxiesTooOld"));
        let mut newer = injecting_old_proxies();
        newer["version"] = LAB_1_32.into();
        mesh.apply(NAME, newer).await?;
        let rejected = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("UpgradeNotAllowed")).await?;
        let status = rejected.status.unwrap_or_default();
        let message = status.message.unwrap_or_default();
        assert!(message.contains("proxies of 1.30.3") && message.contains("Deployment shop/web"), "{message}");

        // Without update mode Restart, labels have no effect.
        assert_eq!(restarted_for(lab, "shop").await?, [("web".to_owned(), None)]);
        assert_eq!(restarts(&lab.settled_audit().await?, "shop"), Vec::<String>::new());
        Ok(())
    });
}

#[test]
fn forged_proxy_delays_no_upgrade() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        // A pod of a tenant that only looks like an injected one.
        objects::namespace(&lab.client(), "tenant", &[]).await?;
        let mut forged = objects::pod("forged", &[("service.istio.io/canonical-name", "forged")]);
        for container in forged.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
            container.name = "istio-proxy".to_owned();
            container.image = Some("registry.istio.io/release/proxyv2:1.2.0".to_owned());
        }
        let pods: Api<Pod> = Api::namespaced(lab.client(), "tenant");
        pods.create(&PostParams::default(), &forged).await?;
        wait_reported(&mesh, "the forged version", |proxies| proxies.versions.contains(&"1.2.0".to_owned())).await?;

        mesh.wait_for(NAME, ConditionType::Upgradeable, "True", None).await?;
        let mut newer = demo_spec();
        newer["version"] = LAB_1_32.into();
        mesh.apply(NAME, newer).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn restarts_opted_in_workloads_one_by_one() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, injecting_old_proxies()).await?;
        mesh.wait_ready(NAME).await?;
        create_workloads(lab, "shop", &[(PROXY_UPDATE, "restart")], &["a", "b", "c", "exempt"]).await?;
        create_workloads(lab, "other", &[], &["quiet", "willing"]).await?;
        let set = |field: &str, value: &str| Patch::Merge(json!({"metadata": {field: {PROXY_UPDATE: value}}}));
        let params = PatchParams::default();
        deployments(lab, "shop").patch("exempt", &params, &set("annotations", "never")).await?;
        deployments(lab, "other").patch("willing", &params, &set("labels", "restart")).await?;
        let budget: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": "keep"}, "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "c"}}},
        }))?;
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(lab.client(), "shop");
        budgets.create(&PostParams::default(), &budget).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &objects::pod("debug", &[("app", "debug")])).await?;
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": "migrate"},
            // The pod never completes.
            "spec": {"template": {"metadata": {"labels": {"app": "migrate"},
                "annotations": {"lab.meshwright.dev/play": "manual"}}, "spec": {
                "restartPolicy": "Never", "containers": [{"name": "app", "image": "registry.example/shop/app:1"}]}}},
        }))?;
        Api::<Job>::namespaced(lab.client(), "shop").create(&PostParams::default(), &job).await?;

        mesh.apply(NAME, restarting(&json!({}))).await?;
        wait_shown(
            lab,
            &[
                ("other/Deployment/quiet", OLD),
                ("other/Deployment/willing", VERSION),
                ("shop/Deployment/a", VERSION),
                ("shop/Deployment/b", VERSION),
                ("shop/Deployment/c", OLD),
                ("shop/Deployment/exempt", OLD),
                ("shop/Job/migrate", OLD),
                ("shop/Pod/debug", OLD),
            ],
        )
        .await?;
        wait_reported(&mesh, "workloads that need manual restarts, and blocked ones", |proxies| {
            message_contains(proxies, "Job shop/migrate, Pod shop/debug")
                && message_contains(proxies, "Deployment shop/c (PodDisruptionBudget keep")
                && message_contains(proxies, "2 workloads without the label")
        })
        .await?;
        // The last workload is blocked only by its PodDisruptionBudget.
        budgets.delete("keep", &DeleteParams::default()).await?;
        wait::until(wait::TIMEOUT, "the last restart", async || {
            let versions = restarted_for(lab, "shop").await.map_err(|error| error.to_string())?;
            let done = versions.iter().filter(|(_, version)| version.as_deref() == Some(VERSION)).count();
            if done == 3 { Ok(()) } else { Err(format!("{versions:?}")) }
        })
        .await?;
        let audit = lab.settled_audit().await?;
        assert_eq!(
            restarts(&audit, "shop"),
            ["deployments/a", "deployments/b", "deployments/c"],
            "each should be restarted once, in order"
        );
        assert_eq!(restarts(&audit, "other"), ["deployments/willing"]);
        Ok(())
    });
}

#[test]
fn restarts_each_workload_once_despite_operator_crash() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let spec = |version: &str| {
            let mut spec = restarting(&json!({"restartsPerMinute": 60}));
            spec["version"] = version.into();
            spec
        };
        mesh.apply(NAME, spec(LAB_1_31)).await?;
        mesh.wait_ready(NAME).await?;
        let names = ["a", "b", "c", "d"];
        create_workloads(lab, "shop", &[(PROXY_UPDATE, "restart")], &names).await?;
        // As after a rollback from that version, or with a template from a Git repository.
        let earlier = json!({RESTARTED_FOR: LAB_1_32, "meshwright.dev/proxy-restarted-at": "2020-01-01T00:00:00Z"});
        let earlier = json!({"spec": {"template": {"metadata": {"annotations": earlier}}}});
        deployments(lab, "shop").patch("d", &PatchParams::default(), &Patch::Merge(earlier)).await?;
        objects::deployment_ready(&lab.client(), "shop", "d").await?;
        let all = |version| names.map(|name| (format!("shop/Deployment/{name}"), version));
        wait_shown(lab, &all(LAB_1_31)).await?;
        mesh.apply(NAME, spec(LAB_1_32)).await?;
        // Including the one with the earlier annotation.
        for count in [2, 4] {
            wait::until(wait::TIMEOUT, format!("{count} workloads to be restarted"), async || {
                let versions = restarted_for(lab, "shop").await.map_err(|error| error.to_string())?;
                let restarted = versions.iter().filter(|(_, version)| version.as_deref() == Some(LAB_1_32)).count();
                if restarted >= count { Ok(()) } else { Err(format!("{versions:?}")) }
            })
            .await?;
            let pods: Api<Pod> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
            pods.delete(&mesh.leader().await?, &DeleteParams::default().grace_period(0)).await?;
        }
        wait_shown(lab, &all(LAB_1_32)).await?;
        let restarted = restarts(&lab.settled_audit().await?, "shop");
        assert_eq!(restarted, ["deployments/a", "deployments/b", "deployments/c", "deployments/d"]);
        Ok(())
    });
}

#[test]
fn failed_restart_stops_further_restarts() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, injecting_old_proxies()).await?;
        mesh.wait_ready(NAME).await?;
        create_workloads(lab, "one", &[(PROXY_UPDATE, "restart")], &["fine"]).await?;
        create_workloads(lab, "two", &[(PROXY_UPDATE, "restart")], &["fine"]).await?;
        // The quota admits no second pod, so that the restart fails.
        create_workloads(lab, "first", &[(PROXY_UPDATE, "restart")], &["weak"]).await?;
        let params = PatchParams::default();
        let hasty = Patch::Merge(json!({"spec": {"progressDeadlineSeconds": 2}}));
        deployments(lab, "first").patch("weak", &params, &hasty).await?;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
            "spec": {"hard": {"pods": "1"}}});
        let quotas = mesh.api("v1", "ResourceQuota", Some("first"));
        quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
        wait::until(wait::TIMEOUT, "the quota to count the pod", async || {
            let quota = quotas.get("full").await.map_err(|error| error.to_string())?;
            if quota.data["status"]["used"]["pods"] == "1" { Ok(()) } else { Err(quota.data["status"].to_string()) }
        })
        .await?;
        mesh.apply(NAME, restarting(&json!({"maxFailures": 1, "restartsPerMinute": 1}))).await?;
        wait_reported(&mesh, "the failure", |proxies| {
            message_contains(proxies, "stopped")
                && message_contains(proxies, "Deployment first/weak")
                && message_contains(proxies, "2 workloads queued")
        })
        .await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", None).await?;
        for namespace in ["one", "two"] {
            assert_eq!(restarted_for(lab, namespace).await?, [("fine".to_owned(), None)]);
        }
        Ok(())
    });
}

#[test]
fn rejects_unknown_time_zone() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let window = json!({"start": "22:00", "end": "23:00", "timeZone": "Europe/Atlantis"});
        let text = "spec.proxy.update.windows[0].timeZone: \"Europe/Atlantis\"";
        assert_stalls(&mesh, restarting(&json!({"windows": [window]})), "InvalidSpec", &[text]).await?;
        mesh.apply(NAME, restarting(&json!({}))).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn ambient_pods_block_uninstall() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, json!({"version": VERSION, "profile": "ambient"})).await?;
        mesh.wait_ready(NAME).await?;
        objects::namespace(&lab.client(), "shop", &[("istio.io/dataplane-mode", "ambient")]).await?;
        let mut pod = objects::pod("cart", &[("app", "cart")]);
        // istio-cni sets this annotation.
        pod.annotations_mut().insert("ambient.istio.io/redirection".into(), "enabled".into());
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &pod).await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        wait::until(wait::TIMEOUT, "the InUse condition", async || {
            let status = mesh.installations().get(NAME).await.map_err(|e| e.to_string())?.status.unwrap_or_default();
            let message = status.message.unwrap_or_default();
            if message.contains("1 pods still go through this mesh's ztunnel") { Ok(()) } else { Err(message) }
        })
        .await?;
        pods.delete("cart", &DeleteParams::default().grace_period(0)).await?;
        mesh.wait_gone(NAME).await?;
        Ok(())
    });
}
