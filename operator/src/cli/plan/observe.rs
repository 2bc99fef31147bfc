//! Reads the input of a plan as the operator would: revision history, platform, node ports, live resources. No writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::{Client, ResourceExt as _};
use meshwright_api::{MeshInstallation, MeshInstallationSpec, NodePortRangeSource, OnFailure};
use meshwright_chart::Capabilities;
use semver::Version;

use super::PlanError;
use super::dry_run;
use super::notes::{hazards, node_ports, other_charts, retiring_revision};
use crate::apply::{ClusterDetector, RevisionHistory};
use crate::catalog::Catalog;
use crate::controller::{
    ObservedCluster, ResolvedRevision, RolloutTarget, by_precedence, check_upgrade, last_known_good, no_rollback,
    previous_records, resolve_observed, resolve_observed_record, usual_range,
};
use crate::mesh::health::Blocker;
use crate::mesh::object::{DesiredObject, ObjectKey, ParseObjectError};
use crate::mesh::owned_objects::OwnedObjects;
use crate::mesh::ownership::OwnershipMeta;
use crate::mesh::peers::{Peer, PeerSet};
use crate::mesh::revision::{RevisionRecord, RevisionVerdict};
use crate::mesh::tags::{Injector, TagOwnership, assign_objects};
use crate::mesh::unknown_keys::abbreviated;
use crate::nodeports::{NodePortServer, PortRange, RangeDiscovery, UsedPort};
use crate::planning::objects::{LiveObjects, active_release, reduce};
use crate::planning::observe::{injectors, read_missing, read_owned, serving_proxies};
use crate::planning::{MeshState, PlanInput, PlanReport, report};
use crate::platform::{DetectedPlatform, NODES_NOT_LISTED, Platforms};
use crate::runtime::requests::{api_error_chain, api_error_message};

/// The cluster, with the local data that a plan uses.
pub(in crate::cli) struct ClusterReader<'a> {
    /// Client for read requests and dry runs.
    pub(in crate::cli) client: Client,
    /// Version of the API server.
    pub(in crate::cli) kubernetes: String,
    /// Namespace of the operator, which has its revision history.
    pub(in crate::cli) operator_namespace: &'a str,
    /// MeshInstallations in the cluster.
    pub(in crate::cli) installations: &'a [MeshInstallation],
    /// The catalog of releases.
    pub(in crate::cli) catalog: &'a Catalog,
    /// The bundled platforms.
    pub(in crate::cli) platforms: Arc<Platforms>,
    /// Whether to send changed objects in a dry run.
    pub(in crate::cli) dry_run: bool,
}

/// Data read from the cluster. One snapshot serves plans for several specs of one MeshInstallation.
pub(in crate::cli) struct PlanSnapshot {
    /// Live objects, and the keys of those that were read by name.
    live: LiveObjects,
    requested: BTreeSet<ObjectKey>,
    /// The operator's revision history.
    records: Vec<RevisionRecord>,
    /// The detected platform, if the spec doesn't name one.
    platform: DetectedPlatform,
    /// Node ports allocated to Services.
    used_ports: Result<Vec<UsedPort>, String>,
    /// Injection webhooks of all MeshInstallations.
    injectors: Vec<Injector>,
    /// Notes about data that couldn't be read.
    notes: Vec<String>,
}

/// Reads the cluster for a MeshInstallation.
pub(in crate::cli) async fn read(
    reader: &ClusterReader<'_>,
    wanted: &MeshInstallation,
) -> Result<PlanSnapshot, PlanError> {
    let ClusterReader { client, kubernetes, operator_namespace, platforms, .. } = reader;
    let name = wanted.name_any();
    let mut notes = Vec::new();
    let mut live = read_owned(client, &name).await.map_err(PlanError::Objects)?;
    let records = read_history(client, operator_namespace, wanted, !live.is_empty(), &mut notes).await;
    let owned = OwnedObjects::of(wanted, &records);
    if owned.is_complete() {
        live.retain(|key, object| owned.contains(key, &OwnershipMeta::of(object)));
    }
    let platform = platform(client, kubernetes, platforms, wanted, records.last(), &mut notes).await;
    let used_ports = NodePortServer::new(client.clone(), operator_namespace)
        .used_ports(&name)
        .await
        .map_err(|error| api_error_message(&error));
    let injectors = injectors(client).await.map_err(PlanError::Objects)?;
    Ok(PlanSnapshot { live, requested: BTreeSet::new(), records, platform, used_ports, injectors, notes })
}

