//! Several revisions in one cluster, and tags that move between them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{LAB_1_32, LAB_1_32_PATCH, Mesh, NAME, demo_spec, operator_writes};
use meshwright_e2e::recorder::InjectionMonitor;
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::stalled::wait_stalled;

/// Revision of the second installation.
const CANARY: &str = "canary";

fn canary(tags: &[&str]) -> Value {
    let tags: Vec<Value> = tags.iter().map(|tag| json!({"name": tag})).collect();
    let mut spec = demo_spec();
    spec["revision"] = CANARY.into();
    spec["tags"] = tags.into();
    spec
}

/// Installs the default revision and the canary; both are Ready.
async fn install_both(lab: &Lab, canary: Value) -> TestResult<Mesh> {
    let mesh = Mesh::install(lab).await?;
    mesh.apply("second", canary).await?;
    mesh.wait_ready("second").await?;
    mesh.wait_ready(NAME).await?;
    Ok(mesh)
}

/// Creates a pod by dry run; returns the revision that injected it.
async fn injected_by(pods: &Api<Pod>) -> Result<String, String> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let pod =
        pods.create(&dry_run, &objects::pod("cart", &[("app", "cart")])).await.map_err(|error| error.to_string())?;
    if objects::proxy(&pod).is_none() {
        return Err("admitted without a proxy".into());
    }
    Ok(pod.annotations().get("istio.io/rev").cloned().unwrap_or_default())
}

async fn create_namespace(lab: &Lab, name: &str, label: (&str, &str)) -> TestResult<Api<Pod>> {
    objects::namespace(&lab.client(), name, &[label]).await?;
    Ok(Api::namespaced(lab.client(), name))
}

/// Starts creating pods in a namespace without pauses.
fn monitor_injection(lab: &Lab, namespace: &str) -> InjectionMonitor {
    InjectionMonitor::start(lab.client(), namespace, Duration::ZERO)
}

/// Checks that every pod was injected; returns the number of lost responses.
fn assert_all_injected(monitor: InjectionMonitor, what: &str) -> usize {
    let results = monitor.stop();
    let (attempts, failures) = (results.attempts, results.failures.len());
    println!("{what}: {attempts} pods, {failures} failures, {} lost responses", results.lost);
    assert!(attempts > 0 && failures == 0, "{what}: {results:?}");
    results.lost
}

