//! Meshwright: a Kubernetes operator that manages the lifecycle of Istio.
//!
//! A reconcile starts in `controller`, which calls pure functions in `mesh` (spec to validated inputs, objects, plan
//! and status); `apply` reads and writes live objects. `catalog` has the Istio releases, `platform` detects the
//! Kubernetes distribution, `nodeports` assigns node ports, and `proxies` restarts workloads with outdated proxies. For
//! the CLI, `check` runs pre-install checks, `planning` computes what a change would do, and `adopting` generates a
//! MeshInstallation for an existing mesh. `runtime` has the process's infrastructure, `app` wires everything together,
//! and `cli` has one file per subcommand.

pub mod adopting;
pub mod app;
pub mod apply;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod controller;
pub mod mesh;
pub mod nodeports;
pub mod planning;
pub mod platform;
pub mod proxies;
pub mod runtime;
