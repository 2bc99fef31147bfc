//! From a spec to what it stands for: the exact release, validated inputs and desired objects. Reads the catalog.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kube::ResourceExt as _;
use meshwright_api::conditions::Reason;
use meshwright_api::version::VersionRequest;
use meshwright_api::{Allowance, MeshInstallation, MeshInstallationSpec, PlatformName, Upgrade, UpgradeStrategy};
use meshwright_chart::Capabilities;
use semver::Version;

use super::accepted::Accepted;
use super::context::Context;
use super::heading::{Heading, last_good};
use super::ports::assign;
use crate::apply::SurveyError;
use crate::catalog::facts::Refusal;
use crate::catalog::{Catalog, Facts, Profile, Release, explain};
use crate::mesh::health::Blocker;
use crate::mesh::images;
use crate::mesh::object::Owner;
use crate::mesh::problem::sentence;
use crate::mesh::render::{RenderMeshError, render};
use crate::mesh::revision::{Record, ResolvedInputs, Verdict, shape};
use crate::mesh::revisions::{Part, Revision, of_part};
use crate::mesh::upgrade::skew;
use crate::mesh::validate::validate;
use crate::nodeports::{Pins, wanted};
use crate::platform::{Detected, Platforms};
use crate::proxies::Policy;

fn stall(reason: Reason, message: impl Into<String>) -> Blocker {
    Blocker { reason, message: message.into() }
}

/// The platform that a spec is for: the one it names, else the one that was found when it was accepted, else the one that
/// is found now.
pub async fn platform(
    context: &Context,
    installation: &MeshInstallation,
    records: &[Record],
) -> Result<Detected, SurveyError> {
    let spec = &installation.spec;
    if !spec.platform.is_auto() {
        return Ok(Detected::chosen(spec.platform.as_str()));
    }
    let last = records.last().map(|record| &record.inputs);
    if let Some(known) = last.filter(|last| last.is_for(spec) && !last.platform.provisional) {
        return Ok(known.platform.clone());
    }
    match (context.surveyor.platform().await, last) {
        // A cluster's platform doesn't change with the spec.
        (Err(_), Some(last)) if last.spec.platform.is_auto() => Ok(last.platform.clone()),
        (found, _) => found,
    }
}

/// Resolves the spec of an installation on a platform. `records` are what is remembered of it, oldest first.
pub async fn resolve(
    context: &Context,
    installation: &MeshInstallation,
    platform: Detected,
    records: &[Record],
) -> Result<Arc<Accepted>, Blocker> {
    switches(&installation.spec)?;
    let beyond = context.options.cluster_objects.problems(&installation.spec);
    if !beyond.is_empty() {
        return Err(stall(Reason::InvalidSpec, sentence(&beyond)));
    }
    let spec = shape(&installation.spec);
    let remembered = records.last().filter(|last| last.inputs.is_for(&spec));
    let unchanged = remembered.filter(|record| record.inputs.platform == platform);
    if !context.node_ports.is_doubtful(&installation.name_any())
        && let Some(kept) = unchanged.and_then(|record| context.memory.render(installation, &record.inputs))
    {
        return Ok(kept);
    }
    let wanted = exact(remembered).map_or_else(|| request(&spec), Ok)?;
    let charts = remembered.map(|record| &record.inputs.charts);
    let catalog = context.releases.with(installation, &wanted, charts).await?;
    let running = running(context, installation);
    let release = release(&catalog, &spec, remembered, running.as_ref(), &context.capabilities.kube_version)?;
    if remembered.is_none() {
        let seen = context.proxies.seen(&installation.name_any(), &context.revision_names(installation));
        let proxies = seen.map(|seen| seen.versions).unwrap_or_default();
        moves(records, running.as_ref(), release.version(), &spec.upgrade, &catalog, &proxies)?;
        own_images(records, &spec, release.version())?;
    }
    let usual = context.surveyor.platforms().get(&platform.name);
    let node_ports = assign(context, installation, &spec, usual, remembered, records.last()).await?;
    let draft = Draft { spec, platform, node_ports, revision: None };
    let revision = revision(context, installation, records, &draft, release).await?;
    make(context, installation, Draft { revision, ..draft }, release).await
}

