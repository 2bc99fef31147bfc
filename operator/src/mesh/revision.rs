//! Revision records: the resolved inputs of each accepted spec, stored as ControllerRevisions.

use std::borrow::Cow;
use std::collections::BTreeMap;

use meshwright_api::{Adoption, Deletion, MeshInstallationSpec, Proxy, ProxyUpdate, RevisionTag};
use semver::Version;
use serde::{Deserialize, Serialize};

use super::object::short_hash;
use super::operator_defaults::OperatorDefaults;
use super::recorded_objects::RecordedObjects;
use super::renamed_fields::RenamedField;
use super::revisions::DEFAULT;
use crate::nodeports::Pins;
use crate::platform::DetectedPlatform;

/// Every input of rendering an accepted spec, so that the same objects can be rendered again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedInputs {
    /// The spec as it was accepted.
    pub spec: MeshInstallationSpec,
    /// The exact release; a minor version is resolved once per spec.
    pub version: Version,
    /// Digest of each chart.
    pub charts: BTreeMap<String, String>,
    /// The control plane revision that the operator named, with the strategy Canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Version of the API server that the charts were rendered for.
    pub kubernetes: String,
    /// The platform, detected once per spec, so that a mesh does not change when nodes come and go.
    #[serde(default)]
    pub platform: DetectedPlatform,
    /// Pinned node ports, also those of gateways that use none at present.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub node_ports: Pins,
    /// Generation of the values that the operator adds.
    #[serde(default, skip_serializing_if = "OperatorDefaults::is_first")]
    pub defaults: OperatorDefaults,
}

/// State of a recorded revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionVerdict {
    /// Accepted; its rollout has neither succeeded nor failed.
    Pending,
    /// It became Ready.
    Deployed,
    /// A later revision became Ready.
    Superseded,
    /// A step of its rollout failed.
    Failed,
    /// A step of its rollout failed, and the rollback to the last known good revision completed.
    RolledBack,
}

impl RevisionVerdict {
    /// The value of the annotation on the ControllerRevision.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Deployed => "deployed",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled-back",
        }
    }

    /// Reads the annotation; a missing or unknown value means pending. Earlier operators wrote `proved` for
    /// `deployed`.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("deployed" | "proved") => Self::Deployed,
            Some("superseded") => Self::Superseded,
            Some("failed") => Self::Failed,
            Some("rolled-back") => Self::RolledBack,
            _ => Self::Pending,
        }
    }
}

/// One revision of the history.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionRecord {
    /// Name of the ControllerRevision.
    pub name: String,
    /// `revision` of the ControllerRevision; a later one is greater.
    pub number: i64,
    /// The inputs that it was rendered from.
    pub inputs: ResolvedInputs,
    /// Whether it was deployed, superseded, failed or rolled back.
    pub verdict: RevisionVerdict,
    /// Why its rollout failed.
    pub failure: Option<String>,
    /// Fields that the spec had under former names; [`Self::inputs`] has their values under the new ones.
    pub renamed_fields: Vec<RenamedField>,
    /// UID of the MeshInstallation that it was written for.
    pub uid: String,
    /// Objects that may exist since it was accepted.
    pub objects: RecordedObjects,
}

impl ResolvedInputs {
    /// The name of the ControllerRevision: equal inputs have equal names.
    #[must_use]
    pub fn revision_name(&self, installation: &str) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        format!("{installation}-{}", short_hash(&text))
    }

    /// The spec that is rendered. A canary revision named by the operator also gets the tag `default`.
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

    /// Whether the record was made for this spec, apart from fields that don't change the mesh.
    #[must_use]
    pub fn matches_spec(&self, spec: &MeshInstallationSpec) -> bool {
        mesh_fields(&self.spec) == mesh_fields(spec)
    }
}

/// The spec without the fields that don't change the mesh's objects.
#[must_use]
pub fn mesh_fields(spec: &MeshInstallationSpec) -> MeshInstallationSpec {
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
impl RevisionRecord {
    /// A deployed revision of a spec, by its number.
    pub(crate) fn sample(number: i64, spec: MeshInstallationSpec, version: Version) -> Self {
        let inputs = ResolvedInputs {
            spec,
            version,
            charts: BTreeMap::new(),
            revision: None,
            kubernetes: "v1.33.0".into(),
            platform: DetectedPlatform::default(),
            node_ports: Pins::default(),
            defaults: OperatorDefaults::FIRST,
        };
        Self {
            name: format!("mesh-{number}"),
            number,
            inputs,
            verdict: RevisionVerdict::Deployed,
            failure: None,
            renamed_fields: Vec::new(),
            uid: "u".into(),
            objects: RecordedObjects::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ignores_fields_that_do_not_change_mesh() {
        let spec = |fields: serde_json::Value| -> MeshInstallationSpec {
            let mut all = json!({"version": "1.31.2"});
            crate::mesh::merge::merge(&mut all, fields);
            serde_json::from_value(all).unwrap()
        };
        let plain = mesh_fields(&spec(json!({})));
        for fields in [json!({"adoption": "Adopt"}), json!({"paused": true}), json!({"deletion": {"policy": "Orphan"}})]
        {
            assert_eq!(mesh_fields(&spec(fields.clone())), plain, "{fields}");
        }
        assert_ne!(mesh_fields(&spec(json!({"profile": "demo"}))), plain);
    }

    #[test]
    fn verdict_has_one_spelling() {
        use RevisionVerdict::{Deployed, Failed, Pending, RolledBack, Superseded};
        for verdict in [Pending, Deployed, Superseded, Failed, RolledBack] {
            assert_eq!(json!(verdict), verdict.as_str());
            assert_eq!(RevisionVerdict::parse(Some(verdict.as_str())), verdict);
        }
        assert_eq!(RevisionVerdict::parse(Some("proved")), Deployed, "as earlier operators wrote it");
    }

    #[test]
    fn reads_records_of_first_operator_release() {
        // Verbatim as written by 0.1.0: a newer operator must recognize the spec of the running mesh.
        let record = r#"{"charts":{"base":"sha256:182a737ba1d9d657943dbf7f8175a1037fb18d075ef61d59d0abff73b1b750e5"},"kubernetes":"v1.36.3","platform":{"evidence":["nothing about nodes or API server shows a platform that is known"],"name":"generic"},"spec":{"deletion":{"crds":"Keep","policy":"Uninstall","whileInUse":"Wait"},"namespace":"istio-system","paused":false,"platform":"auto","profile":"demo","version":"1.32.0-alpha.eed52ebb66ad"},"version":"1.32.0-alpha.eed52ebb66ad"}"#;
        let inputs: ResolvedInputs = serde_json::from_str(record).unwrap();
        let spec = |profile: &str| {
            serde_json::from_value(json!({"version": "1.32.0-alpha.eed52ebb66ad", "profile": profile})).unwrap()
        };
        assert!(inputs.matches_spec(&spec("demo")));
        assert!(!inputs.matches_spec(&spec("minimal")));
    }
}
