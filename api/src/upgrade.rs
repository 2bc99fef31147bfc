//! `spec.upgrade` and `status.upgrade`: rollout of spec changes to a running mesh.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{is_default, rules};

/// How the operator rolls out spec changes, such as a new version or other values, to a running mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// Upgrade strategy. `InPlace` (default): a rolling update of istiod. `Canary`: the operator installs a second
    /// control plane with a revision derived from the version; when the injection check succeeds, it moves the tags,
    /// including `default`, and then the gateways; it removes the old control plane when no proxy uses it any more.
    /// `Canary` can't be combined with `spec.revision`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strategy: UpgradeStrategy,
    /// With strategy `Canary`: how long the operator retains an old revision after the last proxy has left it, in the
    /// format of `progressDeadline`; at most 720h. Default: `5m`.
    #[serde(default = "retire_after", skip_serializing_if = "is_default_retirement")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = rules::is_retire_after())]
    pub retire_after: String,
    /// Maximum duration of each step without progress, after which it counts as failed, such as `10m`, `90s` or `1h30m`;
    /// from 5s to 24h. It restarts when more pods become ready. Default: `10m`.
    #[serde(default = "progress_deadline", skip_serializing_if = "is_default_deadline")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = rules::is_progress_deadline())]
    pub progress_deadline: String,
    /// What the operator does when a step fails. `Rollback` (default): roll back to the last known good revision.
    /// `Halt`: stop and leave the mesh in its current state. In both cases the failed spec is not retried until it
    /// changes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// Upgrades that are rejected by default: `Downgrade` to an older minor version, `SkipMinor` over one or more minor
    /// versions, `EndOfLife` to a release that Istio no longer supports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Vec<AllowedUpgrade>,
}

/// Default of `spec.upgrade.progressDeadline`.
const PROGRESS_DEADLINE: &str = "10m";

fn progress_deadline() -> String {
    PROGRESS_DEADLINE.to_owned()
}

fn is_default_deadline(text: &str) -> bool {
    text == PROGRESS_DEADLINE
}

/// Default of `spec.upgrade.retireAfter`.
const RETIRE_AFTER: &str = "5m";

fn retire_after() -> String {
    RETIRE_AFTER.to_owned()
}

fn is_default_retirement(text: &str) -> bool {
    text == RETIRE_AFTER
}

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            strategy: UpgradeStrategy::default(),
            retire_after: retire_after(),
            progress_deadline: progress_deadline(),
            on_failure: OnFailure::default(),
            allow: Vec::new(),
        }
    }
}

impl Upgrade {
    /// Returns [`Self::progress_deadline`] as a duration, or the default for invalid text, which the schema rejects.
    #[must_use]
    pub fn deadline(&self) -> SignedDuration {
        self.progress_deadline.parse().unwrap_or(SignedDuration::from_mins(10))
    }

    /// Returns [`Self::retire_after`] as a duration, or the default for invalid text, which the schema rejects.
    #[must_use]
    pub fn retirement(&self) -> SignedDuration {
        self.retire_after.parse().unwrap_or(SignedDuration::from_mins(5))
    }

    /// Returns whether upgrades of this kind are allowed.
    #[must_use]
    pub fn allows(&self, upgrade: AllowedUpgrade) -> bool {
        self.allow.contains(&upgrade)
    }
}

/// Upgrade strategy of the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeStrategy {
    /// Rolling update of istiod.
    #[default]
    InPlace,
    /// Second control plane with its own revision.
    Canary,
}

/// What the operator does when a step of an upgrade fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Roll back to the last known good revision.
    #[default]
    Rollback,
    /// Stop and leave the mesh in its current state.
    Halt,
}

/// An upgrade that is rejected unless `spec.upgrade.allow` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllowedUpgrade {
    /// Downgrade to an older minor version.
    Downgrade,
    /// Upgrade over one or more minor versions.
    SkipMinor,
    /// Upgrade to a release that Istio no longer supports.
    EndOfLife,
}

/// Progress or outcome of the last upgrade or rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeStatus {
    /// Release before the upgrade.
    pub from: String,
    /// Target release; equal to `from` if only other parts of the spec changed.
    pub to: String,
    /// `Forward` to the revision of the current spec, or `Rollback` to an earlier one.
    pub direction: UpgradeDirection,
    /// Name of the ControllerRevision, in the operator's namespace, that stores the target revision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub controller_revision: String,
    /// Current or last step.
    pub step: UpgradeStep,
    /// Gateway of the step `Gateway`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Start time of the upgrade.
    pub started_at: Time,
    /// Start time of the step.
    pub step_started_at: Time,
    /// Time at which the step fails if it is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// Outcome of the upgrade; absent while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UpgradeOutcome")]
    pub outcome: Option<UpgradeOutcome>,
    /// End time of the upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// What the step is waiting for, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Direction of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeDirection {
    /// Upgrade to the revision of the current spec.
    Forward,
    /// Rollback to the last known good revision.
    #[serde(alias = "Back")]
    Rollback,
}

/// Outcome of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeOutcome {
    /// The mesh matches the spec.
    #[serde(alias = "Done")]
    Succeeded,
    /// A step failed and the mesh was rolled back.
    RolledBack,
    /// A step failed and the operator left the mesh in its current state.
    Halted,
}

/// A step of an upgrade. Each step ends when the objects that it changed are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeStep {
    /// Namespaces and CRDs. A rollback doesn't change CRDs.
    #[serde(rename = "CRDs", alias = "Definitions")]
    Crds,
    /// Service accounts and RBAC objects, with the permissions of both releases while both control planes run.
    #[serde(rename = "RBAC", alias = "Rights")]
    Rbac,
    /// The istiod Deployment.
    ControlPlane,
    /// Configuration of the mesh and of injection, and webhooks.
    Configuration,
    /// Injection check: a dry-run pod must be injected with the release's proxy.
    #[serde(alias = "Injection")]
    InjectionCheck,
    /// Revision tags, including `default`.
    Tags,
    /// The istio-cni DaemonSet.
    #[serde(rename = "CNI", alias = "Cni")]
    Cni,
    /// The ztunnel DaemonSet.
    Ztunnel,
    /// Gateways, one after the other.
    Gateway,
    /// Deletion of objects that are no longer needed.
    CleanUp,
}

impl UpgradeStep {
    /// Returns the step as it is written in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crds => "CRDs",
            Self::Rbac => "RBAC",
            Self::ControlPlane => "ControlPlane",
            Self::Configuration => "Configuration",
            Self::InjectionCheck => "InjectionCheck",
            Self::Tags => "Tags",
            Self::Cni => "CNI",
            Self::Ztunnel => "Ztunnel",
            Self::Gateway => "Gateway",
            Self::CleanUp => "CleanUp",
        }
    }
}
