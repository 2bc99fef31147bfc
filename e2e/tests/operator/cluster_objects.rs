//! An operator with rights in namespaces alone, beside objects in no namespace that somebody else applies.

use std::path::Path;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_e2e::inventory::Inventory;
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, OPERATOR, picture};
use meshwright_e2e::{Lab, LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

use crate::cli::{file, meshwright};
use crate::install_manifest::install;

const INJECTOR: &str = "istio-sidecar-injector";
const MISSING: &str = "ClusterObjectsMissing";

fn spec(version: &str) -> Value {
    let gateway = json!({"name": "edge", "service": {"type": "ClusterIP"}});
    json!({"version": version, "profile": "demo", "gateways": [gateway], "upgrade": {"progressDeadline": "90s"}})
}

/// Installs an operator with the rights of the overlay.
async fn operator(lab: &Lab) -> TestResult<Mesh> {
    install(lab, &["--cluster-objects", "preinstalled"]).await?;
    Ok(Mesh::of(lab.client()))
}

/// Applies all that is in no namespace, as somebody with the rights does it.
async fn apply_all(lab: &Lab, version: &str) -> TestResult {
    apply(lab, version, &["--scope", "definitions"]).await?;
    apply(lab, version, &["--scope", "cluster"]).await
}

async fn apply(lab: &Lab, version: &str, args: &[&str]) -> TestResult {
    let (_dir, path) = file(NAME, &spec(version), &json!({}))?;
    let args = [&["render", "-f", &path], args].concat();
    let ran = meshwright(Path::new("/nowhere/kubeconfig"), &args).await?;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    lab.apply_yaml("meshwright render", &ran.out).await?;
    Ok(())
}

fn message(installation: &MeshInstallation) -> String {
    let conditions = installation.status.clone().unwrap_or_default().conditions;
    get(&conditions, ConditionType::Ready).map(|ready| ready.message.clone()).unwrap_or_default()
}

/// Waits until Ready says what is wrong, with these words.
async fn told(mesh: &Mesh, words: &str) -> TestResult<MeshInstallation> {
    let found = wait::until(wait::PATIENCE, format!("{MISSING} with {words:?}"), async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let conditions = found.status.clone().unwrap_or_default().conditions;
        let is_it = get(&conditions, ConditionType::Ready)
            .is_some_and(|ready| ready.status == "False" && ready.reason == MISSING && ready.message.contains(words));
        if is_it { Ok(found) } else { Err(picture(&found)) }
    });
    Ok(found.await?)
}

/// Checks that the operator never tried to write what is in no namespace, nor to do anything that it may not.
async fn kept_to_its_namespaces(lab: &Lab) -> TestResult {
    let audit = lab.settled_audit().await?;
    let own = |resource: &str| resource == "meshinstallations" || resource == "meshinstallations/status";
    let astray: Vec<String> = audit
        .by(OPERATOR)
        .filter(|entry| entry.code == 403 || (entry.is_write() && entry.namespace.is_empty() && !own(&entry.resource)))
        .map(|entry| format!("{} {} {}", entry.verb, entry.uri, entry.code))
        .collect();
    assert_eq!(astray, Vec::<String>::new());
    assert!(audit.writes(OPERATOR).any(|entry| entry.resource == "deployments"), "it did write");
    Ok(())
}