/// What a spec is accepted with, but for the release.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) spec: MeshInstallationSpec,
    pub(super) platform: Detected,
    pub(super) node_ports: Pins,
    pub(super) revision: Option<String>,
}

/// The revision that the operator gives a control plane.
async fn revision(
    context: &Context,
    installation: &MeshInstallation,
    records: &[Record],
    draft: &Draft,
    release: &Release,
) -> Result<Option<String>, Blocker> {
    let (standing, new) = match RevisionChoice::of(records, draft, release) {
        RevisionChoice::Known(revision) => return Ok(revision),
        RevisionChoice::Unless { standing, new } => (standing, new),
    };
    let present = standing.inputs.revision.clone();
    let wanted = make(context, installation, Draft { revision: present.clone(), ..draft.clone() }, release).await?;
    let runs = resolve_remembered(context, installation, standing).await?;
    Ok(if same_control_plane(&wanted, &runs) { present } else { new })
}

/// Which revision a control plane gets. Where it would be the same control plane, it is the same revision; a spec that was
/// accepted before gets the one that it had; and only a canary gets a new one.
pub(super) enum RevisionChoice<'r> {
    /// This one, or none.
    Known(Option<String>),
    /// A new one, unless the control plane would be that of the record that stands.
    Unless {
        /// What the mesh is brought to at present.
        standing: &'r Record,
        /// The new one.
        new: Option<String>,
    },
}

impl<'r> RevisionChoice<'r> {
    pub(super) fn of(records: &'r [Record], draft: &Draft, release: &Release) -> Self {
        let before = records.iter().rev().map(|record| &record.inputs);
        let mut same = before.filter(|inputs| inputs.version == *release.version() && inputs.is_for(&draft.spec));
        if let Some(known) = same.next() {
            return Self::Known(known.revision.clone());
        }
        let canary = draft.spec.upgrade.strategy == UpgradeStrategy::Canary && draft.spec.revision.is_none();
        let base = Revision::automatic(release.version());
        let Some(standing) = Heading::of(records).map(|heading| heading.target()) else {
            return Self::Known(canary.then(|| base.label().to_owned()));
        };
        if !canary {
            return Self::Known(standing.inputs.revision.clone());
        }
        // One that was rolled back has left nothing behind.
        let standing_records = records.iter().filter(|record| record.verdict != Verdict::RolledBack);
        let taken: Vec<&str> = standing_records.filter_map(|record| record.inputs.revision.as_deref()).collect();
        let mut names = std::iter::once(base.label().to_owned()).chain((2..).map(|n| format!("{}-{n}", base.label())));
        Self::Unless { standing, new: names.find(|name| !taken.contains(&name.as_str())) }
    }
}

pub(super) fn same_control_plane(one: &Accepted, other: &Accepted) -> bool {
    let hashes = |accepted: &Accepted| -> Vec<String> {
        of_part(&accepted.desired, Part::ControlPlane).map(|desired| desired.hash.clone()).collect()
    };
    hashes(one) == hashes(other)
}

/// What doesn't shape the mesh must be right all the same.
pub(super) fn switches(spec: &MeshInstallationSpec) -> Result<(), Blocker> {
    let read = Policy::read(&spec.proxy.update);
    read.map(drop).map_err(|problems| stall(Reason::InvalidSpec, sentence(&problems)))
}

/// The release that a spec is followed with. `remembered` is the record of this very spec, if there is one.
pub(super) fn release<'c>(
    catalog: &'c Catalog,
    spec: &MeshInstallationSpec,
    remembered: Option<&Record>,
    running: Option<&Version>,
    kubernetes: &str,
) -> Result<&'c Release, Blocker> {
    let request = request(spec)?;
    // A minor is resolved once per spec: a newer patch in the catalog must not upgrade a mesh by itself.
    let release = choose(catalog, exact(remembered).as_ref().unwrap_or(&request));
    // Nor does the end of a release's life stop what runs, or changes to it.
    let goes_on =
        remembered.is_some() || matches!((&release, running), (Ok(release), Some(v)) if release.version() == v);
    if !goes_on {
        supported(kubernetes, &request, &spec.upgrade, catalog)?;
    }
    let release = release?;
    if let Some(record) = remembered {
        same_charts(record, release)?;
    }
    Ok(release)
}

fn exact(remembered: Option<&Record>) -> Option<VersionRequest> {
    remembered.map(|record| VersionRequest::Exact(record.inputs.version.clone()))
}

