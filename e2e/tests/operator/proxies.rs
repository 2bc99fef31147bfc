//! Which proxies run is told, and those that are behind are moved where that is asked for: workload by workload.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::{ConditionType, get};
use meshwright_api::{PROXY_UPDATE, ProxiesStatus};
use meshwright_e2e::audit::Audit;
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, OPERATOR, OPERATOR_NAMESPACE, VERSION, small};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::cli::meshwright;
use crate::stalling::stalls;

/// What the pods of these tests begin with.
const OLD: &str = "1.30.3";
/// The mark in a pod template.
const RESTARTED_FOR: &str = "meshwright.dev/proxy-restarted-for";

/// A mesh of the present version that injects old proxies.
fn behind() -> Value {
    let mut spec = small();
    let image = format!("registry.istio.io/release/proxyv2:{OLD}");
    spec["values"] = json!({"istiod": {"global": {"proxy": {"image": image}}}});
    spec
}

/// The same mesh, which injects its own proxies and restarts what may be restarted.
fn restarting(update: &Value) -> Value {
    let mut spec = small();
    spec["proxy"] = json!({"update": {"mode": "Restart"}});
    for (key, value) in update.as_object().into_iter().flatten() {
        spec["proxy"]["update"][key] = value.clone();
    }
    spec
}

fn deployments(lab: &Lab, namespace: &str) -> Api<Deployment> {
    Api::namespaced(lab.client(), namespace)
}

/// Makes Deployments of one pod in an injected namespace, and waits for them.
async fn workloads(lab: &Lab, namespace: &str, labels: &[(&str, &str)], names: &[&str]) -> TestResult {
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

/// What `meshwright status --proxies` says, as `namespace/kind/name` and version.
async fn shown(lab: &Lab) -> TestResult<Vec<(String, String)>> {
    let ran = meshwright(lab.kubeconfig(), &["status", "--proxies", "-o", "json"]).await?;
    let report: Value = serde_json::from_str(&ran.out).map_err(|error| format!("{error}: {} {}", ran.out, ran.err))?;
    let text = |proxy: &Value, key: &str| proxy[key].as_str().unwrap_or_default().to_owned();
    let proxies = report["proxies"].as_array().cloned().unwrap_or_default();
    let of = |proxy: &Value| {
        assert_eq!(proxy["outdated"], proxy["version"] != proxy["meshVersion"], "{proxy}");
        let place = format!("{}/{}/{}", text(proxy, "namespace"), text(proxy, "kind"), text(proxy, "name"));
        (place, text(proxy, "version"))
    };
    Ok(proxies.iter().map(of).collect())
}

async fn wait_shown(lab: &Lab, expected: &[(impl AsRef<str>, &str)]) -> TestResult {
    let expected: Vec<_> = expected.iter().map(|(place, version)| (place.as_ref(), *version)).collect();
    wait::until(wait::PATIENCE, format!("the proxies to be {expected:?}"), async || {
        let shown = shown(lab).await.map_err(|error| error.to_string())?;
        let found: Vec<_> = shown.iter().map(|(place, version)| (place.as_str(), version.as_str())).collect();
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await?;
    Ok(())
}

async fn wait_told(mesh: &Mesh, what: &str, fits: impl Fn(&ProxiesStatus) -> bool) -> TestResult {
    wait::until(wait::PATIENCE, format!("status to tell {what}"), async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let proxies = found.status.and_then(|status| status.proxies).unwrap_or_default();
        if fits(&proxies) { Ok(()) } else { Err(format!("{proxies:?}")) }
    })
    .await?;
    Ok(())
}

fn says(proxies: &ProxiesStatus, part: &str) -> bool {
    proxies.message.as_ref().is_some_and(|message| message.contains(part))
}

/// For which version each Deployment of a namespace was restarted.
async fn marks(lab: &Lab, namespace: &str) -> TestResult<Vec<(String, Option<String>)>> {
    let list = deployments(lab, namespace).list(&ListParams::default()).await?;
    let mark = |deployment: Deployment| {
        let name = deployment.name_any();
        let template = deployment.spec.unwrap_or_default().template.metadata.unwrap_or_default();
        (name, template.annotations.unwrap_or_default().get(RESTARTED_FOR).cloned())
    };
    Ok(list.items.into_iter().map(mark).collect())
}

/// When each of the operator's restarts in a namespace was answered, in their order.
fn restarts(audit: &Audit, namespace: &str) -> Vec<String> {
    let writes = audit.writes(OPERATOR).filter(|entry| entry.verb == "patch" && entry.namespace == namespace);
    writes.filter(|entry| entry.code == 200).map(|entry| format!("{}/{}", entry.resource, entry.name)).collect()
}

#[test]
fn proxies_of_another_version_are_told_in_status_and_on_the_command_line() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, behind()).await?;
        mesh.wait_ready(NAME).await?;
        workloads(lab, "shop", &[(PROXY_UPDATE, "restart")], &["web"]).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &objects::pod("debug", &[("app", "debug")])).await?;

        wait_shown(lab, &[("shop/Deployment/web", OLD), ("shop/Pod/debug", OLD)]).await?;
        wait_told(&mesh, "the old version", |proxies| proxies.outdated && proxies.versions == [OLD]).await?;
        let text = meshwright(lab.kubeconfig(), &["status", "--proxies"]).await?.out;
        assert!(text.contains("Deployment/web") && text.contains("2 pods with a proxy, 2 of them outdated"), "{text}");

        // No control plane that is not meant for them takes the place of theirs.
        let status = mesh.installations().get(NAME).await?.status.unwrap_or_default();
        let upgradeable = get(&status.conditions, ConditionType::Upgradeable).ok_or("not told")?;
        assert_eq!((upgradeable.status.as_str(), upgradeable.reason.as_str()), ("False", "ProxiesTooOld"));
        let mut newer = behind();
        newer["version"] = LAB_1_32.into();
        mesh.apply(NAME, newer).await?;
        let refused = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("UpgradeRefused")).await?;
        let status = refused.status.unwrap_or_default();
        assert!(status.message.as_ref().is_some_and(|why| why.contains("proxies of 1.30.3")), "{:?}", status.message);

        // Reporting restarts nothing, whatever the labels say.
        assert_eq!(marks(lab, "shop").await?, [("web".to_owned(), None)]);
        assert_eq!(restarts(&lab.settled_audit().await?, "shop"), Vec::<String>::new());
        Ok(())
    });
}

