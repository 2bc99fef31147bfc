//! Pinned node ports: the node port of each Service port, stored in the revision history.

use std::collections::BTreeMap;

use meshwright_api::NodePortOrigin;
use serde::{Deserialize, Serialize};

use super::port_key::PortKey;
use super::port_request::{PortRequest, PortRequirement};

/// Origin of a pinned port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PinOrigin {
    /// Set in the spec.
    Spec,
    /// Assigned by the operator.
    Assigned,
}

impl From<PinOrigin> for NodePortOrigin {
    fn from(origin: PinOrigin) -> Self {
        match origin {
            PinOrigin::Spec => Self::Spec,
            PinOrigin::Assigned => Self::Assigned,
        }
    }
}

/// A pinned node port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Service port that it is pinned for.
    #[serde(flatten)]
    pub key: PortKey,
    /// Node port number.
    pub port: u16,
    /// Origin of the port.
    pub from: PinOrigin,
}

/// All pinned node ports by Service port. Pins of gateways that currently need no node port are kept, so that they get
/// the same ports again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Pin>", into = "Vec<Pin>")]
pub struct Pins(BTreeMap<PortKey, (u16, PinOrigin)>);

impl From<Vec<Pin>> for Pins {
    fn from(pins: Vec<Pin>) -> Self {
        Self(pins.into_iter().map(|pin| (pin.key, (pin.port, pin.from))).collect())
    }
}

impl From<Pins> for Vec<Pin> {
    fn from(pins: Pins) -> Self {
        pins.0.into_iter().map(|(key, (port, from))| Pin { key, port, from }).collect()
    }
}

impl Pins {
    /// Returns whether there are no pins.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the pinned port of a Service port and its origin.
    #[must_use]
    pub fn get(&self, key: &PortKey) -> Option<(u16, PinOrigin)> {
        self.0.get(key).copied()
    }

    /// Returns all pins sorted by Service port.
    pub fn iter(&self) -> impl Iterator<Item = (&PortKey, u16, PinOrigin)> {
        self.0.iter().map(|(key, (port, from))| (key, *port, *from))
    }

    /// Returns whether all requests are satisfied.
    #[must_use]
    pub fn cover(&self, requests: &[PortRequest]) -> bool {
        requests.iter().all(|request| match request.requirement {
            PortRequirement::NotNeeded => true,
            PortRequirement::Explicit(port) => self.get(&request.key).is_some_and(|(pinned, _)| pinned == port),
            PortRequirement::Assign => self.0.contains_key(&request.key),
        })
    }

    /// Returns the pins of requests that currently need a node port.
    #[must_use]
    pub fn in_use(&self, requests: &[PortRequest]) -> Self {
        let active = requests.iter().filter(|request| request.requirement != PortRequirement::NotNeeded);
        Self(active.filter_map(|request| Some((request.key.clone(), self.get(&request.key)?))).collect())
    }

    pub(super) fn insert(&mut self, key: PortKey, port: u16, from: PinOrigin) {
        self.0.insert(key, (port, from));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn serializes_as_list() {
        let key = PortKey { namespace: "edge".into(), service: "gw".into(), port_name: "http2".into() };
        let mut pins = Pins::default();
        pins.insert(key, 30401, PinOrigin::Assigned);
        let serialized = serde_json::to_value(&pins).unwrap();
        let expected = json!([
            {"namespace": "edge", "service": "gw", "portName": "http2", "port": 30401, "from": "assigned"}
        ]);
        assert_eq!(serialized, expected);
        assert_eq!(serde_json::from_value::<Pins>(serialized).unwrap(), pins);
    }
}
