//! What belongs to a mesh is in the inventory of its revision history: copied labels, lost records and removed labels
//! change nothing.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, describe};
use meshwright_e2e::{LabOptions, objects, run, wait};
use serde_json::json;

use crate::uninstall::owned_objects;

const INSTALLATION_LABEL: &str = "meshwright.dev/installation";
const INVENTORY_ANNOTATION: &str = "meshwright.dev/inventory";
/// A ServiceAccount that the lab can do without for a moment.
const READER: &str = "istio-reader-service-account";

fn revisions(mesh: &Mesh) -> Api<DynamicObject> {
    mesh.api("apps/v1", "ControllerRevision", Some(OPERATOR_NAMESPACE))
}

#[test]
fn copied_ownership_metadata_changes_nothing() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let original = mesh.api("v1", "ConfigMap", Some("istio-system")).get("istio").await?;
        let (labels, annotations) = (original.labels().clone(), original.annotations().clone());
        // As the operator itself would write it.
        let copy = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": original.data["data"],
            "metadata": {"name": "istio", "labels": labels, "annotations": annotations}});
        let maps = mesh.api("v1", "ConfigMap", Some("shop"));
        let written = maps.patch("istio", &PatchParams::apply("meshwright"), &Patch::Apply(&copy)).await?;
        wait::until(wait::TIMEOUT, "the warning about the copy", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let warnings = found.status.clone().unwrap_or_default().platform.warnings;
            if warnings.iter().any(|warning| warning.contains("ConfigMap shop/istio")) {
                Ok(())
            } else {
                Err(format!("{warnings:?}, {}", describe(&found)))
            }
        })
        .await?;
        mesh.wait_ready(NAME).await?;

        // Its workloads count as users of the mesh, whatever their labels.
        let mut cart = objects::deployment("cart", 1);
        cart.metadata.labels = Some(labels);
        cart.metadata.annotations = Some(annotations);
        let deployments: Api<Deployment> = Api::namespaced(lab.client(), "shop");
        deployments.create(&PostParams::default(), &cart).await?;
        objects::deployment_ready(&lab.client(), "shop", "cart").await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        mesh.wait_for(NAME, ConditionType::InUse, "True", None).await?;
        deployments.delete("cart", &DeleteParams::foreground()).await?;
        wait::until(wait::TIMEOUT, "deletion of the Deployment", async || {
            let left = deployments.get_opt("cart").await.map_err(|error| error.to_string())?;
            left.map_or(Ok(()), |left| Err(format!("{:?}", left.status)))
        })
        .await?;
        mesh.wait_gone(NAME).await?;
        assert_eq!(owned_objects(&mesh).await?, ["ConfigMap istio"]);
        assert_eq!(maps.get("istio").await?.metadata, written.metadata);
        Ok(())
    });
}

#[test]
fn lost_revision_history_is_recorded_again() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        // istiod changes its validating webhook once after the start.
        mesh.wait_fail_closed().await?;
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        let before = deployments.get("istiod").await?;
        let pods = objects::pod_names(&lab.client(), "istio-system", "").await?;
        mesh.scale_operator(0).await?;
        let list = ListParams::default();
        revisions(&mesh).delete_collection(&DeleteParams::default(), &list).await?;
        mesh.scale_operator(2).await?;
        wait::until(wait::TIMEOUT, "a record with an inventory", async || {
            let found = revisions(&mesh).list(&list).await.map_err(|error| error.to_string())?;
            let has_inventory = |record: &DynamicObject| {
                record.annotations().get(INVENTORY_ANNOTATION).is_some_and(|objects| objects.contains("istio-reader"))
            };
            if found.iter().any(has_inventory) { Ok(()) } else { Err(format!("{} records", found.items.len())) }
        })
        .await?;
        mesh.wait_ready(NAME).await?;
        let after = deployments.get("istiod").await?;
        assert_eq!((after.uid(), &after.data["spec"]), (before.uid(), &before.data["spec"]));
        assert_eq!(objects::pod_names(&lab.client(), "istio-system", "").await?, pods, "no pod should be restarted");

        // Without any record, labels, UID and field manager identify the objects.
        mesh.scale_operator(0).await?;
        revisions(&mesh).delete_collection(&DeleteParams::default(), &list).await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        mesh.scale_operator(2).await?;
        mesh.wait_gone(NAME).await?;
        assert_eq!(owned_objects(&mesh).await?, Vec::<String>::new());
        assert!(deployments.get_opt("istiod").await?.is_none());
        Ok(())
    });
}

#[test]
fn object_without_label_is_relabelled_and_uninstalled() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let accounts = mesh.api("v1", "ServiceAccount", Some("istio-system"));
        let unlabel = Patch::Merge(json!({"metadata": {"labels": {INSTALLATION_LABEL: null}}}));
        accounts.patch(READER, &PatchParams::default(), &unlabel).await?;
        wait::until(wait::TIMEOUT, "the label to be restored", async || {
            let found = accounts.get(READER).await.map_err(|error| error.to_string())?;
            let label = found.labels().get(INSTALLATION_LABEL);
            if label.is_some_and(|label| label == NAME) { Ok(()) } else { Err(format!("{:?}", found.labels())) }
        })
        .await?;
        mesh.wait_ready(NAME).await?;

        // Watches don't report this object to the operator that uninstalls the mesh.
        mesh.scale_operator(0).await?;
        accounts.patch(READER, &PatchParams::default(), &unlabel).await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        mesh.scale_operator(2).await?;
        mesh.wait_gone(NAME).await?;
        assert!(accounts.get_opt(READER).await?.is_none(), "the ServiceAccount should be deleted");
        assert_eq!(owned_objects(&mesh).await?, Vec::<String>::new());
        Ok(())
    });
}
