//! Resolves a spec to an exact release, validated inputs and desired objects. Reads the catalog.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kube::ResourceExt as _;
use meshwright_api::conditions::Reason;
use meshwright_api::version::VersionRequest;
use meshwright_api::{AllowedUpgrade, MeshInstallation, MeshInstallationSpec, PlatformName, Upgrade, UpgradeStrategy};
use meshwright_chart::Capabilities;
use semver::Version;

use super::context::Context;
use super::generation::{defaults_of, with_defaults_of_running};
use super::node_ports::assign_node_ports;
use super::proxies::serving_proxies;
use super::resolved_revision::ResolvedRevision;
use super::rollout_target::{RolloutTarget, last_known_good};
use crate::apply::DetectClusterError;
use crate::catalog::facts::VersionRefusal;
use crate::catalog::{Catalog, Profile, Release, ReleaseFacts, error_chain};
use crate::mesh::decode;
use crate::mesh::external_ca;
use crate::mesh::gateway_selectors;
use crate::mesh::health::Blocker;
use crate::mesh::images;
use crate::mesh::object::Owner;
use crate::mesh::operator_defaults::OperatorDefaults;
use crate::mesh::problem::sentence;
use crate::mesh::render::{RenderMeshError, render};
use crate::mesh::revision::{ResolvedInputs, RevisionRecord, RevisionVerdict, mesh_fields};
use crate::mesh::revisions::{MeshPart, Revision, objects_of_part};
use crate::mesh::unknown_keys::unknown_keys;
use crate::mesh::upgrade::skew;
use crate::mesh::validate::validate;
use crate::nodeports::{Pins, port_requests};
use crate::platform::{DetectedPlatform, Platforms};
use crate::proxies::{RestartPolicy, ServingProxies};

fn blocker(reason: Reason, message: impl Into<String>) -> Blocker {
    Blocker { reason, message: message.into() }
}

/// The platform of a spec: the one it names, else the one detected when it was accepted, else the one detected now.
pub async fn platform(
    context: &Context,
    installation: &MeshInstallation,
    records: &[RevisionRecord],
) -> Result<DetectedPlatform, DetectClusterError> {
    let spec = &installation.spec;
    if !spec.platform.is_auto() {
        return Ok(DetectedPlatform::from_spec(spec.platform.as_str()));
    }
    let last = records.last().map(|record| &record.inputs);
    if let Some(known) = last.filter(|last| last.matches_spec(spec) && !last.platform.provisional) {
        return Ok(known.platform.clone());
    }
    match (context.detector.platform().await, last) {
        // A cluster's platform does not change with the spec.
        (Err(_), Some(last)) if last.spec.platform.is_auto() => Ok(last.platform.clone()),
        (found, _) => found,
    }
}

/// Resolves the spec of an installation on a platform. `records` is its revision history, oldest first.
pub async fn resolve(
    context: &Context,
    installation: &MeshInstallation,
    platform: DetectedPlatform,
    records: &[RevisionRecord],
) -> Result<Arc<ResolvedRevision>, Blocker> {
    check_proxy_policy(&installation.spec)?;
    let unsupported = context.options.cluster_scoped_resources.problems(&installation.spec);
    if !unsupported.is_empty() {
        return Err(blocker(Reason::InvalidSpec, sentence(&unsupported)));
    }
    let spec = mesh_fields(&installation.spec);
    let existing = records.last().filter(|last| last.inputs.matches_spec(&spec));
    let unchanged = existing.filter(|record| record.inputs.platform == platform);
    if !context.node_ports.needs_revalidation(&installation.name_any())
        && let Some(cached) = unchanged.and_then(|record| context.cache.render(installation, &record.inputs))
    {
        check_configuration(&cached, existing)?;
        return Ok(cached);
    }
    let wanted = exact(existing).map_or_else(|| request(&spec), Ok)?;
    let charts = existing.map(|record| &record.inputs.charts);
    let catalog = context.releases.with(installation, &wanted, charts).await?;
    let running = running(context, installation);
    let server_version = context.server_version.get();
    let release = release(&catalog, &spec, existing, running.as_ref(), &server_version)?;
    if existing.is_none() {
        let is_upgrade = match &running {
            Some(running) => release.version() > running,
            None => !records.is_empty(),
        };
        let proxies = if is_upgrade { serving_proxies(context, installation).await } else { Vec::new() };
        check_upgrade_path(records, running.as_ref(), release.version(), &spec.upgrade, &catalog, &proxies)?;
        check_images(records, &spec, release.version())?;
    }
    let usual = context.detector.platforms().get(&platform.name);
    let node_ports = assign_node_ports(context, installation, &spec, usual, existing, records.last()).await?;
    let defaults = defaults_of(installation, existing, records, release);
    let kubernetes = kubernetes_of(existing, server_version);
    let draft = DraftInputs { spec, platform, node_ports, revision: None, kubernetes, defaults };
    let revision = revision(context, installation, records, &draft, release).await?;
    let mut draft = DraftInputs { revision, ..draft };
    if records.is_empty() {
        draft = with_defaults_of_running(context, installation, draft, (release, running.as_ref())).await?;
    }
    let resolved = render_revision(context, installation, draft, release).await?;
    check_configuration(&resolved, existing)?;
    Ok(resolved)
}

