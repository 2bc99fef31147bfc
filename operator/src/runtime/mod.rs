//! Process infrastructure: signals, readiness, leader election, admin server, metrics, logs and API clients.
//!
//! This module performs I/O and does not depend on the domain. `app` creates these parts and passes them to the
//! controller. Shutdown order: a signal cancels the first token, readiness becomes false and the controllers drain.
//! Then a second token is cancelled, which releases the lease and closes the admin server.

pub mod admin;
pub mod body_filter;
pub mod client;
mod conditions;
pub mod leader;
pub mod metrics;
pub mod progress;
pub mod ready;
pub(crate) mod requests;
pub mod response_limits;
mod retry;
pub mod shutdown;
pub mod telemetry;
pub mod watch_activity;
pub mod watch_health;