/// Computes the plan. `current` is the existing MeshInstallation, if any.
pub(in crate::cli) async fn plan(
    reader: &ClusterReader<'_>,
    snapshot: &mut PlanSnapshot,
    wanted: &MeshInstallation,
    current: Option<&MeshInstallation>,
) -> Result<PlanReport, PlanError> {
    let ClusterReader { client, kubernetes, installations, catalog, platforms, dry_run, .. } = reader;
    let mut notes = snapshot.notes.clone();
    let running = active_release(&snapshot.live).or_else(|| status_release(current));
    let platform = if wanted.spec.platform.is_auto() { snapshot.platform.clone() } else { DetectedPlatform::default() };
    let chosen = if wanted.spec.platform.is_auto() { &platform.name } else { wanted.spec.platform.as_str() };
    let detected_range = range(current);
    let observed = ObservedCluster {
        catalog,
        platforms,
        capabilities: Capabilities::of_version(kubernetes.clone()),
        node_ports: widen_range(
            detected_range.clone(),
            usual_range(platforms.get(chosen)),
            snapshot.used_ports.iter().flatten(),
            &wanted.spec,
        ),
        platform,
        held: snapshot.used_ports.clone().unwrap_or_default(),
        records: &snapshot.records,
        running: running.clone(),
        proxies: serving_proxies(client, wanted, &snapshot.records, &mut notes).await,
    };
    let resolved = resolve_observed(&observed, wanted).map_err(PlanError::Refused)?;
    let unread: Vec<Arc<DesiredObject>> =
        resolved.desired.iter().filter(|desired| snapshot.requested.insert(desired.key.clone())).cloned().collect();
    read_missing(client, &mut snapshot.live, &unread).await.map_err(PlanError::Objects)?;
    notes.extend(node_ports(&resolved, snapshot.records.last(), &snapshot.used_ports, &detected_range));
    notes.extend(other_charts(&resolved, snapshot.records.last()));
    notes.extend(abbreviated(&resolved.unknown_keys));
    notes.extend(retiring_revision(current, &resolved));
    notes.extend(running.iter().flat_map(|from| hazards(from, &resolved.inputs.version)));
    if wanted.spec.paused {
        notes.push("spec.paused is true: the operator changes nothing until it is false".to_owned());
    }
    let PlannedUpgrade { sources, refusals: upgrade_blockers } = planned_upgrade(&observed, wanted, &resolved);
    let peers = peers(installations, wanted);
    let tag_ownership = TagOwnership { peers: &peers, injectors: &snapshot.injectors };
    let others = peers.duplicate_revision().or_else(|| peers.conflict()).or_else(|| tag_ownership.conflict());
    let mut refusals: Vec<Blocker> = others.into_iter().chain(upgrade_blockers).collect();
    let mut live = snapshot.live.clone();
    let (resolved, sources) =
        assign_shared_objects(resolved, &sources, &mut live, tag_ownership, &mut notes).map_err(PlanError::Steps)?;
    let existing: BTreeSet<String> = installations.iter().filter_map(kube::ResourceExt::uid).collect();
    let revision = resolved.inputs.revision_name(&wanted.name_any());
    let has_started = snapshot.records.last().is_some_and(|last| last.name == revision);
    if *dry_run && refusals.is_empty() && !has_started {
        let found = Box::pin(dry_run::check(client, &resolved, &live, &existing, wanted.spec.adoption)).await;
        refusals.extend(found.refusal);
        notes.extend(found.notes);
    }
    let input = PlanInput {
        resolved: &resolved,
        live: &live,
        adoption: wanted.spec.adoption,
        existing: &existing,
        running: running.as_ref(),
        sources: &sources,
        refusals,
        notes,
    };
    report(input).map_err(PlanError::Steps)
}

/// If the API server's range is unknown, widens the default range so that it contains all allocated node ports, and the
/// explicit ones, unless the platform's range is known.
fn widen_range<'h>(
    detected: RangeDiscovery,
    platform: Option<PortRange>,
    used_ports: impl Iterator<Item = &'h UsedPort>,
    spec: &MeshInstallationSpec,
) -> RangeDiscovery {
    if matches!(detected, RangeDiscovery::Known(_)) {
        return detected;
    }
    let usual = platform.unwrap_or(PortRange::KUBERNETES);
    let wider = usual.extended_to(used_ports.map(|used| used.port));
    if wider == usual {
        return detected;
    }
    let ports = spec.gateways.iter().flat_map(|gateway| gateway.with_service_of_values().service.ports.clone());
    let explicit = ports.filter(|_| platform.is_none()).filter_map(|port| u16::try_from(port.node_port?).ok());
    RangeDiscovery::Known(wider.extended_to(explicit))
}

