//! Identity of a Service's port, and ports in use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Identifies a port of a Service by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortKey {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the port, or [`super::HEALTH_CHECK`].
    pub port_name: String,
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.service, self.port_name)
    }
}

/// A node port that a Service of the cluster uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedPort {
    /// Node port number.
    pub port: u16,
    /// Service port that uses it.
    pub key: PortKey,
    /// Whether the Service belongs to this installation, according to its label.
    pub own: bool,
}