fn request(spec: &MeshInstallationSpec) -> Result<VersionRequest, Blocker> {
    spec.version.parse().map_err(|error| stall(Reason::InvalidSpec, format!("spec.version: {error}")))
}

fn choose<'c>(catalog: &'c Catalog, request: &VersionRequest) -> Result<&'c Release, Blocker> {
    let found = catalog.resolve(request);
    found.map_err(|error| stall(Reason::VersionNotInCatalog, format!("spec.version: {error}")))
}

/// Whether this cluster can run, and Istio still repairs, what is asked for.
fn supported(kubernetes: &str, request: &VersionRequest, upgrade: &Upgrade, catalog: &Catalog) -> Result<(), Blocker> {
    let Ok(kubernetes) = Version::parse(kubernetes.trim_start_matches('v')) else {
        return Ok(());
    };
    let facts = Facts::bundled().map_err(|error| stall(Reason::CatalogDamaged, explain(&error)))?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    match facts.check(request, &kubernetes, today, &catalog.versions()) {
        Ok(_) => Ok(()),
        Err(Refusal::EndOfLife { .. }) if upgrade.allows(Allowance::EndOfLife) => Ok(()),
        // What the catalog lacks anyway is better told with the list of what it has.
        Err(Refusal::UnknownMinor { .. }) if catalog.resolve(request).is_err() => Ok(()),
        Err(refusal) => Err(stall(Reason::VersionNotSupported, format!("spec.version: {refusal}"))),
    }
}

pub(super) fn release_of<'c>(catalog: &'c Catalog, record: &Record) -> Result<&'c Release, Blocker> {
    let exact = VersionRequest::Exact(record.inputs.version.clone());
    let release = catalog.resolve(&exact).map_err(|error| stall(Reason::VersionNotInCatalog, error.to_string()))?;
    same_charts(record, release)?;
    Ok(release)
}

/// Resolves what was accepted last, so that the mesh that runs is looked after while its new spec is no good.
pub async fn resolve_remembered(
    context: &Context,
    installation: &MeshInstallation,
    record: &Record,
) -> Result<Arc<Accepted>, Blocker> {
    let ResolvedInputs { version, charts, spec, platform, node_ports, revision, .. } = record.inputs.clone();
    let catalog = context.releases.with(installation, &VersionRequest::Exact(version), Some(&charts)).await?;
    let release = release_of(&catalog, record)?;
    make(context, installation, Draft { spec, platform, node_ports, revision }, release).await
}

/// The release whose control plane serves: as the live Deployment is marked, since status can be lost.
fn running(context: &Context, installation: &MeshInstallation) -> Option<Version> {
    context.inventory.serving_release(&installation.name_any()).or_else(|| {
        installation.status.as_ref().and_then(|status| status.version.running.as_deref()).and_then(|v| v.parse().ok())
    })
}

/// A spec that was accepted with certain charts is followed with those, not with others of the same version.
fn same_charts(record: &Record, release: &Release) -> Result<(), Blocker> {
    let other = release.charts().iter().find(|(chart, digest)| {
        record.inputs.charts.get(&chart.to_string()).is_some_and(|accepted| *accepted != digest.to_string())
    });
    match other {
        None => Ok(()),
        Some((chart, _)) => Err(stall(
            Reason::CatalogDamaged,
            format!(
                "chart {chart} of release {} in the catalog is not the one that this mesh was made with: bring that one \
                 back, or change the spec to take the new one",
                release.version()
            ),
        )),
    }
}

/// Whether the mesh may move to a release: from the one that was Ready last, since all proxies are of that, or else from
/// the one that runs.
pub(super) fn moves(
    records: &[Record],
    running: Option<&Version>,
    wanted: &Version,
    upgrade: &Upgrade,
    catalog: &Catalog,
    proxies: &[String],
) -> Result<(), Blocker> {
    let Some(from) = last_good(records).map(|good| &good.inputs.version).or(running) else { return Ok(()) };
    skew::check(from, wanted, upgrade, &catalog.versions())
        .and_then(|()| if wanted > from { skew::check_proxies(proxies, wanted, upgrade) } else { Ok(()) })
        .map_err(|error| stall(Reason::UpgradeRefused, format!("spec.version: {error}")))
}

