//! What the operator would do if a MeshInstallation were applied: objects, fields, rollouts.
//!
//! [`observe`] is the only part that does I/O, and it only reads. Everything else is pure: [`objects`] compares by the
//! operator's own plan, [`rollouts`] tells which pods that moves, [`path`] in which steps a
//! running mesh gets there, [`preflight`] what keeps it from that. [`inputs`] compares accepted specs.

pub mod inputs;
pub mod objects;
pub mod observe;
pub mod path;
pub mod preflight;
pub mod rollouts;

use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;

use meshwright_api::Adoption;
use meshwright_api::conditions::Reason;
use serde::Serialize;

use crate::controller::{self, Accepted};
use crate::mesh::health::Blocker;
use crate::mesh::object::{AdmitObjectError, Desired, ObjectKey, Owner};
use crate::mesh::plan::Refusal;
use crate::mesh::upgrade::direction;
use objects::{ObjectChange, Objects, Outcome, outcome, reduce};
use path::{PathStep, path, retiring};
use preflight::lost_versions;
use rollouts::{PodsAction, Rollout, rollouts};

/// The objects of one state of a mesh.
pub type State = Vec<Arc<Desired>>;

/// What a plan comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// All is as it should be.
    Nothing,
    /// There is something to do, and the operator would do it.
    Changes,
    /// The operator would write nothing, for the reasons among [`Report::refusals`].
    Refused,
}

/// All that a plan tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Name of the installation.
    pub installation: String,
    /// The release of the control plane that serves now; absent where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// The release that is asked for.
    pub wanted: String,
    /// The platform that it is made for.
    pub platform: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why nothing would be written.
    pub refusals: Vec<Blocker>,
    /// Objects that change.
    pub changes: Vec<ObjectChange>,
    /// How many objects get new marks of the operator and nothing else.
    pub marks_only: usize,
    /// Workloads whose pods that touches.
    pub rollouts: Vec<Rollout>,
    /// The steps of the way there, where a mesh runs that is moved step by step; empty where all is written at once.
    pub steps: Vec<PathStep>,
    /// All objects that the installation would have, as they are called.
    #[serde(skip)]
    pub objects: Vec<ObjectKey>,
    /// What to know of this plan: what couldn't be seen, and what it goes by instead.
    pub notes: Vec<String>,
}

/// What a plan is made from.
#[derive(Debug)]
pub struct Question<'a> {
    /// What is asked for.
    pub accepted: &'a Accepted,
    /// What is there.
    pub live: &'a Objects,
    /// What becomes of objects that are nobody's.
    pub adoption: Adoption,
    /// UIDs of all installations.
    pub existing: &'a BTreeSet<String>,
    /// The release whose control plane serves.
    pub running: Option<&'a semver::Version>,
    /// The states that the mesh may be in, the most trusted first; empty unless it is moved step by step.
    pub sources: &'a [State],
    /// What else keeps the operator from following it.
    pub refusals: Vec<Blocker>,
    /// What to know of this plan.
    pub notes: Vec<String>,
}

/// Makes the report.
pub fn report(question: Question<'_>) -> Result<Report, AdmitObjectError> {
    let Question { accepted, live, adoption, existing, running, sources, mut refusals, mut notes } = question;
    let owner: &Owner = &accepted.validated.owner;
    let Outcome { changes, marks_only, refusals: in_the_way, newer } =
        outcome(&accepted.desired, live, owner, existing, adoption);
    if !newer.is_empty() {
        let release = &owner.release;
        notes.push(format!("these definitions are newer than those of {release}, and stay: {}", newer.join(", ")));
    }
    refusals.extend(in_the_way.iter().flat_map(refused));
    refusals.extend(lost_versions(&accepted.desired, live, &changes));
    let unused = accepted.inputs.spec.upgrade.retirement();
    let steps = if sources.is_empty() {
        Vec::new()
    } else {
        let live = reduce(&accepted.desired, live);
        let direction = direction(&owner.release, &live, running, false);
        path(direction, sources, &accepted.desired, &live, &changes, unused)?
    };
    let mut rollouts = rollouts(&changes);
    if let Some(retiring) = retiring(sources, &accepted.desired) {
        let ends = |rollout: &&mut Rollout| rollout.action == PodsAction::End;
        let is_of_it = |rollout: &&mut Rollout| retiring.objects.iter().any(|key| rollout.is_of(key));
        for rollout in rollouts.iter_mut().filter(ends).filter(is_of_it) {
            rollout.because = retiring.when(unused);
        }
    }
    let verdict = match (refusals.is_empty(), changes.is_empty()) {
        (false, _) => Verdict::Refused,
        (true, true) => Verdict::Nothing,
        (true, false) => Verdict::Changes,
    };
    Ok(Report {
        installation: owner.installation.clone(),
        running: running.map(ToString::to_string),
        wanted: owner.release.to_string(),
        platform: accepted.inputs.platform.name.clone(),
        verdict,
        refusals,
        rollouts,
        changes,
        marks_only,
        steps,
        objects: accepted.desired.iter().map(|desired| desired.key.clone()).collect(),
        notes,
    })
}

fn refused(refusal: &Refusal) -> Vec<Blocker> {
    let (reason, message) = match refusal {
        Refusal::Differs { key, changes } => {
            let told = |change| format!("adoption would change {}", controller::field(key, change));
            let blocker = |change| Blocker { reason: Reason::AdoptionDiffers, message: told(change) };
            return changes.iter().map(blocker).collect();
        }
        Refusal::Selects { key, changes } => {
            let told = |change| controller::selects(key, slice::from_ref(change));
            let blocker = |change| Blocker { reason: Reason::AdoptionDiffers, message: told(change) };
            return changes.iter().map(blocker).collect();
        }
        Refusal::OtherRelease { key, release } => {
            (Reason::AdoptionDiffers, controller::other_release(key, &release.to_string()))
        }
        Refusal::Foreign { key, holder: Some(holder) } => {
            (Reason::ForeignObject, format!("{key} is of installation {holder}"))
        }
        Refusal::Foreign { key, holder: None } => (
            Reason::ForeignObject,
            format!("{key} is there and isn't the operator's: delete or rename it, or take it over (spec.adoption)"),
        ),
        Refusal::Terminating(namespace) => {
            (Reason::NamespaceTerminating, format!("namespace {namespace} is being deleted; it is made again then"))
        }
    };
    vec![Blocker { reason, message }]
}
