//! Pinned node ports: which port of which Service has which number. The operator's memory holds them.

use std::collections::BTreeMap;

use meshwright_api::NodePortOrigin;
use serde::{Deserialize, Serialize};

use super::slot::Slot;
use super::wanted::{Need, Want};

/// Who chose a port that is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// The spec.
    Spec,
    /// The operator.
    Assigned,
}

impl From<Origin> for NodePortOrigin {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Spec => Self::Spec,
            Origin::Assigned => Self::Assigned,
        }
    }
}

/// One pinned node port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// What it is for.
    #[serde(flatten)]
    pub slot: Slot,
    /// The port.
    pub port: u16,
    /// Who chose it.
    pub from: Origin,
}

/// All pinned node ports, by what they are for. Those of gateways that need none at present are kept too, for the day
/// when they do again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Pin>", into = "Vec<Pin>")]
pub struct Pins(BTreeMap<Slot, (u16, Origin)>);

impl From<Vec<Pin>> for Pins {
    fn from(pins: Vec<Pin>) -> Self {
        Self(pins.into_iter().map(|pin| (pin.slot, (pin.port, pin.from))).collect())
    }
}

impl From<Pins> for Vec<Pin> {
    fn from(pins: Pins) -> Self {
        pins.0.into_iter().map(|(slot, (port, from))| Pin { slot, port, from }).collect()
    }
}

impl Pins {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The port pinned for a slot, and who chose it.
    #[must_use]
    pub fn get(&self, slot: &Slot) -> Option<(u16, Origin)> {
        self.0.get(slot).copied()
    }

    /// All of them, in the order of what they are for.
    pub fn iter(&self) -> impl Iterator<Item = (&Slot, u16, Origin)> {
        self.0.iter().map(|(slot, (port, from))| (slot, *port, *from))
    }

    /// Whether every port that is to be pinned is.
    #[must_use]
    pub fn cover(&self, wanted: &[Want]) -> bool {
        wanted.iter().all(|want| match want.need {
            Need::Idle => true,
            Need::Explicit(port) => self.get(&want.slot).is_some_and(|(held, _)| held == port),
            Need::Choose => self.0.contains_key(&want.slot),
        })
    }

    /// Those that are to be in place: all but the ones that are only kept.
    #[must_use]
    pub fn in_use(&self, wanted: &[Want]) -> Self {
        let active = wanted.iter().filter(|want| want.need != Need::Idle);
        Self(active.filter_map(|want| Some((want.slot.clone(), self.get(&want.slot)?))).collect())
    }

    pub(super) fn insert(&mut self, slot: Slot, port: u16, from: Origin) {
        self.0.insert(slot, (port, from));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pins_are_remembered_as_a_plain_list() {
        let slot = Slot { namespace: "edge".into(), service: "gw".into(), port_name: "http2".into() };
        let mut pins = Pins::default();
        pins.insert(slot, 30401, Origin::Assigned);
        let written = serde_json::to_value(&pins).unwrap();
        let expected = json!([
            {"namespace": "edge", "service": "gw", "portName": "http2", "port": 30401, "from": "assigned"}
        ]);
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<Pins>(written).unwrap(), pins);
    }
}