async fn wait_injected_by(pods: &Api<Pod>, revision: &str) -> TestResult {
    wait::until(wait::TIMEOUT, format!("{revision} to inject"), async || match injected_by(pods).await {
        Ok(by) if by == revision => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    Ok(())
}

async fn uid(mesh: &Mesh, at: (&str, &str, Option<&str>, &str)) -> TestResult<Option<String>> {
    let (api_version, kind, namespace, name) = at;
    Ok(mesh.api(api_version, kind, namespace).get_opt(name).await?.and_then(|object| object.uid()))
}

const SYSTEM: Option<&str> = Some("istio-system");
const ADMISSION: &str = "admissionregistration.k8s.io/v1";
const READER: (&str, &str, Option<&str>, &str) = ("v1", "ServiceAccount", SYSTEM, "istio-reader-service-account");
const GATEWAY_CRD: (&str, &str, Option<&str>, &str) =
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, "gateways.networking.istio.io");

/// Deletes an object and waits until it is recreated.
async fn assert_recreated(mesh: &Mesh, at: (&str, &str, Option<&str>, &str)) -> TestResult {
    let before = uid(mesh, at).await?;
    assert!(before.is_some(), "{at:?} should exist");
    mesh.api(at.0, at.1, at.2).delete(at.3, &DeleteParams::default()).await?;
    wait::until(wait::TIMEOUT, format!("{at:?} to be recreated"), async || {
        let now = uid(mesh, at).await.map_err(|error| error.to_string())?;
        if now.is_some() && now != before { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await?;
    Ok(())
}

async fn wait_owned_by(mesh: &Mesh, at: (&str, &str, Option<&str>, &str), installation: &str) -> TestResult {
    wait::until(wait::TIMEOUT, format!("{at:?} to be owned by {installation}"), async || {
        let found = mesh.api(at.0, at.1, at.2).get(at.3).await.map_err(|error| error.to_string())?;
        let owner = found.labels().get("meshwright.dev/installation").cloned().unwrap_or_default();
        if owner == installation { Ok(()) } else { Err(owner) }
    })
    .await?;
    Ok(())
}

#[test]
fn two_revisions_inject_and_revert_drift_independently() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let before = lab.settled_audit().await?.position();
        let mut second = canary(&[]);
        second["gateways"] = json!([{"name": "edge", "service": {"type": "ClusterIP"}}]);
        mesh.apply("second", second).await?;
        let ready = mesh.wait_ready("second").await?;
        let components: Vec<String> =
            ready.status.unwrap_or_default().components.into_iter().map(|component| component.name).collect();
        assert_eq!(components, ["base", "istiod-canary", "edge"]);
        let old = create_namespace(lab, "old", ("istio-injection", "enabled")).await?;
        let new = create_namespace(lab, "new", ("istio.io/rev", CANARY)).await?;
        assert_eq!((injected_by(&old).await?, injected_by(&new).await?), ("default".into(), CANARY.into()));
        let gateways = objects::pod_names(&lab.client(), "istio-system", "app=edge").await?;
        let gateway = Api::<Pod>::namespaced(lab.client(), "istio-system").get(&gateways[0]).await?;
        assert_eq!(gateway.annotations().get("istio.io/rev").map(String::as_str), Some(CANARY));

        // The second installation didn't write shared objects.
        let writes = operator_writes(&lab.settled_audit().await?, before);
        let shared = |write: &&String| {
            ["customresourcedefinitions", "namespaces ", "istio-reader-service-account", "istiod-default-validator"]
                .iter()
                .any(|object| write.contains(object))
        };
        assert_eq!(writes.iter().filter(shared).collect::<Vec<_>>(), Vec::<&String>::new());

        for at in [
            ("apps/v1", "Deployment", SYSTEM, "istiod-canary"),
            ("v1", "ConfigMap", SYSTEM, "istio-sidecar-injector-canary"),
            (ADMISSION, "MutatingWebhookConfiguration", None, "istio-sidecar-injector-canary"),
            ("apps/v1", "Deployment", SYSTEM, "istiod"),
            (ADMISSION, "ValidatingWebhookConfiguration", None, "istiod-default-validator"),
            READER,
            GATEWAY_CRD,
        ] {
            assert_recreated(&mesh, at).await?;
        }
        mesh.wait_ready(NAME).await?;
        mesh.wait_ready("second").await?;
        assert_eq!((injected_by(&old).await?, injected_by(&new).await?), ("default".into(), CANARY.into()));
        Ok(())
    });
}

#[test]
fn uninstalling_one_revision_keeps_the_other() {
    run(LabOptions::default(), async |lab| {
        let mesh = install_both(lab, canary(&[])).await?;
        let istiod = ("apps/v1", "Deployment", SYSTEM, "istiod");
        let of_canary = ("apps/v1", "Deployment", SYSTEM, "istiod-canary");
        let before = [uid(&mesh, READER).await?, uid(&mesh, GATEWAY_CRD).await?, uid(&mesh, istiod).await?];
        mesh.delete("second", &DeleteParams::default()).await?;
        assert_eq!(uid(&mesh, of_canary).await?, None);
        assert_eq!([uid(&mesh, READER).await?, uid(&mesh, GATEWAY_CRD).await?, uid(&mesh, istiod).await?], before);
        mesh.wait_ready(NAME).await?;
        let old = create_namespace(lab, "old", ("istio-injection", "enabled")).await?;
        assert_eq!(injected_by(&old).await?, "default");

        // The second installation takes over shared objects when the first one is uninstalled.
        let mut first = demo_spec();
        first["deletion"] = json!({"crds": "Delete"});
        mesh.apply(NAME, first).await?;
        mesh.apply("second", canary(&[])).await?;
        mesh.wait_ready("second").await?;
        let stays = uid(&mesh, of_canary).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        assert_eq!([uid(&mesh, READER).await?, uid(&mesh, GATEWAY_CRD).await?], before[..2]);
        assert_eq!((uid(&mesh, istiod).await?, uid(&mesh, of_canary).await?), (None, stays));
        wait_owned_by(&mesh, READER, "second").await?;
        wait_owned_by(&mesh, GATEWAY_CRD, "second").await?;
        assert_recreated(&mesh, GATEWAY_CRD).await?;
        assert_recreated(&mesh, READER).await?;
        mesh.wait_ready("second").await?;
        let new = create_namespace(lab, "new", ("istio.io/rev", CANARY)).await?;
        assert_eq!(injected_by(&new).await?, CANARY);
        Ok(())
    });
}

#[test]
fn moves_tags_between_revisions_without_failed_injection() {
    run(LabOptions::default(), async |lab| {
        let mut first = demo_spec();
        first["tags"] = json!([{"name": "prod"}]);
        let mesh = install_both(lab, canary(&[])).await?;
        mesh.apply(NAME, first.clone()).await?;
        mesh.wait_ready(NAME).await?;
        let prod = create_namespace(lab, "prod", ("istio.io/rev", "prod")).await?;
        let plain = create_namespace(lab, "plain", ("istio-injection", "enabled")).await?;
        assert_eq!((injected_by(&prod).await?, injected_by(&plain).await?), ("default".into(), "default".into()));
        let monitors = ["prod", "plain"].map(|namespace| monitor_injection(lab, namespace));

        // A tag of another installation is rejected; the mesh keeps running.
        mesh.apply("second", canary(&["prod", "default"])).await?;
        wait_stalled(&mesh, "second", "TagConflict", &["spec.tags[prod]: MeshInstallation mesh has this tag"]).await?;

        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready("second").await?;
        wait_injected_by(&prod, CANARY).await?;
        wait_injected_by(&plain, CANARY).await?;
        mesh.wait_ready(NAME).await?;
        let validator = (ADMISSION, "ValidatingWebhookConfiguration", None, "istiod-default-validator");
        wait_owned_by(&mesh, validator, "second").await?;

        mesh.apply(NAME, first).await?;
        mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("TagConflict")).await?;
        mesh.apply("second", canary(&[])).await?;
        wait_injected_by(&prod, "default").await?;
        wait_injected_by(&plain, "default").await?;
        mesh.wait_ready(NAME).await?;
        wait_owned_by(&mesh, validator, NAME).await?;
        wait::until(wait::TIMEOUT, "deletion of the default tag", async || {
            let at = (ADMISSION, "MutatingWebhookConfiguration", None, "istio-revision-tag-default");
            match uid(&mesh, at).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(uid) => Err(uid),
            }
        })
        .await?;
        let [prod, plain] = monitors;
        assert_eq!(assert_all_injected(prod, "moving the tag prod back and forth"), 0);
        assert_eq!(assert_all_injected(plain, "moving the default tag back and forth"), 0);
        Ok(())
    });
}