/// Checks that istiod accepts the rendered configuration, and that gateways don't share pods. A deployed revision is
/// exempt: stricter validation in a newer operator must not stop its reconciliation.
pub(super) fn check_configuration(
    resolved: &ResolvedRevision,
    existing: Option<&RevisionRecord>,
) -> Result<(), Blocker> {
    if existing.is_some_and(|record| record.verdict == RevisionVerdict::Deployed) {
        return Ok(());
    }
    let problems = &resolved.problems;
    if problems.is_empty() { Ok(()) } else { Err(blocker(Reason::InvalidSpec, sentence(problems))) }
}

/// The inputs of a revision, except for the release.
#[derive(Clone)]
pub(super) struct DraftInputs {
    pub(super) spec: MeshInstallationSpec,
    pub(super) platform: DetectedPlatform,
    pub(super) node_ports: Pins,
    pub(super) revision: Option<String>,
    pub(super) kubernetes: String,
    pub(super) defaults: OperatorDefaults,
}

/// The Kubernetes version that a spec is rendered for: that of its record, if it has one, so that an upgrade of the API
/// server starts no rollout.
pub(super) fn kubernetes_of(existing: Option<&RevisionRecord>, server_version: String) -> String {
    existing.map_or(server_version, |record| record.inputs.kubernetes.clone())
}

/// The `istio.io/rev` that the operator gives a control plane.
async fn revision(
    context: &Context,
    installation: &MeshInstallation,
    records: &[RevisionRecord],
    draft: &DraftInputs,
    release: &Release,
) -> Result<Option<String>, Blocker> {
    let (active, new) = match RevisionChoice::of(records, draft, release) {
        RevisionChoice::Known(revision) => return Ok(revision),
        RevisionChoice::UnlessUnchanged { active, new } => (active, new),
    };
    let present = active.inputs.revision.clone();
    let wanted =
        render_revision(context, installation, DraftInputs { revision: present.clone(), ..draft.clone() }, release)
            .await?;
    let current = resolve_record(context, installation, active).await?;
    Ok(if is_same_control_plane(&wanted, &current) { present } else { new })
}

/// How a control plane gets its `istio.io/rev`. A spec that was accepted before keeps its revision, as does an
/// unchanged control plane; only a canary upgrade creates a new one.
pub(super) enum RevisionChoice<'r> {
    /// This revision, or none.
    Known(Option<String>),
    /// A new revision, unless the control plane is unchanged.
    UnlessUnchanged {
        /// The current rollout target.
        active: &'r RevisionRecord,
        /// Name of the new revision.
        new: Option<String>,
    },
}

