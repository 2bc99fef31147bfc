//! Wrong input is told with field, value and remedy; nothing is half-done, and mending the resource is enough.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{LAB_1_31, Mesh, NAME, VERSION, config, small};
use meshwright_e2e::{Lab, LabOptions, Programs, TestResult, run, wait};
use serde_json::{Value, json};

use crate::stalling::{stalled, stalls};

fn with(field: &str, value: Value) -> Value {
    let mut spec = small();
    spec[field] = value;
    spec
}

async fn nothing_was_made(lab: &Lab) -> TestResult {
    let mesh = Mesh::of(lab.client());
    assert!(mesh.api("apps/v1", "Deployment", Some("istio-system")).get_opt("istiod").await?.is_none());
    let webhooks = mesh.api("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None);
    assert!(webhooks.get_opt("istio-sidecar-injector").await?.is_none());
    Ok(())
}

#[test]
fn the_schema_refuses_what_it_can_with_field_value_and_remedy() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let refused = async |spec: Value| -> TestResult<String> {
            match mesh.apply(NAME, spec.clone()).await {
                Ok(_) => Err(format!("{spec} was accepted").into()),
                Err(error) => Ok(error.to_string()),
            }
        };
        let cases = [
            (with("gatewayz", json!([])), vec!["gatewayz"]),
            (with("profile", json!("ambiguous")), vec!["spec.profile", "ambiguous", "demo"]),
            (with("version", json!("v1.31")), vec!["spec.version", "without a leading v"]),
            (with("version", json!("latest")), vec!["spec.version", "1.31.2"]),
            (with("gateways", json!([{"name": "istiod"}])), vec!["istiod", "another name"]),
            (with("gateways", json!([{"name": "a"}, {"name": "a"}])), vec!["spec.gateways"]),
        ];
        for (spec, words) in cases {
            let error = refused(spec).await?;
            for word in words {
                assert!(error.contains(word), "{word:?} is missing in: {error}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_spec_that_cannot_be_followed_stalls_and_mending_it_is_enough() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        stalls(&mesh, with("version", json!("1.31.7")), "VersionNotInCatalog", &["1.31.7", VERSION]).await?;
        stalls(&mesh, with("version", json!("1.32")), "VersionNotInCatalog", &["1.32", "pre-release", VERSION]).await?;
        stalls(&mesh, with("version", json!("1.0.9")), "VersionNotSupported", &["1.0", "Kubernetes", LAB_1_31]).await?;
        let owned = json!({"istiod": {"global": {"hub": "example.com/x"}}});
        stalls(&mesh, with("values", owned), "InvalidSpec", &["spec.values.istiod.global.hub", "spec.images.registry"])
            .await?;
        let twice = json!({"istiod": {"env": {"A": "2"}}});
        let mut spec = with("values", twice);
        spec["controlPlane"] = json!({"env": [{"name": "A", "value": "1"}]});
        stalls(&mesh, spec, "InvalidSpec", &["spec.values.istiod.env.A", "spec.controlPlane.env[A]"]).await?;
        let clash = json!([{"name": "istio-reader-service-account"}]);
        stalls(&mesh, with("gateways", clash), "RenderFailed", &["istio-reader-service-account", "rename"]).await?;
        nothing_was_made(lab).await?;

        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;

        // Now that a mesh runs, a bad spec leaves it alone, and it is healed all the same.
        stalls(&mesh, with("version", json!("1.31.7")), "VersionNotInCatalog", &["1.31.7"]).await?;
        mesh.api("apps/v1", "Deployment", Some("istio-system")).delete("istiod", &DeleteParams::default()).await?;
        mesh.deployment_ready("istio-system", "istiod").await?;
        mesh.wait_for(NAME, ConditionType::Available, "True", None).await?;
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn an_object_of_somebody_else_is_named_and_not_touched() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
        let theirs =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": "mine"}});
        maps.create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;
        stalls(&mesh, small(), "ForeignObject", &["ConfigMap istio-system/istio"]).await?;
        nothing_was_made(lab).await?;
        assert_eq!(maps.get("istio").await?.data["data"]["mesh"], "mine");

        maps.delete("istio", &DeleteParams::default()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn a_namespace_that_is_being_deleted_is_waited_for() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
        let held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
        maps.create(&PostParams::default(), &serde_json::from_value(held)?).await?;
        mesh.api("v1", "Namespace", None).delete("istio-system", &DeleteParams::default()).await?;
        mesh.apply(NAME, small()).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("NamespaceTerminating")).await?;
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        maps.patch("held", &PatchParams::default(), &free).await?;
        // The operator's own Role goes with the namespace, and nobody may grant himself rights.
        stalled(&mesh, NAME, "Forbidden", &["in namespace istio-system", "meshwright rbac"]).await?;
        lab.apply_dirs([config().join("rbac")]).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn an_edit_in_the_middle_of_an_install_wins() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, small()).await?;
        let edited = with("meshConfig", json!({"accessLogFile": "/dev/stderr"}));
        mesh.apply(NAME, edited).await?;
        mesh.wait_ready(NAME).await?;
        let map = mesh.api("v1", "ConfigMap", Some("istio-system")).get("istio").await?;
        let config = map.data["data"]["mesh"].as_str().unwrap_or_default().to_owned();
        assert!(config.contains("accessLogFile: /dev/stderr"), "{config}");
        Ok(())
    });
}

