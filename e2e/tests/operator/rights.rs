//! A right that is missing shows, with its name, and the operator goes on by itself when it is back.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_e2e::inventory::Inventory;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR, small};
use meshwright_e2e::{LabOptions, TestResult, apply, programs, run, wait};
use serde_json::{Value, json};

use crate::cli::meshwright;

/// Takes a verb on a resource out of the operator's ClusterRole; answers the role as it was.
pub async fn take_away(mesh: &Mesh, resource: &str, verb: &str) -> TestResult<Value> {
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
    assert_ne!(Some(&rules), role["rules"].as_array(), "{verb} {resource} is a right of the operator");
    set_rules(&roles, &json!(rules)).await?;
    let group = group.ok_or("the right has a group")?;
    let attributes = json!({"group": group, "resource": resource, "verb": verb, "namespace": "istio-system"});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "metadata": {}, "spec": {"user": OPERATOR, "resourceAttributes": attributes}});
    let reviews: Api<SubjectAccessReview> = Api::all(mesh.client());
    wait::until(wait::PATIENCE, "the right to be gone", async || {
        let review = serde_json::from_value(review.clone()).map_err(|error| error.to_string())?;
        let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        match answer.status {
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
fn a_missing_right_is_named_in_a_condition_and_an_event_and_its_return_is_enough() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let rules = take_away(&mesh, "services", "patch").await?;
        mesh.apply(NAME, small()).await?;
        let stuck = mesh.wait_for(NAME, ConditionType::Ready, "False", Some("Forbidden")).await?;
        let status = stuck.status.unwrap_or_default();
        assert!(is_true(&status.conditions, ConditionType::Stalled), "{:?}", status.conditions);
        let message = status.message.unwrap_or_default();
        let expected =
            ["the operator may not patch", ", services", "in the whole cluster. Apply what meshwright rbac prints"];
        assert!(expected.iter().all(|words| message.contains(words)), "{message}");
        // It is found out before anything is written.
        assert!(stuck.metadata.finalizers.is_none());
        assert_eq!(Inventory::of(&mesh.client(), NAME).await?.keys().next(), None);

        let events = mesh.api("events.k8s.io/v1", "Event", Some("default"));
        wait::until(wait::PATIENCE, "an Event that names the right", async || {
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
async fn the_manifest_for_a_catalog_has_the_rights_that_are_printed_for_it() {
    let catalog = programs::catalog().unwrap().display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let values = folder.path().join("values.yaml").display().to_string();
    std::fs::write(&values, "istiod: {taint: {enabled: true}}").unwrap();
    let about = ["--catalog", &catalog, "--namespace", "mesh", "--values", &values];
    let objects = async |command: &str, args: &[&str]| {
        let ran = meshwright(std::path::Path::new("/nowhere"), &[&[command], args].concat()).await.unwrap();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        apply::parse(command, &ran.out)
            .unwrap()
            .into_iter()
            .map(|o| serde_json::to_value(o).unwrap())
            .collect::<Vec<_>>()
    };
    let (plain, whole, rights) =
        (objects("install", &[]).await, objects("install", &about).await, objects("rbac", &about).await);
    let is_right = |o: &&Value| o["kind"].as_str().is_some_and(|kind| kind.contains("Role"));
    assert_eq!(plain.len(), whole.len());
    assert!(rights.iter().all(|right| whole.contains(right)), "what is printed is in the manifest");
    assert!(!rights.iter().filter(is_right).all(|right| plain.contains(right)), "and makes a difference");
    let nothing = meshwright(std::path::Path::new("/nowhere"), &["install", "--catalog", "/nowhere"]).await.unwrap();
    assert!(nothing.code == Some(1) && nothing.err.contains("/nowhere") && nothing.out.is_empty(), "{}", nothing.err);
}
