//! Invalid input is reported with field, value and remedy, changes nothing, and needs only a corrected resource.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{LAB_1_31, Mesh, NAME, VERSION, config_dir, demo_spec};
use meshwright_e2e::{Lab, LabOptions, Programs, TestResult, run, wait};
use serde_json::{Value, json};

use crate::stalled::{assert_stalls, wait_stalled};

fn with(field: &str, value: Value) -> Value {
    let mut spec = demo_spec();
    spec[field] = value;
    spec
}

async fn assert_nothing_created(lab: &Lab) -> TestResult {
    let mesh = Mesh::connect(lab.client());
    assert!(mesh.api("apps/v1", "Deployment", Some("istio-system")).get_opt("istiod").await?.is_none());
    let webhooks = mesh.api("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None);
    assert!(webhooks.get_opt("istio-sidecar-injector").await?.is_none());
    Ok(())
}

#[test]
fn schema_rejects_invalid_values() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let rejected = async |spec: Value| -> TestResult<String> {
            match mesh.apply(NAME, spec.clone()).await {
                Ok(_) => Err(format!("{spec} was accepted").into()),
                Err(error) => Ok(error.to_string()),
            }
        };
        let cases = [
            (with("gatewayz", json!([])), vec!["gatewayz"]),
            (with("profile", json!("ambiguous")), vec!["spec.profile", "ambiguous", "demo"]),
            (with("version", json!("v1.31")), vec!["spec.version", "leading v"]),
            (with("version", json!("latest")), vec!["spec.version", "1.31.2"]),
            (with("gateways", json!([{"name": "istiod"}])), vec!["istiod", "names of other components"]),
            (with("gateways", json!([{"name": "a"}, {"name": "a"}])), vec!["spec.gateways"]),
        ];
        for (spec, words) in cases {
            let error = rejected(spec).await?;
            for word in words {
                assert!(error.contains(word), "{word:?} is missing in: {error}");
            }
        }
        Ok(())
    });
}

#[test]
fn refuses_configuration_that_istiod_cannot_decode() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        let config_maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
        let read = async || -> TestResult<[Value; 2]> {
            let injector = config_maps.get("istio-sidecar-injector").await?;
            Ok([config_maps.get("istio").await?.data["data"].clone(), injector.data["data"].clone()])
        };
        let before = read().await?;
        let privileged = json!({"istiod": {"global": {"proxy": {"privileged": "true"}}}});
        let field = "spec.values.istiod.global.proxy.privileged";
        assert_stalls(&mesh, with("values", privileged), "InvalidSpec", &[field, "\"true\"", "true or false"]).await?;
        let log = json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}, "accessLogFile": 5});
        let field = "spec.meshConfig.accessLogFile";
        assert_stalls(&mesh, with("meshConfig", log), "InvalidSpec", &[field, "5 is not a string"]).await?;
        assert_eq!(read().await?, before, "nothing is written");
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn recovers_after_invalid_spec_is_corrected() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        assert_stalls(&mesh, with("version", json!("1.31.7")), "VersionNotInCatalog", &["1.31.7", VERSION]).await?;
        assert_stalls(&mesh, with("version", json!("1.32")), "VersionNotInCatalog", &["1.32", "pre-release", VERSION])
            .await?;
        assert_stalls(&mesh, with("version", json!("1.0.9")), "VersionNotSupported", &["1.0", "Kubernetes", LAB_1_31])
            .await?;
        let owned = json!({"istiod": {"global": {"hub": "example.com/x"}}});
        let mut spec = with("values", owned);
        spec["images"] = json!({"registry": "example.com/y"});
        assert_stalls(&mesh, spec, "InvalidSpec", &["spec.values.istiod.global.hub", "spec.images.registry"]).await?;
        let twice = json!({"istiod": {"env": {"A": "2"}}});
        let mut spec = with("values", twice);
        spec["controlPlane"] = json!({"env": [{"name": "A", "value": "1"}]});
        assert_stalls(&mesh, spec, "InvalidSpec", &["spec.values.istiod.env.A", "spec.controlPlane.env[A]"]).await?;
        let clash = json!([{"name": "istio-reader-service-account"}]);
        assert_stalls(&mesh, with("gateways", clash), "RenderFailed", &["istio-reader-service-account", "rename"])
            .await?;
        assert_nothing_created(lab).await?;

        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;

        // An invalid spec doesn't affect a running mesh, and drift is still reverted.
        assert_stalls(&mesh, with("version", json!("1.31.7")), "VersionNotInCatalog", &["1.31.7"]).await?;
        mesh.api("apps/v1", "Deployment", Some("istio-system")).delete("istiod", &DeleteParams::default()).await?;
        mesh.deployment_ready("istio-system", "istiod").await?;
        mesh.wait_for(NAME, ConditionType::Available, "True", None).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn leaves_unmanaged_object_unchanged() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
        let unmanaged =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": "mine"}});
        maps.create(&PostParams::default(), &serde_json::from_value(unmanaged)?).await?;
        assert_stalls(&mesh, demo_spec(), "UnmanagedResource", &["ConfigMap istio-system/istio"]).await?;
        assert_nothing_created(lab).await?;
        assert_eq!(maps.get("istio").await?.data["data"]["mesh"], "mine");

        maps.delete("istio", &DeleteParams::default()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn waits_for_terminating_namespace() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let maps = mesh.api("v1", "ConfigMap", Some("istio-system"));
        let blocking = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "blocking", "finalizers": ["example.com/hold"]}});
        maps.create(&PostParams::default(), &serde_json::from_value(blocking)?).await?;
        mesh.api("v1", "Namespace", None).delete("istio-system", &DeleteParams::default()).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("NamespaceTerminating")).await?;
        let remove_finalizers = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        maps.patch("blocking", &PatchParams::default(), &remove_finalizers).await?;
        // The operator's Role is deleted with the namespace, and the operator can't grant itself permissions.
        wait_stalled(&mesh, NAME, "Forbidden", &["in namespace istio-system", "meshwright rbac"]).await?;
        lab.apply_dirs([config_dir().join("rbac")]).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn applies_edit_during_installation() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, demo_spec()).await?;
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
fn second_installation_waits_for_removal_of_first() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        mesh.apply("second", demo_spec()).await?;
        wait_stalled(&mesh, "second", "InstallationConflict", &[NAME]).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        mesh.wait_ready("second").await?;
        Ok(())
    });
}

