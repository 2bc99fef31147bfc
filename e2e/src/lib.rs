//! The lab: a real API server and a real istiod on one machine, and what tests need to work with it.
//!
//! [`run`] gives a test a cluster of its own: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok as
//! plain processes in a network namespace of their own, and a pod runner that plays kubelet for Pods whose image is
//! `pilot` or `meshwright`, so that those run as real processes with their own ServiceAccount. Labs run side by side
//! with the same ports, and nothing that they start outlives the thread of the test.
//!
//! Everything here does I/O, but for [`audit`]'s parsing and the runner's `resolve`, `probe` and `status`.

pub mod apply;
pub mod audit;
mod certificates;
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
pub mod obstacle;
mod options;
mod plane;
mod process;
pub mod programs;
pub mod registry;
mod run;
mod runner;
pub mod wait;
pub mod witness;
mod workdir;

pub use error::LabError;
pub use lab::Lab;
pub use options::{LabOptions, NodeSpec};
pub use programs::Programs;
pub use run::{TestResult, run, run_without_cluster, with_lab};
pub use runner::{Fault, Memory, PodProcess, Times};