#[test]
fn workloads_are_restarted_one_after_the_other_where_their_owners_allow_it() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, behind()).await?;
        mesh.wait_ready(NAME).await?;
        workloads(lab, "shop", &[(PROXY_UPDATE, "restart")], &["a", "b", "c", "exempt"]).await?;
        workloads(lab, "other", &[], &["quiet", "willing"]).await?;
        let word = |place: &str, word: &str| Patch::Merge(json!({"metadata": {place: {PROXY_UPDATE: word}}}));
        let params = PatchParams::default();
        deployments(lab, "shop").patch("exempt", &params, &word("annotations", "never")).await?;
        deployments(lab, "other").patch("willing", &params, &word("labels", "restart")).await?;
        let budget: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": "keep"}, "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "c"}}},
        }))?;
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(lab.client(), "shop");
        budgets.create(&PostParams::default(), &budget).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &objects::pod("debug", &[("app", "debug")])).await?;
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": "migrate"},
            // It doesn't end while the test runs.
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
        wait_told(&mesh, "what only a person can do, and what waits", |proxies| {
            says(proxies, "Job shop/migrate, Pod shop/debug")
                && says(proxies, "Deployment shop/c (PodDisruptionBudget keep")
                && says(proxies, "2 workloads without the label")
        })
        .await?;
        // The budget is the last that holds one of them.
        budgets.delete("keep", &DeleteParams::default()).await?;
        wait::until(wait::PATIENCE, "the last one to be restarted", async || {
            let marks = marks(lab, "shop").await.map_err(|error| error.to_string())?;
            let done = marks.iter().filter(|(_, mark)| mark.as_deref() == Some(VERSION)).count();
            if done == 3 { Ok(()) } else { Err(format!("{marks:?}")) }
        })
        .await?;
        let audit = lab.settled_audit().await?;
        assert_eq!(
            restarts(&audit, "shop"),
            ["deployments/a", "deployments/b", "deployments/c"],
            "each once, in order"
        );
        assert_eq!(restarts(&audit, "other"), ["deployments/willing"]);
        Ok(())
    });
}

