//! What shall be installed, as far as checks depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use meshwright_api::version::VersionRequest;
use meshwright_api::{Adoption, MeshInstallation};
use semver::Version;
use serde_json::Value;

use crate::controller::Accepted;
use crate::mesh::beside::Peer;
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Desired, ObjectKey, Owner};
use crate::platform::Detected;

/// What shall be installed.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Namespace of the control plane.
    pub namespace: String,
    /// The namespaces that the mesh has objects in, each with the labels that the operator will put on it.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Those of them in which cni or ztunnel run.
    pub privileged: BTreeSet<String>,
    /// Istio's CNI plugin redirects traffic, so that injected pods need no rights for that.
    pub cni: bool,
    /// The platform that the installation is made for, where one is given.
    pub platform: Option<Detected>,
    /// The node ports that the gateways would get. Example: `30401 for edge/ingress/http2`.
    pub node_ports: Vec<String>,
    /// Services that wait for a load balancer, as `namespace/name`.
    pub load_balancers: Vec<String>,
    /// The release that is asked for; `None`: any of the catalog.
    pub version: Option<VersionRequest>,
    /// What the catalog has, newest first.
    pub available: Vec<Version>,
    /// The day, since releases' lives end.
    pub today: Date,
    /// The objects that an installation stands for; `None` where none was given.
    pub installation: Option<Result<Wanted, Blocker>>,
}

/// What a given installation stands for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose objects.
    pub owner: Owner,
    /// The installation as others see it.
    pub peer: Peer,
    /// The objects.
    pub desired: Vec<Arc<Desired>>,
    /// What becomes of objects that are nobody's.
    pub adoption: Adoption,
}

impl Asked {
    /// Where nothing in particular is asked for: any release of a catalog, without gateways.
    #[must_use]
    pub fn anything(namespace: &str, available: Vec<Version>, today: Date) -> Self {
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

    /// What an installation asks for; `accepted` is what it stands for, or why the operator would refuse it.
    #[must_use]
    pub fn by(
        installation: &MeshInstallation,
        accepted: Result<Accepted, Blocker>,
        available: Vec<Version>,
        today: Date,
    ) -> Self {
        let spec = &installation.spec;
        let mut asked = Self::anything(&spec.namespace, available, today);
        asked.version = spec.version.parse().ok();
        asked.installation = Some(accepted.map(|Accepted { inputs, validated, desired, .. }| {
            asked.platform = Some(inputs.platform);
            asked.node_ports = inputs.node_ports.iter().map(|(slot, port, _)| format!("{port} for {slot}")).collect();
            asked.load_balancers = desired.iter().filter_map(|object| load_balancer(object)).collect();
            asked.privileged = validated.node_agents().map(|(_, namespace)| namespace.to_owned()).collect();
            asked.cni = validated.has_cni();
            let others = validated.releases.iter().map(|release| (release.namespace.clone(), BTreeMap::new()));
            let made = validated.namespaces.into_iter().map(|(name, namespace)| (name, namespace.labels));
            asked.namespaces = others.chain(made).collect();
            Wanted { owner: validated.owner, peer: Peer::of(installation), desired, adoption: spec.adoption }
        }));
        asked
    }
}

impl Asked {
    /// What is there already becomes the installation's.
    #[must_use]
    pub fn adopts(&self) -> bool {
        matches!(&self.installation, Some(Ok(wanted)) if wanted.adoption != Adoption::Refuse)
    }
}

fn load_balancer(object: &Desired) -> Option<String> {
    let ObjectKey { kind: Kind::Service, namespace: Some(namespace), name } = &object.key else { return None };
    let waits = object.value().pointer("/spec/type").and_then(Value::as_str) == Some("LoadBalancer");
    waits.then(|| format!("{namespace}/{name}"))
}
