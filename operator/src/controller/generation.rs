//! Selects the generation of the operator's own values for a spec.

use kube::ResourceExt as _;
use meshwright_api::{Adoption, MeshInstallation};
use semver::Version;

use super::context::Context;
use super::resolve::{DraftInputs, render_revision};
use super::rollout_target::{RolloutTarget, last_known_good};
use crate::catalog::Release;
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::operator_defaults::OperatorDefaults;
use crate::mesh::revision::RevisionRecord;
use crate::mesh::revisions::{MeshPart, objects_of_part};

/// The generation for a spec: that of its record, else that of the newest record of this release. Before a mesh has been
/// Ready, nothing runs that a new generation could restart.
pub(super) fn defaults_of(
    installation: &MeshInstallation,
    existing: Option<&RevisionRecord>,
    records: &[RevisionRecord],
    release: &Release,
) -> OperatorDefaults {
    if let Some(record) = existing {
        return record.inputs.defaults;
    }
    let adopts = installation.spec.adoption != Adoption::Refuse;
    let same = records.iter().rev().find(|record| record.inputs.version == *release.version());
    let active = same.or_else(|| RolloutTarget::of(records).map(|target| target.target()));
    let active = active.filter(|_| adopts || last_known_good(records).is_some());
    OperatorDefaults::of_new_revision(active, release.version(), adopts)
}

/// Without a revision history, a mesh that runs keeps the generation that its control plane was rendered with.
pub(super) async fn with_defaults_of_running(
    context: &Context,
    installation: &MeshInstallation,
    draft: DraftInputs,
    (release, running): (&Release, Option<&Version>),
) -> Result<DraftInputs, Blocker> {
    if running != Some(release.version()) {
        return Ok(draft);
    }
    let first = DraftInputs { defaults: OperatorDefaults::FIRST, ..draft.clone() };
    let rendered = render_revision(context, installation, first.clone(), release).await?;
    let live = context.inventory.snapshot(&installation.name_any(), &rendered.desired);
    let mut workloads = objects_of_part(&rendered.desired, MeshPart::ControlPlane)
        .filter(|desired| desired.key.kind == Kind::Deployment);
    let is_unchanged = workloads.all(|desired| {
        live.get(&desired.key).is_some_and(|live| live.ownership.hash.as_deref() == Some(&desired.hash))
    });
    Ok(if is_unchanged { first } else { DraftInputs { defaults: OperatorDefaults::CURRENT, ..draft } })
}
