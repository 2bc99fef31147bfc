//! Upgrades and rollbacks: rolling out a changed spec step by step, and back. Pure.
//!
//! The desired objects follow from the source revisions, the target revision and the current step, and the current step
//! is the first whose gate the live objects don't pass. So an upgrade has no state of its own: an operator that is
//! killed at any point continues from the live objects.
//!
//! - [`step`]: the steps, their order in both directions, and the step of each object
//! - [`direction`](mod@direction): whether a change is an upgrade or a rollback
//! - [`configuration_order`]: whether istiod or its configuration is updated first
//! - [`plan`]: the desired objects of each step
//! - [`gate`]: what a step waits for
//! - [`skew`]: which version changes are allowed
//! - [`progress`]: times and deadlines in status
//! - [`pod_failure`]: why pods don't start

pub mod configuration_order;
pub mod direction;
pub mod gate;
pub mod plan;
pub mod pod_failure;
pub mod progress;
pub mod skew;
pub mod step;

#[cfg(test)]
mod tests;

pub use configuration_order::{ConfigurationOrder, has_ready_istiod, is_down, is_same_release};
pub use direction::direction;
pub use gate::{CurrentStep, current_step};
pub use plan::{UpgradePlan, with_rules_of};
pub use progress::{UpgradeProgress, UpgradeRun};
pub use step::RolloutStep;
