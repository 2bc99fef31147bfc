//! An operator with namespaced permissions and externally managed cluster-scoped resources.

use std::path::Path;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_e2e::inventory::Inventory;
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, OPERATOR, describe};
use meshwright_e2e::{Lab, LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

use crate::cli::{file, meshwright};
use crate::install_manifest::install;

const INJECTOR: &str = "istio-sidecar-injector";
const MISSING: &str = "ClusterScopedResourcesMissing";

fn spec(version: &str) -> Value {
    let gateway = json!({"name": "edge", "service": {"type": "ClusterIP"}});
    json!({"version": version, "profile": "demo", "gateways": [gateway], "upgrade": {"progressDeadline": "90s"}})
}

/// Installs an operator with the permissions of the overlay.
async fn operator(lab: &Lab) -> TestResult<Mesh> {
    install(lab, &["--cluster-scoped-resources", "external"]).await?;
    Ok(Mesh::connect(lab.client()))
}

/// Applies all cluster-scoped resources as cluster-admin.
async fn apply_all(lab: &Lab, version: &str) -> TestResult {
    apply(lab, version, &["--scope", "crds"]).await?;
    apply(lab, version, &["--scope", "cluster-scoped"]).await
}

async fn apply(lab: &Lab, version: &str, args: &[&str]) -> TestResult {
    let (_dir, path) = file(NAME, &spec(version), &json!({}))?;
    let args = [&["render", "-f", &path], args].concat();
    let output = meshwright(Path::new("/nowhere/kubeconfig"), &args).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    lab.apply_yaml("meshwright render", &output.stdout).await?;
    Ok(())
}

fn message(installation: &MeshInstallation) -> String {
    let conditions = installation.status.clone().unwrap_or_default().conditions;
    get(&conditions, ConditionType::Ready).map(|ready| ready.message.clone()).unwrap_or_default()
}

/// Waits until the Ready condition reports missing resources with a message that contains `words`.
async fn wait_missing(mesh: &Mesh, words: &str) -> TestResult<MeshInstallation> {
    let found = wait::until(wait::TIMEOUT, format!("{MISSING} with {words:?}"), async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let conditions = found.status.clone().unwrap_or_default().conditions;
        let matches = get(&conditions, ConditionType::Ready)
            .is_some_and(|ready| ready.status == "False" && ready.reason == MISSING && ready.message.contains(words));
        if matches { Ok(found) } else { Err(describe(&found)) }
    });
    Ok(found.await?)
}

/// Checks that the operator never tried to write cluster-scoped resources and had no request denied.
async fn assert_wrote_only_namespaced(lab: &Lab) -> TestResult {
    let audit = lab.settled_audit().await?;
    let own = |resource: &str| resource == "meshinstallations" || resource == "meshinstallations/status";
    let violations: Vec<String> = audit
        .by(OPERATOR)
        .filter(|entry| entry.code == 403 || (entry.is_write() && entry.namespace.is_empty() && !own(&entry.resource)))
        .map(|entry| format!("{} {} {}", entry.verb, entry.uri, entry.code))
        .collect();
    assert_eq!(violations, Vec::<String>::new());
    assert!(
        audit.writes(OPERATOR).any(|entry| entry.resource == "deployments"),
        "the operator should write Deployments"
    );
    Ok(())
}

