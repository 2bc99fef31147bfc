//! Meshwright: a Kubernetes operator that owns the life of a service mesh.
//!
//! The way through the code is that of a reconcile: `controller` observes and drives, `mesh` is the pure middle (spec to
//! validated inputs, objects, plan and status), `apply` reads and writes live objects. `catalog` knows the releases,
//! `platform` knows what clusters run on, `check` looks at a cluster before anything is installed, `planning` tells what a
//! change would do, `adopting` proposes an installation for a mesh that is there, `runtime` is the process around it all, `app` puts them together, and `cli` has one file per subcommand.

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
