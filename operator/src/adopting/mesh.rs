//! Finds the existing mesh: control plane, gateways and node components.

use std::collections::BTreeSet;

use serde_json::Value;

use super::entries;
use crate::mesh::kind::Kind;
use crate::mesh::merge::get;
use crate::mesh::object::ObjectKey;
use crate::mesh::ownership::OwnershipMeta;
use crate::mesh::revisions::{DEFAULT, REVISION_LABEL, Revision, TAG_LABEL};
use crate::planning::objects::LiveObjects;

/// Default namespace of Istio.
pub const DEFAULT_NAMESPACE: &str = "istio-system";

/// Selects one of several control planes.
#[derive(Clone, Debug, Default)]
pub struct MeshSelector {
    /// Namespace of the control plane.
    pub namespace: Option<String>,
    /// Revision of the control plane; `default` selects the one without a revision name.
    pub revision: Option<String>,
}

/// No mesh was selected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindMeshError {
    /// There is no unmanaged control plane.
    #[error("no control plane found that Istio's charts created and no MeshInstallation manages")]
    None,
    /// Several control planes match.
    #[error("found several control planes: {}; select one with --mesh-namespace and --revision", .0.join(", "))]
    Several(Vec<String>),
    /// The release of the control plane is unknown.
    #[error("{0} has no label app.kubernetes.io/version; releases before 1.24 are not supported")]
    NoVersion(ObjectKey),
}

/// The resources of an existing mesh.
#[derive(Debug)]
pub struct ExistingMesh<'a> {
    /// Deployment of the control plane.
    pub istiod: (&'a ObjectKey, &'a Value),
    /// Namespace of the control plane.
    pub namespace: String,
    /// Revision of the control plane.
    pub revision: Revision,
    /// Exact release of the control plane.
    pub version: String,
    /// Revision tags that point to it.
    pub tags: BTreeSet<String>,
    /// Deployments of its injected gateways.
    pub gateways: Vec<(&'a ObjectKey, &'a Value)>,
    /// Deployments of its gateways without injection, as istioctl creates them; current charts don't.
    pub uninjected: Vec<(&'a ObjectKey, &'a Value)>,
    /// DaemonSet of istio-cni.
    pub cni: Option<(&'a ObjectKey, &'a Value)>,
    /// DaemonSet of ztunnel.
    pub ztunnel: Option<(&'a ObjectKey, &'a Value)>,
    /// Deployments of other control planes and of their gateways.
    pub others: Vec<(&'a ObjectKey, &'a Value)>,
}

/// Finds a mesh among the resources of Istio's charts, without those that a MeshInstallation manages.
pub fn find_mesh<'a>(objects: &'a LiveObjects, choice: &MeshSelector) -> Result<ExistingMesh<'a>, FindMeshError> {
    let free: Vec<(&ObjectKey, &Value)> =
        objects.iter().filter(|(_, object)| OwnershipMeta::of(object).is_absent()).collect();
    let istiod = control_plane(&free, choice)?;
    let version = label(istiod.1, "app.kubernetes.io/version");
    let version = version.ok_or_else(|| FindMeshError::NoVersion(istiod.0.clone()))?.to_owned();
    let rev = revision(istiod.1);
    let of_kind = |kind: Kind| free.iter().copied().filter(move |(key, _)| key.kind == kind);
    let mut others: Vec<_> =
        objects.iter().filter(|(key, object)| is_istiod(key, object) && *key != istiod.0).collect();
    // istio-cni and ztunnel exist once per cluster. If the revision in their labels no longer exists, any revision can
    // adopt them.
    let is_its = |component: &Value| {
        let revision_of_component = component_revision(component);
        revision_of_component == rev || !others.iter().any(|(_, other)| revision(other) == revision_of_component)
    };
    let named = |kind: Kind, name: &str| of_kind(kind).find(|(key, component)| key.name == name && is_its(component));
    let tags: BTreeSet<String> = of_kind(Kind::MutatingWebhookConfiguration)
        .filter(|(_, object)| label(object, REVISION_LABEL) == Some(rev))
        .filter_map(|(_, object)| label(object, TAG_LABEL))
        // A control plane without a revision name is the default anyway.
        .filter(|tag| !(*tag == DEFAULT && rev == DEFAULT))
        .map(str::to_owned)
        .collect();
    let cni = named(Kind::DaemonSet, "istio-cni-node");
    let ztunnel = named(Kind::DaemonSet, "ztunnel");
    let gateways = of_kind(Kind::Deployment).filter(|(_, object)| is_gateway(object));
    let (gateways, other_gateways): (Vec<_>, Vec<_>) = gateways.partition(|(_, object)| {
        let name = selected_revision(object).unwrap_or(DEFAULT);
        name == rev || tags.contains(name)
    });
    others.extend(other_gateways);
    let (uninjected, gateways) = gateways.into_iter().partition(|(_, object)| is_uninjected(object));
    Ok(ExistingMesh {
        istiod,
        namespace: istiod.0.namespace.clone().unwrap_or_default(),
        revision: if rev == DEFAULT { Revision::Default } else { Revision::Named(rev.to_owned()) },
        version,
        tags,
        gateways,
        uninjected,
        cni,
        ztunnel,
        others,
    })
}

