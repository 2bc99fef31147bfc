//! Meshes beside each other, and tags that move from one to the other.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{LAB_1_32, LAB_1_32_PATCH, Mesh, NAME, operator_writes, small};
use meshwright_e2e::witness::Injecting;
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::stalling::stalled;

/// The second installation, and its revision.
const CANARY: &str = "canary";

fn canary(tags: &[&str]) -> Value {
    let tags: Vec<Value> = tags.iter().map(|tag| json!({"name": tag})).collect();
    let mut spec = small();
    spec["revision"] = CANARY.into();
    spec["tags"] = tags.into();
    spec
}

/// The mesh without a revision, and the canary beside it, both Ready.
async fn both(lab: &Lab, canary: Value) -> TestResult<Mesh> {
    let mesh = Mesh::ready(lab).await?;
    mesh.apply("second", canary).await?;
    mesh.wait_ready("second").await?;
    mesh.wait_ready(NAME).await?;
    Ok(mesh)
}

/// The revision that injects a pod made in this namespace; a dry run.
async fn injected_by(pods: &Api<Pod>) -> Result<String, String> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pod = pods.create(&dry, &objects::pod("cart", &[("app", "cart")])).await.map_err(|error| error.to_string())?;
    if objects::proxy(&pod).is_none() {
        return Err("let through without a proxy".into());
    }
    Ok(pod.annotations().get("istio.io/rev").cloned().unwrap_or_default())
}

async fn shop(lab: &Lab, name: &str, label: (&str, &str)) -> TestResult<Api<Pod>> {
    objects::namespace(&lab.client(), name, &[label]).await?;
    Ok(Api::namespaced(lab.client(), name))
}

/// Begins to ask for pods in a namespace, without a rest.
fn ask_for_pods(lab: &Lab, namespace: &str) -> Injecting {
    Injecting::start(lab.client(), namespace, Duration::ZERO)
}

/// Checks that every pod that was asked for came back with a proxy; how many had to be asked for again.
fn all_were_injected(asked: Injecting, what: &str) -> usize {
    let seen = asked.end();
    println!("{what}: {} pods asked for, {} failures, {} answers lost", seen.tried, seen.failures.len(), seen.lost);
    assert!(seen.tried > 0 && seen.failures.is_empty(), "{what}: {seen:?}");
    seen.lost
}

