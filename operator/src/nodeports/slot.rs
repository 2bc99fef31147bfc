//! What a node port is for, and who has one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a node port is for: one port of one Service, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// Namespace of the Service.
    pub namespace: String,
    /// The Service.
    pub service: String,
    /// Name of its port, or [`super::HEALTH_CHECK`].
    pub port_name: String,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.service, self.port_name)
    }
}

/// A node port that a Service of the cluster holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The port.
    pub port: u16,
    /// By which Service, for which of its ports.
    pub slot: Slot,
    /// The Service carries this installation's mark.
    pub ours: bool,
}
