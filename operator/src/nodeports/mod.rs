//! Node ports of gateways: allocation, conflicts and their messages.
//!
//! PURE except for [`server`], which discovers the API server's range and lists the node ports of Services.
//! [`allocate()`] computes [`Pins`], or all errors, from the range, the reserved ports, the ports in use and the
//! previous pins. The result does not depend on the order of gateways, ports or Services.

mod allocate;
mod allocation_error;
mod candidates;
mod pins;
mod port_key;
mod port_rejection;
mod port_request;
mod range;
mod server;

pub use allocate::{AllocationInput, allocate};
pub use allocation_error::{AllocationError, blocker};
pub use pins::{Pin, PinOrigin, Pins};
pub use port_key::{PortKey, UsedPort};
pub use port_rejection::PortRejection;
pub use port_request::{HEALTH_CHECK, PortRequest, PortRequirement, port_requests};
pub use range::{KnownRange, ParseRangeError, PortRange, RangeDiscovery, reserved};
pub use server::NodePortServer;