impl<'r> RevisionChoice<'r> {
    pub(super) fn of(records: &'r [RevisionRecord], draft: &DraftInputs, release: &Release) -> Self {
        let before = records.iter().rev().map(|record| &record.inputs);
        let mut same = before.filter(|inputs| inputs.version == *release.version() && inputs.matches_spec(&draft.spec));
        if let Some(known) = same.next() {
            return Self::Known(known.revision.clone());
        }
        let canary = draft.spec.upgrade.strategy == UpgradeStrategy::Canary && draft.spec.revision.is_none();
        let base = Revision::automatic(release.version());
        let Some(active) = RolloutTarget::of(records).map(|target| target.target()) else {
            return Self::Known(canary.then(|| base.label().to_owned()));
        };
        if !canary {
            return Self::Known(active.inputs.revision.clone());
        }
        // A revision that was rolled back has no objects left, so its name is free.
        let present_records = records.iter().filter(|record| record.verdict != RevisionVerdict::RolledBack);
        let taken: Vec<&str> = present_records.filter_map(|record| record.inputs.revision.as_deref()).collect();
        let mut names = std::iter::once(base.label().to_owned()).chain((2..).map(|n| format!("{}-{n}", base.label())));
        Self::UnlessUnchanged { active, new: names.find(|name| !taken.contains(&name.as_str())) }
    }
}

pub(super) fn is_same_control_plane(one: &ResolvedRevision, other: &ResolvedRevision) -> bool {
    let hashes = |accepted: &ResolvedRevision| -> Vec<String> {
        objects_of_part(&accepted.desired, MeshPart::ControlPlane).map(|desired| desired.hash.clone()).collect()
    };
    hashes(one) == hashes(other)
}

/// Validates the proxy update policy, which does not affect rendering.
pub(super) fn check_proxy_policy(spec: &MeshInstallationSpec) -> Result<(), Blocker> {
    let read = RestartPolicy::parse(&spec.proxy.update);
    read.map(drop).map_err(|problems| blocker(Reason::InvalidSpec, sentence(&problems)))
}

/// Selects the release for a spec. `existing` is the stored revision of this spec, if there is one.
pub(super) fn release<'c>(
    catalog: &'c Catalog,
    spec: &MeshInstallationSpec,
    existing: Option<&RevisionRecord>,
    running: Option<&Version>,
    kubernetes: &str,
) -> Result<&'c Release, Blocker> {
    let request = request(spec)?;
    // A minor is resolved once per spec, so that a newer patch in the catalog does not upgrade the mesh by itself.
    let release = choose(catalog, exact(existing).as_ref().unwrap_or(&request));
    // A release that reached its end of life still runs, and its spec can be changed.
    let is_current =
        existing.is_some() || matches!((&release, running), (Ok(release), Some(v)) if release.version() == v);
    if !is_current {
        supported(kubernetes, &request, &spec.upgrade, catalog)?;
    }
    let release = release?;
    if let Some(record) = existing {
        same_charts(record, release)?;
    }
    Ok(release)
}

fn exact(existing: Option<&RevisionRecord>) -> Option<VersionRequest> {
    existing.map(|record| VersionRequest::Exact(record.inputs.version.clone()))
}

fn request(spec: &MeshInstallationSpec) -> Result<VersionRequest, Blocker> {
    spec.version.parse().map_err(|error| blocker(Reason::InvalidSpec, format!("spec.version: {error}")))
}

fn choose<'c>(catalog: &'c Catalog, request: &VersionRequest) -> Result<&'c Release, Blocker> {
    let found = catalog.resolve(request);
    found.map_err(|error| blocker(Reason::VersionNotInCatalog, format!("spec.version: {error}")))
}

/// Checks whether Istio supports the requested release, and on this Kubernetes version.
fn supported(kubernetes: &str, request: &VersionRequest, upgrade: &Upgrade, catalog: &Catalog) -> Result<(), Blocker> {
    let Ok(kubernetes) = Version::parse(kubernetes.trim_start_matches('v')) else {
        return Ok(());
    };
    let facts = ReleaseFacts::bundled().map_err(|error| blocker(Reason::CatalogCorrupted, error_chain(&error)))?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    match facts.check(request, &kubernetes, today, &catalog.versions()) {
        Ok(_) => Ok(()),
        Err(VersionRefusal::EndOfLife { .. }) if upgrade.allows(AllowedUpgrade::EndOfLife) => Ok(()),
        // For a release that is not in the catalog, the catalog's error is more helpful: it lists the available ones.
        Err(VersionRefusal::UnknownMinor { .. }) if catalog.resolve(request).is_err() => Ok(()),
        Err(refusal) => Err(blocker(Reason::VersionNotSupported, format!("spec.version: {refusal}"))),
    }
}