async fn wait_injected_by(pods: &Api<Pod>, revision: &str) -> TestResult {
    wait::until(wait::PATIENCE, format!("{revision} to inject"), async || match injected_by(pods).await {
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
const DEFINITION: (&str, &str, Option<&str>, &str) =
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, "gateways.networking.istio.io");

/// Deletes an object and waits until another of its name is there.
async fn comes_back(mesh: &Mesh, at: (&str, &str, Option<&str>, &str)) -> TestResult {
    let before = uid(mesh, at).await?;
    assert!(before.is_some(), "{at:?} is there");
    mesh.api(at.0, at.1, at.2).delete(at.3, &DeleteParams::default()).await?;
    wait::until(wait::PATIENCE, format!("{at:?} to be back"), async || {
        let now = uid(mesh, at).await.map_err(|error| error.to_string())?;
        if now.is_some() && now != before { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await?;
    Ok(())
}

async fn marked_as(mesh: &Mesh, at: (&str, &str, Option<&str>, &str), installation: &str) -> TestResult {
    wait::until(wait::PATIENCE, format!("{at:?} to be {installation}'s"), async || {
        let found = mesh.api(at.0, at.1, at.2).get(at.3).await.map_err(|error| error.to_string())?;
        let mark = found.labels().get("meshwright.dev/installation").cloned().unwrap_or_default();
        if mark == installation { Ok(()) } else { Err(mark) }
    })
    .await?;
    Ok(())
}

#[test]
fn two_meshes_inject_what_asks_for_each_and_both_heal_without_a_fight() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        let before = lab.settled_audit().await?.mark();
        let mut second = canary(&[]);
        second["gateways"] = json!([{"name": "edge", "service": {"type": "ClusterIP"}}]);
        mesh.apply("second", second).await?;
        let ready = mesh.wait_ready("second").await?;
        let components: Vec<String> =
            ready.status.unwrap_or_default().components.into_iter().map(|component| component.name).collect();
        assert_eq!(components, ["base", "istiod-canary", "edge"]);
        let old = shop(lab, "old", ("istio-injection", "enabled")).await?;
        let new = shop(lab, "new", ("istio.io/rev", CANARY)).await?;
        assert_eq!((injected_by(&old).await?, injected_by(&new).await?), ("default".into(), CANARY.into()));
        let gateways = objects::pod_names(&lab.client(), "istio-system", "app=edge").await?;
        let gateway = Api::<Pod>::namespaced(lab.client(), "istio-system").get(&gateways[0]).await?;
        assert_eq!(gateway.annotations().get("istio.io/rev").map(String::as_str), Some(CANARY));

        // What both need was there, and the second wrote nothing of it.
        let writes = operator_writes(&lab.settled_audit().await?, before);
        let shared = |write: &&String| {
            ["customresourcedefinitions", "namespaces ", "istio-reader-service-account", "istiod-default-validator"]
                .iter()
                .any(|what| write.contains(what))
        };
        assert_eq!(writes.iter().filter(shared).collect::<Vec<_>>(), Vec::<&String>::new());

        for at in [
            ("apps/v1", "Deployment", SYSTEM, "istiod-canary"),
            ("v1", "ConfigMap", SYSTEM, "istio-sidecar-injector-canary"),
            (ADMISSION, "MutatingWebhookConfiguration", None, "istio-sidecar-injector-canary"),
            ("apps/v1", "Deployment", SYSTEM, "istiod"),
            (ADMISSION, "ValidatingWebhookConfiguration", None, "istiod-default-validator"),
            READER,
            DEFINITION,
        ] {
            comes_back(&mesh, at).await?;
        }
        mesh.wait_ready(NAME).await?;
        mesh.wait_ready("second").await?;
        assert_eq!((injected_by(&old).await?, injected_by(&new).await?), ("default".into(), CANARY.into()));
        Ok(())
    });
}

#[test]
fn whichever_mesh_goes_the_other_stays_whole() {
    run(LabOptions::default(), async |lab| {
        let mesh = both(lab, canary(&[])).await?;
        let istiod = ("apps/v1", "Deployment", SYSTEM, "istiod");
        let of_canary = ("apps/v1", "Deployment", SYSTEM, "istiod-canary");
        let kept = [uid(&mesh, READER).await?, uid(&mesh, DEFINITION).await?, uid(&mesh, istiod).await?];
        mesh.delete("second", &DeleteParams::default()).await?;
        assert_eq!(uid(&mesh, of_canary).await?, None);
        assert_eq!([uid(&mesh, READER).await?, uid(&mesh, DEFINITION).await?, uid(&mesh, istiod).await?], kept);
        mesh.wait_ready(NAME).await?;
        let old = shop(lab, "old", ("istio-injection", "enabled")).await?;
        assert_eq!(injected_by(&old).await?, "default");

        // And the other way round: what the first has for both is taken over by the second.
        let mut first = small();
        first["deletion"] = json!({"crds": "Delete"});
        mesh.apply(NAME, first).await?;
        mesh.apply("second", canary(&[])).await?;
        mesh.wait_ready("second").await?;
        let stays = uid(&mesh, of_canary).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        assert_eq!([uid(&mesh, READER).await?, uid(&mesh, DEFINITION).await?], kept[..2]);
        assert_eq!((uid(&mesh, istiod).await?, uid(&mesh, of_canary).await?), (None, stays));
        marked_as(&mesh, READER, "second").await?;
        marked_as(&mesh, DEFINITION, "second").await?;
        comes_back(&mesh, DEFINITION).await?;
        comes_back(&mesh, READER).await?;
        mesh.wait_ready("second").await?;
        let new = shop(lab, "new", ("istio.io/rev", CANARY)).await?;
        assert_eq!(injected_by(&new).await?, CANARY);
        Ok(())
    });
}

#[test]
fn a_tag_and_the_default_move_to_another_mesh_and_back_without_a_failed_injection() {
    run(LabOptions::default(), async |lab| {
        let mut first = small();
        first["tags"] = json!([{"name": "prod"}]);
        let mesh = both(lab, canary(&[])).await?;
        mesh.apply(NAME, first.clone()).await?;
        mesh.wait_ready(NAME).await?;
        let prod = shop(lab, "prod", ("istio.io/rev", "prod")).await?;
        let plain = shop(lab, "plain", ("istio-injection", "enabled")).await?;
        assert_eq!((injected_by(&prod).await?, injected_by(&plain).await?), ("default".into(), "default".into()));
        let customers = ["prod", "plain"].map(|namespace| ask_for_pods(lab, namespace));

        // A tag that another has is refused by its name, and what runs goes on.
        mesh.apply("second", canary(&["prod", "default"])).await?;
        stalled(&mesh, "second", "TagTaken", &["spec.tags[prod]: installation mesh has this tag"]).await?;

        mesh.apply(NAME, small()).await?;
        mesh.wait_ready("second").await?;
        wait_injected_by(&prod, CANARY).await?;
        wait_injected_by(&plain, CANARY).await?;
        mesh.wait_ready(NAME).await?;
        let validator = (ADMISSION, "ValidatingWebhookConfiguration", None, "istiod-default-validator");
        marked_as(&mesh, validator, "second").await?;

        mesh.apply(NAME, first).await?;
        mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("TagTaken")).await?;
        mesh.apply("second", canary(&[])).await?;
        wait_injected_by(&prod, "default").await?;
        wait_injected_by(&plain, "default").await?;
        mesh.wait_ready(NAME).await?;
        marked_as(&mesh, validator, NAME).await?;
        wait::until(wait::PATIENCE, "the default's tag to be gone", async || {
            let at = (ADMISSION, "MutatingWebhookConfiguration", None, "istio-revision-tag-default");
            match uid(&mesh, at).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(uid) => Err(uid),
            }
        })
        .await?;
        let [prod, plain] = customers;
        assert_eq!(all_were_injected(prod, "the tag prod there and back"), 0);
        assert_eq!(all_were_injected(plain, "the default there and back"), 0);
        Ok(())
    });
}