#[test]
fn a_second_installation_stalls_until_the_first_is_gone() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        mesh.apply("second", small()).await?;
        stalled(&mesh, "second", "AnotherInstallation", &[NAME]).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        mesh.wait_ready("second").await?;
        Ok(())
    });
}

/// A catalog with the real release and one whose istiod chart fails to render.
fn catalog_with_a_broken_release(folder: &Path) -> TestResult {
    let programs = Programs::find()?;
    let charts = folder.join("charts");
    let status = Command::new(programs.path("export-charts")).arg(&charts).status()?;
    assert!(status.success());
    let add = |version: &str| -> TestResult {
        let output = Command::new(meshwright_e2e::programs::operator())
            .args(["catalog", "add", "--version", version, "--source", "test", "--from"])
            .arg(&charts)
            .arg("--catalog")
            .arg(folder.join("catalog"))
            .output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    std::fs::create_dir_all(folder.join("catalog"))?;
    add(VERSION)?;
    let template = charts.join("charts/istio-control/istio-discovery/templates/broken.yaml");
    std::fs::write(template, "{{ fail \"broken on purpose\" }}\n")?;
    add("1.31.9")
}

#[test]
fn a_chart_that_fails_to_render_or_is_damaged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    catalog_with_a_broken_release(folder.path()).unwrap();
    let catalog = folder.path().join("catalog");
    let mut options = LabOptions::default().needs_own_lab();
    options.catalog = Some(catalog.clone());
    run(options, async |lab| {
        let mesh = Mesh::operator(lab).await?;
        stalls(&mesh, with("version", json!("1.31.9")), "RenderFailed", &["istiod", "broken on purpose"]).await?;
        nothing_was_made(lab).await?;
        let chart = catalog.join("1.31.9/charts/istiod/values.yaml");
        let mut text = std::fs::read_to_string(&chart)?;
        text.push_str("# changed\n");
        std::fs::write(&chart, text)?;
        let mut spec = with("version", json!("1.31.9"));
        spec["proxy"] = json!({"logLevel": "debug"});
        stalls(&mesh, spec, "CatalogDamaged", &["istiod", "1.31.9", "damaged"]).await?;
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn an_installation_that_the_operator_cant_read_is_named_and_keeps_no_other_from_its_mesh() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        // As after a newer release of the operator has brought its definition.
        let definitions = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        let anything = json!({"x-kubernetes-preserve-unknown-fields": true});
        let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/paused";
        let patch = serde_json::from_value(json!([{"op": "replace", "path": field, "value": anything}]))?;
        let name = "meshinstallations.meshwright.dev";
        definitions.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch)).await?;
        let installations = mesh.api("meshwright.dev/v1alpha1", "MeshInstallation", None);
        let unreadable = json!({
            "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
            "metadata": {"name": "strange"}, "spec": with("paused", json!("a little")),
        });
        let applied =
            async || installations.patch("strange", &PatchParams::apply("kubectl"), &Patch::Apply(&unreadable)).await;
        let events: Api<Event> = Api::all(lab.client());
        wait::until(wait::PATIENCE, "the Event of what can't be read", async || {
            applied().await.map_err(|error| error.to_string())?;
            let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let about = |event: &&Event| event.involved_object.name.as_deref() == Some("strange");
            let told = list.items.iter().filter(about).find(|event| event.reason.as_deref() == Some("InvalidSpec"));
            told.and_then(|event| event.message.clone())
                .filter(|told| told.contains("a little"))
                .ok_or("none".to_owned())
        })
        .await?;
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
