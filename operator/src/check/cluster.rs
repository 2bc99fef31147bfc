//! What was seen of a cluster.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::admissionregistration::v1::RuleWithOperations;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use crate::mesh::object::INSTALLATION_LABEL;
use crate::mesh::plan::Refusal;
use crate::mesh::rights::Right;
use crate::nodeports::{Discovery, Held};
use crate::platform::Detected;

/// What was seen, or why it couldn't be.
pub type Seen<T> = Result<T, String>;

/// All that checks go by.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Version of the API server, as it states it.
    pub version: Seen<String>,
    /// The platform that it runs on.
    pub platform: Seen<Detected>,
    /// Node ports.
    pub node_ports: Seen<NodePorts>,
    /// Namespaces.
    pub namespaces: Seen<Vec<Meta>>,
    /// CRDs.
    pub definitions: Seen<Vec<Meta>>,
    /// Objects of the kinds in which traces of meshes are looked for; see [`super::observe`].
    pub objects: Vec<Meta>,
    /// Which of these kinds couldn't be listed, and why.
    pub hidden: Vec<String>,
    /// Admission webhooks.
    pub webhooks: Seen<Vec<Webhook>>,
    /// How many ready endpoints the Services have that webhooks are called at; by namespace and name.
    pub endpoints: BTreeMap<(String, String), Seen<usize>>,
    /// The rights that are needed and not held.
    pub rights: Seen<Rights>,
    /// What is in the way of the objects that shall be applied.
    pub refusals: Seen<Vec<Refusal>>,
}

/// Node ports as they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePorts {
    /// What the API server says of its range.
    pub range: Discovery,
    /// Those that Services hold.
    pub held: Vec<Held>,
}

/// Rights as they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Whose.
    pub of: Account,
    /// How many were asked for.
    pub asked: usize,
    /// Those not held.
    pub missing: Vec<Right>,
}

/// Whose rights were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// The operator's ServiceAccount, in this namespace.
    Operator(String),
    /// Of whoever runs the check: the operator isn't there yet, and nobody can grant it what he doesn't hold.
    Caller,
}

/// An object, without what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Its kind.
    pub kind: String,
    /// API group of the kind; empty for the core group.
    pub group: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Kinds of its owners.
    pub owners: Vec<String>,
    /// The `type` that the object has, where it was asked for by type: Secrets.
    pub type_: Option<&'static str>,
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.place())
    }
}

impl Meta {
    /// Its name, with its namespace if it has one.
    #[must_use]
    pub fn place(&self) -> String {
        self.namespace.as_ref().map_or_else(|| self.name.clone(), |namespace| format!("{namespace}/{}", self.name))
    }

    /// A label's value.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// An annotation's value.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Made by Meshwright.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.labels.contains_key(INSTALLATION_LABEL)
    }

    /// The kind as kubectl takes it.
    #[must_use]
    pub fn resource(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() || self.group == "apps" || self.group.ends_with(".k8s.io") {
            kind
        } else {
            format!("{kind}.{}", self.group)
        }
    }

    /// The command that deletes it.
    #[must_use]
    pub fn deletion(&self) -> String {
        deletion(&self.resource(), &self.name, self.namespace.as_deref())
    }
}

/// The command that deletes objects: `resource` as kubectl takes it, one name or several.
#[must_use]
pub fn deletion(resource: &str, names: &str, namespace: Option<&str>) -> String {
    let place = namespace.map(|namespace| format!(" --namespace {namespace}")).unwrap_or_default();
    format!("kubectl delete {resource} {names}{place}")
}

/// One entry of a webhook configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The configuration that it is in.
    #[serde(skip)]
    pub configuration: Meta,
    /// Its name.
    pub name: String,
    /// `Fail` where absent.
    pub failure_policy: Option<String>,
    /// Where it is called.
    #[serde(default)]
    pub client_config: ClientConfig,
    /// What it is called for.
    #[serde(default)]
    pub rules: Vec<RuleWithOperations>,
    /// Only for objects in such namespaces.
    pub namespace_selector: Option<LabelSelector>,
    /// Only for objects with such labels.
    pub object_selector: Option<LabelSelector>,
    /// Only where these expressions are true.
    #[serde(default)]
    pub match_conditions: Vec<Value>,
}

/// Where a webhook is called: a Service, or an address of which nothing can be seen.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ClientConfig {
    /// The Service.
    pub service: Option<ServiceRef>,
}

/// A Service by its name.
#[derive(Clone, Debug, Deserialize)]
pub struct ServiceRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}
