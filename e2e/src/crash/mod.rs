//! Crash and fault tests. The operator runs as a process outside of Pods and reaches the API server through a proxy.
//!
//! The proxy counts writes: in a crash test the operator may send a fixed number of them, then it is killed or its spec
//! changes, and the result is compared with an uninterrupted run. It also injects errors, latency and silent watches,
//! and separates an operator from the API server.
//!
//! `faults.rs`, `gate.rs`, `requests.rs`, `stage.rs` and `result.rs` do no I/O except waiting; the rest does.

mod faults;
mod gate;
mod lifecycle;
mod link;
mod operator;
mod proxy;
mod requests;
mod result;
mod snapshot;
mod stage;
mod watch_events;

pub use faults::{FaultRule, FaultRules, InjectedError, WatchFault};
pub use lifecycle::{Baseline, Lifecycle};
pub use operator::{OperatorProcess, ReplicaOptions};
pub use requests::RequestVerb;
pub use result::{CrashResult, MAX_EXTRA_WRITES};
pub use snapshot::ClusterSnapshot;
pub use stage::{Interruption, Stage};
