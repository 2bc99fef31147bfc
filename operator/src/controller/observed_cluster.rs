//! Resolves specs outside the operator, from a cluster's observed state: for the commands `plan`, `check` and `render`.

use meshwright_api::MeshInstallation;
use meshwright_chart::Capabilities;
use semver::Version;

use super::generation::defaults_of;
use super::node_ports::pins;
use super::resolve::{
    DraftInputs, RevisionChoice, build, check_configuration, check_images, check_proxy_policy, check_upgrade_path,
    inputs, is_same_control_plane, kubernetes_of, release, release_of,
};
use super::resolved_revision::ResolvedRevision;
use crate::catalog::Catalog;
use crate::mesh::health::Blocker;
use crate::mesh::revision::{ResolvedInputs, RevisionRecord, mesh_fields};
use crate::nodeports::{RangeDiscovery, UsedPort, blocker, port_requests};
use crate::platform::{DetectedPlatform, Platform, Platforms};
use crate::proxies::ServingProxies;

/// The inputs of a resolution besides the spec.
#[derive(Debug)]
pub struct ObservedCluster<'a> {
    /// Releases that the operator has.
    pub catalog: &'a Catalog,
    /// All supported platforms.
    pub platforms: &'a Platforms,
    /// The API server's version and APIs, as charts see them.
    pub capabilities: Capabilities,
    /// The detected platform, used unless the spec names one.
    pub platform: DetectedPlatform,
    /// The API server's node port range.
    pub node_ports: RangeDiscovery,
    /// Node ports that Services use.
    pub held: Vec<UsedPort>,
    /// The installation's revision history, oldest first; empty before the first install.
    pub records: &'a [RevisionRecord],
    /// The release of the active control plane.
    pub running: Option<Version>,
    /// Proxies of serving pods, as far as known.
    pub proxies: Vec<ServingProxies>,
}

/// Resolves a spec in the same steps as [`super::resolve::resolve`], except for [`check_upgrade`]. The owner's UID is
/// that of the installation, or empty.
pub fn resolve_observed(
    observed: &ObservedCluster<'_>,
    installation: &MeshInstallation,
) -> Result<ResolvedRevision, Blocker> {
    let ObservedCluster { catalog, platforms, capabilities, platform, node_ports, held, records, running, .. } =
        observed;
    check_proxy_policy(&installation.spec)?;
    let spec = mesh_fields(&installation.spec);
    let last = records.last();
    let existing = last.filter(|last| last.inputs.matches_spec(&spec));
    let release = release(catalog, &spec, existing, running.as_ref(), &capabilities.kube_version)?;
    let platform = match existing {
        _ if !spec.platform.is_auto() => DetectedPlatform::from_spec(spec.platform.as_str()),
        Some(record) if !record.inputs.platform.provisional => record.inputs.platform.clone(),
        _ => platform.clone(),
    };
    let known = platforms.get(&platform.name);
    let wanted = port_requests(&spec, known.and_then(Platform::gateway_service_type));
    let pins = match existing {
        Some(record) if record.inputs.node_ports.cover(&wanted) => record.inputs.node_ports.clone(),
        _ => {
            let previous = last.map(|record| record.inputs.node_ports.clone()).unwrap_or_default();
            pins(&spec, known, node_ports, held, &wanted, &previous).map_err(|refused| blocker(&refused))?
        }
    };
    let defaults = defaults_of(installation, existing, records, release);
    let kubernetes = kubernetes_of(existing, capabilities.kube_version.clone());
    let draft = DraftInputs { spec, platform, node_ports: pins, revision: None, kubernetes, defaults };
    let render = |draft: DraftInputs| {
        let (inputs, owner) = inputs(installation, draft, release);
        build(inputs, owner, release, platforms)
    };
    let revision = match RevisionChoice::of(records, &draft, release) {
        RevisionChoice::Known(revision) => revision,
        RevisionChoice::UnlessUnchanged { active, new } => {
            let present = active.inputs.revision.clone();
            let wanted = render(DraftInputs { revision: present.clone(), ..draft.clone() })?;
            let current = resolve_observed_record(observed, installation, active)?;
            if is_same_control_plane(&wanted, &current) { present } else { new }
        }
    };
    let resolved = render(DraftInputs { revision, ..draft })?;
    check_configuration(&resolved, existing)?;
    Ok(resolved)
}

/// Checks whether the operator would upgrade the mesh to this revision, as far as versions and images decide.
pub fn check_upgrade(observed: &ObservedCluster<'_>, accepted: &ResolvedRevision) -> Result<(), Blocker> {
    let ObservedCluster { catalog, records, running, proxies, .. } = observed;
    let ResolvedInputs { spec, version, .. } = &accepted.inputs;
    if records.last().is_some_and(|last| last.inputs.matches_spec(spec)) {
        return Ok(());
    }
    check_upgrade_path(records, running.as_ref(), version, &spec.upgrade, catalog, proxies)?;
    check_images(records, spec, version)
}

/// Resolves a stored revision in the same steps as [`super::resolve::resolve_record`].
pub fn resolve_observed_record(
    observed: &ObservedCluster<'_>,
    installation: &MeshInstallation,
    record: &RevisionRecord,
) -> Result<ResolvedRevision, Blocker> {
    let ObservedCluster { catalog, platforms, .. } = observed;
    let release = release_of(catalog, record)?;
    let ResolvedInputs { spec, platform, node_ports, revision, kubernetes, defaults, .. } = record.inputs.clone();
    let draft = DraftInputs { spec, platform, node_ports, revision, kubernetes, defaults };
    let (inputs, owner) = inputs(installation, draft, release);
    build(inputs, owner, release, platforms)
}
