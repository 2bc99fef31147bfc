//! Process concerns: signals, readiness, leader election, the admin server, metrics, logs, API clients and lists by
//! them.
//!
//! Everything here may do I/O; nothing here knows what a mesh is. The controller gets these as finished parts and
//! `app` puts them together. Order of a shutdown: a signal cancels the first token, readiness turns false, the
//! controllers drain, and only then are the lease released and the admin server closed (a second token).

pub mod admin;
pub mod client;
mod conditions;
pub mod leader;
pub mod metrics;
pub mod ready;
pub(crate) mod requests;
pub mod shutdown;
pub mod telemetry;
