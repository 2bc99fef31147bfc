//! Condition types and reasons, and functions that update conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Condition types of a MeshInstallation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The mesh matches its spec and is healthy. Unknown while a rollout is in progress.
    Ready,
    /// The operator is working towards the spec. Absent otherwise.
    Reconciling,
    /// The operator can't make progress without user intervention. Absent otherwise.
    Stalled,
    /// The current revision of the mesh serves traffic and injects sidecars, even if the spec is not rolled out. Use
    /// this condition for alerts.
    Available,
    /// Pods use proxies of this mesh, which delays its removal.
    InUse,
    /// The mesh can be upgraded to the next Istio minor version. Absent if no mesh is running.
    Upgradeable,
}

impl ConditionType {
    /// All types in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::Ready, Self::Reconciling, Self::Stalled, Self::Available, Self::InUse, Self::Upgradeable];

    /// Returns the type as it is written in status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Available => "Available",
            Self::InUse => "InUse",
            Self::Upgradeable => "Upgradeable",
        }
    }
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// The condition is met.
    True,
    /// The condition is not met.
    False,
    /// The operator can't determine whether the condition is met.
    Unknown,
}

impl ConditionStatus {
    /// Returns the status as Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(met: bool) -> Self {
        if met { Self::True } else { Self::False }
    }
}

/// Declares [`Reason`], so that its variants, their names and `Reason::ALL` stay consistent.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Machine-readable reason of a condition or Event. Details are in the message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// All reasons in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the reason as it is written in conditions, Events and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

reasons! {
    /// The mesh matches its spec and is healthy.
    Healthy,
    /// The operator is applying objects.
    Applying,
    /// All objects are applied; their pods are not ready yet.
    WaitingForRollout,
    /// CRDs are applied; the API server doesn't serve them yet.
    WaitingForCRDs,
    /// A webhook has no caBundle yet, so the API server can't call it.
    WaitingForCABundle,
    /// A gateway with `requireAddress` waits for its load balancer's address.
    WaitingForAddress,
    /// The operator is deleting objects that are no longer part of the spec.
    Pruning,
    /// The namespace is being deleted; the operator recreates it afterwards.
    NamespaceTerminating,
    /// The injection check's pod was admitted without a sidecar.
    NotInjected,
    /// istiod runs with another configuration than that of its ConfigMaps, since it can't load that.
    ConfigurationNotLoaded,
    /// The API server could not call a webhook of the mesh, or the injection webhook denied the pod.
    WebhookFailed,
    /// Pod Security of the namespace rejects a component's pods.
    PodSecurityViolation,
    /// Another admission plugin, a quota or a namespace label prevents the injection check.
    InjectionCheckDenied,
    /// Labels of a namespace keep gateways or ztunnel in it from starting.
    NamespaceExcluded,
    /// The spec is invalid.
    InvalidSpec,
    /// A node port or the node port range in the spec is outside the API server's range.
    NodePortOutOfRange,
    /// A node port in the spec is also listed in `spec.nodePorts.reserved`.
    NodePortReserved,
    /// A node port in the spec is used by another Service, or twice in the spec.
    NodePortInUse,
    /// There are fewer free node ports than the gateways need.
    NodePortsExhausted,
    /// The catalog doesn't contain the version.
    VersionNotInCatalog,
    /// The version can't run on this Kubernetes version.
    VersionNotSupported,
    /// The running mesh can't be upgraded to the version, or not in a single upgrade.
    UpgradeNotAllowed,
    /// A rollout of a changed spec is in progress.
    Upgrading,
    /// A step failed; a rollback to the last known good revision is in progress.
    RollingBack,
    /// A step failed; the mesh was rolled back to the last known good revision.
    RolledBack,
    /// A step failed, and the rollback failed too.
    RollbackFailed,
    /// A step failed; the operator stopped the rollout without a rollback.
    Halted,
    /// The release in the catalog doesn't match its digests.
    CatalogCorrupted,
    /// The operator is pulling the release from a registry of the catalog.
    PullingRelease,
    /// A registry of the catalog is unreachable, rejects requests or returns invalid content; the operator retries.
    RegistryError,
    /// A chart of the release can't be rendered with these values.
    RenderFailed,
    /// A resource with the name of one of the mesh's objects exists and is not managed by Meshwright.
    UnmanagedResource,
    /// Adopting existing resources would change them or the running Istio version.
    AdoptionConflict,
    /// Another, older MeshInstallation conflicts with this one.
    InstallationConflict,
    /// Another installation owns a revision tag that the spec lists.
    TagConflict,
    /// Another field manager keeps reverting the operator's changes to an object.
    DriftLoop,
    /// Externally managed cluster-scoped resources are missing or don't match the release.
    ClusterScopedResourcesMissing,
    /// The operator lacks a permission.
    Forbidden,
    /// The API server rejected an object as invalid.
    ObjectRejected,
    /// The API server is unreachable or returned a transient error.
    APIServerUnavailable,
    /// Reconciliation is paused by `spec.paused`.
    Paused,
    /// The operator is removing the mesh.
    Uninstalling,
    /// Pods use proxies of this mesh.
    ProxiesPresent,
    /// Pods use proxies that are too old for the control plane of the next minor version.
    ProxiesTooOld,
    /// The mesh is not Ready.
    NotReady,
    /// The operator knows of no issues that prevent an upgrade.
    NoKnownIssues,
    /// istiod is available and injection works.
    Serving,
    /// istiod is unavailable or injection fails.
    NotServing,
    /// The operator took ownership of an existing resource. Used in Events only.
    Adopted,
    /// The operator reverted drift in an object or recreated it. Used in Events only.
    DriftReverted,
    /// The operator restarted a workload with outdated proxies. Used in Events only.
    ProxyRestarted,
    /// Another Service took a node port that the operator had assigned, and the operator assigned another one. Used in
    /// Events only.
    NodePortReassigned,
    /// A revision tag was removed that namespaces or pods still select. Used in Events only.
    TagInUse,
    /// An object exceeds the limits of what the operator reads. Used in Events only.
    ObjectTooLarge,
    /// The operator has removed the mesh. Used in Events only.
    Uninstalled,
    /// The operator removed its ownership labels and annotations and left the mesh running. Used in Events only.
    Orphaned,
}

