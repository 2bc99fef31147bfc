//! Drift is reverted for every applied kind; fields of other managers are left unchanged.

use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, operator_writes};
use meshwright_e2e::{Lab, LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

/// A mesh with an object of every kind: two istiods add a PodDisruptionBudget, values add policies, GKE adds a quota,
/// and Multus adds its own kind.
fn full_spec() -> Value {
    let resources = json!({"requests": {"cpu": "10m", "memory": "100Mi"}});
    json!({
        "version": VERSION,
        "platform": "gke",
        "controlPlane": {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}, "resources": resources},
        "gateways": [{"name": "edge", "namespace": "edge", "service": {"type": "ClusterIP"}}],
        "cni": {"mode": "Enabled"},
        "ztunnel": {"mode": "Enabled"},
        "values": {
            "cni": {"provider": "multus"},
            "base": {"experimental": {"stableValidationPolicy": true}},
            "istiod": {"global": {"networkPolicy": {"enabled": true}}, "experimental": {"stableValidationPolicy": true}},
        },
    })
}

async fn install(lab: &Lab) -> TestResult<Mesh> {
    let mesh = Mesh::install_operator(lab).await?;
    crate::cni_ztunnel::install_multus_crd(&mesh).await?;
    mesh.apply(NAME, full_spec()).await?;
    mesh.wait_ready(NAME).await?;
    // istiod changes its validating webhook once after the start.
    mesh.wait_fail_closed().await?;
    Ok(mesh)
}

/// An object and an edit that the operator must revert.
struct DriftCase {
    api_version: &'static str,
    kind: &'static str,
    namespace: Option<&'static str>,
    name: &'static str,
    edit: Edit,
}

enum Edit {
    Merge(Value),
    Json(Value),
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const ADMISSION: &str = "admissionregistration.k8s.io/v1";
const SYSTEM: Option<&str> = Some("istio-system");

fn cases() -> Vec<DriftCase> {
    let case = |api_version, kind, namespace, name, edit| DriftCase { api_version, kind, namespace, name, edit };
    let merge = Edit::Merge;
    vec![
        case(
            "v1",
            "Namespace",
            None,
            "edge",
            merge(json!({"metadata": {"labels": {"meshwright.dev/component": "x"}}})),
        ),
        case(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            None,
            "sidecars.networking.istio.io",
            merge(json!({"spec": {"names": {"categories": []}}})),
        ),
        case("v1", "ServiceAccount", SYSTEM, "istiod", merge(json!({"metadata": {"labels": {"app": "x"}}}))),
        case(RBAC, "ClusterRole", None, "istiod-clusterrole-istio-system", merge(json!({"rules": []}))),
        case(RBAC, "ClusterRoleBinding", None, "istiod-clusterrole-istio-system", merge(json!({"subjects": []}))),
        case(RBAC, "Role", SYSTEM, "istiod", merge(json!({"rules": []}))),
        case(RBAC, "RoleBinding", SYSTEM, "istiod", merge(json!({"subjects": []}))),
        case("v1", "ConfigMap", SYSTEM, "istio", merge(json!({"data": {"mesh": "accessLogFile: x"}}))),
        case(
            "v1",
            "ResourceQuota",
            SYSTEM,
            "istio-cni-resource-quota",
            merge(json!({"spec": {"hard": {"pods": "5"}}})),
        ),
        case("v1", "Service", SYSTEM, "istiod", merge(json!({"spec": {"selector": {"app": "nothing"}}}))),
        case(
            "apps/v1",
            "Deployment",
            SYSTEM,
            "istiod",
            Edit::Json(
                json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "bad/pilot:0"}]),
            ),
        ),
        case(
            "apps/v1",
            "DaemonSet",
            SYSTEM,
            "ztunnel",
            Edit::Json(
                json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "bad/ztunnel:0"}]),
            ),
        ),
        case(
            "k8s.cni.cncf.io/v1",
            "NetworkAttachmentDefinition",
            Some("default"),
            "istio-cni",
            merge(json!({"metadata": {"labels": {"app.kubernetes.io/name": "x"}}})),
        ),
        case("autoscaling/v2", "HorizontalPodAutoscaler", SYSTEM, "istiod", merge(json!({"spec": {"maxReplicas": 9}}))),
        case("policy/v1", "PodDisruptionBudget", SYSTEM, "istiod", merge(json!({"spec": {"minAvailable": 0}}))),
        case(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            SYSTEM,
            "istiod",
            merge(json!({"spec": {"podSelector": {"matchLabels": {"app": "nothing"}}}})),
        ),
        case(
            ADMISSION,
            "ValidatingAdmissionPolicy",
            None,
            "stable-channel-policy-istio-system.istio.io",
            merge(json!({"spec": {"failurePolicy": "Ignore"}})),
        ),
        case(
            ADMISSION,
            "ValidatingAdmissionPolicyBinding",
            None,
            "stable-channel-policy-binding-istio-system.istio.io",
            merge(json!({"spec": {"policyName": "another"}})),
        ),
        case(
            ADMISSION,
            "ValidatingWebhookConfiguration",
            None,
            "istio-validator-istio-system",
            Edit::Json(json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}])),
        ),
        case(
            ADMISSION,
            "MutatingWebhookConfiguration",
            None,
            "istio-sidecar-injector",
            Edit::Json(json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}])),
        ),
    ]
}

