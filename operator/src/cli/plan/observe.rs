//! What a plan is made from, as the operator would see it: its memory, the platform, node ports, live objects. Reads only.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::{Client, ResourceExt as _};
use meshwright_api::{MeshInstallation, NodePortRangeSource, OnFailure};
use meshwright_chart::Capabilities;
use semver::Version;

use super::PlanError;
use super::notes::{hazards, kept, node_ports, other_charts};
use crate::apply::{Revisions, Surveyor};
use crate::catalog::Catalog;
use crate::controller::{
    Accepted, Heading, Surroundings, by_precedence, by_trust, last_good, may_move, no_way_back, remake, resolve_for,
    usual_range,
};
use crate::mesh::beside::{Beside, Peer};
use crate::mesh::health::Blocker;
use crate::mesh::object::{AdmitObjectError, Desired, ObjectKey};
use crate::mesh::revision::{Record, Verdict};
use crate::mesh::tags::{Injector, Standing, arrange};
use crate::nodeports::{Discovery, Held, NodePortServer, PortRange};
use crate::planning::objects::{Objects, reduce, serving_release};
use crate::planning::observe::{complete, injectors, marked};
use crate::planning::{Question, Report, State, report};
use crate::platform::{Detected, NODES_UNSEEN, Platforms};
use crate::runtime::requests::{told, why};

/// The cluster, and what is brought along.
pub(in crate::cli) struct Sight<'a> {
    /// For reads.
    pub(in crate::cli) client: Client,
    /// Version of the API server.
    pub(in crate::cli) kubernetes: String,
    /// Where the operator's memory lies.
    pub(in crate::cli) operator_namespace: &'a str,
    /// All installations.
    pub(in crate::cli) installations: &'a [MeshInstallation],
    /// Releases.
    pub(in crate::cli) catalog: &'a Catalog,
    /// Platforms that are known.
    pub(in crate::cli) platforms: Arc<Platforms>,
}

/// What was seen of the cluster: one look serves plans of several specs for one installation.
pub(in crate::cli) struct View {
    /// Live objects, and which of them have been asked for by name.
    live: Objects,
    asked: BTreeSet<ObjectKey>,
    /// The operator's memory.
    records: Vec<Record>,
    /// The platform, where it is to be found out.
    platform: Detected,
    /// Node ports that Services hold.
    held: Result<Vec<Held>, String>,
    /// The injection webhooks of all installations.
    injectors: Vec<Injector>,
    /// What couldn't be seen.
    notes: Vec<String>,
}

/// Looks at the cluster for the sake of an installation.
pub(in crate::cli) async fn look(sight: &Sight<'_>, wanted: &MeshInstallation) -> Result<View, PlanError> {
    let Sight { client, kubernetes, operator_namespace, platforms, .. } = sight;
    let name = wanted.name_any();
    let mut notes = Vec::new();
    let live = marked(client, &name).await.map_err(PlanError::Objects)?;
    let records = remembered(client, operator_namespace, wanted, !live.is_empty(), &mut notes).await;
    let platform = platform(client, kubernetes, platforms, wanted, records.last(), &mut notes).await;
    let held = NodePortServer::new(client.clone(), operator_namespace).held(&name).await.map_err(|error| why(&error));
    let injectors = injectors(client).await.map_err(PlanError::Objects)?;
    Ok(View { live, asked: BTreeSet::new(), records, platform, held, injectors, notes })
}

/// Makes the plan. `present` is the installation as it is now, if it is there.
pub(in crate::cli) async fn plan(
    sight: &Sight<'_>,
    view: &mut View,
    wanted: &MeshInstallation,
    present: Option<&MeshInstallation>,
) -> Result<Report, PlanError> {
    let Sight { client, kubernetes, installations, catalog, platforms, .. } = sight;
    let mut notes = view.notes.clone();
    let running = serving_release(&view.live).or_else(|| status_release(present));
    let platform = if wanted.spec.platform.is_auto() { view.platform.clone() } else { Detected::default() };
    let chosen = if wanted.spec.platform.is_auto() { &platform.name } else { wanted.spec.platform.as_str() };
    let told = range(present);
    let surroundings = Surroundings {
        catalog,
        platforms,
        capabilities: Capabilities::of_version(kubernetes.clone()),
        node_ports: reaching(told.clone(), usual_range(platforms.get(chosen)), view.held.iter().flatten()),
        platform,
        held: view.held.clone().unwrap_or_default(),
        records: &view.records,
        running: running.clone(),
        proxies: proxies(present),
    };
    let accepted = resolve_for(&surroundings, wanted).map_err(PlanError::Refused)?;
    let unasked: Vec<Arc<Desired>> =
        accepted.desired.iter().filter(|desired| view.asked.insert(desired.key.clone())).cloned().collect();
    complete(client, &mut view.live, &unasked).await.map_err(PlanError::Objects)?;
    notes.extend(node_ports(&accepted, view.records.last(), &view.held, &told));
    notes.extend(other_charts(&accepted, view.records.last()));
    notes.extend(kept(present, &accepted));
    notes.extend(running.iter().flat_map(|from| hazards(from, &accepted.inputs.version)));
    if wanted.spec.paused {
        notes.push("spec.paused is set: nothing is written until it is taken away".to_owned());
    }
    let Way { sources, refusals: against } = way(&surroundings, wanted, &accepted);
    let beside = beside(installations, wanted);
    let standing = Standing { beside: &beside, injectors: &view.injectors };
    let others = beside.same_revision().or_else(|| beside.conflict()).or_else(|| standing.taken());
    let refusals = others.into_iter().chain(against).collect();
    let mut live = view.live.clone();
    let (accepted, sources) = place(accepted, &sources, &mut live, standing, &mut notes).map_err(PlanError::Steps)?;
    let existing = installations.iter().filter_map(kube::ResourceExt::uid).collect();
    let question = Question {
        accepted: &accepted,
        live: &live,
        adoption: wanted.spec.adoption,
        existing: &existing,
        running: running.as_ref(),
        sources: &sources,
        refusals,
        notes,
    };
    report(question).map_err(PlanError::Steps)
}

