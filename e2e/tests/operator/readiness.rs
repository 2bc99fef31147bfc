//! Ready is measured: each way in which injection can fail to be proved, broken by something that neither istiod nor
//! the operator heals.

use kube::api::{DeleteParams, Patch, PatchParams};
use meshwright_api::conditions::{ConditionType, is_true};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, small};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run};
use serde_json::json;

/// The operator with a proof every second, so that a test needn't give it cause.
async fn suspicious(lab: &Lab) -> TestResult<Mesh> {
    let mesh = Mesh::operator(lab).await?;
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "operator", "env": [{"name": "MESHWRIGHT_PROBE_INTERVAL", "value": "1"}]},
    ]}}}});
    let deployments = mesh.api("apps/v1", "Deployment", Some(OPERATOR_NAMESPACE));
    deployments.patch("meshwright", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
    mesh.apply(NAME, small()).await?;
    mesh.wait_ready(NAME).await?;
    Ok(mesh)
}

#[test]
fn a_control_plane_that_hangs_while_its_pod_counts_as_ready_is_found_out() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = suspicious(lab).await?;
        let pods = objects::pod_names(&lab.client(), "istio-system", "app=istiod").await?;
        let istiod = lab.process("istio-system", pods.first().ok_or("no istiod")?)?;
        istiod.pause()?;
        mesh.wait_for(NAME, ConditionType::Ready, "False", Some("WebhookFailed")).await?;
        istiod.resume()?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn a_policy_that_refuses_the_test_pod_is_named_and_is_no_failure_of_the_mesh() {
    run(LabOptions::default(), async |lab| {
        let mesh = suspicious(lab).await?;
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "no-test-pods"},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
                ]},
                "validations": [{"expression": "object.metadata.name != 'meshwright-injection-probe'", "message": "no"}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "no-test-pods"},
            "spec": {"policyName": "no-test-pods", "validationActions": ["Deny"]},
        });
        let admission = "admissionregistration.k8s.io/v1";
        let policies = mesh.api(admission, "ValidatingAdmissionPolicy", None);
        let bindings = mesh.api(admission, "ValidatingAdmissionPolicyBinding", None);
        let params = PatchParams::apply("test");
        policies.patch("no-test-pods", &params, &Patch::Apply(&policy)).await?;
        bindings.patch("no-test-pods", &params, &Patch::Apply(&binding)).await?;

        let refused = mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("ProbeRefused")).await?;
        let status = refused.status.unwrap_or_default();
        assert!(status.message.is_some_and(|message| message.contains("no-test-pods")));
        assert!(is_true(&status.conditions, ConditionType::Available), "{:?}", status.conditions);

        bindings.delete("no-test-pods", &DeleteParams::default()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn an_injector_that_skips_the_test_pod_is_not_ready() {
    run(LabOptions::default(), async |lab| {
        let mesh = suspicious(lab).await?;
        // Webhooks leave a namespace alone that says so, and its label is the administrator's.
        let namespaces = mesh.api("v1", "Namespace", None);
        let label = |value: Option<&str>| Patch::Merge(json!({"metadata": {"labels": {"istio-injection": value}}}));
        namespaces.patch("istio-system", &PatchParams::default(), &label(Some("disabled"))).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "False", Some("NotInjected")).await?;
        namespaces.patch("istio-system", &PatchParams::default(), &label(None)).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
