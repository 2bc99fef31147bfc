//! Ready is measured: each way in which injection can fail to be proved, broken by something that neither istiod nor
//! the operator heals.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, small};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

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
fn an_injector_that_gives_no_proxy_is_not_ready() {
    run(LabOptions::default(), async |lab| {
        let mesh = suspicious(lab).await?;
        // A template without istio-proxy, as one that is meant for few pods and was made the default of all.
        let mut spec = small();
        spec["values"] = json!({"istiod": {"sidecarInjectorWebhook": {"defaultTemplates": ["grpc-simple"]}}});
        mesh.apply(NAME, spec).await?;
        // Unknown where the new spec was never proved, False where istiod was slow to read it and the proof came first.
        wait::until(wait::PATIENCE, "Ready to be told as NotInjected", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.unwrap_or_default().conditions;
            let ready = get(&conditions, ConditionType::Ready).map(|c| (c.status.clone(), c.reason.clone()));
            match ready {
                Some((status, reason)) if status != "True" && reason == "NotInjected" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn a_label_that_keeps_the_injector_from_the_control_planes_namespace_is_named() {
    run(LabOptions::default(), async |lab| {
        let mesh = suspicious(lab).await?;
        // Istio's documents put this label there; applications in other namespaces get their proxies all the same.
        let namespaces = mesh.api("v1", "Namespace", None);
        let label = |value: Option<&str>| Patch::Merge(json!({"metadata": {"labels": {"istio-injection": value}}}));
        namespaces.patch("istio-system", &PatchParams::default(), &label(Some("disabled"))).await?;
        let unknown = mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("ProbeRefused")).await?;
        let status = unknown.status.unwrap_or_default();
        let message = status.message.unwrap_or_default();
        assert!(message.contains("istio-system is labelled istio-injection=disabled"), "{message}");
        assert!(is_true(&status.conditions, ConditionType::Available), "{:?}", status.conditions);
        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        let pod = pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await?;
        assert!(objects::proxy(&pod).is_some());

        namespaces.patch("istio-system", &PatchParams::default(), &label(None)).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn a_quota_that_refuses_the_test_pod_is_named_and_is_no_failure_of_the_mesh() {
    run(LabOptions::default(), async |lab| {
        let mesh = suspicious(lab).await?;
        let quotas = mesh.api("v1", "ResourceQuota", Some("istio-system"));
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
            "spec": {"hard": {"pods": "1"}}});
        quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
        let refused = mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("ProbeRefused")).await?;
        let status = refused.status.unwrap_or_default();
        let message = status.message.unwrap_or_default();
        assert!(message.contains("ResourceQuota full"), "{message}");
        assert!(is_true(&status.conditions, ConditionType::Available), "{:?}", status.conditions);
        assert!(!is_true(&status.conditions, ConditionType::Stalled), "{:?}", status.conditions);

        quotas.delete("full", &DeleteParams::default()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

fn enforcing(level: &str, values: &Value) -> Value {
    let mut spec = small();
    spec["namespaceLabels"] = json!({"pod-security.kubernetes.io/enforce": level});
    spec["values"] = json!({"istiod": values});
    spec
}

#[test]
fn pod_security_that_forbids_the_sidecar_leaves_injection_to_be_proved_by_a_gateways_pod() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        // Restricted asks for a profile that the chart leaves out; without it istiod's own pods are refused.
        let profile = json!({"seccompProfile": {"type": "RuntimeDefault"}});
        for (level, values) in [("baseline", json!({})), ("restricted", profile)] {
            mesh.apply(NAME, enforcing(level, &values)).await?;
            mesh.wait_ready(NAME).await?;
            let namespace = mesh.api("v1", "Namespace", None).get("istio-system").await?;
            assert_eq!(namespace.labels().get("pod-security.kubernetes.io/enforce").map(String::as_str), Some(level));
            // The truth of it: a pod with a sidecar is refused there, since istio-init needs NET_ADMIN.
            let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
            let pod = objects::pod("cart", &[("sidecar.istio.io/inject", "true")]);
            let refusal = pods.create(&PostParams::default(), &pod).await.err().map(|error| error.to_string());
            assert!(refusal.as_ref().is_some_and(|said| said.contains("violates PodSecurity")), "{refusal:?}");
        }
        Ok(())
    });
}

#[test]
fn pod_security_that_refuses_the_control_plane_is_named() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, enforcing("restricted", &json!({}))).await?;
        let stuck = wait::until(wait::PATIENCE, "a message that names Pod Security", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let status = found.status.unwrap_or_default();
            let message = status.message.clone().unwrap_or_default();
            if message.contains("violates PodSecurity") { Ok(status) } else { Err(message) }
        })
        .await?;
        assert!(!is_true(&stuck.conditions, ConditionType::Ready), "{:?}", stuck.conditions);
        assert!(!is_true(&stuck.conditions, ConditionType::Available), "{:?}", stuck.conditions);
        Ok(())
    });
}
