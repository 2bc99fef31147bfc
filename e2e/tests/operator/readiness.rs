//! Ready is measured: failures of the injection check whose causes neither istiod nor the operator reverts.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::{ConditionType, get, is_true};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec};
use meshwright_e2e::{Lab, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

/// Installs the operator with an injection check every second, so that tests need not trigger one.
async fn install_with_frequent_checks(lab: &Lab) -> TestResult<Mesh> {
    let mesh = Mesh::install_operator(lab).await?;
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "operator", "env": [{"name": "MESHWRIGHT_INJECTION_CHECK_INTERVAL", "value": "1"}]},
    ]}}}});
    let deployments = mesh.api("apps/v1", "Deployment", Some(OPERATOR_NAMESPACE));
    deployments.patch("meshwright", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
    mesh.apply(NAME, demo_spec()).await?;
    mesh.wait_ready(NAME).await?;
    Ok(mesh)
}

#[test]
fn detects_hanging_control_plane() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = install_with_frequent_checks(lab).await?;
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
fn policy_denial_makes_injection_check_unknown() {
    run(LabOptions::default(), async |lab| {
        let mesh = install_with_frequent_checks(lab).await?;
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

        let rejected = mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("InjectionCheckDenied")).await?;
        let status = rejected.status.unwrap_or_default();
        assert!(status.message.is_some_and(|message| message.contains("no-test-pods")));
        assert!(is_true(&status.conditions, ConditionType::Available), "{:?}", status.conditions);

        bindings.delete("no-test-pods", &DeleteParams::default()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn missing_proxy_makes_mesh_not_ready() {
    run(LabOptions::default(), async |lab| {
        let mesh = install_with_frequent_checks(lab).await?;
        // A template without istio-proxy as the default for all pods.
        let mut spec = demo_spec();
        spec["values"] = json!({"istiod": {"sidecarInjectorWebhook": {"defaultTemplates": ["grpc-simple"]}}});
        mesh.apply(NAME, spec).await?;
        // Unknown if the new spec was never healthy; False if a check succeeded before istiod reloaded its
        // configuration.
        wait::until(wait::TIMEOUT, "Ready with reason NotInjected", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.unwrap_or_default().conditions;
            let ready = get(&conditions, ConditionType::Ready).map(|c| (c.status.clone(), c.reason.clone()));
            match ready {
                Some((status, reason)) if status != "True" && reason == "NotInjected" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn disabled_injection_label_makes_check_unknown() {
    run(LabOptions::default(), async |lab| {
        let mesh = install_with_frequent_checks(lab).await?;
        // Istio's documentation sets this label on istio-system; pods in other namespaces are still injected.
        let namespaces = mesh.api("v1", "Namespace", None);
        let label = |value: Option<&str>| Patch::Merge(json!({"metadata": {"labels": {"istio-injection": value}}}));
        namespaces.patch("istio-system", &PatchParams::default(), &label(Some("disabled"))).await?;
        let unknown = mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("InjectionCheckDenied")).await?;
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
fn quota_denial_makes_injection_check_unknown() {
    run(LabOptions::default(), async |lab| {
        let mesh = install_with_frequent_checks(lab).await?;
        let quotas = mesh.api("v1", "ResourceQuota", Some("istio-system"));
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
            "spec": {"hard": {"pods": "1"}}});
        quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
        let rejected = mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("InjectionCheckDenied")).await?;
        let status = rejected.status.unwrap_or_default();
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
    let mut spec = demo_spec();
    spec["namespaceLabels"] = json!({"pod-security.kubernetes.io/enforce": level});
    spec["values"] = json!({"istiod": values});
    spec
}

#[test]
fn injection_check_passes_under_pod_security() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        // Level restricted requires a seccomp profile, which the chart doesn't set by default.
        let profile = json!({"seccompProfile": {"type": "RuntimeDefault"}});
        for (level, values) in [("baseline", json!({})), ("restricted", profile)] {
            mesh.apply(NAME, enforcing(level, &values)).await?;
            mesh.wait_ready(NAME).await?;
            let namespace = mesh.api("v1", "Namespace", None).get("istio-system").await?;
            assert_eq!(namespace.labels().get("pod-security.kubernetes.io/enforce").map(String::as_str), Some(level));
            // A pod with a sidecar is rejected there, because istio-init needs NET_ADMIN.
            let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
            let pod = objects::pod("cart", &[("sidecar.istio.io/inject", "true")]);
            let error = pods.create(&PostParams::default(), &pod).await.err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|text| text.contains("violates PodSecurity")), "{error:?}");
        }
        Ok(())
    });
}

#[test]
fn reports_pod_security_violation_of_istiod() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, enforcing("restricted", &json!({}))).await?;
        let pending = wait::until(wait::TIMEOUT, "a message that names Pod Security", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let status = found.status.unwrap_or_default();
            let message = status.message.clone().unwrap_or_default();
            if message.contains("violates PodSecurity") { Ok(status) } else { Err(message) }
        })
        .await?;
        assert!(!is_true(&pending.conditions, ConditionType::Ready), "{:?}", pending.conditions);
        assert!(!is_true(&pending.conditions, ConditionType::Available), "{:?}", pending.conditions);
        Ok(())
    });
}