/// The object without status and labels that Kubernetes sets.
fn content(object: &DynamicObject) -> Value {
    let mut data = object.data.clone();
    if let Some(fields) = data.as_object_mut() {
        fields.remove("status");
    }
    let labels: Vec<_> = object.labels().iter().filter(|(key, _)| !key.contains("kubernetes.io/metadata")).collect();
    json!({"labels": labels, "data": data})
}

impl DriftCase {
    fn api(&self, mesh: &Mesh) -> Api<DynamicObject> {
        mesh.api(self.api_version, self.kind, self.namespace)
    }

    fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    async fn apply_edit(&self, api: &Api<DynamicObject>) -> TestResult {
        let params = PatchParams::default();
        match &self.edit {
            Edit::Merge(patch) => api.patch(self.name, &params, &Patch::Merge(patch)).await?,
            Edit::Json(patch) => {
                let patch: json_patch::Patch = serde_json::from_value(patch.clone())?;
                api.patch(self.name, &params, &Patch::Json::<()>(patch)).await?
            }
        };
        Ok(())
    }

    /// Edits the object and waits until the edit is reverted.
    async fn assert_edit_reverted(&self, mesh: &Mesh) -> TestResult {
        let api = self.api(mesh);
        let before = content(&api.get(self.name).await?);
        self.apply_edit(&api).await?;
        wait::until(wait::TIMEOUT, format!("{} to be reverted", self.title()), async || {
            let now = content(&api.get(self.name).await.map_err(|error| error.to_string())?);
            if now == before { Ok(()) } else { Err(now.to_string()) }
        })
        .await?;
        Ok(())
    }

    /// Deletes the object and waits until it is recreated.
    async fn assert_recreated(&self, mesh: &Mesh) -> TestResult {
        let api = self.api(mesh);
        let before = api.get(self.name).await?;
        api.delete(self.name, &DeleteParams::default()).await?;
        wait::until(wait::TIMEOUT, format!("{} to be recreated", self.title()), async || {
            let now = api.get_opt(self.name).await.map_err(|error| error.to_string())?;
            let now = now.ok_or_else(|| "it does not exist".to_owned())?;
            if now.uid() == before.uid() {
                return Err("it is not deleted yet".to_owned());
            }
            if now.labels() == before.labels() { Ok(()) } else { Err(format!("{:?}", now.labels())) }
        })
        .await?;
        Ok(())
    }
}

