//! Condition types and reasons, and how a condition changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The kinds of condition that a `MeshInstallation` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The mesh is as the spec says and works. Unknown while it is being brought there.
    Ready,
    /// The operator is at work; absent when it isn't.
    Reconciling,
    /// The operator can't go on without a person; absent when it can.
    Stalled,
    /// The mesh that runs serves, whatever becomes of the spec. The one to alert on.
    Available,
    /// Pods have proxies of this mesh; says why a removal waits.
    InUse,
    /// The mesh may be moved to the next minor of Istio; absent where none runs.
    Upgradeable,
}

impl ConditionType {
    /// Every type.
    pub const ALL: [Self; 6] =
        [Self::Ready, Self::Reconciling, Self::Stalled, Self::Available, Self::InUse, Self::Upgradeable];

    /// The type as status spells it.
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

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It doesn't.
    False,
    /// Not known, or not yet.
    Unknown,
}

impl ConditionStatus {
    /// The status as Kubernetes spells it.
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
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Declares [`Reason`] once: variants, their spelling and the list of them all can't drift apart.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Why a condition is as it is, and what an Event is about: one fixed word for tools to go
        /// by. What differs from case to case is in the message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason as conditions, Events and metrics spell it.
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
    /// All is as the spec says.
    Healthy,
    /// Objects of the spec are being written.
    Applying,
    /// Objects are written; their pods aren't ready yet.
    WaitingForRollout,
    /// CRDs are written; the API server doesn't serve them yet.
    WaitingForCrds,
    /// A webhook has no caBundle yet, so the API server can't call it.
    WaitingForCaBundle,
    /// A gateway's load balancer has no address yet, and the gateway requires one.
    WaitingForAddress,
    /// What the spec no longer asks for is being removed.
    Pruning,
    /// The namespace is being deleted; it can be made again when it is gone.
    NamespaceTerminating,
    /// A probe pod came back from the injector without a proxy.
    NotInjected,
    /// The API server could not call a webhook of the mesh, or the injector refuses pods.
    WebhookFailed,
    /// Pod Security of the namespace refuses a component's pods.
    PodSecurityTooStrict,
    /// Something that isn't the mesh's (a quota, a policy, a label of the namespace) keeps the probe pod from telling.
    ProbeRefused,
    /// The spec says something that can't be done.
    InvalidSpec,
    /// A node port that the spec asks for, or its range, is outside the API server's range.
    NodePortOutOfRange,
    /// A node port that the spec asks for is one that it reserves.
    NodePortReserved,
    /// A node port that the spec asks for is held by another Service, or asked for twice.
    NodePortTaken,
    /// There are fewer free node ports than the gateways need.
    NodePortsExhausted,
    /// The catalog has no such version.
    VersionNotInCatalog,
    /// The version exists but can't run on this Kubernetes.
    VersionNotSupported,
    /// The mesh that runs can't move to that version, or not in one go.
    UpgradeRefused,
    /// A running mesh is being moved to a changed spec, step by step.
    Upgrading,
    /// A step failed, and what ran before is being brought back.
    RollingBack,
    /// A step failed, and what ran before runs again.
    RolledBack,
    /// A step failed, and what ran before doesn't come up either.
    RollbackFailed,
    /// A step failed, and everything was left as it was then.
    Halted,
    /// The release in the catalog isn't what its digests say.
    CatalogDamaged,
    /// The release is being pulled from a registry of the catalog.
    PullingRelease,
    /// A registry of the catalog can't be reached, refuses, or has something else than it should; it is asked again.
    RegistryFailed,
    /// A chart of the release can't be rendered with these values.
    RenderFailed,
    /// An object of that name is there and isn't this installation's.
    ForeignObject,
    /// Taking over what somebody else made would change it, or the release that runs.
    AdoptionDiffers,
    /// The cluster has another `MeshInstallation`, which came first.
    AnotherInstallation,
    /// Another installation has a revision tag that the spec lists.
    TagTaken,
    /// Somebody changes an object of the mesh back whenever it is put right.
    Contested,
    /// Objects in no namespace, which others apply for this operator, are missing or not as the release needs them.
    ClusterObjectsMissing,
    /// The operator lacks a right.
    Forbidden,
    /// The API server refused an object as invalid.
    ObjectRefused,
    /// The API server could not be reached, or answered with an error that may pass.
    ApiUnavailable,
    /// `spec.paused` is set.
    Paused,
    /// The mesh is being removed.
    Uninstalling,
    /// Pods have proxies of this mesh.
    ProxiesPresent,
    /// Pods have proxies so old that the next minor's control plane is not meant for them.
    ProxiesTooOld,
    /// The mesh is not Ready.
    NotReady,
    /// Nothing that is known stands in the way.
    NothingInTheWay,
    /// istiod serves and injection works.
    Serving,
    /// istiod doesn't serve, or injection doesn't work.
    NotServing,
    /// What somebody else had made is the installation's now. An Event only.
    Adopted,
    /// An object was changed or deleted by another and was put right. An Event only.
    Healed,
    /// A workload was restarted, since its proxies weren't of the mesh's version. An Event only.
    ProxyRestarted,
    /// A node port that the operator had chosen was lost to another Service, and it chose another. An Event only.
    NodePortMoved,
    /// A revision tag was removed that namespaces or pods still ask for. An Event only.
    TagInUse,
    /// The mesh has been removed. An Event only.
    Uninstalled,
    /// The mesh was left running and the operator's marks taken off. An Event only.
    Orphaned,
}

/// The longest message that the API server accepts in a condition, in bytes.
const MAX_MESSAGE: usize = 32_768;

/// Sets a condition. `lastTransitionTime` is kept while the status stays the same, so that it says
/// since when; everything else is as given. The list stays sorted by type, so that the same state
/// is the same list whatever led to it.
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
        message: shorten(message.into()),
        observed_generation: Some(generation),
        last_transition_time: since,
    });
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

/// Takes a condition out, if it is there.
pub fn remove(conditions: &mut Vec<Condition>, condition_type: ConditionType) {
    conditions.retain(|condition| condition.type_ != condition_type.as_str());
}

/// The condition of that type.
#[must_use]
pub fn get(conditions: &[Condition], condition_type: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == condition_type.as_str())
}

/// Whether the condition of that type is there and True.
#[must_use]
pub fn is_true(conditions: &[Condition], condition_type: ConditionType) -> bool {
    get(conditions, condition_type).is_some_and(|condition| condition.status == ConditionStatus::True.as_str())
}

/// Cuts a message that the API server would refuse, at a character boundary.
fn shorten(mut message: String) -> String {
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
    fn the_transition_time_moves_only_with_the_status() {
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
    fn the_same_state_is_the_same_list_whatever_came_first() {
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
    fn a_removed_condition_is_gone_and_the_others_stay() {
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
    fn a_message_longer_than_the_api_server_takes_is_cut_between_characters() {
        let mut conditions = Vec::new();
        let message = "x".to_owned() + &"é".repeat(MAX_MESSAGE);
        set(&mut conditions, ConditionType::Ready, ConditionStatus::False, Reason::RenderFailed, message, 1, &at(1));
        assert_eq!(get(&conditions, ConditionType::Ready).unwrap().message.len(), MAX_MESSAGE - 1);
    }

    #[test]
    fn every_reason_is_what_kubernetes_accepts_as_one() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric()), "{text}");
            assert!(text.starts_with(|c: char| c.is_ascii_uppercase()) && text.len() <= 128, "{text}");
        }
    }
}
