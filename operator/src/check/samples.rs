//! Test data: a clean cluster, an unreadable cluster, and the input of a check.

use std::collections::BTreeMap;

use jiff::civil::date;

use super::input::{CheckInput, DesiredMesh};
use super::snapshot::{ClusterSnapshot, NodePortUsage, ObjectInfo, PermissionReview, ReviewedAccount};
use crate::mesh::namespace_rules::NamespaceRules;
use crate::mesh::object::Owner;
use crate::nodeports::{PortRange, RangeDiscovery};
use crate::platform::DetectedPlatform;

/// An installation of Istio 1.31 into istio-system.
pub(super) fn input() -> CheckInput {
    let version = semver::Version::new(1, 31, 2);
    let mut input = CheckInput::without_installation("istio-system", vec![version.clone()], date(2026, 11, 20));
    input.version = Some("1.31".parse().unwrap());
    let owner = Owner { installation: "mesh".into(), uid: String::new(), release: version };
    input.installation = Some(Ok(DesiredMesh {
        owner,
        peer: crate::mesh::peers::tests::peer("mesh", None, &[]),
        desired: Vec::new(),
        adoption: meshwright_api::Adoption::Refuse,
        namespace_rules: NamespaceRules::default(),
        unknown_keys: Vec::new(),
    }));
    input
}

/// A cluster without a mesh.
pub(super) fn cluster() -> ClusterSnapshot {
    let namespace = |name| meta("Namespace", "", name);
    ClusterSnapshot {
        version: Ok("v1.34.2".into()),
        platform: Ok(DetectedPlatform::from_spec("generic")),
        node_ports: Ok(NodePortUsage { range: RangeDiscovery::Known(PortRange::KUBERNETES), used_ports: Vec::new() }),
        namespaces: Ok(["default", "istio-system", "kube-system"].map(namespace).into()),
        nodes: Ok(vec![meta("Node", "", "node-1")]),
        crds: Ok(Vec::new()),
        objects: Vec::new(),
        unreadable: Vec::new(),
        webhooks: Ok(Vec::new()),
        endpoints: BTreeMap::new(),
        permissions: Ok(PermissionReview { account: ReviewedAccount::Caller, reviewed: 100, missing: Vec::new() }),
        conflicts: Ok(Vec::new()),
    }
}

/// A cluster whose API server denies every request.
pub(super) fn unreadable_cluster() -> ClusterSnapshot {
    fn unreadable<T>() -> Result<T, String> {
        Err("not allowed".into())
    }
    ClusterSnapshot {
        version: unreadable(),
        platform: unreadable(),
        node_ports: unreadable(),
        namespaces: unreadable(),
        nodes: unreadable(),
        crds: unreadable(),
        objects: Vec::new(),
        unreadable: vec!["Deployments: not allowed".into()],
        webhooks: unreadable(),
        endpoints: BTreeMap::new(),
        permissions: unreadable(),
        conflicts: unreadable(),
    }
}

/// Metadata of an object; an empty namespace means cluster-scoped.
pub(super) fn meta(kind: &str, namespace: &str, name: &str) -> ObjectInfo {
    ObjectInfo {
        kind: kind.into(),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        name: name.into(),
        ..ObjectInfo::default()
    }
}

impl ObjectInfo {
    pub(super) fn labelled(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    pub(super) fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    pub(super) fn owned_by(mut self, kind: &str) -> Self {
        self.owners.push(kind.into());
        self
    }

    pub(super) fn typed(mut self, type_: &'static str) -> Self {
        self.type_ = Some(type_);
        self
    }
}