#[test]
fn reverts_edited_field_of_every_kind() {
    run(LabOptions::default(), async |lab| {
        let mesh = install(lab).await?;
        for case in cases() {
            case.assert_edit_reverted(&mesh).await.map_err(|error| format!("{}: {error}", case.title()))?;
        }
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn recreates_deleted_object_of_every_kind() {
    run(LabOptions::default(), async |lab| {
        let mesh = install(lab).await?;
        for case in cases() {
            case.assert_recreated(&mesh).await.map_err(|error| format!("{}: {error}", case.title()))?;
        }
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn removes_added_containers_webhooks_and_keys() {
    run(LabOptions::default(), async |lab| {
        let mesh = install(lab).await?;
        let container = json!({"name": "miner", "image": "bad/miner:1"});
        let webhook = json!({
            "name": "extra.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore", "clientConfig": {"url": "https://127.0.0.1:1/x"},
        });
        let additions = [
            ("apps/v1", "Deployment", SYSTEM, "istiod", "/spec/template/spec/containers/-", container),
            (ADMISSION, "MutatingWebhookConfiguration", None, "istio-sidecar-injector", "/webhooks/-", webhook),
            ("v1", "ConfigMap", SYSTEM, "istio-sidecar-injector", "/data/extra", json!("x")),
        ];
        for (api_version, kind, namespace, name, path, value) in additions {
            let api = mesh.api(api_version, kind, namespace);
            let before = content(&api.get(name).await?);
            let patch: json_patch::Patch =
                serde_json::from_value(json!([{"op": "add", "path": path, "value": value}]))?;
            api.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch)).await?;
            wait::until(wait::TIMEOUT, format!("the addition to {kind} {name} to be removed"), async || {
                let now = content(&api.get(name).await.map_err(|error| error.to_string())?);
                if now == before { Ok(()) } else { Err(now.to_string()) }
            })
            .await?;
        }
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn leaves_fields_of_other_managers_unchanged() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = install(lab).await?;
        let validators = mesh.api(ADMISSION, "ValidatingWebhookConfiguration", None);
        let before = lab.settled_audit().await?.position();

        // The HPA's replicas, an administrator's pull secret, and a wrong caBundle that istiod corrects.
        let deployments = mesh.api("apps/v1", "Deployment", SYSTEM);
        let scale: Value = json!({"spec": {"replicas": 3}});
        let hpa = PatchParams { field_manager: Some("kube-controller-manager".into()), ..PatchParams::default() };
        deployments.patch_scale("istiod", &hpa, &Patch::Merge(&scale)).await?;
        let accounts = mesh.api("v1", "ServiceAccount", SYSTEM);
        let secret = json!({"imagePullSecrets": [{"name": "mine"}]});
        accounts.patch("istiod", &PatchParams::default(), &Patch::Merge(&secret)).await?;
        let injectors = mesh.api(ADMISSION, "MutatingWebhookConfiguration", None);
        let wrong: json_patch::Patch = serde_json::from_value(
            json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": "Cg=="}]),
        )?;
        injectors.patch("istio-sidecar-injector", &PatchParams::default(), &Patch::Json::<()>(wrong)).await?;

        // When this edit is reverted, the operator has observed the earlier changes too.
        let last = cases().into_iter().find(|case| case.kind == "PodDisruptionBudget").ok_or("no such case")?;
        last.assert_edit_reverted(&mesh).await?;
        mesh.wait_ready(NAME).await?;

        let touched = |resource: &str| format!(" {resource} ");
        let writes = operator_writes(&lab.settled_audit().await?, before);
        for resource in
            ["deployments", "serviceaccounts", "mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
        {
            assert!(writes.iter().all(|write| !write.contains(&touched(resource))), "{writes:#?}");
        }
        assert_eq!(accounts.get("istiod").await?.data["imagePullSecrets"], json!([{"name": "mine"}]));
        let validator = validators.get("istio-validator-istio-system").await?;
        assert_eq!(validator.data["webhooks"][0]["failurePolicy"], "Fail");
        Ok(())
    });
}

#[test]
fn restores_replicas_of_workloads_scaled_to_zero() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let gateways = json!([{"name": "edge", "autoscaling": {"minReplicas": 1, "maxReplicas": 3, "targetCPUUtilizationPercentage": 80}}]);
        mesh.apply(NAME, json!({"version": VERSION, "profile": "default", "gateways": gateways})).await?;
        mesh.wait_ready(NAME).await?;
        let deployments = mesh.api("apps/v1", "Deployment", SYSTEM);
        for name in ["edge", "istiod"] {
            let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
            deployments.patch_scale(name, &PatchParams::default(), &none).await?;
            wait::until(wait::TIMEOUT, format!("replicas of {name} to be restored"), async || {
                let found = deployments.get(name).await.map_err(|error| error.to_string())?;
                if found.data["spec"]["replicas"] == 0 { Err("0 replicas".into()) } else { Ok(()) }
            })
            .await?;
        }
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn throttles_and_reports_drift_loop() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let maps = mesh.api("v1", "ConfigMap", SYSTEM);
        let before = lab.settled_audit().await?.position();
        let edit_again = async || -> Result<(), String> {
            let found = maps.get("istio").await.map_err(|error| error.to_string())?;
            if found.data["data"]["mesh"] != "mine" {
                let edit = Patch::Merge(json!({"data": {"mesh": "mine"}}));
                maps.patch("istio", &PatchParams::default(), &edit).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        wait::until(wait::TIMEOUT, "Ready=False, DriftLoop", async || {
            edit_again().await?;
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.unwrap_or_default().conditions;
            let ready = get(&conditions, ConditionType::Ready).map(|c| (c.status.clone(), c.reason.clone()));
            if ready == Some(("False".into(), "DriftLoop".into())) { Ok(()) } else { Err(format!("{ready:?}")) }
        })
        .await?;
        wait::until(wait::TIMEOUT, "the write limit to be reached", async || {
            edit_again().await?;
            let audit = lab.settled_audit().await.map_err(|error| error.to_string())?;
            let writes = operator_writes(&audit, before);
            let writes = writes.iter().filter(|write| write.contains(" configmaps ")).count();
            if writes >= 20 { Ok(()) } else { Err(format!("{writes} writes")) }
        })
        .await?;
        // The next edit is not reverted for half a minute, while drift of other objects still is.
        edit_again().await?;
        let other = cases().into_iter().find(|case| case.kind == "ServiceAccount").ok_or("no such case")?;
        other.assert_edit_reverted(&mesh).await?;
        assert_eq!(maps.get("istio").await?.data["data"]["mesh"], "mine");
        Ok(())
    });
}
