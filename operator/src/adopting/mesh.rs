//! Which mesh is there: its control plane, gateways and node agents.

use std::collections::BTreeSet;

use serde_json::Value;

use super::table;
use crate::mesh::kind::Kind;
use crate::mesh::marks::Marks;
use crate::mesh::merge::get;
use crate::mesh::object::ObjectKey;
use crate::mesh::revisions::{DEFAULT, REVISION_LABEL, Revision, TAG_LABEL};
use crate::planning::objects::Objects;

/// Where Istio is installed unless somebody says otherwise.
pub const USUAL_NAMESPACE: &str = "istio-system";

/// Which of several control planes is meant.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The one in this namespace.
    pub namespace: Option<String>,
    /// The one of this revision; `default` is the one without.
    pub revision: Option<String>,
}

/// There is no mesh to propose anything for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindMeshError {
    /// None is there.
    #[error("no control plane is there that Istio's charts made and no MeshInstallation has")]
    None,
    /// Which one is meant?
    #[error("there are several control planes: {}; name one with --namespace and --revision", .0.join(", "))]
    Several(Vec<String>),
    /// Its objects don't say of which release it is.
    #[error("{0} has no label app.kubernetes.io/version: releases before 1.24 can't be read")]
    NoVersion(ObjectKey),
}

/// A mesh, by its objects.
#[derive(Debug)]
pub struct Found<'a> {
    /// The Deployment of istiod.
    pub istiod: (&'a ObjectKey, &'a Value),
    /// The control plane's namespace.
    pub namespace: String,
    /// Its revision.
    pub revision: Revision,
    /// Its exact release.
    pub version: String,
    /// Revision tags that lead to it.
    pub tags: BTreeSet<String>,
    /// Deployments of its gateways.
    pub gateways: Vec<(&'a ObjectKey, &'a Value)>,
    /// Those of its gateways that istiod doesn't inject, as istioctl makes them: no chart makes such pods any more.
    pub uninjected: Vec<(&'a ObjectKey, &'a Value)>,
    /// The node agent.
    pub cni: Option<(&'a ObjectKey, &'a Value)>,
    /// The node proxy.
    pub ztunnel: Option<(&'a ObjectKey, &'a Value)>,
    /// Deployments of the other control planes, and of gateways that ask for another.
    pub others: Vec<(&'a ObjectKey, &'a Value)>,
}

/// Finds a mesh among objects of Istio's charts. What an installation has is left out.
pub fn find<'a>(objects: &'a Objects, choice: &Choice) -> Result<Found<'a>, FindMeshError> {
    let free: Vec<(&ObjectKey, &Value)> =
        objects.iter().filter(|(_, object)| Marks::of(object).are_missing()).collect();
    let istiod = control_plane(&free, choice)?;
    let version = label(istiod.1, "app.kubernetes.io/version");
    let version = version.ok_or_else(|| FindMeshError::NoVersion(istiod.0.clone()))?.to_owned();
    let rev = revision(istiod.1);
    let of_kind = |kind: Kind| free.iter().copied().filter(move |(key, _)| key.kind == kind);
    let mut others: Vec<_> =
        objects.iter().filter(|(key, object)| is_istiod(key, object) && *key != istiod.0).collect();
    // A node's agents are there once. They say whose they are, but for one that is gone: then they are anybody's.
    let is_its = |agent: &Value| {
        let theirs = agents_revision(agent);
        theirs == rev || !others.iter().any(|(_, other)| revision(other) == theirs)
    };
    let named = |kind: Kind, name: &str| of_kind(kind).find(|(key, agent)| key.name == name && is_its(agent));
    let tags: BTreeSet<String> = of_kind(Kind::MutatingWebhookConfiguration)
        .filter(|(_, object)| label(object, REVISION_LABEL) == Some(rev))
        .filter_map(|(_, object)| label(object, TAG_LABEL))
        // Whoever has no revision is the default.
        .filter(|tag| !(*tag == DEFAULT && rev == DEFAULT))
        .map(str::to_owned)
        .collect();
    let cni = named(Kind::DaemonSet, "istio-cni-node");
    let ztunnel = named(Kind::DaemonSet, "ztunnel");
    let gateways = of_kind(Kind::Deployment).filter(|(_, object)| is_gateway(object));
    let (gateways, anothers): (Vec<_>, Vec<_>) = gateways.partition(|(_, object)| {
        let name = revision_asked_for(object).unwrap_or(DEFAULT);
        name == rev || tags.contains(name)
    });
    others.extend(anothers);
    let (uninjected, gateways) = gateways.into_iter().partition(|(_, object)| is_uninjected(object));
    Ok(Found {
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
    choice: &Choice,
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

impl Choice {
    fn fits(&self, key: &ObjectKey, istiod: &Value) -> bool {
        (self.namespace.is_none() || self.namespace == key.namespace)
            && self.revision.as_deref().is_none_or(|wanted| wanted == revision(istiod))
    }
}

fn revision(istiod: &Value) -> &str {
    label(istiod, REVISION_LABEL).unwrap_or(DEFAULT)
}

/// cni's chart has a label for it, ztunnel's an annotation.
fn agents_revision(agent: &Value) -> &str {
    let annotation = get(agent, "metadata.annotations").and_then(|all| all.get(REVISION_LABEL)).and_then(Value::as_str);
    annotation.unwrap_or_else(|| revision(agent))
}

fn label<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    get(object, "metadata.labels")?.get(name)?.as_str()
}

fn pod_label<'a>(workload: &'a Value, name: &str) -> Option<&'a str> {
    table(workload, "spec.template.metadata.labels").find(|(key, _)| *key == name)?.1.as_str()
}

/// Whether istiod is told to leave these pods as they are.
pub(super) fn is_uninjected(deployment: &Value) -> bool {
    pod_label(deployment, "sidecar.istio.io/inject") == Some("false")
}

/// The revision, or the tag, by which a gateway's pods ask to be injected.
pub(super) fn revision_asked_for(gateway: &Value) -> Option<&str> {
    pod_label(gateway, REVISION_LABEL)
}

/// Pods that are a proxy and nothing else; those that istiod made for a Gateway of the Gateway API stay istiod's.
fn is_gateway(deployment: &Value) -> bool {
    let containers = deployment.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let names = containers.into_iter().flatten().map(|container| container.get("name").and_then(Value::as_str));
    names.eq([Some("istio-proxy")]) && label(deployment, "gateway.networking.k8s.io/gateway-name").is_none()
}
