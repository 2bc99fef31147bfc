//! Builds the `ClusterServiceVersion`. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::descriptors::{DescriptorError, descriptors};
use super::sources::Sources;
use super::{Base, is_true, list, text};

/// The `ClusterServiceVersion` can't be built.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// A required input is missing.
    #[error("config/{directory} has no {what}")]
    Missing {
        directory: &'static str,
        /// The missing object.
        what: &'static str,
    },
    /// A descriptor doesn't match the CRD.
    #[error("a descriptor in config/olm/base/base.yaml doesn't match the CRD")]
    Descriptor(#[source] DescriptorError),
    /// A value can't be serialized as JSON.
    #[error("can't serialize {what} as JSON")]
    Json {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

/// Builds the `ClusterServiceVersion` of a version, with an image for its Deployment.
pub(crate) fn csv(sources: &Sources, crd: &Value, image: &str, version: &str) -> Result<Value, CsvError> {
    let base = &sources.base;
    let namespace = of_kind(&sources.manager, "Namespace").next();
    let namespace = namespace.ok_or(CsvError::Missing { directory: "manager", what: "Namespace" })?;
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": super::CSV,
        "metadata": {
            "name": format!("{}.v{version}", base.package),
            // Must not be empty; OLM replaces it with the subscription's namespace.
            "namespace": "placeholder",
            "annotations": annotations(sources, namespace, image)?,
            "labels": labels(base),
        },
        "spec": {
            "displayName": base.display_name,
            "description": sources.description,
            "version": version,
            "maturity": base.maturity,
            "minKubeVersion": base.min_kube_version,
            "keywords": base.keywords,
            "icon": [{"base64data": BASE64.encode(&sources.icon), "mediatype": "image/svg+xml"}],
            "provider": {"name": base.provider},
            "maintainers": [base.maintainer],
            "links": base.links,
            "installModes": install_modes(),
            "customresourcedefinitions": {"owned": [owned(base, crd)?]},
            "relatedImages": related_images(sources, image),
            "install": {"strategy": "deployment", "spec": install(sources, image)?},
        },
    }))
}

/// The images that a mirror for air-gapped clusters needs, without Istio's, which depend on the releases in the
/// catalog.
fn related_images(sources: &Sources, image: &str) -> Value {
    let of_add_ons = sources.add_ons.iter().map(|(name, image)| json!({"name": name, "image": image}));
    [json!({"name": "operator", "image": image})].into_iter().chain(of_add_ons).collect()
}

fn annotations(sources: &Sources, namespace: &Value, image: &str) -> Result<Value, CsvError> {
    let base = &sources.base;
    let json =
        |what, value: &Value| serde_json::to_string_pretty(value).map_err(|source| CsvError::Json { what, source });
    Ok(json!({
        "alm-examples": json("the samples", &json!(sources.samples))?,
        "capabilities": base.capabilities,
        "categories": base.categories,
        "containerImage": image,
        "createdAt": base.created_at,
        "description": base.summary,
        "repository": base.repository,
        "support": base.provider,
        "operatorframework.io/suggested-namespace": text(namespace, "/metadata/name"),
        "operatorframework.io/suggested-namespace-template": json("the namespace", namespace)?,
    }))
}

/// The supported architectures and operating system.
fn labels(base: &Base) -> Value {
    let architectures =
        base.architectures.iter().map(|name| (format!("operatorframework.io/arch.{name}"), json!("supported")));
    let system = ("operatorframework.io/os.linux".to_owned(), json!("supported"));
    Value::Object(architectures.chain([system]).collect::<Map<String, Value>>())
}

/// Only `AllNamespaces`, since `MeshInstallation` is cluster-scoped.
fn install_modes() -> Value {
    let mode = |name: &str| json!({"type": name, "supported": name == "AllNamespaces"});
    Value::Array(["OwnNamespace", "SingleNamespace", "MultiNamespace", "AllNamespaces"].map(mode).to_vec())
}

/// The entry of the CRD, with its descriptors for consoles.
fn owned(base: &Base, crd: &Value) -> Result<Value, CsvError> {
    let missing = CsvError::Missing { directory: "crd", what: "served version" };
    let version = list(crd, "/spec/versions").iter().find(|version| is_true(version, "/served")).ok_or(missing)?;
    let schema = version.pointer("/schema/openAPIV3Schema").unwrap_or(&Value::Null);
    let described = |part: &'static str, shown| descriptors(schema, part, shown).map_err(CsvError::Descriptor);
    let resources: Vec<Value> = base
        .resources
        .iter()
        .map(|resource| json!({"kind": resource.kind, "name": "", "version": resource.version}))
        .collect();
    Ok(json!({
        "name": text(crd, "/metadata/name"),
        "kind": text(crd, "/spec/names/kind"),
        "version": text(version, "/name"),
        "displayName": "Mesh installation",
        "description": text(schema, "/description"),
        "resources": resources,
        "specDescriptors": described("spec", &base.spec)?,
        "statusDescriptors": described("status", &base.status)?,
    }))
}

/// The Deployment and the permissions of its `ServiceAccount`, from the `ClusterRole` and the Roles. OLM converts the
/// latter to cluster-wide permissions.
fn install(sources: &Sources, image: &str) -> Result<Value, CsvError> {
    let deployment = of_kind(&sources.manager, "Deployment").next();
    let deployment = deployment.ok_or(CsvError::Missing { directory: "manager", what: "Deployment" })?;
    let mut spec = deployment.get("spec").cloned().unwrap_or_default();
    for container in spec.pointer_mut("/template/spec/containers").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(container) = container.as_object_mut() {
            container.insert("image".to_owned(), json!(image));
        }
    }
    let account = text(&spec, "/template/spec/serviceAccountName").to_owned();
    let permissions = |kind| -> Vec<Value> {
        of_kind(&sources.rbac, kind)
            .map(|role| json!({"serviceAccountName": account, "rules": role.get("rules")}))
            .collect()
    };
    let (cluster, namespaces) = (permissions("ClusterRole"), permissions("Role"));
    if cluster.is_empty() {
        return Err(CsvError::Missing { directory: "rbac", what: "ClusterRole" });
    }
    Ok(json!({
        "clusterPermissions": cluster,
        "permissions": namespaces,
        "deployments": [{
            "name": text(deployment, "/metadata/name"),
            "label": deployment.pointer("/metadata/labels"),
            "spec": spec,
        }],
    }))
}

fn of_kind<'a>(objects: &'a [Value], kind: &'static str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| text(object, "/kind") == kind)
}
