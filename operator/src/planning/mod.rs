//! The changes that the operator would make for a MeshInstallation: objects, fields, rollouts.
//!
//! [`observe`] is the only part that does I/O, and it only reads. The rest is pure: [`objects`] compares resources with
//! the operator's own plan, [`rollouts`] determines which pods change, [`steps`] the order of an upgrade and
//! [`preflight`] what would block it, as far as a read shows that. The dry run is part of the command. [`inputs`] compares revisions.

pub mod inputs;
pub mod objects;
pub mod observe;
pub mod preflight;
pub mod rollouts;
pub mod steps;

use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;

use meshwright_api::Adoption;
use meshwright_api::conditions::Reason;
use serde::Serialize;

use crate::controller::{self, ResolvedRevision};
use crate::mesh::health::Blocker;
use crate::mesh::object::{DesiredObject, ObjectKey, Owner, ParseObjectError};
use crate::mesh::plan::PlanConflict;
use crate::mesh::upgrade::direction;
use objects::{LiveObjects, ObjectChange, ObjectDiff, diff_objects, reduce};
use preflight::lost_versions;
use rollouts::{PodsAction, Rollout, rollouts};
use steps::{PlannedStep, planned_steps, retiring};

/// The resources of one revision of a mesh.
pub type MeshState = Vec<Arc<DesiredObject>>;

/// The result of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PlanVerdict {
    /// The cluster is up to date.
    Nothing,
    /// The operator would make changes.
    Changes,
    /// The operator would change nothing because of [`PlanReport::refusals`].
    Refused,
}

/// A plan, as it is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// Name of the MeshInstallation.
    pub installation: String,
    /// Release of the active control plane; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// The requested release.
    pub wanted: String,
    /// The platform of the installation.
    pub platform: String,
    /// Result of the plan.
    pub verdict: PlanVerdict,
    /// The reasons why the operator would change nothing.
    pub refusals: Vec<Blocker>,
    /// Resources that change.
    pub changes: Vec<ObjectChange>,
    /// Number of resources of which only the ownership labels and annotations change.
    #[serde(rename = "marksOnly")]
    pub metadata_only: usize,
    /// Workloads whose pods change.
    pub rollouts: Vec<Rollout>,
    /// The steps of the upgrade; empty if all resources are applied at once.
    pub steps: Vec<PlannedStep>,
    /// All resources of the installation.
    #[serde(skip)]
    pub objects: Vec<ObjectKey>,
    /// Notes, such as data that couldn't be read and the assumptions used instead.
    pub notes: Vec<String>,
}

/// The input of a plan.
#[derive(Debug)]
pub struct PlanInput<'a> {
    /// The desired revision.
    pub resolved: &'a ResolvedRevision,
    /// The live resources.
    pub live: &'a LiveObjects,
    /// How to handle unmanaged resources.
    pub adoption: Adoption,
    /// UIDs of all MeshInstallations.
    pub existing: &'a BTreeSet<String>,
    /// Release of the active control plane.
    pub running: Option<&'a semver::Version>,
    /// The revisions that may be deployed, most trusted first; empty unless the change is an upgrade in steps.
    pub sources: &'a [MeshState],
    /// Other reasons why the operator would change nothing.
    pub refusals: Vec<Blocker>,
    /// Notes for the report.
    pub notes: Vec<String>,
}

/// Creates the report.
pub fn report(input: PlanInput<'_>) -> Result<PlanReport, ParseObjectError> {
    let PlanInput { resolved, live, adoption, existing, running, sources, mut refusals, mut notes } = input;
    let owner: &Owner = &resolved.validated.owner;
    let ObjectDiff { changes, metadata_only, conflicts, newer } =
        diff_objects(&resolved.desired, live, owner, existing, adoption);
    if !newer.is_empty() {
        let release = &owner.release;
        notes.push(format!("these CRDs are newer than those of {release} and are kept: {}", newer.join(", ")));
    }
    refusals.extend(conflicts.iter().flat_map(blockers));
    refusals.extend(lost_versions(&resolved.desired, live, &changes));
    let retire_after = resolved.inputs.spec.upgrade.retirement();
    let steps = if sources.is_empty() {
        Vec::new()
    } else {
        let live = reduce(&resolved.desired, live);
        let direction = direction(&owner.release, &live, running, false);
        planned_steps(direction, sources, &resolved.desired, &live, &changes, retire_after)?
    };
    let mut rollouts = rollouts(&changes);
    if let Some(retiring) = retiring(sources, &resolved.desired) {
        let ends = |rollout: &&mut Rollout| rollout.action == PodsAction::End;
        let is_retiring = |rollout: &&mut Rollout| retiring.objects.iter().any(|key| rollout.is_of(key));
        for rollout in rollouts.iter_mut().filter(ends).filter(is_retiring) {
            rollout.because = retiring.when(retire_after);
        }
    }
    let verdict = match (refusals.is_empty(), changes.is_empty()) {
        (false, _) => PlanVerdict::Refused,
        (true, true) => PlanVerdict::Nothing,
        (true, false) => PlanVerdict::Changes,
    };
    Ok(PlanReport {
        installation: owner.installation.clone(),
        running: running.map(ToString::to_string),
        wanted: owner.release.to_string(),
        platform: resolved.inputs.platform.name.clone(),
        verdict,
        refusals,
        rollouts,
        changes,
        metadata_only,
        steps,
        objects: resolved.desired.iter().map(|desired| desired.key.clone()).collect(),
        notes,
    })
}

fn blockers(conflict: &PlanConflict) -> Vec<Blocker> {
    let (reason, message) = match conflict {
        PlanConflict::Adoption { key, changes } => {
            let message = |change| format!("adoption would change {}", controller::describe_change(key, change));
            let blocker = |change| Blocker { reason: Reason::AdoptionConflict, message: message(change) };
            return changes.iter().map(blocker).collect();
        }
        PlanConflict::Selector { key, changes } => {
            let message = |change| controller::selector_conflict(key, slice::from_ref(change));
            let blocker = |change| Blocker { reason: Reason::AdoptionConflict, message: message(change) };
            return changes.iter().map(blocker).collect();
        }
        PlanConflict::Creation(key) => {
            (Reason::AdoptionConflict, format!("adoption would change the mesh: {key} would be created"))
        }
        PlanConflict::Release { key, release } => {
            (Reason::AdoptionConflict, controller::release_mismatch(key, &release.to_string()))
        }
        PlanConflict::Unmanaged { key, installation: Some(installation) } => {
            (Reason::UnmanagedResource, format!("{key} is managed by MeshInstallation {installation}"))
        }
        PlanConflict::Unmanaged { key, installation: None } => (
            Reason::UnmanagedResource,
            format!("{key} exists and is not managed by Meshwright; delete or rename it, or set spec.adoption"),
        ),
        PlanConflict::NamespaceTerminating(namespace) => (
            Reason::NamespaceTerminating,
            format!("Namespace {namespace} is being deleted; the operator recreates it afterwards"),
        ),
    };
    vec![Blocker { reason, message }]
}