#[test]
fn after_an_upgrade_workloads_follow_and_none_is_restarted_twice_whenever_the_operator_is_killed() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let spec = |version: &str| {
            let mut spec = restarting(&json!({"restartsPerMinute": 60}));
            spec["version"] = version.into();
            spec
        };
        mesh.apply(NAME, spec(LAB_1_31)).await?;
        mesh.wait_ready(NAME).await?;
        let names = ["a", "b", "c", "d"];
        workloads(lab, "shop", &[(PROXY_UPDATE, "restart")], &names).await?;
        let all = |version| names.map(|name| (format!("shop/Deployment/{name}"), version));
        wait_shown(lab, &all(LAB_1_31)).await?;
        mesh.apply(NAME, spec(LAB_1_32)).await?;
        for round in [1, 3] {
            wait::until(wait::PATIENCE, format!("{round} workloads to be marked"), async || {
                let marks = marks(lab, "shop").await.map_err(|error| error.to_string())?;
                let marked = marks.iter().filter(|(_, mark)| mark.as_deref() == Some(LAB_1_32)).count();
                if marked >= round { Ok(()) } else { Err(format!("{marks:?}")) }
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
fn a_workload_that_doesnt_come_up_again_stops_the_others() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, behind()).await?;
        mesh.wait_ready(NAME).await?;
        workloads(lab, "one", &[(PROXY_UPDATE, "restart")], &["fine"]).await?;
        workloads(lab, "two", &[(PROXY_UPDATE, "restart")], &["fine"]).await?;
        // Its pods become ready once, and no more when it is restarted.
        workloads(lab, "first", &[(PROXY_UPDATE, "restart")], &["weak"]).await?;
        let params = PatchParams::default();
        let hasty = Patch::Merge(json!({"spec": {"progressDeadlineSeconds": 2}}));
        deployments(lab, "first").patch("weak", &params, &hasty).await?;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
            "spec": {"hard": {"pods": "1"}}});
        let quotas = mesh.api("v1", "ResourceQuota", Some("first"));
        quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
        wait::until(wait::PATIENCE, "the quota to be counted", async || {
            let quota = quotas.get("full").await.map_err(|error| error.to_string())?;
            if quota.data["status"]["used"]["pods"] == "1" { Ok(()) } else { Err(quota.data["status"].to_string()) }
        })
        .await?;
        mesh.apply(NAME, restarting(&json!({"maxFailures": 1, "restartsPerMinute": 1}))).await?;
        wait_told(&mesh, "the failure", |proxies| {
            says(proxies, "stopped")
                && says(proxies, "Deployment first/weak")
                && says(proxies, "2 workloads to be restarted")
        })
        .await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", None).await?;
        for namespace in ["one", "two"] {
            assert_eq!(marks(lab, namespace).await?, [("fine".to_owned(), None)]);
        }
        Ok(())
    });
}

#[test]
fn a_time_zone_that_does_not_exist_is_named_and_nothing_else_suffers() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        let window = json!({"start": "22:00", "end": "23:00", "timeZone": "Europe/Atlantis"});
        let told = "spec.proxy.update.windows[0].timeZone: \"Europe/Atlantis\"";
        stalls(&mesh, restarting(&json!({"windows": [window]})), "InvalidSpec", &[told]).await?;
        mesh.apply(NAME, restarting(&json!({}))).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn pods_of_an_ambient_mesh_hold_its_removal_too() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, json!({"version": VERSION, "profile": "ambient"})).await?;
        mesh.wait_ready(NAME).await?;
        objects::namespace(&lab.client(), "shop", &[("istio.io/dataplane-mode", "ambient")]).await?;
        let mut pod = objects::pod("cart", &[("app", "cart")]);
        // As the node agent marks it.
        pod.annotations_mut().insert("ambient.istio.io/redirection".into(), "enabled".into());
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &pod).await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        wait::until(wait::PATIENCE, "InUse to be shown", async || {
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
