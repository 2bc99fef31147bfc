//! Whatever is deleted or edited comes back, for every kind that is applied; what others own is left alone.

use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION, operator_writes};
use meshwright_e2e::{Lab, LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

/// A mesh that has an object of every kind: two istiods give a disruption budget, two switches give policies,
/// GKE takes quotas, and Multus has a kind of its own.
fn everything() -> Value {
    let small = json!({"requests": {"cpu": "10m", "memory": "100Mi"}});
    json!({
        "version": VERSION,
        "platform": "gke",
        "controlPlane": {"autoscaling": {"min": 2, "max": 3}, "resources": small},
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

async fn start(lab: &Lab) -> TestResult<Mesh> {
    let mesh = Mesh::operator(lab).await?;
    crate::node_agents::multus(&mesh).await?;
    mesh.apply(NAME, everything()).await?;
    mesh.wait_ready(NAME).await?;
    // Until istiod has made its webhook strict, that isn't as it will be.
    mesh.wait_strict().await?;
    Ok(mesh)
}

/// One object per kind: where it is, and an edit that breaks it.
struct Case {
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

fn cases() -> Vec<Case> {
    let case = |api_version, kind, namespace, name, edit| Case { api_version, kind, namespace, name, edit };
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

/// What an object asks for: all of it but what changes by itself.
fn content(object: &DynamicObject) -> Value {
    let mut data = object.data.clone();
    if let Some(fields) = data.as_object_mut() {
        fields.remove("status");
    }
    let ours: Vec<_> = object.labels().iter().filter(|(key, _)| !key.contains("kubernetes.io/metadata")).collect();
    json!({"labels": ours, "data": data})
}

impl Case {
    fn api(&self, mesh: &Mesh) -> Api<DynamicObject> {
        mesh.api(self.api_version, self.kind, self.namespace)
    }

    fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    async fn break_it(&self, api: &Api<DynamicObject>) -> TestResult {
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

    /// Breaks a field and waits until the object asks for the same as before.
    async fn edited_comes_back(&self, mesh: &Mesh) -> TestResult {
        let api = self.api(mesh);
        let before = content(&api.get(self.name).await?);
        self.break_it(&api).await?;
        wait::until(wait::PATIENCE, format!("{} to be put right", self.title()), async || {
            let now = content(&api.get(self.name).await.map_err(|error| error.to_string())?);
            if now == before { Ok(()) } else { Err(now.to_string()) }
        })
        .await?;
        Ok(())
    }

    /// Deletes the object and waits until another one of that name asks for the same.
    async fn deleted_comes_back(&self, mesh: &Mesh) -> TestResult {
        let api = self.api(mesh);
        let before = api.get(self.name).await?;
        api.delete(self.name, &DeleteParams::default()).await?;
        wait::until(wait::PATIENCE, format!("{} to be back", self.title()), async || {
            let now = api.get_opt(self.name).await.map_err(|error| error.to_string())?;
            let now = now.ok_or_else(|| "it is gone".to_owned())?;
            if now.uid() == before.uid() {
                return Err("it is still the old one".to_owned());
            }
            if now.labels() == before.labels() { Ok(()) } else { Err(format!("{:?}", now.labels())) }
        })
        .await?;
        Ok(())
    }
}

#[test]
fn an_edited_field_of_every_kind_is_put_right() {
    run(LabOptions::default(), async |lab| {
        let mesh = start(lab).await?;
        for case in cases() {
            case.edited_comes_back(&mesh).await.map_err(|error| format!("{}: {error}", case.title()))?;
        }
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn a_deleted_object_of_every_kind_comes_back() {
    run(LabOptions::default(), async |lab| {
        let mesh = start(lab).await?;
        for case in cases() {
            case.deleted_comes_back(&mesh).await.map_err(|error| format!("{}: {error}", case.title()))?;
        }
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn containers_webhooks_and_keys_that_others_add_are_taken_out() {
    run(LabOptions::default(), async |lab| {
        let mesh = start(lab).await?;
        let container = json!({"name": "miner", "image": "bad/miner:1"});
        let hook = json!({
            "name": "extra.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore", "clientConfig": {"url": "https://127.0.0.1:1/x"},
        });
        let additions = [
            ("apps/v1", "Deployment", SYSTEM, "istiod", "/spec/template/spec/containers/-", container),
            (ADMISSION, "MutatingWebhookConfiguration", None, "istio-sidecar-injector", "/webhooks/-", hook),
            ("v1", "ConfigMap", SYSTEM, "istio-sidecar-injector", "/data/extra", json!("x")),
        ];
        for (api_version, kind, namespace, name, path, value) in additions {
            let api = mesh.api(api_version, kind, namespace);
            let before = content(&api.get(name).await?);
            let patch: json_patch::Patch =
                serde_json::from_value(json!([{"op": "add", "path": path, "value": value}]))?;
            api.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch)).await?;
            wait::until(wait::PATIENCE, format!("the addition to {kind} {name} to be gone"), async || {
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
fn what_others_own_is_left_alone() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = start(lab).await?;
        let validators = mesh.api(ADMISSION, "ValidatingWebhookConfiguration", None);
        let before = lab.settled_audit().await?.mark();

        // An autoscaler's write, an administrator's pull secret, a wrong certificate that istiod repairs.
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

        // Something that is healed tells that all of it was seen.
        let last = cases().into_iter().find(|case| case.kind == "PodDisruptionBudget").ok_or("no such case")?;
        last.edited_comes_back(&mesh).await?;
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
fn workloads_that_were_scaled_to_nothing_come_back_though_an_autoscaler_owns_their_number() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let gateways = json!([{"name": "edge", "autoscaling": {"min": 1, "max": 3, "targetCPU": 80}}]);
        mesh.apply(NAME, json!({"version": VERSION, "profile": "default", "gateways": gateways})).await?;
        mesh.wait_ready(NAME).await?;
        let deployments = mesh.api("apps/v1", "Deployment", SYSTEM);
        for name in ["edge", "istiod"] {
            let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
            deployments.patch_scale(name, &PatchParams::default(), &none).await?;
            wait::until(wait::PATIENCE, format!("a pod of {name} to be asked for again"), async || {
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
fn a_fight_over_an_object_is_told_and_does_not_go_on_at_full_speed() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        let maps = mesh.api("v1", "ConfigMap", SYSTEM);
        let before = lab.settled_audit().await?.mark();
        let vandalise = async || -> Result<(), String> {
            let found = maps.get("istio").await.map_err(|error| error.to_string())?;
            if found.data["data"]["mesh"] != "mine" {
                let edit = Patch::Merge(json!({"data": {"mesh": "mine"}}));
                maps.patch("istio", &PatchParams::default(), &edit).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        wait::until(wait::PATIENCE, "Ready=False, Contested", async || {
            vandalise().await?;
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.unwrap_or_default().conditions;
            let ready = get(&conditions, ConditionType::Ready).map(|c| (c.status.clone(), c.reason.clone()));
            if ready == Some(("False".into(), "Contested".into())) { Ok(()) } else { Err(format!("{ready:?}")) }
        })
        .await?;
        wait::until(wait::PATIENCE, "the allowance to be used", async || {
            vandalise().await?;
            let audit = lab.settled_audit().await.map_err(|error| error.to_string())?;
            let writes = operator_writes(&audit, before);
            let writes = writes.iter().filter(|write| write.contains(" configmaps ")).count();
            if writes >= 20 { Ok(()) } else { Err(format!("{writes} writes")) }
        })
        .await?;
        // One more edit stays for half a minute, in which others are still healed.
        vandalise().await?;
        let other = cases().into_iter().find(|case| case.kind == "ServiceAccount").ok_or("no such case")?;
        other.edited_comes_back(&mesh).await?;
        assert_eq!(maps.get("istio").await?.data["data"]["mesh"], "mine");
        Ok(())
    });
}
