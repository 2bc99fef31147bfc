//! Reads and writes live objects for the controller. [`crate::mesh`] decides what to write; no other module of the
//! crate writes objects of a mesh.

mod applier;
mod ca_secret;
mod changes;
mod cluster_detector;
mod dry_run;
mod error;
mod gateway_api;
mod gateway_pods;
mod injection_checker;
mod inventory;
mod nodes;
mod permissions;
mod pod_diagnostics;
mod raw_object;
mod reader;
mod revision_history;
mod server_version;
mod watch;

pub use applier::Applier;
pub use changes::Changes;
pub use cluster_detector::{ClusterDetector, DetectClusterError};
pub use dry_run::{DryRunResults, dry_run};
pub(crate) use error::absent;
pub use error::{ApplyError, ErrorClass};
pub use gateway_api::{GATEWAY_CRD as GATEWAY_API_CRD, GatewayApi, VERSION_ANNOTATION as GATEWAY_API_VERSION};
pub use gateway_pods::{GatewayPods, GatewayPodsError};
pub use injection_checker::{CheckedInjection, InjectionChecker};
pub use inventory::Inventory;
pub use nodes::Nodes;
pub use permissions::OwnPermissions;
pub(crate) use permissions::{attributes, is_allowed};
pub use pod_diagnostics::PodDiagnostics;
pub(crate) use pod_diagnostics::selector;
pub(crate) use raw_object::RawObject;
pub use reader::Reader;
pub(crate) use reader::api;
pub use revision_history::{RevisionHistory, RevisionHistoryError};
pub use server_version::ServerVersion;
pub use watch::watch_all;