/// Where the API server's range is not known, it has what Services hold all the same.
fn reaching<'h>(told: Discovery, usual: Option<PortRange>, held: impl Iterator<Item = &'h Held>) -> Discovery {
    if matches!(told, Discovery::Told(_)) {
        return told;
    }
    let usual = usual.unwrap_or(PortRange::KUBERNETES);
    let wider = usual.reaching(held.map(|held| held.port));
    if wider == usual { told } else { Discovery::Told(wider) }
}

/// What the operator remembers of the installation, as far as it counts.
async fn remembered(
    client: &Client,
    operator_namespace: &str,
    wanted: &MeshInstallation,
    has_objects: bool,
    notes: &mut Vec<String>,
) -> Vec<Record> {
    let name = wanted.name_any();
    match Revisions::new(client.clone(), operator_namespace).of(&name).await {
        Ok(records) => {
            let records = own_records(records, wanted.uid().as_deref(), has_objects);
            if records.is_empty() && has_objects {
                notes.push(format!(
                    "namespace {operator_namespace} has no ControllerRevision of {name}: --operator-namespace names the \
                     operator's"
                ));
            }
            records
        }
        Err(error) => {
            notes.push(format!(
                "the operator's memory can't be read, so that what it chose before may be chosen otherwise here: {}",
                told(&error)
            ));
            Vec::new()
        }
    }
}

/// What is this installation's to write beside others, in the end: when its own revision has been proved. What stays for
/// another's sake is taken out of the live objects, so that it isn't deleted.
fn place(
    accepted: Accepted,
    sources: &[State],
    live: &mut Objects,
    standing: Standing<'_>,
    notes: &mut Vec<String>,
) -> Result<(Accepted, Vec<State>), AdmitObjectError> {
    let owner = &accepted.validated.owner;
    let arrange = |desired: &[Arc<Desired>]| arrange(desired, owner, &reduce(desired, live), standing, true);
    let sources = sources.iter().map(|source| Ok(arrange(source)?.own())).collect::<Result<_, _>>()?;
    let arranged = arrange(&accepted.desired)?;
    if !arranged.moving.is_empty() {
        let tags: Vec<&str> = arranged.moving.iter().map(String::as_str).collect();
        notes.push(format!("on the move between installations: tag {}", tags.join(", ")));
    }
    live.retain(|key, _| !arranged.kept.contains(key));
    Ok((Accepted { desired: arranged.own(), ..accepted }, sources))
}

/// How the running mesh would be moved.
struct Way {
    /// The states that it may be in, the most trusted first; empty where it isn't moved step by step.
    sources: Vec<State>,
    /// What the operator has against it.
    refusals: Vec<Blocker>,
}

fn way(surroundings: &Surroundings<'_>, wanted: &MeshInstallation, accepted: &Accepted) -> Way {
    let records = surroundings.records;
    let name = accepted.inputs.record_name(&wanted.name_any());
    let heading = Heading::of(records);
    if records.last().is_some_and(|last| last.name == name && last.verdict != Verdict::Pending) {
        // It was Ready, or has failed and is not tried again.
        let refusals = heading.and_then(|heading| heading.stall()).into_iter().collect();
        return Way { sources: Vec::new(), refusals };
    }
    let mut refusals: Vec<Blocker> = may_move(surroundings, accepted).err().into_iter().collect();
    let inputs = &accepted.inputs;
    let begun = records.last().is_some_and(|last| last.name == name);
    let moves = heading.is_some_and(|heading| heading.target().inputs.version != inputs.version);
    if moves
        && !begun
        && inputs.spec.upgrade.on_failure != OnFailure::Halt
        && let Some(good) = last_good(records)
        && let Err(lost) = remake(surroundings, wanted, good)
    {
        refusals.push(no_way_back(good, &lost));
    }
    let made = by_trust(records, &name).into_iter().filter_map(|record| remake(surroundings, wanted, record).ok());
    Way { sources: made.map(|source| source.desired).collect(), refusals }
}

