//! The manifest that `meshwright install` prints: enough by itself, replaced without the mesh noticing, and taken away.

use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, operator_writes, small};
use meshwright_e2e::programs::operator;
use meshwright_e2e::{Lab, LabOptions, TestResult, apply, objects, run, wait};

use crate::cli;

/// The label of everything that goes with the operator; the mesh's namespace and the definition don't have it.
const OURS: (&str, &str) = ("app.kubernetes.io/name", "meshwright");

/// The definition of MeshInstallations.
pub const DEFINITION: &str = "meshinstallations.meshwright.dev";

/// What `meshwright install` prints.
pub async fn printed(lab: &Lab, args: &[&str]) -> TestResult<String> {
    printed_by(&operator(), lab, args).await
}

/// What `meshwright install` of some program prints.
pub async fn printed_by(program: &Path, lab: &Lab, args: &[&str]) -> TestResult<String> {
    let ran = cli::ran(program, lab.kubeconfig(), &[&["install"], args].concat()).await?;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    Ok(ran.out)
}

/// Applies the manifest as it is, one document after the other, and waits until the operator is ready.
pub async fn install(lab: &Lab, args: &[&str]) -> TestResult<Deployment> {
    let manifest = apply::parse("meshwright install", &printed(lab, args).await?)?;
    for object in manifest {
        apply::apply_all(&lab.client(), vec![object]).await?;
    }
    Ok(objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?)
}

/// Deletes the operator's Deployment and waits until its Pods are gone.
pub async fn operator_is_gone(mesh: &Mesh) -> TestResult {
    let deployments = mesh.api("apps/v1", "Deployment", Some(OPERATOR_NAMESPACE));
    deployments.delete("meshwright", &DeleteParams::default()).await?;
    no_pods(mesh, OPERATOR_NAMESPACE).await
}

async fn no_pods(mesh: &Mesh, namespace: &str) -> TestResult {
    wait::until(wait::PATIENCE, format!("no Pods in {namespace}"), async || {
        let left = objects::pod_names(&mesh.client(), namespace, "").await.map_err(|error| error.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await?;
    Ok(())
}

#[test]
fn the_manifest_alone_leads_to_a_mesh_that_injects_and_a_newer_one_touches_nothing_of_it() {
    run(LabOptions::default().audited(), async |lab| {
        install(lab, &[]).await?;
        let mesh = Mesh::of(lab.client());
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        let pod = pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await?;
        assert!(objects::proxy(&pod).is_some(), "{:?}", pod.spec);

        let istiods = objects::pod_names(&lab.client(), "istio-system", "").await?;
        let before = lab.settled_audit().await?.mark();
        let old = mesh.leader().await?;
        let image = "registry.example.com/platform/meshwright:next";
        let deployment = install(lab, &["--image", image]).await?;
        let template = deployment.spec.and_then(|spec| spec.template.spec).unwrap_or_default();
        assert_eq!(template.containers.first().and_then(|container| container.image.as_deref()), Some(image));
        wait::until(wait::PATIENCE, "a new Pod to lead", async || {
            let now = mesh.leader().await.map_err(|error| error.to_string())?;
            if now == old { Err(now) } else { Ok(()) }
        })
        .await?;
        // By the time it heals something it has looked at everything.
        let (accounts, name) = (mesh.api("v1", "ServiceAccount", Some("istio-system")), "istio-reader-service-account");
        accounts.delete(name, &DeleteParams::default()).await?;
        wait::until(wait::PATIENCE, "an account to come back", async || {
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
fn a_mesh_that_lost_its_operator_is_let_go_or_removed_and_then_nothing_of_the_operator_stays() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        install(lab, &[]).await?;
        let mesh = Mesh::of(lab.client());
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        let istiods = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let istiod = istiods.get("istiod").await?.uid();

        // Without an operator nobody takes the finalizer off; taking it off lets the mesh go on running.
        operator_is_gone(&mesh).await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        let held = mesh.installations().get(NAME).await?;
        assert!(held.metadata.deletion_timestamp.is_some() && held.finalizers().len() == 1, "{:?}", held.metadata);
        let free = Patch::Merge(serde_json::json!({"metadata": {"finalizers": null}}));
        mesh.installations().patch(NAME, &PatchParams::default(), &free).await?;
        mesh.wait_gone(NAME).await?;
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);

        // An operator takes it up again; and, put back, ends a removal that was waiting, of the definition too.
        install(lab, &[]).await?;
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(istiods.get("istiod").await?.uid(), istiod);
        operator_is_gone(&mesh).await?;
        let definitions = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        definitions.delete(DEFINITION, &DeleteParams::default()).await?;
        install(lab, &[]).await?;
        mesh.wait_gone(NAME).await?;
        wait::until(wait::PATIENCE, "the definition to be gone", async || {
            match definitions.get_opt(DEFINITION).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(left) => Err(format!("{:?}", left.data["status"])),
            }
        })
        .await?;
        assert!(istiods.get_opt("istiod").await?.is_none());

        // A definition that was away makes the operator no worse.
        install(lab, &[]).await?;
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;

        // What kubectl delete -f with the label takes, and what it leaves.
        let manifest = apply::parse("meshwright install", &printed(lab, &[]).await?)?;
        let (ours, others): (Vec<_>, Vec<_>) =
            manifest.into_iter().partition(|object| object.labels().get(OURS.0).is_some_and(|name| name == OURS.1));
        for object in ours.iter().rev() {
            api(&mesh, object).delete(&object.name_any(), &DeleteParams::default()).await?;
        }
        for object in &ours {
            wait::until(wait::PATIENCE, format!("{} to be gone", object.name_any()), async || {
                match api(&mesh, object).get_opt(&object.name_any()).await.map_err(|error| error.to_string())? {
                    None => Ok(()),
                    Some(left) => Err(format!("{:?}", left.metadata)),
                }
            })
            .await?;
        }
        let kept: Vec<String> = others.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(kept, [DEFINITION, "istio-system"]);
        Ok(())
    });
}

/// The API of an object's kind.
pub fn api(mesh: &Mesh, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.clone().unwrap_or_default();
    mesh.api(&types.api_version, &types.kind, object.namespace().as_deref())
}
