//! Errors of the node port allocation with their remedies.

use meshwright_api::conditions::Reason;

use super::port_key::{PortKey, UsedPort};
use super::range::{KnownRange, ParseRangeError, PortRange};
use crate::mesh::health::Blocker;
use crate::mesh::problem::{Problem, sentence};

/// Why node ports can't be allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocationError {
    /// A range in the spec is invalid.
    InvalidRange {
        /// Path of the field.
        field: &'static str,
        /// The parse error.
        source: ParseRangeError,
    },
    /// The spec's range is not inside the API server's range.
    RangeOutside {
        /// Range in the spec.
        requested: PortRange,
        /// Range of the API server.
        server: PortRange,
    },
    /// An explicit port is outside the range.
    OutOfRange {
        /// Service port that requests it.
        key: PortKey,
        /// Requested node port.
        port: u16,
        /// The range that ports are assigned from.
        range: KnownRange,
    },
    /// An explicit port is reserved.
    Reserved {
        /// Service port that requests it.
        key: PortKey,
        /// Requested node port.
        port: u16,
        /// Entry of `spec.nodePorts.reserved`.
        by: PortRange,
    },
    /// An explicit port is used by another Service.
    InUse {
        /// Service port that requests it.
        key: PortKey,
        /// Service port that uses it.
        user: UsedPort,
    },
    /// An explicit port is requested twice.
    Duplicate {
        /// Service port that requests it.
        key: PortKey,
        /// Other Service port that requests it.
        other: PortKey,
        /// Requested node port.
        port: u16,
    },
    /// Gateways would have to exchange ports, which the API server can't do in one step.
    Exchange {
        /// Service port that requests it.
        key: PortKey,
        /// Service port that uses it, and that requests a port of this gateway.
        user: PortKey,
        /// Requested node port.
        port: u16,
    },
    /// There are not enough free ports.
    Exhausted {
        /// Number of needed ports.
        needed: usize,
        /// Number of free ports.
        free: usize,
        /// Number of reserved ports in the range.
        reserved: usize,
        /// Number of ports in the range that other Services use.
        used: usize,
        /// Number of ports in the range that are not chosen because programs of the nodes use them.
        of_nodes: usize,
        /// The range that ports are assigned from.
        range: KnownRange,
    },
}

/// Path of the field of a gateway's node port.
fn field(key: &PortKey) -> String {
    format!("spec.gateways[{}].service.ports[{}].nodePort", key.service, key.port_name)
}

impl AllocationError {
    /// Returns the reason for conditions.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::InvalidRange { .. } => Reason::InvalidSpec,
            Self::RangeOutside { .. } | Self::OutOfRange { .. } => Reason::NodePortOutOfRange,
            Self::Reserved { .. } => Reason::NodePortReserved,
            Self::InUse { .. } | Self::Duplicate { .. } | Self::Exchange { .. } => Reason::NodePortInUse,
            Self::Exhausted { .. } => Reason::NodePortsExhausted,
        }
    }

    /// Returns whether the allocation could succeed with another range.
    #[must_use]
    pub const fn depends_on_range(&self) -> bool {
        matches!(self, Self::RangeOutside { .. } | Self::OutOfRange { .. } | Self::Exhausted { .. })
    }

    fn problem(&self) -> Problem {
        match self {
            Self::InvalidRange { field, source } => Problem::new(*field, source.to_string()),
            Self::RangeOutside { requested, server } => Problem::new(
                "spec.nodePorts.range",
                format!(
                    "{requested} is outside the API server's range {server}. Use a part of that range or remove range"
                ),
            ),
            Self::OutOfRange { key, port, range } => Problem::new(
                field(key),
                format!("{port} is outside {range}. Choose a port in the range or remove nodePort"),
            ),
            Self::Reserved { key, port, by } => Problem::new(
                field(key),
                format!(
                    "{port} is reserved by {by} in spec.nodePorts.reserved. Choose another port or remove the \
                     reservation"
                ),
            ),
            Self::InUse { key, user: UsedPort { port, key: PortKey { namespace, service, port_name }, .. } } => {
                Problem::new(
                    field(key),
                    format!(
                        "{port} is used by port {port_name} of Service {namespace}/{service}. Choose another port or \
                         change that Service"
                    ),
                )
            }
            Self::Duplicate { key, other, port } => Problem::new(
                field(key),
                format!(
                    "{port} is also requested by port {} of gateway {}. Choose another port",
                    other.port_name, other.service
                ),
            ),
            Self::Exchange { key, user, port } => Problem::new(
                field(key),
                format!(
                    "{port} is used by port {} of gateway {}, and gateways can't exchange node ports in one step. \
                     Change one of them to a free port first",
                    user.port_name, user.service
                ),
            ),
            Self::Exhausted { needed, free, reserved, used, of_nodes, range } => {
                let of_nodes = match of_nodes {
                    0 => String::new(),
                    number => format!(", {number} are only used as nodePort because nodes need them"),
                };
                let size = range.range.size();
                Problem::new(
                    "spec.gateways",
                    format!(
                        "{needed} node ports are needed but only {free} of {size} are free in {range} ({used} used by \
                         other Services, {reserved} reserved{of_nodes}). Free some, use fewer ports, or set \
                         allocateLoadBalancerNodePorts to false if the load balancer needs no node ports"
                    ),
                )
            }
        }
    }
}

/// Combines all errors in one condition. The first error determines the reason.
#[must_use]
pub fn blocker(errors: &[AllocationError]) -> Blocker {
    let problems: Vec<Problem> = errors.iter().map(AllocationError::problem).collect();
    let reason = errors.first().map_or(Reason::InvalidSpec, AllocationError::reason);
    Blocker { reason, message: sentence(&problems) }
}
