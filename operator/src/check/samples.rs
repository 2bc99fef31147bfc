//! A clean cluster, one of which nothing can be seen, and what is asked for; tests change what they are about.

use std::collections::BTreeMap;

use jiff::civil::date;

use super::asked::{Asked, Wanted};
use super::cluster::{Account, Cluster, Meta, NodePorts, Rights};
use crate::mesh::object::Owner;
use crate::nodeports::{Discovery, PortRange};
use crate::platform::Detected;

/// An installation of Istio 1.31 into istio-system.
pub(super) fn asked() -> Asked {
    let version = semver::Version::new(1, 31, 2);
    let mut asked = Asked::anything("istio-system", vec![version.clone()], date(2026, 11, 20));
    asked.version = Some("1.31".parse().unwrap());
    let owner = Owner { installation: "mesh".into(), uid: String::new(), release: version };
    asked.installation = Some(Ok(Wanted {
        owner,
        peer: crate::mesh::beside::tests::peer("mesh", None, &[]),
        desired: Vec::new(),
        adoption: meshwright_api::Adoption::Refuse,
    }));
    asked
}

/// A cluster that has nothing but what every cluster has.
pub(super) fn cluster() -> Cluster {
    let namespace = |name| meta("Namespace", "", name);
    Cluster {
        version: Ok("v1.34.2".into()),
        platform: Ok(Detected::chosen("generic")),
        node_ports: Ok(NodePorts { range: Discovery::Told(PortRange::KUBERNETES), held: Vec::new() }),
        namespaces: Ok(["default", "istio-system", "kube-system"].map(namespace).into()),
        definitions: Ok(Vec::new()),
        objects: Vec::new(),
        hidden: Vec::new(),
        webhooks: Ok(Vec::new()),
        endpoints: BTreeMap::new(),
        rights: Ok(Rights { of: Account::Caller, asked: 100, missing: Vec::new() }),
        refusals: Ok(Vec::new()),
    }
}

/// A cluster whose server answers every question with a refusal.
pub(super) fn blind() -> Cluster {
    fn hidden<T>() -> Result<T, String> {
        Err("you may not see this".into())
    }
    Cluster {
        version: hidden(),
        platform: hidden(),
        node_ports: hidden(),
        namespaces: hidden(),
        definitions: hidden(),
        objects: Vec::new(),
        hidden: vec!["Deployments: you may not see this".into()],
        webhooks: hidden(),
        endpoints: BTreeMap::new(),
        rights: hidden(),
        refusals: hidden(),
    }
}

/// An object; the namespace is empty for what has none.
pub(super) fn meta(kind: &str, namespace: &str, name: &str) -> Meta {
    Meta {
        kind: kind.into(),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        name: name.into(),
        ..Meta::default()
    }
}

impl Meta {
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