#[test]
fn the_default_moves_to_a_mesh_in_another_namespace_and_back_when_that_one_goes() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        rights_in(lab, "mesh-b").await?;
        let plain = shop(lab, "plain", ("istio-injection", "enabled")).await?;
        let customers = ask_for_pods(lab, "plain");
        let mut second = canary(&["default"]);
        second["namespace"] = "mesh-b".into();
        mesh.apply("second", second).await?;
        mesh.wait_ready("second").await?;
        wait_injected_by(&plain, CANARY).await?;
        mesh.wait_ready(NAME).await?;

        mesh.delete("second", &DeleteParams::default()).await?;
        wait_injected_by(&plain, "default").await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(all_were_injected(customers, "the default to another namespace and back"), 0);
        Ok(())
    });
}

/// The rights that the operator needs for a mesh in this namespace.
async fn rights_in(lab: &Lab, namespace: &str) -> TestResult {
    let catalog = std::env::var("MESHWRIGHT_CATALOG")?;
    let output = std::process::Command::new(meshwright_e2e::programs::operator())
        .args(["rbac", "--namespace", namespace, "--catalog", &catalog])
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("rbac.yaml"), output.stdout)?;
    lab.apply_dirs([folder.path()]).await?;
    Ok(())
}

#[test]
fn one_of_two_meshes_is_upgraded_and_the_definitions_are_those_of_the_newer() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let of = |version: &str, mut spec: Value| {
            spec["version"] = version.into();
            spec
        };
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, of(LAB_1_32, small())).await?;
        mesh.wait_ready(NAME).await?;
        mesh.apply("second", of(LAB_1_32, canary(&["default"]))).await?;
        mesh.wait_ready("second").await?;
        let plain = shop(lab, "plain", ("istio-injection", "enabled")).await?;
        wait_injected_by(&plain, CANARY).await?;
        mesh.wait_ready(NAME).await?;
        marked_as(&mesh, DEFINITION, NAME).await?;

        let customers = ask_for_pods(lab, "plain");
        mesh.apply("second", of(LAB_1_32_PATCH, canary(&["default"]))).await?;
        let running = |mesh: MeshInstallation| mesh.status.and_then(|status| status.version.running);
        assert_eq!(running(mesh.wait_ready("second").await?).as_deref(), Some(LAB_1_32_PATCH));
        // The istiod that ends drops what it has in hand, as in every rollout.
        all_were_injected(customers, "an upgrade of the default");
        marked_as(&mesh, DEFINITION, "second").await?;
        assert_eq!(running(mesh.wait_ready(NAME).await?).as_deref(), Some(LAB_1_32));
        comes_back(&mesh, DEFINITION).await?;
        marked_as(&mesh, DEFINITION, "second").await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn a_tag_that_is_taken_off_goes_and_what_still_asks_for_it_is_told() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let mut spec = small();
        spec["tags"] = json!([{"name": "prod"}]);
        mesh.apply(NAME, spec).await?;
        let ready = mesh.wait_ready(NAME).await?;
        let components = ready.status.unwrap_or_default().components;
        assert!(components.iter().any(|c| c.name == "tag.prod" && c.ready == 1), "{components:?}");
        let prod = shop(lab, "prod", ("istio.io/rev", "prod")).await?;
        assert_eq!(injected_by(&prod).await?, "default");
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        let at = (ADMISSION, "MutatingWebhookConfiguration", None, "istio-revision-tag-prod");
        assert_eq!(uid(&mesh, at).await?, None);
        let events = mesh.api("events.k8s.io/v1", "Event", None);
        wait::until(wait::PATIENCE, "the note about the tag", async || {
            let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let told = list.iter().find(|event| event.data["reason"] == "TagInUse");
            let note = told.map(|event| event.data["note"].to_string()).ok_or("there is none")?;
            if note.contains("namespace prod") { Ok(()) } else { Err(note) }
        })
        .await?;
        Ok(())
    });
}
