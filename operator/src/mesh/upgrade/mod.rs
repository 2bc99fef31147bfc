//! Moving a running mesh to a changed spec, and back. Pure.
//!
//! What is desired *now* is a function of what ran, what is to run, and the step; the step is the first whose gate is not
//! passed, measured on live objects. So nothing of the way itself needs to be remembered: an operator that is killed at
//! any point goes on where the objects are.
//!
//! - [`step`]: the steps, their order forward and back, and which object moves in which
//! - [`direction`](mod@direction): whether control planes or their configuration go first
//! - [`route`]: the objects that are desired in a step
//! - [`gate`]: what a step waits for
//! - [`skew`]: from which release one may go to which
//! - [`progress`]: times and deadlines, as status keeps them
//! - [`cause`]: why pods don't come up, in words

pub mod cause;
pub mod direction;
pub mod gate;
pub mod progress;
pub mod route;
pub mod skew;
pub mod step;

#[cfg(test)]
mod tests;

pub use direction::direction;
pub use gate::{Position, position};
pub use progress::{Progress, Way};
pub use route::{Route, with_rules_of};
pub use step::Step;
