//! The `MeshInstallation` API: types, CRD, conditions and reasons.
//!
//! Other programs can use this crate to read and write `MeshInstallations`. It contains no client, performs no I/O and
//! does not read the clock; callers pass in the time.

mod add_on;
mod adoption;
pub mod conditions;
mod control_plane;
mod crd;
mod free_form;
mod gateway;
mod gateway_values;
mod images;
mod injector;
mod installation;
mod node_component;
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
pub use gateway::{
    ExternalTrafficPolicy, Gateway, GatewayDirection, GatewayPort, GatewayService, Protocol, ServiceType,
};
pub use images::{IMAGE_NAMES, ImagePullSecret, Images, PullPolicy};
pub use injector::Injector;
pub use installation::{
    ChartValues, CrdPolicy, Deletion, DeletionPolicy, InUsePolicy, MeshInstallation, MeshInstallationSpec, Profile,
};
pub use node_component::{ComponentMode, NodeComponent};
pub use node_ports::{NodePortAssignment, NodePorts};
pub use patch::{ObjectPatch, PatchOperation, PatchTarget, PatchVerb};
pub use platform::PlatformName;
pub use platform_status::{
    LoadBalancerSupport, NodePortRangeSource, NodePortRangeStatus, PlatformPermission, PlatformStatus,
};
pub use pods::{Autoscaling, Resources};
pub use proxy::{AccessLog, AccessLogEncoding, Proxy, ProxyLogLevel};
pub use proxy_update::{MaintenanceWindow, PROXY_UPDATE, PROXY_UPDATE_RESTART, ProxyUpdate, ProxyUpdateMode, Weekday};
pub use revision_tag::RevisionTag;
pub use status::{
    CaSource, CaStatus, ComponentStatus, GatewayAddressType, GatewayApiStatus, GatewayPortStatus, GatewayStatus,
    MeshInstallationStatus, NodePortOrigin, NodePortStatus, Phase, ProxiesStatus, VersionStatus,
};
pub use upgrade::{
    AllowedUpgrade, OnFailure, Upgrade, UpgradeDirection, UpgradeOutcome, UpgradeStatus, UpgradeStep, UpgradeStrategy,
};

/// Used to omit fields with default values when serializing, so that reading and writing an object does not add fields
/// that the user did not set.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