#[test]
fn cluster_objects_that_others_apply_are_waited_for_watched_and_left_and_never_written() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = operator(lab).await?;
        let mut tagged = spec(LAB_1_31);
        tagged["tags"] = json!([{"name": "prod"}]);
        mesh.apply(NAME, tagged).await?;
        let refused = mesh.wait_for(NAME, ConditionType::Ready, "False", Some("InvalidSpec")).await?;
        assert!(message(&refused).starts_with("spec.tags: "), "{}", picture(&refused));

        mesh.apply(NAME, spec(LAB_1_31)).await?;
        let waits = told(&mesh, "is missing").await?;
        for scope in ["definitions", "cluster"] {
            let command = format!("meshwright render -f mesh.yaml --scope {scope} --kubernetes v");
            assert!(message(&waits).contains(&command), "{}", message(&waits));
        }
        assert!(is_true(&waits.status.clone().unwrap_or_default().conditions, ConditionType::Stalled));
        assert!(waits.finalizers().is_empty());
        assert_eq!(Inventory::of(&mesh.client(), NAME).await?.keys().next(), None, "nothing is written before");

        apply_all(lab, LAB_1_31).await?;
        mesh.wait_ready(NAME).await?;

        // Told and not healed, and in order again by itself.
        let injectors = mesh.api("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None);
        let policy = json!([{"op": "replace", "path": "/webhooks/0/reinvocationPolicy", "value": "IfNeeded"}]);
        let policy = Patch::Json::<()>(serde_json::from_value(policy)?);
        injectors.patch(INJECTOR, &PatchParams::default(), &policy).await?;
        let changed = told(&mesh, "reinvocationPolicy").await?;
        assert!(!message(&changed).contains("definitions"), "{}", message(&changed));
        assert!(is_true(&changed.status.unwrap_or_default().conditions, ConditionType::Available));
        // What is the operator's is healed meanwhile.
        let accounts = mesh.api("v1", "ServiceAccount", Some("istio-system"));
        accounts.delete("istio-reader-service-account", &DeleteParams::default()).await?;
        wait::until(wait::PATIENCE, "an account to come back", async || {
            accounts.get("istio-reader-service-account").await.map_err(|error| error.to_string())
        })
        .await?;
        apply(lab, LAB_1_31, &["--scope", "cluster"]).await?;
        mesh.wait_ready(NAME).await?;

        // istiod goes when nobody asks it any more.
        mesh.wait_strict().await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        let waits = wait::until(wait::PATIENCE, "the removal to wait for webhooks", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let wanted = format!("kubectl delete mutatingwebhookconfigurations {INJECTOR}");
            if message(&found).contains(&wanted) { Ok(found) } else { Err(picture(&found)) }
        })
        .await?;
        let istiods = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        assert!(istiods.get_opt("istiod").await?.is_some());
        let commands = message(&waits);
        let validators = mesh.api("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", None);
        for validator in validators.list(&Default::default()).await?.iter().map(kube::ResourceExt::name_any) {
            assert!(commands.contains(&format!("kubectl delete validatingwebhookconfigurations {validator}")));
            validators.delete(&validator, &DeleteParams::default()).await?;
        }
        injectors.delete(INJECTOR, &DeleteParams::default()).await?;
        mesh.wait_gone(NAME).await?;
        assert!(istiods.get_opt("istiod").await?.is_none());
        assert_eq!(Inventory::of(&mesh.client(), NAME).await?.keys().next(), None);
        let roles = mesh.api("rbac.authorization.k8s.io/v1", "ClusterRole", None);
        assert!(roles.get_opt("istiod-clusterrole-istio-system").await?.is_some(), "others' to remove");
        kept_to_its_namespaces(lab).await
    });
}

#[test]
fn an_upgrade_is_begun_when_what_others_apply_is_right_for_both_releases() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = operator(lab).await?;
        apply_all(lab, LAB_1_31).await?;
        mesh.apply(NAME, spec(LAB_1_31)).await?;
        mesh.wait_ready(NAME).await?;
        let istiods = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = istiods.get("istiod").await?.metadata.generation;

        mesh.apply(NAME, spec(LAB_1_32)).await?;
        let refused = told(&mesh, &format!("--with-roles-of {LAB_1_31}")).await?;
        let status = refused.status.clone().unwrap_or_default();
        assert!(is_true(&status.conditions, ConditionType::Stalled), "{}", picture(&refused));
        assert!(is_true(&status.conditions, ConditionType::Available), "{}", picture(&refused));
        // The new release's alone take from the running one what it needs.
        apply_all(lab, LAB_1_32).await?;
        told(&mesh, &format!("daemonsets.apps (for {LAB_1_31}, which runs)")).await?;
        assert_eq!(istiods.get("istiod").await?.metadata.generation, before, "nothing is begun");

        apply(lab, LAB_1_32, &["--scope", "cluster", "--with-roles-of", LAB_1_31]).await?;
        let ready = mesh.wait_ready(NAME).await?;
        let running = ready.status.unwrap_or_default().version.running;
        assert_eq!(running.as_deref(), Some(LAB_1_32));
        kept_to_its_namespaces(lab).await
    });
}
