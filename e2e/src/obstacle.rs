//! What in a cluster can stand in the way of a mesh, without anything being wrong with the mesh itself.

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::wait::{self, PATIENCE};
use crate::{TestResult, apply, objects};

/// In force from when it was made until [`Self::lift`].
pub struct Obstacle {
    client: Client,
    objects: Vec<DynamicObject>,
}

impl Obstacle {
    /// A quota that leaves a namespace the Pods it has, and no more.
    pub async fn no_more_pods(client: Client, namespace: &str) -> TestResult<Self> {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "no-more-pods", "namespace": namespace},
            // A number that Pods fit into which are just ending would let others in afterwards.
            "spec": {"hard": {"pods": "0"}},
        });
        let made = Self::make(client, vec![quota]).await?;
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(made.client.clone(), namespace);
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let plain = objects::pod("one-more", &[("sidecar.istio.io/inject", "false")]);
        wait::until(PATIENCE, "the quota to be in force", async || match pods.create(&dry, &plain).await {
            Err(error) if error.to_string().contains("exceeded quota") => Ok(()),
            other => Err(format!("{:?}", other.map(|_| "a Pod was let in"))),
        })
        .await?;
        Ok(made)
    }

    /// A policy that refuses one object as far as it is rendered from a release. `object` must be there: only so can
    /// it be seen when the policy is in force.
    pub async fn refused_object(client: Client, object: &DynamicObject, release: &str) -> TestResult<Self> {
        let (resource, name) = (resource(object)?, object.name_any());
        let ours = format!("'{RELEASE}' in object.metadata.annotations && object.metadata.annotations['{RELEASE}']");
        let expression = format!(
            "object.metadata.name != '{name}' || !has(object.metadata.annotations) || !({ours} == '{release}')"
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
                    "expression": expression, "message": format!("{name} of {release} is not wanted here"),
                }],
            }),
        );
        let binding = admission(
            "ValidatingAdmissionPolicyBinding",
            "refused-object",
            &json!({"policyName": "refused-object", "validationActions": ["Deny"]}),
        );
        let made = Self::make(client, vec![policy, binding]).await?;
        let api = api(&made.client, object)?;
        let marked = json!({"metadata": {"annotations": {RELEASE: release}}});
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        wait::until(PATIENCE, "the policy to be in force", async || {
            match api.patch(&name, &dry, &Patch::Merge(&marked)).await {
                Err(error) if error.to_string().contains("is not wanted here") => Ok(()),
                other => Err(format!("{:?}", other.map(|_| "the object was let in"))),
            }
        })
        .await?;
        Ok(made)
    }

    /// A policy by which the Pods of gateways that are rendered from a release run and never become ready.
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
        let made = Self::make(client, vec![policy, binding]).await?;
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(made.client.clone());
        let mut pod = objects::pod("gateway", &[("app.kubernetes.io/version", release)]);
        pod.annotations_mut().insert("inject.istio.io/templates".to_owned(), "gateway".to_owned());
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        wait::until(PATIENCE, "the policy to be in force", async || {
            let made = pods.create(&dry, &pod).await.map_err(|error| error.to_string())?;
            if made.annotations().contains_key(PLAY) { Ok(()) } else { Err("the Pod is as it was".to_owned()) }
        })
        .await?;
        Ok(made)
    }

    /// Takes it away. It may have effect for a moment longer.
    pub async fn lift(self) -> TestResult {
        for object in self.objects.iter().rev() {
            api(&self.client, object)?.delete(&object.name_any(), &DeleteParams::default()).await?;
        }
        Ok(())
    }

    async fn make(client: Client, manifests: Vec<Value>) -> TestResult<Self> {
        let objects: Vec<DynamicObject> =
            manifests.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
        apply::apply_all(&client, objects.clone()).await?;
        Ok(Self { client, objects })
    }
}

/// The operator's annotation that says from which release an object was rendered.
const RELEASE: &str = "meshwright.dev/release";
/// The annotation by which a Pod says how it is to be played.
const PLAY: &str = "lab.meshwright.dev/play";

/// A policy or its binding.
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