/// The relevant part of the operator's revision history.
async fn read_history(
    client: &Client,
    operator_namespace: &str,
    wanted: &MeshInstallation,
    has_objects: bool,
    notes: &mut Vec<String>,
) -> Vec<RevisionRecord> {
    let name = wanted.name_any();
    match RevisionHistory::new(client.clone(), operator_namespace).of(&name).await {
        Ok(records) => {
            let records = own_records(records, wanted.uid().as_deref(), has_objects);
            if records.is_empty() && has_objects {
                notes.push(format!(
                    "namespace {operator_namespace} has no ControllerRevisions of {name}; set --operator-namespace to the \
                     operator's namespace"
                ));
            }
            records
        }
        Err(error) => {
            notes.push(format!(
                "the operator's revision history can't be read, so its earlier choices (node ports, platform) are \
                 unknown here: {}",
                api_error_chain(&error)
            ));
            Vec::new()
        }
    }
}

/// Assigns shared objects to this or another MeshInstallation, as after a successful rollout. Removes objects that
/// others still need from the live objects, so that the plan doesn't delete them.
fn assign_shared_objects(
    resolved: ResolvedRevision,
    sources: &[MeshState],
    live: &mut LiveObjects,
    tag_ownership: TagOwnership<'_>,
    notes: &mut Vec<String>,
) -> Result<(ResolvedRevision, Vec<MeshState>), ParseObjectError> {
    let owner = &resolved.validated.owner;
    let assign =
        |desired: &[Arc<DesiredObject>]| assign_objects(desired, owner, &reduce(desired, live), tag_ownership, true);
    let sources = sources.iter().map(|source| Ok(assign(source)?.own())).collect::<Result<_, _>>()?;
    let assignment = assign(&resolved.desired)?;
    if !assignment.moving_tags.is_empty() {
        let tags: Vec<&str> = assignment.moving_tags.iter().map(String::as_str).collect();
        notes.push(format!("tags that move between MeshInstallations: {}", tags.join(", ")));
    }
    live.retain(|key, _| !assignment.retained.contains(key));
    Ok((ResolvedRevision { desired: assignment.own(), ..resolved }, sources))
}

/// How the mesh would be upgraded.
struct PlannedUpgrade {
    /// The revisions that may be deployed, most trusted first; empty if the change isn't an upgrade in steps.
    sources: Vec<MeshState>,
    /// Reasons why the operator would reject the upgrade.
    refusals: Vec<Blocker>,
}

fn planned_upgrade(
    observed: &ObservedCluster<'_>,
    wanted: &MeshInstallation,
    resolved: &ResolvedRevision,
) -> PlannedUpgrade {
    let records = observed.records;
    let name = resolved.inputs.revision_name(&wanted.name_any());
    let target = RolloutTarget::of(records);
    if records.last().is_some_and(|last| last.name == name && last.verdict != RevisionVerdict::Pending) {
        // This revision was already deployed, or it failed and isn't retried.
        let refusals = target.and_then(|target| target.stall()).into_iter().collect();
        return PlannedUpgrade { sources: Vec::new(), refusals };
    }
    let mut refusals: Vec<Blocker> = check_upgrade(observed, resolved).err().into_iter().collect();
    let inputs = &resolved.inputs;
    let in_progress = records.last().is_some_and(|last| last.name == name);
    let is_upgrade = target.is_some_and(|target| target.target().inputs.version != inputs.version);
    if is_upgrade
        && !in_progress
        && inputs.spec.upgrade.on_failure != OnFailure::Halt
        && let Some(known_good) = last_known_good(records)
        && let Err(lost) = resolve_observed_record(observed, wanted, known_good)
    {
        refusals.push(no_rollback(known_good, &lost));
    }
    let sources = previous_records(records, &name)
        .into_iter()
        .filter_map(|record| resolve_observed_record(observed, wanted, record).ok());
    PlannedUpgrade { sources: sources.map(|source| source.desired).collect(), refusals }
}

fn status_release(current: Option<&MeshInstallation>) -> Option<Version> {
    current?.status.as_ref()?.version.running.as_deref()?.parse().ok()
}

/// The records that the operator would use. Those of an earlier MeshInstallation with the same name only count if its
/// objects still exist, and never as deployed.
fn own_records(mut records: Vec<RevisionRecord>, uid: Option<&str>, has_objects: bool) -> Vec<RevisionRecord> {
    records.retain(|record| has_objects || Some(record.uid.as_str()) == uid);
    for record in records.iter_mut().filter(|record| Some(record.uid.as_str()) != uid) {
        record.verdict = RevisionVerdict::Pending;
    }
    records
}

