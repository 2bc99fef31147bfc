//! The installation to check for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use meshwright_api::version::VersionRequest;
use meshwright_api::{Adoption, MeshInstallation};
use semver::Version;
use serde_json::Value;

use crate::controller::ResolvedRevision;
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::namespace_rules::NamespaceRules;
use crate::mesh::object::{DesiredObject, ObjectKey, Owner};
use crate::mesh::peers::Peer;
use crate::mesh::problem::Problem;
use crate::platform::DetectedPlatform;

/// The installation to check for, reduced to what checks use.
#[derive(Clone, Debug)]
pub struct CheckInput {
    /// Namespace of the control plane.
    pub namespace: String,
    /// The mesh's namespaces, with the labels that the operator sets on them.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The namespaces of istio-cni and ztunnel.
    pub privileged: BTreeSet<String>,
    /// Whether istio-cni redirects traffic, so that injected pods don't need `NET_ADMIN`.
    pub cni: bool,
    /// The platform of the installation, if one is given.
    pub platform: Option<DetectedPlatform>,
    /// The node ports that the operator would allocate. Example: `30401 for edge/ingress/http2`.
    pub node_ports: Vec<String>,
    /// Services of type LoadBalancer, as `namespace/name`.
    pub load_balancers: Vec<String>,
    /// The requested release; `None` means any release of the catalog.
    pub version: Option<VersionRequest>,
    /// The catalog's releases, newest first.
    pub available: Vec<Version>,
    /// The current date, to detect releases past their end of life.
    pub today: Date,
    /// The resources of the given installation; `None` if none is given.
    pub installation: Option<Result<DesiredMesh, Blocker>>,
}

/// The resources of a given installation.
#[derive(Clone, Debug)]
pub struct DesiredMesh {
    /// The owner that the operator would record on the resources.
    pub owner: Owner,
    /// The installation as a peer of other installations.
    pub peer: Peer,
    /// The rendered resources.
    pub desired: Vec<Arc<DesiredObject>>,
    /// How the operator treats unmanaged resources with the same names.
    pub adoption: Adoption,
    /// What the mesh requires of the labels of its namespaces.
    pub namespace_rules: NamespaceRules,
    /// Keys of the spec that have no effect.
    pub unknown_keys: Vec<Problem>,
}

impl CheckInput {
    /// Input without a MeshInstallation: any release of the catalog, without gateways.
    #[must_use]
    pub fn without_installation(namespace: &str, available: Vec<Version>, today: Date) -> Self {
        Self {
            namespace: namespace.to_owned(),
            namespaces: [(namespace.to_owned(), BTreeMap::new())].into(),
            privileged: BTreeSet::new(),
            cni: false,
            platform: None,
            node_ports: Vec::new(),
            load_balancers: Vec::new(),
            version: None,
            available,
            today,
            installation: None,
        }
    }

    /// Input for a MeshInstallation; `resolved` is its resolved revision, or the reason why the operator would reject
    /// it.
    #[must_use]
    pub fn for_installation(
        installation: &MeshInstallation,
        resolved: Result<ResolvedRevision, Blocker>,
        available: Vec<Version>,
        today: Date,
    ) -> Self {
        let spec = &installation.spec;
        let mut input = Self::without_installation(&spec.namespace, available, today);
        input.version = spec.version.parse().ok();
        input.installation = Some(resolved.map(|revision| {
            let ResolvedRevision { inputs, validated, desired, unknown_keys, .. } = revision;
            input.platform = Some(inputs.platform);
            input.node_ports = inputs.node_ports.iter().map(|(key, port, _)| format!("{port} for {key}")).collect();
            input.load_balancers = desired.iter().filter_map(|object| load_balancer(object)).collect();
            input.privileged = validated.node_components().map(|(_, namespace)| namespace.to_owned()).collect();
            input.cni = validated.has_cni();
            let namespace_rules = NamespaceRules::of(&validated, &desired);
            let others = validated.releases.iter().map(|release| (release.namespace.clone(), BTreeMap::new()));
            let created = validated.namespaces.into_iter().map(|(name, namespace)| (name, namespace.labels));
            input.namespaces = others.chain(created).collect();
            let peer = Peer::of(installation);
            let (owner, adoption) = (validated.owner, spec.adoption);
            DesiredMesh { owner, peer, desired, adoption, namespace_rules, unknown_keys }
        }));
        input
    }
}

impl CheckInput {
    /// Whether the operator would adopt existing resources.
    #[must_use]
    pub fn adopts(&self) -> bool {
        matches!(&self.installation, Some(Ok(mesh)) if mesh.adoption != Adoption::Refuse)
    }
}

fn load_balancer(object: &DesiredObject) -> Option<String> {
    let ObjectKey { kind: Kind::Service, namespace: Some(namespace), name } = &object.key else { return None };
    let is_load_balancer = object.value().pointer("/spec/type").and_then(Value::as_str) == Some("LoadBalancer");
    is_load_balancer.then(|| format!("{namespace}/{name}"))
}
