//! Quotas and admission policies that make requests or Pods of the mesh fail.

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::wait::{self, TIMEOUT};
use crate::{TestResult, apply, objects};

/// A quota or policy that is in effect until [`Self::remove`].
pub struct Restriction {
    client: Client,
    objects: Vec<DynamicObject>,
}

impl Restriction {
    /// Creates a quota that rejects new Pods in a namespace.
    pub async fn deny_pods(client: Client, namespace: &str) -> TestResult<Self> {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "no-more-pods", "namespace": namespace},
            // A higher number would admit Pods as soon as terminating ones are gone.
            "spec": {"hard": {"pods": "0"}},
        });
        let restriction = Self::create(client, vec![quota]).await?;
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(restriction.client.clone(), namespace);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let plain = objects::pod("one-more", &[("sidecar.istio.io/inject", "false")]);
        wait::until(TIMEOUT, "the quota to take effect", async || match pods.create(&dry_run, &plain).await {
            Err(error) if error.to_string().contains("exceeded quota") => Ok(()),
            other => Err(format!("{:?}", other.map(|_| "a Pod was admitted"))),
        })
        .await?;
        Ok(restriction)
    }

    /// Creates a policy that denies one object when it is rendered from this release. `object` must exist: a dry run on
    /// it shows when the policy takes effect.
    pub async fn deny_object(client: Client, object: &DynamicObject, release: &str) -> TestResult<Self> {
        let (resource, name) = (resource(object)?, object.name_any());
        let annotation =
            format!("'{RELEASE}' in object.metadata.annotations && object.metadata.annotations['{RELEASE}']");
        let expression = format!(
            "object.metadata.name != '{name}' || !has(object.metadata.annotations) || !({annotation} == '{release}')"
        );
        let policy = admission(
            "ValidatingAdmissionPolicy",
            "refused-object",
            &json!({
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [resource.group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                    "resources": [resource.plural],
                }]},
                "validations": [{
                    "expression": expression, "message": format!("{name} of release {release} is denied by the test policy"),
                }],
            }),
        );
        let binding = admission(
            "ValidatingAdmissionPolicyBinding",
            "refused-object",
            &json!({"policyName": "refused-object", "validationActions": ["Deny"]}),
        );
        let restriction = Self::create(client, vec![policy, binding]).await?;
        let api = api(&restriction.client, object)?;
        let annotated = json!({"metadata": {"annotations": {RELEASE: release}}});
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        wait::until(TIMEOUT, "the policy to take effect", async || {
            match api.patch(&name, &dry_run, &Patch::Merge(&annotated)).await {
                Err(error) if error.to_string().contains("is denied by the test policy") => Ok(()),
                other => Err(format!("{:?}", other.map(|_| "the object was admitted"))),
            }
        })
        .await?;
        Ok(restriction)
    }

    /// Creates a policy that keeps the Pods of gateways rendered from this release unready.
    pub async fn unready_gateways(client: Client, release: &str) -> TestResult<Self> {
        let expression = format!(
            "has(object.metadata.labels) && 'app.kubernetes.io/version' in object.metadata.labels && \
             object.metadata.labels['app.kubernetes.io/version'] == '{release}' && \
             has(object.metadata.annotations) && 'inject.istio.io/templates' in object.metadata.annotations"
        );
        let policy = admission(
            "MutatingAdmissionPolicy",
            "unready-gateways",
            &json!({
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
                ]},
                "matchConditions": [{"name": "gateway", "expression": expression}],
                "mutations": [{
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": format!(
                        "Object{{metadata: Object.metadata{{annotations: {{'{PLAY}': 'unready'}}}}}}"
                    )},
                }],
            }),
        );
        let binding =
            admission("MutatingAdmissionPolicyBinding", "unready-gateways", &json!({"policyName": "unready-gateways"}));
        let restriction = Self::create(client, vec![policy, binding]).await?;
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(restriction.client.clone());
        let mut pod = objects::pod("gateway", &[("app.kubernetes.io/version", release)]);
        pod.annotations_mut().insert("inject.istio.io/templates".to_owned(), "gateway".to_owned());
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        wait::until(TIMEOUT, "the policy to take effect", async || {
            let created = pods.create(&dry_run, &pod).await.map_err(|error| error.to_string())?;
            if created.annotations().contains_key(PLAY) { Ok(()) } else { Err("the Pod is unchanged".to_owned()) }
        })
        .await?;
        Ok(restriction)
    }

    /// Deletes the objects. The API server may enforce them for a moment longer.
    pub async fn remove(self) -> TestResult {
        for object in self.objects.iter().rev() {
            api(&self.client, object)?.delete(&object.name_any(), &DeleteParams::default()).await?;
        }
        Ok(())
    }

    async fn create(client: Client, manifests: Vec<Value>) -> TestResult<Self> {
        let objects: Vec<DynamicObject> =
            manifests.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
        apply::apply_all(&client, objects.clone()).await?;
        Ok(Self { client, objects })
    }
}

/// The operator's annotation with the release that an object was rendered from.
const RELEASE: &str = "meshwright.dev/release";
/// Annotation that selects how kwok simulates a Pod.
const PLAY: &str = "lab.meshwright.dev/play";

/// Builds an admission policy or its binding.
fn admission(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn resource(object: &DynamicObject) -> TestResult<ApiResource> {
    let types = object.types.as_ref().ok_or("an object without a kind")?;
    Ok(ApiResource::from_gvk(&GroupVersionKind::try_from(types)?))
}

fn api(client: &Client, object: &DynamicObject) -> TestResult<Api<DynamicObject>> {
    let resource = resource(object)?;
    Ok(match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}