fn control_plane<'a>(
    free: &[(&'a ObjectKey, &'a Value)],
    choice: &MeshSelector,
) -> Result<(&'a ObjectKey, &'a Value), FindMeshError> {
    let fitting = free.iter().copied().filter(|(key, object)| is_istiod(key, object) && choice.fits(key, object));
    match fitting.collect::<Vec<_>>().as_slice() {
        [] => Err(FindMeshError::None),
        [one] => Ok(*one),
        several => {
            let named = several.iter().map(|(key, object)| format!("{key} (revision {})", revision(object)));
            Err(FindMeshError::Several(named.collect()))
        }
    }
}

fn is_istiod(key: &ObjectKey, object: &Value) -> bool {
    key.kind == Kind::Deployment && label(object, "app") == Some("istiod")
}

impl MeshSelector {
    fn fits(&self, key: &ObjectKey, istiod: &Value) -> bool {
        (self.namespace.is_none() || self.namespace == key.namespace)
            && self.revision.as_deref().is_none_or(|wanted| wanted == revision(istiod))
    }
}

fn revision(istiod: &Value) -> &str {
    label(istiod, REVISION_LABEL).unwrap_or(DEFAULT)
}

/// The revision is a label in the istio-cni chart and an annotation in the ztunnel chart.
fn component_revision(component: &Value) -> &str {
    let annotation =
        get(component, "metadata.annotations").and_then(|all| all.get(REVISION_LABEL)).and_then(Value::as_str);
    annotation.unwrap_or_else(|| revision(component))
}

fn label<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    get(object, "metadata.labels")?.get(name)?.as_str()
}

fn pod_label<'a>(workload: &'a Value, name: &str) -> Option<&'a str> {
    entries(workload, "spec.template.metadata.labels").find(|(key, _)| *key == name)?.1.as_str()
}

/// Whether injection is disabled for the pods.
pub(super) fn is_uninjected(deployment: &Value) -> bool {
    pod_label(deployment, "sidecar.istio.io/inject") == Some("false")
}

/// The revision or tag in the label of a gateway's pods.
pub(super) fn selected_revision(gateway: &Value) -> Option<&str> {
    pod_label(gateway, REVISION_LABEL)
}

/// Whether the pods only have the proxy container. istiod keeps managing Deployments of Gateway API Gateways.
fn is_gateway(deployment: &Value) -> bool {
    let containers = deployment.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let names = containers.into_iter().flatten().map(|container| container.get("name").and_then(Value::as_str));
    names.eq([Some("istio-proxy")]) && label(deployment, "gateway.networking.k8s.io/gateway-name").is_none()
}