#[test]
fn never_writes_external_cluster_scoped_resources() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = operator(lab).await?;
        let mut tagged = spec(LAB_1_31);
        tagged["tags"] = json!([{"name": "prod"}]);
        mesh.apply(NAME, tagged).await?;
        let rejected = mesh.wait_for(NAME, ConditionType::Ready, "False", Some("InvalidSpec")).await?;
        assert!(message(&rejected).starts_with("spec.tags: "), "{}", describe(&rejected));

        mesh.apply(NAME, spec(LAB_1_31)).await?;
        let waiting = wait_missing(&mesh, "is missing").await?;
        for scope in ["crds", "cluster-scoped"] {
            let command = format!("meshwright render -f mesh.yaml --scope {scope} --kubernetes v");
            assert!(message(&waiting).contains(&command), "{}", message(&waiting));
        }
        assert!(is_true(&waiting.status.clone().unwrap_or_default().conditions, ConditionType::Stalled));
        assert!(waiting.finalizers().is_empty());
        assert_eq!(Inventory::read(&mesh.client(), NAME).await?.keys().next(), None, "nothing should be written yet");

        apply_all(lab, LAB_1_31).await?;
        mesh.wait_ready(NAME).await?;

        // Drift of external resources is reported but not reverted.
        let injectors = mesh.api("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None);
        let policy = json!([{"op": "replace", "path": "/webhooks/0/reinvocationPolicy", "value": "IfNeeded"}]);
        let policy = Patch::Json::<()>(serde_json::from_value(policy)?);
        injectors.patch(INJECTOR, &PatchParams::default(), &policy).await?;
        let changed = wait_missing(&mesh, "reinvocationPolicy").await?;
        assert!(!message(&changed).contains("--scope crds"), "{}", message(&changed));
        assert!(is_true(&changed.status.unwrap_or_default().conditions, ConditionType::Available));
        // Drift of namespaced resources is still reverted.
        let accounts = mesh.api("v1", "ServiceAccount", Some("istio-system"));
        accounts.delete("istio-reader-service-account", &DeleteParams::default()).await?;
        wait::until(wait::TIMEOUT, "the ServiceAccount to be recreated", async || {
            accounts.get("istio-reader-service-account").await.map_err(|error| error.to_string())
        })
        .await?;
        apply(lab, LAB_1_31, &["--scope", "cluster-scoped"]).await?;
        mesh.wait_ready(NAME).await?;

        // istiod is removed only after its webhook configurations.
        mesh.wait_fail_closed().await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        let waiting = wait::until(wait::TIMEOUT, "the uninstallation to wait for webhook configurations", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let wanted = format!("kubectl delete mutatingwebhookconfigurations {INJECTOR}");
            if message(&found).contains(&wanted) { Ok(found) } else { Err(describe(&found)) }
        })
        .await?;
        let istiods = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        assert!(istiods.get_opt("istiod").await?.is_some());
        let commands = message(&waiting);
        let validators = mesh.api("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", None);
        for validator in validators.list(&Default::default()).await?.iter().map(kube::ResourceExt::name_any) {
            assert!(commands.contains(&format!("kubectl delete validatingwebhookconfigurations {validator}")));
            validators.delete(&validator, &DeleteParams::default()).await?;
        }
        injectors.delete(INJECTOR, &DeleteParams::default()).await?;
        mesh.wait_gone(NAME).await?;
        assert!(istiods.get_opt("istiod").await?.is_none());
        assert_eq!(Inventory::read(&mesh.client(), NAME).await?.keys().next(), None);
        let roles = mesh.api("rbac.authorization.k8s.io/v1", "ClusterRole", None);
        assert!(
            roles.get_opt("istiod-clusterrole-istio-system").await?.is_some(),
            "cluster-scoped resources are removed externally"
        );
        assert_wrote_only_namespaced(lab).await
    });
}

#[test]
fn upgrade_waits_for_external_cluster_roles() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = operator(lab).await?;
        apply_all(lab, LAB_1_31).await?;
        mesh.apply(NAME, spec(LAB_1_31)).await?;
        mesh.wait_ready(NAME).await?;
        let istiods = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = istiods.get("istiod").await?.metadata.generation;

        mesh.apply(NAME, spec(LAB_1_32)).await?;
        let rejected = wait_missing(&mesh, &format!("--with-roles-of {LAB_1_31}")).await?;
        let status = rejected.status.clone().unwrap_or_default();
        assert!(is_true(&status.conditions, ConditionType::Stalled), "{}", describe(&rejected));
        assert!(is_true(&status.conditions, ConditionType::Available), "{}", describe(&rejected));
        // The new release's ClusterRoles lack permissions of the running one.
        apply_all(lab, LAB_1_32).await?;
        wait_missing(&mesh, &format!("daemonsets.apps (for the active release {LAB_1_31})")).await?;
        assert_eq!(istiods.get("istiod").await?.metadata.generation, before, "the upgrade should not start");

        apply(lab, LAB_1_32, &["--scope", "cluster-scoped", "--with-roles-of", LAB_1_31]).await?;
        let ready = mesh.wait_ready(NAME).await?;
        let running = ready.status.unwrap_or_default().version.running;
        assert_eq!(running.as_deref(), Some(LAB_1_32));
        assert_wrote_only_namespaced(lab).await
    });
}
