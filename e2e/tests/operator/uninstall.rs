//! Ways out, and back in.

use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, PostParams, PropagationPolicy};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{Mesh, NAME, small};
use meshwright_e2e::{LabOptions, TestResult, objects, run, wait};
use serde_json::json;

/// Objects with our mark that are left, over the kinds that matter.
pub async fn marked(mesh: &Mesh) -> TestResult<Vec<String>> {
    let mut found = Vec::new();
    for (api_version, kind) in [
        ("v1", "Namespace"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("v1", "ServiceAccount"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        ("v1", "ConfigMap"),
        ("v1", "Service"),
        ("apps/v1", "Deployment"),
        ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ] {
        let list = mesh
            .api(api_version, kind, None)
            .list(&ListParams::default().labels("meshwright.dev/installation"))
            .await?;
        found.extend(list.iter().map(|object| format!("{kind} {}", object.name_any())));
    }
    Ok(found)
}

#[test]
fn a_deleted_installation_goes_in_foreground_too_and_can_be_made_again() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        let definitions = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        let before = definitions.get("gateways.networking.istio.io").await?.uid();

        let foreground =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
        mesh.delete(NAME, &foreground).await?;
        assert_eq!(marked(&mesh).await?, Vec::<String>::new());
        assert!(mesh.api("apps/v1", "Deployment", Some("istio-system")).get_opt("istiod").await?.is_none());
        assert!(
            mesh.api("v1", "Secret", Some("istio-system")).get_opt("istio-ca-secret").await?.is_some(),
            "the CA stays"
        );
        assert!(mesh.api("v1", "Namespace", None).get_opt("istio-system").await?.is_some(), "namespaces stay");

        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(
            definitions.get("gateways.networking.istio.io").await?.uid(),
            before,
            "shared CRDs are taken up again"
        );
        Ok(())
    });
}

#[test]
fn definitions_go_where_that_is_asked_for() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let mut spec = small();
        spec["deletion"] = json!({"crds": "Delete"});
        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        let definitions = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        wait::until(wait::PATIENCE, "Istio's CRDs to be gone", async || {
            let list = definitions.list_metadata(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let left: Vec<String> =
                list.iter().map(kube::ResourceExt::name_any).filter(|name| name.ends_with(".istio.io")).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await?;
        Ok(())
    });
}

#[test]
fn an_orphaned_mesh_goes_on_running_without_our_marks() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let mut spec = small();
        spec["deletion"] = json!({"policy": "Orphan"});
        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = deployments.get("istiod").await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        assert_eq!(marked(&mesh).await?, Vec::<String>::new());
        let after = deployments.get("istiod").await?;
        assert_eq!((after.uid(), &after.data["spec"]), (before.uid(), &before.data["spec"]));

        // What was let go is somebody else's now.
        mesh.apply(NAME, small()).await?;
        mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("ForeignObject")).await?;
        Ok(())
    });
}

#[test]
fn a_mesh_in_use_is_held_until_its_last_proxy_is_gone() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods = kube::api::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await?;

        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        wait::until(wait::PATIENCE, "InUse to be shown", async || {
            let status = mesh.installations().get(NAME).await.map_err(|e| e.to_string())?.status.unwrap_or_default();
            let shown = meshwright_api::conditions::is_true(&status.conditions, ConditionType::InUse);
            if shown { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
        })
        .await?;
        mesh.deployment_ready("istio-system", "istiod").await?;
        pods.delete("cart", &DeleteParams::default().grace_period(0)).await?;
        mesh.wait_gone(NAME).await?;
        Ok(())
    });
}

#[test]
fn an_installation_restored_with_another_uid_takes_its_objects_up_again() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = deployments.get("istiod").await?;
        // As when a cluster's backup is restored: the resource goes without its finalizer, and comes back as another.
        let deployment = mesh.api("apps/v1", "Deployment", Some("meshwright-system"));
        let scale = |n: i32| kube::api::Patch::Merge(json!({"spec": {"replicas": n}}));
        deployment.patch("meshwright", &Default::default(), &scale(0)).await?;
        wait::until(wait::PATIENCE, "the operator to be gone", async || {
            let left = objects::pod_names(&lab.client(), "meshwright-system", "").await.map_err(|e| e.to_string())?;
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await?;
        let free = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
        mesh.installations().patch(NAME, &Default::default(), &free).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        mesh.apply(NAME, small()).await?;
        deployment.patch("meshwright", &Default::default(), &scale(2)).await?;
        let restored = mesh.wait_ready(NAME).await?;

        let after = deployments.get("istiod").await?;
        assert_eq!(after.uid(), before.uid(), "it is the same Deployment");
        assert_eq!(after.annotations().get("meshwright.dev/installation-uid"), restored.uid().as_ref());
        assert_eq!(after.data["spec"]["template"], before.data["spec"]["template"], "and no pod was restarted");
        Ok(())
    });
}
