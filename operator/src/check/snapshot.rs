//! The cluster data that checks use.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::admissionregistration::v1::RuleWithOperations;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use crate::mesh::object::INSTALLATION_LABEL;
use crate::mesh::plan::PlanConflict;
use crate::mesh::rbac::Permission;
use crate::nodeports::{RangeDiscovery, UsedPort};
use crate::platform::DetectedPlatform;

/// Data that was read, or the error for the report.
pub type ReadResult<T> = Result<T, String>;

/// All cluster data that checks use.
#[derive(Clone, Debug)]
pub struct ClusterSnapshot {
    /// Version of the API server, as reported.
    pub version: ReadResult<String>,
    /// The detected platform.
    pub platform: ReadResult<DetectedPlatform>,
    /// Range and allocations of node ports.
    pub node_ports: ReadResult<NodePortUsage>,
    /// Metadata of all namespaces.
    pub namespaces: ReadResult<Vec<ObjectInfo>>,
    /// Metadata of all nodes.
    pub nodes: ReadResult<Vec<ObjectInfo>>,
    /// Metadata of all CRDs.
    pub crds: ReadResult<Vec<ObjectInfo>>,
    /// Resources of the kinds that reveal existing meshes; see [`super::observe`].
    pub objects: Vec<ObjectInfo>,
    /// The kinds that couldn't be listed, with the error.
    pub unreadable: Vec<String>,
    /// Webhooks of all webhook configurations.
    pub webhooks: ReadResult<Vec<Webhook>>,
    /// Number of ready endpoints of the webhooks' Services, by namespace and name.
    pub endpoints: BTreeMap<(String, String), ReadResult<usize>>,
    /// The result of the access reviews.
    pub permissions: ReadResult<PermissionReview>,
    /// Conflicts of the rendered resources with existing ones.
    pub conflicts: ReadResult<Vec<PlanConflict>>,
}

/// Node port range and allocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortUsage {
    /// The API server's range.
    pub range: RangeDiscovery,
    /// Node ports allocated to Services.
    pub used_ports: Vec<UsedPort>,
}

/// The result of the access reviews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionReview {
    /// The account under review.
    pub account: ReviewedAccount,
    /// Number of reviewed permissions.
    pub reviewed: usize,
    /// Permissions that the account lacks.
    pub missing: Vec<Permission>,
}

/// The account whose permissions are reviewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReviewedAccount {
    /// The operator's ServiceAccount, in this namespace.
    Operator(String),
    /// The current user: the operator isn't installed, and its installer needs the permissions to grant.
    Caller,
}

/// Metadata of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Kind of the object.
    pub kind: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Namespace; `None` for cluster-scoped objects.
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
    /// Labels of the object.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the object.
    pub annotations: BTreeMap<String, String>,
    /// Kinds of the owner references.
    pub owners: Vec<String>,
    /// The Secret's `type`, for Secrets listed by type.
    pub type_: Option<&'static str>,
}

impl fmt::Display for ObjectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.qualified_name())
    }
}

impl ObjectInfo {
    /// `namespace/name`, or the name of a cluster-scoped object.
    #[must_use]
    pub fn qualified_name(&self) -> String {
        self.namespace.as_ref().map_or_else(|| self.name.clone(), |namespace| format!("{namespace}/{}", self.name))
    }

    /// Value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// Value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Whether Meshwright manages the object.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.labels.contains_key(INSTALLATION_LABEL)
    }

    /// The resource argument for kubectl.
    #[must_use]
    pub fn resource(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() || self.group == "workloads" || self.group.ends_with(".k8s.io") {
            kind
        } else {
            format!("{kind}.{}", self.group)
        }
    }

    /// The kubectl command that deletes the object.
    #[must_use]
    pub fn delete_command(&self) -> String {
        delete_command(&self.resource(), &self.name, self.namespace.as_deref())
    }
}

/// The kubectl command that deletes one or more objects of a kind.
#[must_use]
pub fn delete_command(resource: &str, names: &str, namespace: Option<&str>) -> String {
    let flag = namespace.map(|namespace| format!(" --namespace {namespace}")).unwrap_or_default();
    format!("kubectl delete {resource} {names}{flag}")
}

/// A webhook of a webhook configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The webhook configuration.
    #[serde(skip)]
    pub configuration: ObjectInfo,
    /// Name of the webhook.
    pub name: String,
    /// Defaults to `Fail`.
    pub failure_policy: Option<String>,
    /// How the API server calls the webhook.
    #[serde(default)]
    pub client_config: ClientConfig,
    /// The operations and resources for which the API server calls it.
    #[serde(default)]
    pub rules: Vec<RuleWithOperations>,
    /// Selector for the object's namespace.
    pub namespace_selector: Option<LabelSelector>,
    /// Selector for the object's labels.
    pub object_selector: Option<LabelSelector>,
    /// CEL expressions that must be true.
    #[serde(default)]
    pub match_conditions: Vec<Value>,
}

/// How the API server calls a webhook. URLs are ignored because their endpoints can't be checked.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ClientConfig {
    /// The Service to call.
    pub service: Option<ServiceRef>,
}

/// Reference to a Service.
#[derive(Clone, Debug, Deserialize)]
pub struct ServiceRef {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
}
