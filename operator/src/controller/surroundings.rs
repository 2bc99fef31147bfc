//! From a spec to what it stands for, as somebody else than the operator sees it: without its context, and by its steps.

use meshwright_api::MeshInstallation;
use meshwright_chart::Capabilities;
use semver::Version;

use super::accepted::Accepted;
use super::ports::pins;
use super::resolve::{
    Draft, RevisionChoice, build, inputs, moves, own_images, release, release_of, same_control_plane, switches,
};
use crate::catalog::Catalog;
use crate::mesh::health::Blocker;
use crate::mesh::revision::{Record, ResolvedInputs, shape};
use crate::nodeports::{Discovery, Held, blocker, wanted};
use crate::platform::{Detected, Platform, Platforms};

/// What a mesh is made for, as somebody else than the operator sees it.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Releases.
    pub catalog: &'a Catalog,
    /// Platforms that are known.
    pub platforms: &'a Platforms,
    /// The API server, as charts see it.
    pub capabilities: Capabilities,
    /// The platform, unless the spec names one.
    pub platform: Detected,
    /// What the API server says of its node ports.
    pub node_ports: Discovery,
    /// Node ports that Services hold.
    pub held: Vec<Held>,
    /// What the operator remembers of the installation, oldest first; empty where there is no mesh yet.
    pub records: &'a [Record],
    /// The release whose control plane serves.
    pub running: Option<Version>,
    /// Versions of the proxies that run, as far as they are known.
    pub proxies: Vec<String>,
}

/// What an installation stands for, by the same steps as [`super::resolve::resolve`]; whether the running mesh may be moved to that is not
/// asked. The owner's UID is the installation's, or empty.
pub fn resolve_for(surroundings: &Surroundings<'_>, installation: &MeshInstallation) -> Result<Accepted, Blocker> {
    let Surroundings { catalog, platforms, capabilities, platform, node_ports, held, records, running, .. } =
        surroundings;
    switches(&installation.spec)?;
    let spec = shape(&installation.spec);
    let last = records.last();
    let remembered = last.filter(|last| last.inputs.is_for(&spec));
    let release = release(catalog, &spec, remembered, running.as_ref(), &capabilities.kube_version)?;
    let platform = match remembered {
        _ if !spec.platform.is_auto() => Detected::chosen(spec.platform.as_str()),
        Some(record) if !record.inputs.platform.provisional => record.inputs.platform.clone(),
        _ => platform.clone(),
    };
    let known = platforms.get(&platform.name);
    let wanted = wanted(&spec, known.and_then(Platform::gateway_service_type));
    let pins = match remembered {
        Some(record) if record.inputs.node_ports.cover(&wanted) => record.inputs.node_ports.clone(),
        _ => {
            let memory = last.map(|record| record.inputs.node_ports.clone()).unwrap_or_default();
            pins(&spec, known, node_ports, held, &wanted, &memory).map_err(|refused| blocker(&refused))?
        }
    };
    let draft = Draft { spec, platform, node_ports: pins, revision: None };
    let made = |draft: Draft| {
        let (inputs, owner) = inputs(installation, draft, release, capabilities);
        build(inputs, owner, release, platforms, capabilities)
    };
    let revision = match RevisionChoice::of(records, &draft, release) {
        RevisionChoice::Known(revision) => revision,
        RevisionChoice::Unless { standing, new } => {
            let present = standing.inputs.revision.clone();
            let wanted = made(Draft { revision: present.clone(), ..draft.clone() })?;
            let runs = remake(surroundings, installation, standing)?;
            if same_control_plane(&wanted, &runs) { present } else { new }
        }
    };
    made(Draft { revision, ..draft })
}

/// Whether the operator would move the mesh that runs to what is accepted, as far as releases tell.
pub fn may_move(surroundings: &Surroundings<'_>, accepted: &Accepted) -> Result<(), Blocker> {
    let Surroundings { catalog, records, running, proxies, .. } = surroundings;
    let ResolvedInputs { spec, version, .. } = &accepted.inputs;
    if records.last().is_some_and(|last| last.inputs.is_for(spec)) {
        return Ok(());
    }
    moves(records, running.as_ref(), version, &spec.upgrade, catalog, proxies)?;
    own_images(records, spec, version)
}

/// What a record stands for: by the same steps as [`super::resolve::resolve_remembered`].
pub fn remake(
    surroundings: &Surroundings<'_>,
    installation: &MeshInstallation,
    record: &Record,
) -> Result<Accepted, Blocker> {
    let Surroundings { catalog, platforms, capabilities, .. } = surroundings;
    let release = release_of(catalog, record)?;
    let ResolvedInputs { spec, platform, node_ports, revision, .. } = record.inputs.clone();
    let draft = Draft { spec, platform, node_ports, revision };
    let (inputs, owner) = inputs(installation, draft, release, capabilities);
    build(inputs, owner, release, platforms, capabilities)
}