/// Creates a catalog with the real release and one whose istiod chart fails to render.
fn create_catalog_with_broken_release(dir: &Path) -> TestResult {
    let programs = Programs::find()?;
    let charts = dir.join("charts");
    let status = Command::new(programs.path("export-charts")).arg(&charts).status()?;
    assert!(status.success());
    let add = |version: &str| -> TestResult {
        let output = Command::new(meshwright_e2e::programs::operator())
            .args(["catalog", "add", "--version", version, "--source", "test", "--from"])
            .arg(&charts)
            .arg("--catalog")
            .arg(dir.join("catalog"))
            .output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    std::fs::create_dir_all(dir.join("catalog"))?;
    add(VERSION)?;
    let template = charts.join("charts/istio-control/istio-discovery/templates/broken.yaml");
    std::fs::write(template, "{{ fail \"broken on purpose\" }}\n")?;
    add("1.31.9")
}

#[test]
fn reports_broken_and_corrupted_charts() {
    let dir = tempfile::tempdir().unwrap();
    create_catalog_with_broken_release(dir.path()).unwrap();
    let catalog = dir.path().join("catalog");
    let mut options = LabOptions::default().needs_own_lab();
    options.catalog = Some(catalog.clone());
    run(options, async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        assert_stalls(&mesh, with("version", json!("1.31.9")), "RenderFailed", &["istiod", "broken on purpose"])
            .await?;
        assert_nothing_created(lab).await?;
        let chart = catalog.join("1.31.9/charts/istiod/values.yaml");
        let mut text = std::fs::read_to_string(&chart)?;
        text.push_str("# changed\n");
        std::fs::write(&chart, text)?;
        let mut spec = with("version", json!("1.31.9"));
        spec["proxy"] = json!({"logLevel": "debug"});
        assert_stalls(&mesh, spec, "CatalogCorrupted", &["istiod", "1.31.9", "damaged"]).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn unreadable_installation_does_not_block_others() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        // Simulates a CRD of a newer operator.
        let crds = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        let anything = json!({"x-kubernetes-preserve-unknown-fields": true});
        let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/paused";
        let patch = serde_json::from_value(json!([{"op": "replace", "path": field, "value": anything}]))?;
        let name = "meshinstallations.meshwright.dev";
        crds.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch)).await?;
        let installations = mesh.api("meshwright.dev/v1alpha1", "MeshInstallation", None);
        let unreadable = json!({
            "apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
            "metadata": {"name": "strange"}, "spec": with("paused", json!("a little")),
        });
        let applied =
            async || installations.patch("strange", &PatchParams::apply("kubectl"), &Patch::Apply(&unreadable)).await;
        let events: Api<Event> = Api::all(lab.client());
        wait::until(wait::TIMEOUT, "an Event about the unreadable installation", async || {
            applied().await.map_err(|error| error.to_string())?;
            let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let about = |event: &&Event| event.involved_object.name.as_deref() == Some("strange");
            let found = list.items.iter().filter(about).find(|event| event.reason.as_deref() == Some("InvalidSpec"));
            found
                .and_then(|event| event.message.clone())
                .filter(|message| message.contains("a little"))
                .ok_or("no such Event".to_owned())
        })
        .await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
