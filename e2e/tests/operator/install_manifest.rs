//! The manifest that `meshwright install` prints: installation, update and removal.

use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec, operator_writes};
use meshwright_e2e::programs::operator;
use meshwright_e2e::{Lab, LabOptions, TestResult, apply, objects, run, wait};

use crate::cli;

/// Label of the operator's objects; the mesh's namespace and the CRD don't have it.
const OPERATOR_LABEL: (&str, &str) = ("app.kubernetes.io/name", "meshwright");

/// Name of the MeshInstallation CRD.
pub const CRD: &str = "meshinstallations.meshwright.dev";

/// Output of `meshwright install`.
pub async fn manifest(lab: &Lab, args: &[&str]) -> TestResult<String> {
    manifest_of(&operator(), lab, args).await
}

/// Output of `meshwright install` of this program.
pub async fn manifest_of(program: &Path, lab: &Lab, args: &[&str]) -> TestResult<String> {
    let output = cli::run_program(program, lab.kubeconfig(), &[&["install"], args].concat()).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    Ok(output.stdout)
}

/// Applies the manifest in document order and waits until the operator is ready.
pub async fn install(lab: &Lab, args: &[&str]) -> TestResult<Deployment> {
    let objects = apply::parse("meshwright install", &manifest(lab, args).await?)?;
    for object in objects {
        apply::apply_all(&lab.client(), vec![object]).await?;
    }
    Ok(objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?)
}

/// Deletes the operator's Deployment and waits until its Pods are deleted.
pub async fn delete_operator(mesh: &Mesh) -> TestResult {
    let deployments = mesh.api("apps/v1", "Deployment", Some(OPERATOR_NAMESPACE));
    deployments.delete("meshwright", &DeleteParams::default()).await?;
    wait_no_pods(mesh, OPERATOR_NAMESPACE).await
}

async fn wait_no_pods(mesh: &Mesh, namespace: &str) -> TestResult {
    wait::until(wait::TIMEOUT, format!("no Pods in {namespace}"), async || {
        let left = objects::pod_names(&mesh.client(), namespace, "").await.map_err(|error| error.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await?;
    Ok(())
}

#[test]
fn operator_update_does_not_change_mesh() {
    run(LabOptions::default().audited(), async |lab| {
        install(lab, &[]).await?;
        let mesh = Mesh::connect(lab.client());
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        let pod = pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await?;
        assert!(objects::proxy(&pod).is_some(), "{:?}", pod.spec);

        let istiods = objects::pod_names(&lab.client(), "istio-system", "").await?;
        let before = lab.settled_audit().await?.position();
        let old = mesh.leader().await?;
        let image = "registry.example.com/platform/meshwright:next";
        let deployment = install(lab, &["--image", image]).await?;
        let template = deployment.spec.and_then(|spec| spec.template.spec).unwrap_or_default();
        assert_eq!(template.containers.first().and_then(|container| container.image.as_deref()), Some(image));
        wait::until(wait::TIMEOUT, "a new leader", async || {
            let now = mesh.leader().await.map_err(|error| error.to_string())?;
            if now == old { Err(now) } else { Ok(()) }
        })
        .await?;
        // When this drift is reverted, the new leader has compared all objects.
        let (accounts, name) = (mesh.api("v1", "ServiceAccount", Some("istio-system")), "istio-reader-service-account");
        accounts.delete(name, &DeleteParams::default()).await?;
        wait::until(wait::TIMEOUT, "the ServiceAccount to be recreated", async || {
            accounts.get(name).await.map_err(|error| error.to_string())
        })
        .await?;
        mesh.wait_ready(NAME).await?;
        let mut writes = operator_writes(&lab.settled_audit().await?, before);
        writes.retain(|write| !write.contains("meshinstallations/status"));
        assert!(writes.len() == 1 && writes[0].contains(name), "{writes:#?}");
        assert_eq!(objects::pod_names(&lab.client(), "istio-system", "").await?, istiods, "no Pod was replaced");
        Ok(())
    });
}

#[test]
fn mesh_survives_or_is_uninstalled_without_operator() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        install(lab, &[]).await?;
        let mesh = Mesh::connect(lab.client());
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        let istiods = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let istiod = istiods.get("istiod").await?.uid();

        // Without an operator, removing the finalizer by hand deletes the resource and keeps the mesh.
        delete_operator(&mesh).await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        let deleting = mesh.installations().get(NAME).await?;
        let metadata = &deleting.metadata;
        assert!(metadata.deletion_timestamp.is_some() && deleting.finalizers().len() == 1, "{metadata:?}");
        let remove_finalizers = Patch::Merge(serde_json::json!({"metadata": {"finalizers": null}}));
        mesh.installations().patch(NAME, &PatchParams::default(), &remove_finalizers).await?;
        mesh.wait_gone(NAME).await?;
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);

        // A new operator takes over the mesh; a reinstalled one completes a pending deletion, including that of the
        // CRD.
        install(lab, &[]).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);
        delete_operator(&mesh).await?;
        let crds = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        crds.delete(CRD, &DeleteParams::default()).await?;
        install(lab, &[]).await?;
        mesh.wait_gone(NAME).await?;
        wait::until(wait::TIMEOUT, "deletion of the CRD", async || {
            match crds.get_opt(CRD).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(left) => Err(format!("{:?}", left.data["status"])),
            }
        })
        .await?;
        assert!(istiods.get_opt("istiod").await?.is_none());

        // The operator works after the CRD was recreated.
        install(lab, &[]).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;

        // `kubectl delete -f` with the label selector deletes the operator's objects and keeps the others.
        let objects = apply::parse("meshwright install", &manifest(lab, &[]).await?)?;
        let (operator, others): (Vec<_>, Vec<_>) = objects
            .into_iter()
            .partition(|object| object.labels().get(OPERATOR_LABEL.0).is_some_and(|name| name == OPERATOR_LABEL.1));
        for object in operator.iter().rev() {
            api(&mesh, object).delete(&object.name_any(), &DeleteParams::default()).await?;
        }
        for object in &operator {
            wait::until(wait::TIMEOUT, format!("deletion of {}", object.name_any()), async || {
                match api(&mesh, object).get_opt(&object.name_any()).await.map_err(|error| error.to_string())? {
                    None => Ok(()),
                    Some(left) => Err(format!("{:?}", left.metadata)),
                }
            })
            .await?;
        }
        let remaining: Vec<String> = others.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(remaining, [CRD, "istio-system"]);
        Ok(())
    });
}

/// Client for an object's kind and namespace.
pub fn api(mesh: &Mesh, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.clone().unwrap_or_default();
    mesh.api(&types.api_version, &types.kind, object.namespace().as_deref())
}
