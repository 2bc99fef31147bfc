//! Labels of namespaces that keep gateways from starting: `check` finds them before the installation, and the operator
//! reports them until they are changed.

use kube::api::{Patch, PatchParams};
use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, demo_spec, describe};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::cli::{check, file};

/// A gateway in namespace `ingress`.
fn with_gateway(name: &str) -> Value {
    let gateway = json!({"name": name, "namespace": "ingress", "service": {"type": "ClusterIP"}});
    json!({"version": VERSION, "profile": "demo", "gateways": [gateway]})
}

/// Asserts that `check` fails for namespace `ingress` with this text in reason or fix.
async fn assert_check_fails(lab: &Lab, spec: &Value, text: &str) -> TestResult {
    let (_dir, path) = file(NAME, spec, &json!({}))?;
    let (findings, code) = check(lab, &["-f", &path]).await?;
    let matches = |finding: &&Value| {
        finding["check"] == "namespace-labels"
            && finding["verdict"] == "Fail"
            && finding["subject"] == "Namespace ingress"
            && [&finding["reason"], &finding["fix"]].iter().any(|part| part.as_str().is_some_and(|p| p.contains(text)))
    };
    assert!(findings.iter().any(|finding| matches(&finding)), "{findings:#?}");
    assert_eq!(code, Some(2));
    Ok(())
}

/// Waits until the status has a warning with this text, or none.
async fn assert_warns(mesh: &Mesh, text: &str, expected: bool) -> TestResult {
    wait::until(wait::TIMEOUT, text, async || {
        let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
        let warnings = found.status.clone().unwrap_or_default().platform.warnings;
        let warns = warnings.iter().any(|warning| warning.contains(text));
        if warns == expected { Ok(()) } else { Err(describe(&found)) }
    })
    .await?;
    Ok(())
}

/// Sets or removes a label of namespace `ingress`.
async fn label(mesh: &Mesh, key: &str, value: Option<&str>) -> TestResult {
    let patch = Patch::Merge(json!({"metadata": {"labels": {key: value}}}));
    mesh.api("v1", "Namespace", None).patch("ingress", &PatchParams::default(), &patch).await?;
    Ok(())
}

#[test]
fn names_label_that_keeps_gateway_from_injection() {
    run(LabOptions::default(), async |lab| {
        objects::namespace(&lab.client(), "ingress", &[("istio-injection", "disabled")]).await?;
        assert_check_fails(lab, &with_gateway("front"), "istio-injection=disabled").await?;
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;

        mesh.apply(NAME, with_gateway("front")).await?;
        wait::until(wait::TIMEOUT, "the label in the message of Ready", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.clone().unwrap_or_default().conditions;
            let ready = get(&conditions, ConditionType::Ready).map(|ready| ready.message.clone()).unwrap_or_default();
            let expected = "gateway front: Namespace ingress is labelled istio-injection=disabled";
            if ready.contains(expected) { Ok(()) } else { Err(describe(&found)) }
        })
        .await?;
        label(&mesh, "istio-injection", None).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn names_label_that_discovery_selectors_require() {
    run(LabOptions::default(), async |lab| {
        let mut spec = with_gateway("edge");
        spec["meshConfig"] = json!({"discoverySelectors": [{"matchLabels": {"mesh": "on"}}]});
        assert_check_fails(lab, &spec, "kubectl label namespace ingress mesh=on").await?;
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, spec).await?;
        // The lab's gateway pods are ready without the certificate that istiod doesn't distribute.
        mesh.wait_ready(NAME).await?;
        assert_warns(&mesh, "kubectl label namespace ingress mesh=on", true).await?;
        label(&mesh, "mesh", Some("on")).await?;
        assert_warns(&mesh, "kubectl label namespace ingress mesh=on", false).await?;
        assert_warns(&mesh, "Namespace istio-system", true).await?;
        Ok(())
    });
}
