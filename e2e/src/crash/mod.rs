//! Crash tests: the operator may send a fixed number of writes, then it is killed or its spec changes, and the result
//! is compared with an uninterrupted run.
//!
//! The operator runs as a process outside of Pods and reaches the API server through a proxy that counts writes.
//! `gate.rs`, `requests.rs`, `stage.rs` and `result.rs` do no I/O except waiting; the rest does.

mod gate;
mod lifecycle;
mod operator;
mod proxy;
mod requests;
mod result;
mod snapshot;
mod stage;

pub use lifecycle::{Baseline, Lifecycle};
pub use result::{CrashResult, MAX_EXTRA_WRITES};
pub use snapshot::ClusterSnapshot;
pub use stage::{Interruption, Stage};