pub(super) fn release_of<'c>(catalog: &'c Catalog, record: &RevisionRecord) -> Result<&'c Release, Blocker> {
    let exact = VersionRequest::Exact(record.inputs.version.clone());
    let release = catalog.resolve(&exact).map_err(|error| blocker(Reason::VersionNotInCatalog, error.to_string()))?;
    same_charts(record, release)?;
    Ok(release)
}

/// Resolves a stored revision, which is reconciled while the new spec can't be, and during upgrades and rollbacks. One
/// that has been rendered before doesn't need its release any more.
pub async fn resolve_record(
    context: &Context,
    installation: &MeshInstallation,
    record: &RevisionRecord,
) -> Result<Arc<ResolvedRevision>, Blocker> {
    match context.cache.render(installation, &record.inputs) {
        Some(cached) => Ok(cached),
        None => resolve_record_from_catalog(context, installation, record).await,
    }
}

/// Like [`resolve_record`], but fails if the catalog no longer has the release.
pub async fn resolve_record_from_catalog(
    context: &Context,
    installation: &MeshInstallation,
    record: &RevisionRecord,
) -> Result<Arc<ResolvedRevision>, Blocker> {
    let ResolvedInputs { version, charts, spec, platform, node_ports, revision, kubernetes, defaults } =
        record.inputs.clone();
    let catalog = context.releases.with(installation, &VersionRequest::Exact(version), Some(&charts)).await?;
    let release = release_of(&catalog, record)?;
    let draft = DraftInputs { spec, platform, node_ports, revision, kubernetes, defaults };
    render_revision(context, installation, draft, release).await
}

/// The release of the active control plane, from the label of its Deployment, since status can be lost.
fn running(context: &Context, installation: &MeshInstallation) -> Option<Version> {
    context.inventory.active_release(&installation.name_any()).or_else(|| {
        installation.status.as_ref().and_then(|status| status.version.running.as_deref()).and_then(|v| v.parse().ok())
    })
}

/// Checks that the catalog's charts are those of the stored revision, since others may have the same version.
fn same_charts(record: &RevisionRecord, release: &Release) -> Result<(), Blocker> {
    let other = release.charts().iter().find(|(chart, digest)| {
        record.inputs.charts.get(&chart.to_string()).is_some_and(|accepted| *accepted != digest.to_string())
    });
    match other {
        None => Ok(()),
        Some((chart, _)) => Err(blocker(
            Reason::CatalogCorrupted,
            format!(
                "chart {chart} of release {} in the catalog is not the chart that this mesh was installed with. \
                 Restore that chart, or change the spec to use the new one",
                release.version()
            ),
        )),
    }
}

/// Checks whether the mesh can be upgraded to a release: from the last known good one, since all proxies are of that
/// release, or else from the active one.
pub(super) fn check_upgrade_path(
    records: &[RevisionRecord],
    running: Option<&Version>,
    wanted: &Version,
    upgrade: &Upgrade,
    catalog: &Catalog,
    proxies: &[ServingProxies],
) -> Result<(), Blocker> {
    let Some(from) = last_known_good(records).map(|good| &good.inputs.version).or(running) else { return Ok(()) };
    skew::check(from, wanted, upgrade, &catalog.versions())
        .and_then(|()| if wanted > from { skew::check_proxies(proxies, wanted, upgrade) } else { Ok(()) })
        .map_err(|error| blocker(Reason::UpgradeNotAllowed, format!("spec.version: {error}")))
}

/// Checks that image digests in the spec are not those of another release in the revision history.
pub(super) fn check_images(
    records: &[RevisionRecord],
    spec: &MeshInstallationSpec,
    wanted: &Version,
) -> Result<(), Blocker> {
    let before = records.iter().map(|record| (&record.inputs.version, &record.inputs.spec.images));
    let problem = images::stale_digest(&spec.images, wanted, before);
    problem.map_or(Ok(()), |problem| Err(blocker(Reason::InvalidSpec, problem.to_string())))
}

