//! The lab: a real API server and a real istiod on one machine, and helpers for tests.
//!
//! [`run`] gives each test its own cluster: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok as
//! plain processes in a network namespace, and a pod runner that acts as the kubelet for Pods whose image is `pilot` or
//! `meshwright`: they run as real processes with their own ServiceAccount. Labs run in parallel on the same ports, and
//! their processes end with the thread of the test.
//!
//! Everything here does I/O except [`audit`]'s parsing and the runner's `resolve`, `probe` and `status`.

pub mod apply;
pub mod audit;
mod certificates;
mod control_plane;
pub mod crash;
mod credentials;
mod dump;
mod error;
mod http;
pub mod inventory;
mod istiod;
mod lab;
pub mod mesh;
mod net;
pub mod objects;
mod options;
mod process;
pub mod programs;
pub mod recorder;
pub mod registry;
pub mod restriction;
mod run;
mod runner;
pub mod wait;
mod workdir;

pub use error::LabError;
pub use lab::Lab;
pub use options::{LabOptions, NodeSpec};
pub use programs::Programs;
pub use run::{TestResult, run, run_without_cluster, with_lab};
pub use runner::{Fault, PodProcess, ProcessMemory, ProcessTimes};