/// Whether the images that a spec names by digest are the release's own, as far as is remembered.
pub(super) fn own_images(records: &[Record], spec: &MeshInstallationSpec, wanted: &Version) -> Result<(), Blocker> {
    let before = records.iter().map(|record| (&record.inputs.version, &record.inputs.spec.images));
    let problem = images::left_behind(&spec.images, wanted, before);
    problem.map_or(Ok(()), |problem| Err(stall(Reason::InvalidSpec, problem.to_string())))
}

async fn make(
    context: &Context,
    installation: &MeshInstallation,
    draft: Draft,
    release: &Release,
) -> Result<Arc<Accepted>, Blocker> {
    let (inputs, owner) = inputs(installation, draft, release, &context.capabilities);
    if let Some(kept) = context.memory.render(installation, &inputs) {
        return Ok(kept);
    }
    let release = release.clone();
    let capabilities = context.capabilities.clone();
    let surveyor = context.surveyor.clone();
    let cluster_objects = context.options.cluster_objects;
    // Rendering takes tens of milliseconds of pure computation: not on the threads that serve watches.
    let made = tokio::task::spawn_blocking(move || {
        let built = build(inputs, owner, &release, surveyor.platforms(), &capabilities)?;
        let desired = cluster_objects.leave(built.desired);
        let desired = desired.map_err(|error| stall(Reason::RenderFailed, explain(&error)))?;
        Ok(Accepted { desired, ..built })
    })
    .await;
    let accepted =
        made.unwrap_or_else(|error| Err(stall(Reason::RenderFailed, format!("rendering ended early: {error}"))))?;
    let accepted = Arc::new(accepted);
    context.memory.keep_render(installation, Arc::clone(&accepted));
    Ok(accepted)
}

/// Of a resource or a memory that another version of this operator has written.
fn unknown_platform(name: &str) -> Blocker {
    let known = PlatformName::KNOWN.join(", ");
    stall(Reason::InvalidSpec, format!("spec.platform: {name:?} is none that is known: set auto, or one of {known}"))
}

pub(super) fn inputs(
    installation: &MeshInstallation,
    draft: Draft,
    release: &Release,
    capabilities: &Capabilities,
) -> (ResolvedInputs, Owner) {
    let Draft { spec, platform, node_ports, revision } = draft;
    let owner = Owner {
        installation: installation.name_any(),
        uid: installation.uid().unwrap_or_default(),
        release: release.version().clone(),
    };
    let inputs = ResolvedInputs {
        version: release.version().clone(),
        charts: release.charts().iter().map(|(chart, digest)| (chart.to_string(), digest.to_string())).collect(),
        kubernetes: capabilities.kube_version.clone(),
        revision,
        platform,
        spec,
        node_ports,
    };
    (inputs, owner)
}

pub(super) fn build(
    inputs: ResolvedInputs,
    owner: Owner,
    release: &Release,
    platforms: &Platforms,
    capabilities: &Capabilities,
) -> Result<Accepted, Blocker> {
    let profile = Profile::get(inputs.spec.profile)
        .map_err(|error| stall(Reason::InvalidSpec, format!("spec.profile: {}", explain(&error))))?;
    let Detected { name, evidence, .. } = &inputs.platform;
    let platform = platforms.get(name).ok_or_else(|| unknown_platform(name))?;
    let mut validated = validate(&inputs.rendered_spec(), owner, &profile, platform)
        .map_err(|problems| stall(Reason::InvalidSpec, sentence(&problems)))?;
    validated.platform.evidence.clone_from(evidence);
    let usual = platform.gateway_service_type();
    let validated = validated.pin(inputs.node_ports.in_use(&wanted(&inputs.spec, usual)));
    let validated = validated.name_images(&inputs.spec.images, release.images());
    let charts = release.load_charts(validated.releases.iter().map(|wanted| wanted.chart));
    let charts = charts.map_err(|error| stall(Reason::CatalogDamaged, explain(&error)))?;
    let desired = render(&validated, &charts, capabilities).map_err(|error| match &error {
        RenderMeshError::Patch(wrong) => stall(Reason::InvalidSpec, wrong.to_string()),
        _ => stall(Reason::RenderFailed, explain(&error)),
    })?;
    Ok(Accepted { inputs, validated, desired, preinstalled: Vec::new() })
}
