//! Why gateways can't have the node ports that they ask for, said so that a person can put it right.

use meshwright_api::conditions::Reason;

use super::range::{KnownRange, ParseRangeError, PortRange};
use super::slot::{Held, Slot};
use crate::mesh::health::Blocker;
use crate::mesh::problem::{Problem, sentence};

/// One thing that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The spec has a text that is no range.
    Unreadable {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        source: ParseRangeError,
    },
    /// The spec's range is not inside the API server's.
    RangeOutside {
        /// The spec's.
        asked: PortRange,
        /// The API server's.
        server: PortRange,
    },
    /// A port that is asked for is outside the range.
    OutOfRange {
        /// For what.
        slot: Slot,
        /// The port.
        port: u16,
        /// The range in force.
        range: KnownRange,
    },
    /// A port that is asked for is reserved.
    Reserved {
        /// For what.
        slot: Slot,
        /// The port.
        port: u16,
        /// The entry of `spec.nodePorts.reserved`.
        by: PortRange,
    },
    /// A port that is asked for belongs to another Service.
    Taken {
        /// For what.
        slot: Slot,
        /// Who has it.
        holder: Held,
    },
    /// A port is asked for twice.
    AskedTwice {
        /// For what.
        slot: Slot,
        /// For what else.
        other: Slot,
        /// The port.
        port: u16,
    },
    /// Gateways would have to exchange ports, which the API server can't do in one step.
    Exchange {
        /// For what.
        slot: Slot,
        /// Who has it, and is to have a port that this gateway gives up.
        holder: Slot,
        /// The port.
        port: u16,
    },
    /// There are not enough ports.
    Exhausted {
        /// How many still have to be chosen.
        needed: usize,
        /// How many are free.
        free: usize,
        /// How many of the range are reserved.
        reserved: usize,
        /// How many of the range other Services hold.
        held: usize,
        /// The range in force.
        range: KnownRange,
    },
}

/// The field of a gateway's port.
fn field(slot: &Slot) -> String {
    format!("spec.gateways[{}].service.ports[{}].nodePort", slot.service, slot.port_name)
}

impl Refused {
    /// The word for tools.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unreadable { .. } => Reason::InvalidSpec,
            Self::RangeOutside { .. } | Self::OutOfRange { .. } => Reason::NodePortOutOfRange,
            Self::Reserved { .. } => Reason::NodePortReserved,
            Self::Taken { .. } | Self::AskedTwice { .. } | Self::Exchange { .. } => Reason::NodePortTaken,
            Self::Exhausted { .. } => Reason::NodePortsExhausted,
        }
    }

    /// Whether another range could make it right.
    #[must_use]
    pub const fn hangs_on_the_range(&self) -> bool {
        matches!(self, Self::RangeOutside { .. } | Self::OutOfRange { .. } | Self::Exhausted { .. })
    }

    fn problem(&self) -> Problem {
        match self {
            Self::Unreadable { field, source } => Problem::new(*field, source.to_string()),
            Self::RangeOutside { asked, server } => Problem::new(
                "spec.nodePorts.range",
                format!("{asked} is not inside the API server's range {server}: choose a part of it, or leave it out"),
            ),
            Self::OutOfRange { slot, port, range } => {
                Problem::new(field(slot), format!("{port} is not inside {range}: choose one that is, or leave it out"))
            }
            Self::Reserved { slot, port, by } => Problem::new(
                field(slot),
                format!("{port} is reserved by {by} in spec.nodePorts.reserved: choose another, or take it out there"),
            ),
            Self::Taken { slot, holder } => Problem::new(
                field(slot),
                format!("{} is held by Service {}: choose another, or free it there", holder.port, holder.slot),
            ),
            Self::AskedTwice { slot, other, port } => Problem::new(
                field(slot),
                format!(
                    "{port} is asked for by port {} of gateway {} too: choose another",
                    other.port_name, other.service
                ),
            ),
            Self::Exchange { slot, holder, port } => Problem::new(
                field(slot),
                format!(
                    "{port} is held by port {} of gateway {}, and the two can't exchange ports in one step: move one of \
                     them to a free port first",
                    holder.port_name, holder.service
                ),
            ),
            Self::Exhausted { needed, free, reserved, held, range } => Problem::new(
                "spec.gateways",
                format!(
                    "{needed} node ports have to be chosen and {free} are free in {range}: {} in all, of which {held} \
                     are held by other Services and {reserved} are reserved: free some, use fewer ports, or set \
                     allocateLoadBalancerNodePorts to false where the load balancer needs none",
                    range.range.size()
                ),
            ),
        }
    }
}

/// All that is refused, as one condition; the first gives the reason.
#[must_use]
pub fn blocker(refused: &[Refused]) -> Blocker {
    let problems: Vec<Problem> = refused.iter().map(Refused::problem).collect();
    let reason = refused.first().map_or(Reason::InvalidSpec, Refused::reason);
    Blocker { reason, message: sentence(&problems) }
}
