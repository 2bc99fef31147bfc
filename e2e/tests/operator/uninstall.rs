//! Uninstallation and reinstallation.

use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, PostParams, PropagationPolicy};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{Mesh, NAME, demo_spec};
use meshwright_e2e::{LabOptions, TestResult, objects, run, wait};
use serde_json::json;

/// Existing objects with the installation label, over the relevant kinds.
pub async fn owned_objects(mesh: &Mesh) -> TestResult<Vec<String>> {
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
fn foreground_deletion_uninstalls_and_allows_reinstallation() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let crds = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        let before = crds.get("gateways.networking.istio.io").await?.uid();

        let foreground =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
        mesh.delete(NAME, &foreground).await?;
        assert_eq!(owned_objects(&mesh).await?, Vec::<String>::new());
        assert!(mesh.api("apps/v1", "Deployment", Some("istio-system")).get_opt("istiod").await?.is_none());
        assert!(
            mesh.api("v1", "Secret", Some("istio-system")).get_opt("istio-ca-secret").await?.is_some(),
            "the CA Secret should remain"
        );
        assert!(mesh.api("v1", "Namespace", None).get_opt("istio-system").await?.is_some(), "namespaces should remain");

        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(crds.get("gateways.networking.istio.io").await?.uid(), before, "the CRDs should be reused");
        Ok(())
    });
}

#[test]
fn deletes_crds_on_request() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let mut spec = demo_spec();
        spec["deletion"] = json!({"crds": "Delete"});
        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        let crds = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        wait::until(wait::TIMEOUT, "deletion of Istio's CRDs", async || {
            let list = crds.list_metadata(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let left: Vec<String> =
                list.iter().map(kube::ResourceExt::name_any).filter(|name| name.ends_with(".istio.io")).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await?;
        Ok(())
    });
}

#[test]
fn orphaned_mesh_keeps_running_without_ownership_metadata() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let mut spec = demo_spec();
        spec["deletion"] = json!({"policy": "Orphan"});
        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = deployments.get("istiod").await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        assert_eq!(owned_objects(&mesh).await?, Vec::<String>::new());
        let after = deployments.get("istiod").await?;
        assert_eq!((after.uid(), &after.data["spec"]), (before.uid(), &before.data["spec"]));

        // Orphaned objects are unmanaged.
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("UnmanagedResource")).await?;
        Ok(())
    });
}

#[test]
fn uninstall_waits_for_last_proxy() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods = kube::api::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await?;

        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        wait::until(wait::TIMEOUT, "the InUse condition", async || {
            let status = mesh.installations().get(NAME).await.map_err(|e| e.to_string())?.status.unwrap_or_default();
            let in_use = meshwright_api::conditions::is_true(&status.conditions, ConditionType::InUse);
            if in_use { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
        })
        .await?;
        mesh.deployment_ready("istio-system", "istiod").await?;

        // While it waits, the mesh is kept: an object that another client deletes is neither the start of the uninstall
        // nor gone for good.
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = deployments.get("istiod").await?;
        deployments.delete("istiod", &DeleteParams::foreground()).await?;
        wait::until(wait::TIMEOUT, "istiod to be recreated", async || {
            let found = deployments.get_opt("istiod").await.map_err(|e| e.to_string())?;
            let is_new = found.as_ref().is_some_and(|found| found.uid() != before.uid());
            if is_new { Ok(()) } else { Err(format!("{:?}", found.map(|found| found.metadata))) }
        })
        .await?;
        mesh.deployment_ready("istio-system", "istiod").await?;
        let status =
            mesh.wait_for(NAME, ConditionType::Available, "True", Some("Serving")).await?.status.unwrap_or_default();
        assert!(meshwright_api::conditions::is_true(&status.conditions, ConditionType::InUse), "{status:?}");
        let webhooks = mesh.api("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None);
        assert!(
            webhooks
                .get_opt("istio-sidecar-injector")
                .await?
                .is_some_and(|webhook| webhook.metadata.deletion_timestamp.is_none())
        );
        let validator = mesh.api("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", None);
        assert!(validator.get_opt("istiod-default-validator").await?.is_some(), "the tag default is kept");
        pods.delete("cart", &DeleteParams::default().grace_period(0)).await?;
        mesh.wait_gone(NAME).await?;
        Ok(())
    });
}

#[test]
fn restored_installation_takes_over_objects() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = deployments.get("istiod").await?;
        // Simulates a restored backup: the resource is deleted without its finalizer and recreated with another UID.
        mesh.scale_operator(0).await?;
        let remove_finalizers = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
        mesh.installations().patch(NAME, &Default::default(), &remove_finalizers).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.scale_operator(2).await?;
        let restored = mesh.wait_ready(NAME).await?;

        let after = deployments.get("istiod").await?;
        assert_eq!(after.uid(), before.uid(), "the Deployment should not be recreated");
        assert_eq!(after.annotations().get("meshwright.dev/installation-uid"), restored.uid().as_ref());
        assert_eq!(after.data["spec"]["template"], before.data["spec"]["template"], "no pod should be restarted");
        Ok(())
    });
}
