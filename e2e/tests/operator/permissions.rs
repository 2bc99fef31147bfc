//! Missing permissions are reported, and the operator continues after they are restored.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_e2e::inventory::Inventory;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR, demo_spec};
use meshwright_e2e::{LabOptions, TestResult, apply, programs, run, wait};
use serde_json::{Value, json};

use crate::cli::meshwright;

/// Removes a verb on a resource from the operator's ClusterRole; returns the previous rules.
pub async fn remove_permission(mesh: &Mesh, resource: &str, verb: &str) -> TestResult<Value> {
    let roles = mesh.api("rbac.authorization.k8s.io/v1", "ClusterRole", None);
    let role = serde_json::to_value(roles.get("meshwright").await?)?;
    let (mut changed, mut group) = (role.clone(), None);
    for rule in changed["rules"].as_array_mut().into_iter().flatten() {
        let named = |list: &Value, name: &str| list.as_array().is_some_and(|l| l.iter().any(|v| v == name));
        if named(&rule["resources"], resource)
            && let Some(verbs) = rule["verbs"].as_array_mut()
        {
            verbs.retain(|v| v != verb);
            group = rule["apiGroups"][0].as_str().map(str::to_owned);
        }
    }
    let rules = changed["rules"].as_array().cloned().unwrap_or_default();
    let rules: Vec<Value> =
        rules.into_iter().filter(|r| r["verbs"].as_array().is_some_and(|v| !v.is_empty())).collect();
    assert_ne!(Some(&rules), role["rules"].as_array(), "the operator should have permission to {verb} {resource}");
    set_rules(&roles, &json!(rules)).await?;
    let group = group.ok_or("no rule for the resource")?;
    let attributes = json!({"group": group, "resource": resource, "verb": verb, "namespace": "istio-system"});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "metadata": {}, "spec": {"user": OPERATOR, "resourceAttributes": attributes}});
    let reviews: Api<SubjectAccessReview> = Api::all(mesh.client());
    wait::until(wait::TIMEOUT, "the permission to be removed", async || {
        let review = serde_json::from_value(review.clone()).map_err(|error| error.to_string())?;
        let response = reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        match response.status {
            Some(status) if !status.allowed => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(role["rules"].clone())
}

async fn set_rules(roles: &Api<DynamicObject>, rules: &Value) -> TestResult {
    roles.patch("meshwright", &PatchParams::default(), &Patch::Merge(&json!({"rules": rules}))).await?;
    Ok(())
}

#[test]
fn reports_missing_permission_and_recovers() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let rules = remove_permission(&mesh, "services", "patch").await?;
        mesh.apply(NAME, demo_spec()).await?;
        let pending = mesh.wait_for(NAME, ConditionType::Ready, "False", Some("Forbidden")).await?;
        let status = pending.status.unwrap_or_default();
        assert!(is_true(&status.conditions, ConditionType::Stalled), "{:?}", status.conditions);
        let message = status.message.unwrap_or_default();
        let expected = [
            "the operator may not patch",
            ", services",
            "in the whole cluster. Nothing was written; apply the output of meshwright rbac",
        ];
        assert!(expected.iter().all(|words| message.contains(words)), "{message}");
        // The operator detects it before it writes anything.
        assert!(pending.metadata.finalizers.is_none());
        assert_eq!(Inventory::read(&mesh.client(), NAME).await?.keys().next(), None);

        let events = mesh.api("events.k8s.io/v1", "Event", Some("default"));
        wait::until(wait::TIMEOUT, "an Event that names the permission", async || {
            let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let found = list.iter().any(|event| {
                event.data["reason"] == "Forbidden"
                    && event.data["note"].as_str().is_some_and(|note| note.contains("may not patch"))
            });
            if found { Ok(()) } else { Err(format!("{} Events", list.items.len())) }
        })
        .await?;

        set_rules(&mesh.api("rbac.authorization.k8s.io/v1", "ClusterRole", None), &rules).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[tokio::test]
async fn install_manifest_includes_permissions_for_catalog() {
    let catalog = programs::catalog().unwrap().display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let values = dir.path().join("values.yaml").display().to_string();
    std::fs::write(&values, "istiod: {taint: {enabled: true}}").unwrap();
    let flags = ["--catalog", &catalog, "--mesh-namespace", "mesh", "--values", &values];
    let objects = async |command: &str, args: &[&str]| {
        let output = meshwright(std::path::Path::new("/nowhere"), &[&[command], args].concat()).await.unwrap();
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        apply::parse(command, &output.stdout)
            .unwrap()
            .into_iter()
            .map(|o| serde_json::to_value(o).unwrap())
            .collect::<Vec<_>>()
    };
    let (default, manifest, permissions) =
        (objects("install", &[]).await, objects("install", &flags).await, objects("rbac", &flags).await);
    let is_role = |o: &&Value| o["kind"].as_str().is_some_and(|kind| kind.contains("Role"));
    assert_eq!(default.len(), manifest.len());
    assert!(permissions.iter().all(|object| manifest.contains(object)), "the manifest should include the permissions");
    assert!(!permissions.iter().filter(is_role).all(|role| default.contains(role)), "the roles should differ");
    let failed = meshwright(std::path::Path::new("/nowhere"), &["install", "--catalog", "/nowhere"]).await.unwrap();
    assert!(
        failed.code == Some(1) && failed.stderr.contains("/nowhere") && failed.stdout.is_empty(),
        "{}",
        failed.stderr
    );
}