async fn platform(
    client: &Client,
    kubernetes: &str,
    platforms: &Arc<Platforms>,
    wanted: &MeshInstallation,
    last: Option<&RevisionRecord>,
    notes: &mut Vec<String>,
) -> DetectedPlatform {
    if !wanted.spec.platform.is_auto() {
        return DetectedPlatform::default();
    }
    let detector = ClusterDetector::new(client.clone(), Arc::clone(platforms), kubernetes.to_owned());
    match detector.platform().await {
        Ok(found) => {
            if found.evidence.iter().any(|evidence| evidence == NODES_NOT_LISTED) {
                notes.push(format!("platform {}: {NODES_NOT_LISTED}", found.name));
            }
            found
        }
        Err(error) => {
            let known =
                last.filter(|last| last.inputs.spec.platform.is_auto()).map(|last| last.inputs.platform.clone());
            let known = known.unwrap_or_default();
            notes.push(format!("the platform can't be detected, using {}: {}", known.name, api_error_chain(&error)));
            known
        }
    }
}

/// The API server's node port range from status.
fn range(current: Option<&MeshInstallation>) -> RangeDiscovery {
    let known = current.and_then(|current| current.status.as_ref()?.platform.node_port_range.as_ref());
    let detected = known.filter(|range| range.source == NodePortRangeSource::Discovered);
    detected.and_then(|range| range.range.parse().ok()).map_or_else(
        || {
            RangeDiscovery::Unknown(
                "a plan doesn't detect it because that takes a write request; meshwright check does".into(),
            )
        },
        RangeDiscovery::Known,
    )
}

/// The MeshInstallation and its peers after the change.
fn peers(installations: &[MeshInstallation], wanted: &MeshInstallation) -> PeerSet {
    let is_it = |other: &MeshInstallation| other.name_any() == wanted.name_any();
    let all = by_precedence(installations.to_vec()).into_iter();
    let peers = all.map(|other| Peer::of(if is_it(&other) { wanted } else { &other }));
    // A new MeshInstallation is the youngest.
    let new = (!installations.iter().any(is_it)).then(|| Peer::of(wanted));
    PeerSet::new(Peer::of(wanted), peers.chain(new))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::notes::tests::{installation, record};
    use super::*;
    use crate::nodeports::PortKey;

    #[test]
    fn uses_only_detected_range_from_status() {
        let known = |source: &str| {
            let status = json!({"range": "30400-30449", "source": source});
            range(Some(&installation("mesh", &json!({"observedGeneration": 1, "platform": {"nodePortRange": status}}))))
        };
        assert_eq!(known("Discovered"), RangeDiscovery::Known("30400-30449".parse().unwrap()));
        assert!(matches!(known("Spec"), RangeDiscovery::Unknown(_)));
        assert!(matches!(range(None), RangeDiscovery::Unknown(reason) if reason.contains("meshwright check")));
    }

    #[test]
    fn widens_unknown_range_to_allocated_ports() {
        let unknown = || RangeDiscovery::Unknown("not requested".into());
        let key = PortKey { namespace: "edge".into(), service: "gw".into(), port_name: "http2".into() };
        let ports = json!([{"name": "http2", "port": 80, "nodePort": 80}]);
        let spec = json!({"version": "1.31", "gateways": [{"name": "gw", "service": {"ports": ports}}]});
        let spec: MeshInstallationSpec = serde_json::from_value(spec).unwrap();
        let widened = |detected: RangeDiscovery, platform: Option<PortRange>, port: u16| {
            let used_ports = [UsedPort { port, key: key.clone(), own: false }];
            widen_range(detected, platform, used_ports.iter(), &spec)
        };
        assert_eq!(widened(unknown(), None, 31080), unknown(), "inside Kubernetes' default range");
        let narrow: PortRange = "30400-30449".parse().unwrap();
        let wider = |text: &str| RangeDiscovery::Known(text.parse().unwrap());
        assert_eq!(widened(unknown(), Some(narrow), 31080), wider("30400-31080"));
        assert_eq!(widened(unknown(), None, 20080), wider("80-32767"), "explicit node ports are included");
        let detected = RangeDiscovery::Known(narrow);
        assert_eq!(widened(detected.clone(), None, 20080), detected);
    }

    #[test]
    fn uses_foreign_records_only_for_existing_objects() {
        assert_eq!(own_records(vec![record("old", 1)], Some("new"), false), []);
        let kept = own_records(vec![record("old", 1), record("new", 1)], Some("new"), true);
        assert_eq!(
            kept.iter().map(|record| record.verdict).collect::<Vec<_>>(),
            [RevisionVerdict::Pending, RevisionVerdict::Deployed]
        );
    }
}
