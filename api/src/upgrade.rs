//! `spec.upgrade` and `status.upgrade`: how a running mesh moves to a changed spec, and how far it has come.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{is_default, rules};

/// How a running mesh moves to a changed spec: a new version, or other values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// `InPlace` (default): istiod's pods are replaced by those of the changed spec. `Canary`: a
    /// second control plane stands up beside the first, under a revision that the operator names
    /// after the version; the tags, `default` among them, move when it is proved, then the gateways;
    /// the first goes when no proxy uses it any longer. It leaves no room for `spec.revision`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strategy: UpgradeStrategy,
    /// With `Canary`: how long a revision is kept that no proxy uses any longer. As
    /// `progressDeadline` is written. Default: `5m`.
    #[serde(default = "retire_after", skip_serializing_if = "is_usual_retirement")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = rules::is_retirement())]
    pub retire_after: String,
    /// How long each step may take to become ready before it counts as failed. Minutes, seconds and
    /// hours as in `10m`, `90s`, `1h30m`; from 5s to 24h. Default: `10m`.
    #[serde(default = "progress_deadline", skip_serializing_if = "is_usual_deadline")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = rules::is_progress_deadline())]
    pub progress_deadline: String,
    /// What happens when a step fails: `Rollback` (default) brings the last spec back that was
    /// Ready; `Halt` leaves all as it is then. Neither tries the failed spec again until it changes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// Moves that are refused otherwise: `Downgrade` to an older minor, `SkipMinor` to one more than
    /// one minor ahead, `EndOfLife` to a release that Istio no longer repairs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Vec<Allowance>,
}

/// The default of `spec.upgrade.progressDeadline`, as it is written.
const PROGRESS_DEADLINE: &str = "10m";

fn progress_deadline() -> String {
    PROGRESS_DEADLINE.to_owned()
}

fn is_usual_deadline(text: &str) -> bool {
    text == PROGRESS_DEADLINE
}

/// The default of `spec.upgrade.retireAfter`, as it is written.
const RETIRE_AFTER: &str = "5m";

fn retire_after() -> String {
    RETIRE_AFTER.to_owned()
}

fn is_usual_retirement(text: &str) -> bool {
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
    /// [`Self::progress_deadline`] as a duration; the default's for a text that is none, which the schema refuses.
    #[must_use]
    pub fn deadline(&self) -> SignedDuration {
        self.progress_deadline.parse().unwrap_or(SignedDuration::from_mins(10))
    }

    /// [`Self::retire_after`] as a duration; the default's for a text that is none, which the schema refuses.
    #[must_use]
    pub fn retirement(&self) -> SignedDuration {
        self.retire_after.parse().unwrap_or(SignedDuration::from_mins(5))
    }

    /// Whether a move of this kind is allowed.
    #[must_use]
    pub fn allows(&self, allowance: Allowance) -> bool {
        self.allow.contains(&allowance)
    }
}

/// How a changed spec takes the place of what runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeStrategy {
    /// Pod by pod.
    #[default]
    InPlace,
    /// Beside it, under a revision of its own.
    Canary,
}

/// What happens when a step of an upgrade fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// The last spec that was Ready is brought back.
    #[default]
    Rollback,
    /// Everything stays as it is.
    Halt,
}

/// A move that is refused unless it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Allowance {
    /// To an older minor.
    Downgrade,
    /// To a minor that is not the next one.
    SkipMinor,
    /// To a release that Istio no longer repairs.
    EndOfLife,
}

/// How far a running mesh has come on its way to a changed spec, or how the last such way ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeStatus {
    /// The release that the way leads from.
    pub from: String,
    /// The release that it leads to; the same where only values change.
    pub to: String,
    /// `Forward`, to what the spec asks for, or `Back`.
    pub direction: UpgradeDirection,
    /// Name of the `ControllerRevision`, in the operator's namespace, that holds what it leads to.
    pub record: String,
    /// The step that is under way, or was the last.
    pub step: UpgradeStep,
    /// The gateway concerned, in the step `Gateway`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// When the whole began.
    pub started_at: Time,
    /// When this step began.
    pub step_started_at: Time,
    /// When this step fails unless it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// How it ended; absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UpgradeOutcome")]
    pub outcome: Option<UpgradeOutcome>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// What the step waits for, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Where a way leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeDirection {
    /// To what the spec asks for.
    Forward,
    /// To what ran before.
    Back,
}

/// How a way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeOutcome {
    /// The mesh is as the spec says.
    Done,
    /// A step failed, and what ran before runs again.
    RolledBack,
    /// A step failed, and everything was left as it was then.
    Halted,
}

/// A step; each waits until what it has changed is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeStep {
    /// Namespaces and CRDs; CRDs never go back.
    Definitions,
    /// Accounts and roles: those of both sides, while both run.
    Rights,
    /// istiod's pods.
    ControlPlane,
    /// The mesh's and the injector's configuration, and webhooks.
    Configuration,
    /// The proof that pods get the right proxy.
    Injection,
    /// Revision tags, that of the default among them.
    Tags,
    /// The node agent.
    Cni,
    /// The node proxy.
    Ztunnel,
    /// Gateways, one by one.
    Gateway,
    /// The removal of what is no longer needed.
    CleanUp,
}

impl UpgradeStep {
    /// The step as status spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Definitions => "Definitions",
            Self::Rights => "Rights",
            Self::ControlPlane => "ControlPlane",
            Self::Configuration => "Configuration",
            Self::Injection => "Injection",
            Self::Tags => "Tags",
            Self::Cni => "Cni",
            Self::Ztunnel => "Ztunnel",
            Self::Gateway => "Gateway",
            Self::CleanUp => "CleanUp",
        }
    }
}