#[test]
fn moves_default_tag_between_namespaces() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        grant_permissions(lab, "mesh-b").await?;
        let plain = create_namespace(lab, "plain", ("istio-injection", "enabled")).await?;
        let monitor = monitor_injection(lab, "plain");
        let mut second = canary(&["default"]);
        second["namespace"] = "mesh-b".into();
        mesh.apply("second", second).await?;
        mesh.wait_ready("second").await?;
        wait_injected_by(&plain, CANARY).await?;
        mesh.wait_ready(NAME).await?;

        mesh.delete("second", &DeleteParams::default()).await?;
        wait_injected_by(&plain, "default").await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(assert_all_injected(monitor, "moving the default tag to another namespace and back"), 0);
        Ok(())
    });
}

/// Grants the operator the permissions for a mesh in this namespace.
async fn grant_permissions(lab: &Lab, namespace: &str) -> TestResult {
    let catalog = std::env::var("MESHWRIGHT_CATALOG")?;
    let output = std::process::Command::new(meshwright_e2e::programs::operator())
        .args(["rbac", "--mesh-namespace", namespace, "--catalog", &catalog])
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("rbac.yaml"), output.stdout)?;
    lab.apply_dirs([dir.path()]).await?;
    Ok(())
}

#[test]
fn crds_follow_newer_of_two_revisions() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let of = |version: &str, mut spec: Value| {
            spec["version"] = version.into();
            spec
        };
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, of(LAB_1_32, demo_spec())).await?;
        mesh.wait_ready(NAME).await?;
        mesh.apply("second", of(LAB_1_32, canary(&["default"]))).await?;
        mesh.wait_ready("second").await?;
        let plain = create_namespace(lab, "plain", ("istio-injection", "enabled")).await?;
        wait_injected_by(&plain, CANARY).await?;
        mesh.wait_ready(NAME).await?;
        wait_owned_by(&mesh, GATEWAY_CRD, NAME).await?;

        let monitor = monitor_injection(lab, "plain");
        mesh.apply("second", of(LAB_1_32_PATCH, canary(&["default"]))).await?;
        let running = |mesh: MeshInstallation| mesh.status.and_then(|status| status.version.running);
        assert_eq!(running(mesh.wait_ready("second").await?).as_deref(), Some(LAB_1_32_PATCH));
        // A terminating istiod drops open requests, so lost responses are allowed here.
        assert_all_injected(monitor, "an upgrade of the default revision");
        wait_owned_by(&mesh, GATEWAY_CRD, "second").await?;
        assert_eq!(running(mesh.wait_ready(NAME).await?).as_deref(), Some(LAB_1_32));
        assert_recreated(&mesh, GATEWAY_CRD).await?;
        wait_owned_by(&mesh, GATEWAY_CRD, "second").await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn warns_when_removed_tag_is_in_use() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let mut spec = demo_spec();
        spec["tags"] = json!([{"name": "prod"}]);
        mesh.apply(NAME, spec).await?;
        let ready = mesh.wait_ready(NAME).await?;
        let components = ready.status.unwrap_or_default().components;
        assert!(components.iter().any(|c| c.name == "tag.prod" && c.ready == 1), "{components:?}");
        let prod = create_namespace(lab, "prod", ("istio.io/rev", "prod")).await?;
        assert_eq!(injected_by(&prod).await?, "default");
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        let at = (ADMISSION, "MutatingWebhookConfiguration", None, "istio-revision-tag-prod");
        assert_eq!(uid(&mesh, at).await?, None);
        let events = mesh.api("events.k8s.io/v1", "Event", None);
        wait::until(wait::TIMEOUT, "an Event about the tag", async || {
            let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let found = list.iter().find(|event| event.data["reason"] == "TagInUse");
            let note = found.map(|event| event.data["note"].to_string()).ok_or("no such Event")?;
            if note.contains("namespace prod") { Ok(()) } else { Err(note) }
        })
        .await?;
        Ok(())
    });
}