/// Maximum length of a condition's message that the API server accepts, in bytes.
const MAX_MESSAGE: usize = 32_768;

/// Sets a condition. `lastTransitionTime` only changes with the status. The list stays sorted by type, so that equal
/// states are equal lists.
pub fn set(
    conditions: &mut Vec<Condition>,
    condition_type: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: impl Into<String>,
    generation: i64,
    now: &Time,
) {
    let since = get(conditions, condition_type)
        .filter(|old| old.status == status.as_str())
        .map_or_else(|| now.clone(), |old| old.last_transition_time.clone());
    remove(conditions, condition_type);
    conditions.push(Condition {
        type_: condition_type.as_str().to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: truncate(message.into()),
        observed_generation: Some(generation),
        last_transition_time: since,
    });
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

/// Removes the condition of a type, if present.
pub fn remove(conditions: &mut Vec<Condition>, condition_type: ConditionType) {
    conditions.retain(|condition| condition.type_ != condition_type.as_str());
}

/// Returns the condition of a type.
#[must_use]
pub fn get(conditions: &[Condition], condition_type: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == condition_type.as_str())
}

/// Returns whether the condition of a type is present and True.
#[must_use]
pub fn is_true(conditions: &[Condition], condition_type: ConditionType) -> bool {
    get(conditions, condition_type).is_some_and(|condition| condition.status == ConditionStatus::True.as_str())
}

/// Truncates a message to the length that the API server accepts, at a character boundary.
fn truncate(mut message: String) -> String {
    let end = message.floor_char_boundary(MAX_MESSAGE);
    message.truncate(end);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    fn ready(conditions: &mut Vec<Condition>, status: ConditionStatus, reason: Reason, now: i64) {
        set(conditions, ConditionType::Ready, status, reason, reason.as_str(), now, &at(now));
    }

    #[test]
    fn keeps_transition_time_while_status_is_unchanged() {
        let mut conditions = Vec::new();
        ready(&mut conditions, ConditionStatus::Unknown, Reason::Applying, 1);
        ready(&mut conditions, ConditionStatus::Unknown, Reason::WaitingForRollout, 2);
        let condition = get(&conditions, ConditionType::Ready).unwrap();
        assert_eq!(condition.last_transition_time, at(1));
        assert_eq!(condition.reason, "WaitingForRollout");
        assert_eq!(condition.observed_generation, Some(2));

        ready(&mut conditions, ConditionStatus::True, Reason::Healthy, 3);
        let condition = get(&conditions, ConditionType::Ready).unwrap();
        assert_eq!(condition.last_transition_time, at(3));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn order_of_updates_does_not_matter() {
        let types = [ConditionType::Stalled, ConditionType::Ready, ConditionType::Available];
        let build = |order: &mut dyn Iterator<Item = ConditionType>| {
            let mut conditions = Vec::new();
            for condition_type in order {
                set(&mut conditions, condition_type, ConditionStatus::True, Reason::Healthy, "", 1, &at(1));
            }
            conditions
        };
        assert_eq!(build(&mut types.into_iter()), build(&mut types.into_iter().rev()));
    }

    #[test]
    fn removes_only_conditions_of_the_type() {
        let mut conditions = Vec::new();
        ready(&mut conditions, ConditionStatus::True, Reason::Healthy, 1);
        set(&mut conditions, ConditionType::Stalled, ConditionStatus::True, Reason::InvalidSpec, "", 1, &at(1));
        remove(&mut conditions, ConditionType::Stalled);
        remove(&mut conditions, ConditionType::InUse);
        assert!(get(&conditions, ConditionType::Stalled).is_none());
        assert!(is_true(&conditions, ConditionType::Ready));
        assert!(!is_true(&conditions, ConditionType::Stalled));
    }

    #[test]
    fn truncates_messages_at_character_boundaries() {
        let mut conditions = Vec::new();
        let message = "x".to_owned() + &"é".repeat(MAX_MESSAGE);
        set(&mut conditions, ConditionType::Ready, ConditionStatus::False, Reason::RenderFailed, message, 1, &at(1));
        assert_eq!(get(&conditions, ConditionType::Ready).unwrap().message.len(), MAX_MESSAGE - 1);
    }

    #[test]
    fn reasons_are_valid_condition_reasons() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric()), "{text}");
            assert!(text.starts_with(|c: char| c.is_ascii_uppercase()) && text.len() <= 128, "{text}");
        }
    }
}