fn status_release(present: Option<&MeshInstallation>) -> Option<Version> {
    present?.status.as_ref()?.version.running.as_deref()?.parse().ok()
}

/// Versions of the proxies that run, as the operator has told them.
fn proxies(present: Option<&MeshInstallation>) -> Vec<String> {
    let told = present.and_then(|present| present.status.as_ref()?.proxies.as_ref());
    told.map(|proxies| proxies.versions.clone()).unwrap_or_default()
}

/// The records that the operator goes by: those of another installation of that name count only where its objects are
/// still there, and prove nothing.
fn own_records(mut records: Vec<Record>, uid: Option<&str>, has_objects: bool) -> Vec<Record> {
    records.retain(|record| has_objects || Some(record.uid.as_str()) == uid);
    for record in records.iter_mut().filter(|record| Some(record.uid.as_str()) != uid) {
        record.verdict = Verdict::Pending;
    }
    records
}

async fn platform(
    client: &Client,
    kubernetes: &str,
    platforms: &Arc<Platforms>,
    wanted: &MeshInstallation,
    last: Option<&Record>,
    notes: &mut Vec<String>,
) -> Detected {
    if !wanted.spec.platform.is_auto() {
        return Detected::default();
    }
    let surveyor = Surveyor::new(client.clone(), Arc::clone(platforms), kubernetes.to_owned());
    match surveyor.platform().await {
        Ok(found) => {
            if found.evidence.iter().any(|evidence| evidence == NODES_UNSEEN) {
                notes.push(format!("platform {}: {NODES_UNSEEN}", found.name));
            }
            found
        }
        Err(error) => {
            let known =
                last.filter(|last| last.inputs.spec.platform.is_auto()).map(|last| last.inputs.platform.clone());
            let known = known.unwrap_or_default();
            notes.push(format!("the platform can't be found out, {} is taken: {}", known.name, told(&error)));
            known
        }
    }
}

/// The API server's range as the operator has learnt it.
fn range(present: Option<&MeshInstallation>) -> Discovery {
    let known = present.and_then(|present| present.status.as_ref()?.platform.node_port_range.as_ref());
    let told = known.filter(|range| range.source == NodePortRangeSource::Discovered);
    told.and_then(|range| range.range.parse().ok()).map_or_else(
        || {
            Discovery::Unknown(
                "it is learnt by asking for a Service, which a plan doesn't do; meshwright check does".into(),
            )
        },
        Discovery::Told,
    )
}

/// The installation among all others, as it would be.
fn beside(installations: &[MeshInstallation], wanted: &MeshInstallation) -> Beside {
    let is_it = |other: &MeshInstallation| other.name_any() == wanted.name_any();
    let all = by_precedence(installations.to_vec()).into_iter();
    let peers = all.map(|other| Peer::of(if is_it(&other) { wanted } else { &other }));
    // What isn't there yet is the youngest.
    let new = (!installations.iter().any(is_it)).then(|| Peer::of(wanted));
    Beside::new(Peer::of(wanted), peers.chain(new))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::notes::tests::{installation, record};
    use super::*;
    use crate::nodeports::Slot;

    #[test]
    fn the_range_is_known_only_where_the_api_server_has_told_it() {
        let known = |source: &str| {
            let told = json!({"range": "30400-30449", "source": source});
            range(Some(&installation("mesh", &json!({"observedGeneration": 1, "platform": {"nodePortRange": told}}))))
        };
        assert_eq!(known("Discovered"), Discovery::Told("30400-30449".parse().unwrap()));
        assert!(matches!(known("Spec"), Discovery::Unknown(_)));
        assert!(matches!(range(None), Discovery::Unknown(why) if why.contains("meshwright check")));
    }

    #[test]
    fn a_range_that_is_not_known_has_what_services_hold() {
        let unknown = || Discovery::Unknown("not asked".into());
        let slot = Slot { namespace: "edge".into(), service: "gw".into(), port_name: "http2".into() };
        let held = |port| [Held { port, slot: slot.clone(), ours: false }];
        assert_eq!(reaching(unknown(), None, held(31080).iter()), unknown(), "Kubernetes' own has it");
        let narrow: PortRange = "30400-30449".parse().unwrap();
        let wider = |text: &str| Discovery::Told(text.parse().unwrap());
        assert_eq!(reaching(unknown(), Some(narrow), held(31080).iter()), wider("30400-31080"));
        assert_eq!(reaching(unknown(), None, held(20080).iter()), wider("20080-32767"));
        let told = Discovery::Told(narrow);
        assert_eq!(reaching(told.clone(), None, held(20080).iter()), told);
    }

    #[test]
    fn another_installations_records_count_only_where_its_objects_are_still_there_and_prove_nothing() {
        assert_eq!(own_records(vec![record("old", 1)], Some("new"), false), []);
        let kept = own_records(vec![record("old", 1), record("new", 1)], Some("new"), true);
        assert_eq!(kept.iter().map(|record| record.verdict).collect::<Vec<_>>(), [Verdict::Pending, Verdict::Proved]);
    }
}
