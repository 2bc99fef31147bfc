//! The `MeshInstallation` API: its types, CRD, conditions and reasons.
//!
//! This crate is what another program needs to read or write a `MeshInstallation`. It has no
//! client, does no I/O and reads no clock; callers pass the time in.

mod add_on;
mod adoption;
pub mod conditions;
mod control_plane;
mod crd;
mod free_form;
mod gateway;
mod images;
mod injector;
mod installation;
mod node_agent;
mod node_ports;
mod patch;
mod platform;
mod platform_status;
mod pods;
mod proxy;
mod proxy_update;
mod revision_tag;
mod rules;
pub mod situation;
mod status;
mod upgrade;
pub mod version;

#[cfg(test)]
mod tests;

pub use add_on::{AddOn, AddOnName};
pub use adoption::Adoption;
pub use control_plane::{ControlPlane, EnvVar};
pub use crd::{CrdYamlError, crd, crd_yaml};
pub use free_form::FreeForm;
pub use gateway::{Direction, ExternalTrafficPolicy, Gateway, GatewayPort, GatewayService, Protocol, ServiceType};
pub use images::{IMAGE_NAMES, Images, PullPolicy};
pub use injector::Injector;
pub use installation::{
    ChartValues, CrdPolicy, Deletion, DeletionPolicy, InUsePolicy, MeshInstallation, MeshInstallationSpec, Profile,
};
pub use node_agent::{ComponentMode, NodeAgent};
pub use node_ports::{NodePortAssignment, NodePorts};
pub use patch::{ObjectPatch, PatchOperation, PatchTarget, PatchVerb};
pub use platform::PlatformName;
pub use platform_status::{
    LoadBalancers, NodePortRangeSource, NodePortRangeStatus, PlatformPermission, PlatformStatus,
};
pub use pods::{Autoscaling, Resources};
pub use proxy::{AccessLog, AccessLogEncoding, Proxy, ProxyLogLevel};
pub use proxy_update::{MaintenanceWindow, PROXY_UPDATE, PROXY_UPDATE_RESTART, ProxyUpdate, ProxyUpdateMode, Weekday};
pub use revision_tag::RevisionTag;
pub use status::{
    AddressType, CaSource, CaStatus, ComponentStatus, GatewayApiStatus, GatewayPortStatus, GatewayStatus,
    MeshInstallationStatus, NodePortOrigin, NodePortStatus, Phase, ProxiesStatus, VersionStatus,
};
pub use upgrade::{
    Allowance, OnFailure, Upgrade, UpgradeDirection, UpgradeOutcome, UpgradeStatus, UpgradeStep, UpgradeStrategy,
};

/// True for a value that is its type's default: such fields are left out of what is written, so
/// that an object read and written back is the one the user wrote.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