pub(super) async fn render_revision(
    context: &Context,
    installation: &MeshInstallation,
    draft: DraftInputs,
    release: &Release,
) -> Result<Arc<ResolvedRevision>, Blocker> {
    let (inputs, owner) = inputs(installation, draft, release);
    if let Some(cached) = context.cache.render(installation, &inputs) {
        return Ok(cached);
    }
    let release = release.clone();
    let detector = context.detector.clone();
    let cluster_objects = context.options.cluster_scoped_resources;
    // Rendering takes tens of milliseconds of computation, which would block the threads that serve watches.
    let rendered = tokio::task::spawn_blocking(move || {
        let built = build(inputs, owner, &release, detector.platforms())?;
        let desired = cluster_objects.mark_external(built.desired);
        let desired = desired.map_err(|error| blocker(Reason::RenderFailed, error_chain(&error)))?;
        Ok(ResolvedRevision { desired, ..built })
    })
    .await;
    let accepted =
        rendered.unwrap_or_else(|error| Err(blocker(Reason::RenderFailed, format!("rendering panicked: {error}"))))?;
    let accepted = Arc::new(accepted);
    context.cache.store_render(installation, Arc::clone(&accepted));
    Ok(accepted)
}

/// For a platform in a resource or stored revision that another operator version has written.
fn unknown_platform(name: &str) -> Blocker {
    let known = PlatformName::KNOWN.join(", ");
    blocker(Reason::InvalidSpec, format!("spec.platform: unknown platform {name:?}; use auto or one of: {known}"))
}

pub(super) fn inputs(
    installation: &MeshInstallation,
    draft: DraftInputs,
    release: &Release,
) -> (ResolvedInputs, Owner) {
    let DraftInputs { spec, platform, node_ports, revision, kubernetes, defaults } = draft;
    let owner = Owner {
        installation: installation.name_any(),
        uid: installation.uid().unwrap_or_default(),
        release: release.version().clone(),
    };
    let inputs = ResolvedInputs {
        version: release.version().clone(),
        charts: release.charts().iter().map(|(chart, digest)| (chart.to_string(), digest.to_string())).collect(),
        kubernetes,
        revision,
        platform,
        spec,
        node_ports,
        defaults,
    };
    (inputs, owner)
}

pub(super) fn build(
    inputs: ResolvedInputs,
    owner: Owner,
    release: &Release,
    platforms: &Platforms,
) -> Result<ResolvedRevision, Blocker> {
    let profile = Profile::get(inputs.spec.profile)
        .map_err(|error| blocker(Reason::InvalidSpec, format!("spec.profile: {}", error_chain(&error))))?;
    let DetectedPlatform { name, evidence, .. } = &inputs.platform;
    let platform = platforms.get(name).ok_or_else(|| unknown_platform(name))?;
    let mut validated = validate(&inputs.rendered_spec(), owner, &profile, platform)
        .map_err(|problems| blocker(Reason::InvalidSpec, sentence(&problems)))?;
    validated.platform.evidence.clone_from(evidence);
    let usual = platform.gateway_service_type();
    let validated = validated.with_node_ports(inputs.node_ports.in_use(&port_requests(&inputs.spec, usual)));
    let validated = validated.with_image_digests(&inputs.spec.images, release.images()).with_defaults(inputs.defaults);
    let charts = release.load_charts(validated.releases.iter().map(|wanted| wanted.chart));
    let charts = charts.map_err(|error| blocker(Reason::CatalogCorrupted, error_chain(&error)))?;
    let desired =
        render(&validated, &charts, &Capabilities::of_version(&inputs.kubernetes)).map_err(|error| match &error {
            RenderMeshError::Patch(wrong) => blocker(Reason::InvalidSpec, wrong.to_string()),
            _ => blocker(Reason::RenderFailed, error_chain(&error)),
        })?;
    let mut problems = decode::problems(&inputs.spec, &desired, release.version());
    problems.extend(gateway_selectors::problems(&desired));
    problems.extend(external_ca::problem(&inputs.spec));
    let unknown_keys = unknown_keys(&inputs.spec, release.version(), &charts);
    Ok(ResolvedRevision { inputs, validated, desired, external: Vec::new(), problems, unknown_keys })
}
