//! What the operator remembers: the resolved inputs of one accepted spec, as a ControllerRevision holds them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use meshwright_api::{Adoption, Deletion, MeshInstallationSpec, Proxy, ProxyUpdate, RevisionTag};
use semver::Version;
use serde::{Deserialize, Serialize};

use super::object::short_hash;
use super::revisions::DEFAULT;
use crate::nodeports::Pins;
use crate::platform::Detected;

/// Everything that a render of an accepted spec depends on, so that it can be made again exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedInputs {
    /// The spec as it was accepted.
    pub spec: MeshInstallationSpec,
    /// The exact release; a minor is resolved only once per spec.
    pub version: Version,
    /// Digest of each chart that was used.
    pub charts: BTreeMap<String, String>,
    /// The revision that the operator has named, with the strategy Canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Version of the API server, as the charts saw it.
    pub kubernetes: String,
    /// The platform; it is detected only once per spec, so that a mesh never changes with its nodes.
    #[serde(default)]
    pub platform: Detected,
    /// Node ports, those of gateways that need none at present included.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub node_ports: Pins,
}

/// What became of an accepted spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Accepted, not judged yet.
    Pending,
    /// It became Ready.
    Proved,
    /// A later one was proved.
    Superseded,
    /// A step on the way to it failed.
    Failed,
    /// A step on the way to it failed, and what ran before was proved again.
    RolledBack,
}

impl Verdict {
    /// As the annotation on the ControllerRevision spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Proved => "proved",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled-back",
        }
    }

    /// Reads the annotation; what is missing or strange is not judged yet.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("proved") => Self::Proved,
            Some("superseded") => Self::Superseded,
            Some("failed") => Self::Failed,
            Some("rolled-back") => Self::RolledBack,
            _ => Self::Pending,
        }
    }
}

/// One remembered spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Name of the ControllerRevision.
    pub name: String,
    /// Rising number.
    pub number: i64,
    /// Inputs.
    pub inputs: ResolvedInputs,
    /// Verdict.
    pub verdict: Verdict,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// UID of the installation that it was written for.
    pub uid: String,
}

impl ResolvedInputs {
    /// The name of the record: the same inputs always have the same.
    #[must_use]
    pub fn record_name(&self, installation: &str) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        format!("{installation}-{}", short_hash(&text))
    }

    /// The spec that is rendered: with the revision that the operator has named it has the tag of the default, too.
    #[must_use]
    pub fn rendered_spec(&self) -> Cow<'_, MeshInstallationSpec> {
        let Some(revision) = &self.revision else { return Cow::Borrowed(&self.spec) };
        let mut spec = self.spec.clone();
        spec.revision = Some(revision.clone());
        if spec.tags.iter().all(|tag| tag.name != DEFAULT) {
            spec.tags.push(RevisionTag { name: DEFAULT.to_owned() });
        }
        Cow::Owned(spec)
    }

    /// Whether this record was made for the same wishes, switches that don't shape the mesh aside.
    #[must_use]
    pub fn is_for(&self, spec: &MeshInstallationSpec) -> bool {
        shape(&self.spec) == shape(spec)
    }
}

/// The spec without the switches that don't shape the mesh.
#[must_use]
pub fn shape(spec: &MeshInstallationSpec) -> MeshInstallationSpec {
    let proxy = Proxy { update: ProxyUpdate::default(), ..spec.proxy.clone() };
    MeshInstallationSpec {
        paused: false,
        adoption: Adoption::default(),
        deletion: Deletion::default(),
        proxy,
        ..spec.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn switches_that_dont_shape_the_mesh_make_no_other_wish() {
        let spec = |fields: serde_json::Value| -> MeshInstallationSpec {
            let mut all = json!({"version": "1.31.2"});
            crate::mesh::merge::merge(&mut all, fields);
            serde_json::from_value(all).unwrap()
        };
        let plain = shape(&spec(json!({})));
        for fields in [json!({"adoption": "Adopt"}), json!({"paused": true}), json!({"deletion": {"policy": "Orphan"}})]
        {
            assert_eq!(shape(&spec(fields.clone())), plain, "{fields}");
        }
        assert_ne!(shape(&spec(json!({"profile": "demo"}))), plain);
    }

    #[test]
    fn a_verdict_is_spelled_alike_in_the_annotation_and_in_what_programs_read() {
        use Verdict::{Failed, Pending, Proved, RolledBack, Superseded};
        for verdict in [Pending, Proved, Superseded, Failed, RolledBack] {
            assert_eq!(json!(verdict), verdict.as_str());
            assert_eq!(Verdict::parse(Some(verdict.as_str())), verdict);
        }
    }
    #[test]
    fn what_the_first_operator_remembered_is_still_understood() {
        // Word for word what 0.1.0 wrote: an operator that takes over must find the spec of the mesh that runs.
        let record = r#"{"charts":{"base":"sha256:182a737ba1d9d657943dbf7f8175a1037fb18d075ef61d59d0abff73b1b750e5"},"kubernetes":"v1.36.3","platform":{"evidence":["nothing about nodes or API server shows a platform that is known"],"name":"generic"},"spec":{"deletion":{"crds":"Keep","policy":"Uninstall","whileInUse":"Wait"},"namespace":"istio-system","paused":false,"platform":"auto","profile":"demo","version":"1.32.0-alpha.eed52ebb66ad"},"version":"1.32.0-alpha.eed52ebb66ad"}"#;
        let inputs: ResolvedInputs = serde_json::from_str(record).unwrap();
        let wanted = |profile: &str| {
            serde_json::from_value(json!({"version": "1.32.0-alpha.eed52ebb66ad", "profile": profile})).unwrap()
        };
        assert!(inputs.is_for(&wanted("demo")));
        assert!(!inputs.is_for(&wanted("minimal")));
    }
}
