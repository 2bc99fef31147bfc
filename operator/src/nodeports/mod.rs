//! Node ports: which of them a gateway may have, which it gets, and what it is told when it can't have one.
//!
//! PURE but for [`server`], which asks the API server for its range and for the ports that Services hold. The core takes
//! the range, the reserved ports, the ports that are held and those that are remembered, and answers with [`Pins`] or with
//! all that is wrong. It makes no difference in which order gateways, ports or Services are listed.

mod allocate;
mod pins;
mod range;
mod refusal;
mod refused;
mod server;
mod slot;
mod wanted;

pub use allocate::{Question, allocate};
pub use pins::{Origin, Pin, Pins};
pub use range::{Discovery, KnownRange, ParseRangeError, PortRange, reserved};
pub use refusal::PortRefusal;
pub use refused::{Refused, blocker};
pub use server::NodePortServer;
pub use slot::{Held, Slot};
pub use wanted::{HEALTH_CHECK, Need, Want, wanted};
