//! `meshwright adopt`: the MeshInstallation for a mesh that Helm, istioctl or the Sail Operator installed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use meshwright_api::{Adoption, MeshInstallation};
use meshwright_chart::yaml_text;
use serde_json::{Value, json};

use super::cluster::{self, ClusterArgs, ClusterError};
use super::directories::{self, Directories};
use super::names::namespace;
use super::output::print;
use super::plan::{PlanError, observe};
use crate::adopting::{CHARTS, Choice, FindMeshError, Found, Proposal, find, left_out, of_mesh, propose};
use crate::catalog::store::OpenError;
use crate::check::makers;
use crate::controller;
use crate::mesh::merge::{get, set};
use crate::planning::objects::{ObjectAction, ObjectChange, Objects};
use crate::planning::observe::{ReadObjectsError, labelled};
use crate::planning::{Report, Verdict};
use crate::platform::{LoadPlatformError, Platforms};

/// Where the mesh that is there differs from what the printed MeshInstallation would make.
const DIFFERS: u8 = 2;

/// Flags of `meshwright adopt`.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is written to the cluster. The MeshInstallation goes to standard output, what to know of it to standard error: what \
would still differ, object by object and field by field, what nothing in it stands for, and how to let the mesh's former \
owner forget it. Applied as it is, with adoption: Adopt, it changes nothing but whose the objects are; where something \
differs, the operator writes nothing and says what.

  meshwright adopt > mesh.yaml && kubectl apply --server-side -f mesh.yaml

Exit status: 0 when nothing differs, 2 when something does, 1 on an error. docs/adoption.md has the whole way.")]
pub struct AdoptArgs {
    /// Name of the MeshInstallation
    #[arg(long, default_value = "mesh", value_name = "NAME")]
    name: String,
    /// Namespace of the control plane, where there are several
    #[arg(long, value_parser = namespace, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Revision of the control plane, where there are several; default is the one without
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Propose adoption: Overwrite, by which what differs is changed and gateways that istioctl made are taken over too
    #[arg(long)]
    overwrite: bool,
    /// Directories of Istio releases, as `meshwright catalog` makes them
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR")]
    catalogs: Vec<Directories>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// There is no proposal, or it could not be held against what is there.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Catalog(#[source] OpenError),
    /// The program's own data are faulty.
    #[error("can't read the platforms")]
    Platforms(#[source] LoadPlatformError),
    /// The cluster can't be asked.
    #[error(transparent)]
    Cluster(ClusterError),
    /// Objects can't be read.
    #[error(transparent)]
    Objects(ReadObjectsError),
    /// Installations can't be read.
    #[error("can't read MeshInstallations")]
    List(#[source] Box<kube::Error>),
    /// There is nothing to adopt, or too much.
    #[error(transparent)]
    Find(FindMeshError),
    /// What was found can't be said in a spec.
    #[error("what was found makes no MeshInstallation")]
    Proposal(#[source] serde_json::Error),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
    /// The operator could not follow the proposal.
    #[error("the MeshInstallation above could not be compared with what is there")]
    Compare(#[source] PlanError),
}

/// Prints the proposal and what to know of it.
pub fn run(args: &AdoptArgs) -> Result<ExitCode, AdoptError> {
    cluster::block_on(adopt(args)).map_err(AdoptError::Cluster)?
}

async fn adopt(args: &AdoptArgs) -> Result<ExitCode, AdoptError> {
    let catalog = directories::open(&args.catalogs).map_err(AdoptError::Catalog)?;
    let platforms = Arc::new(Platforms::bundled().map_err(AdoptError::Platforms)?);
    let cluster = cluster::connect(&args.cluster).await.map_err(AdoptError::Cluster)?;
    let kubernetes = cluster.kubernetes.map_err(AdoptError::Cluster)?;
    let client = cluster.clients.requests;
    let objects = labelled(&client, CHARTS).await.map_err(AdoptError::Objects)?;
    let choice = Choice { namespace: args.namespace.clone(), revision: args.revision.clone() };
    let found = find(&objects, &choice).map_err(AdoptError::Find)?;
    let adoption = if args.overwrite { Adoption::Overwrite } else { Adoption::Adopt };
    let Proposal { spec, notes } = propose(&found, &objects, adoption);
    let installations = cluster::installations(&client).await.map_err(|error| AdoptError::List(Box::new(error)))?;
    let sight = observe::Sight {
        client,
        kubernetes,
        operator_namespace: super::OPERATOR_NAMESPACE,
        installations: &installations,
        catalog: &catalog,
        platforms,
    };
    let (spec, compared) = best(&sight, &args.name, spec, &found).await?;
    let head = format!("# Istio {} in {}, as it is; made by: meshwright adopt\n", found.version, found.namespace);
    let text = format!("{head}{}", yaml_text(&manifest(&args.name, &spec)));
    print(io::stdout().lock(), &text).map_err(AdoptError::Print)?;
    let report = compared.map_err(AdoptError::Compare);
    let told = tell(&found, &objects, &notes, report.as_ref().ok());
    print(io::stderr().lock(), &told).map_err(AdoptError::Print)?;
    Ok(if report?.verdict == Verdict::Nothing { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

fn manifest(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": name}, "spec": spec})
}

/// The proposal that comes nearest: whether the charts were given the platform's values, and images from elsewhere than the
/// release's own registry, is only seen by what comes of it.
async fn best(
    sight: &observe::Sight<'_>,
    name: &str,
    spec: Value,
    found: &Found<'_>,
) -> Result<(Value, Result<Report, PlanError>), AdoptError> {
    let mut attempts = vec![spec.clone()];
    if let Some(registry) = registry(found).filter(|_| get(&spec, "images.registry").is_none()) {
        attempts.push(with(&spec, "images.registry", registry));
    }
    if get(&spec, "platform").is_none() {
        attempts.extend(attempts.clone().iter().map(|spec| with(spec, "platform", "generic")));
    }
    let mut view = match observe::look(sight, &wanted(name, &spec)?).await {
        Ok(view) => view,
        Err(error) => return Ok((spec, Err(error))),
    };
    let mut best: Option<(usize, Value, Result<Report, PlanError>)> = None;
    for spec in attempts {
        let compared = Box::pin(observe::plan(sight, &mut view, &wanted(name, &spec)?, None)).await;
        let differences = compared.as_ref().map_or(usize::MAX, |report| report.refusals.len() + report.changes.len());
        if best.as_ref().is_none_or(|(least, ..)| differences < *least) {
            best = Some((differences, spec, compared));
        }
        if differences == 0 {
            break;
        }
    }
    let Some((_, spec, compared)) = best else { return Err(AdoptError::Find(FindMeshError::None)) };
    Ok((spec, compared))
}

fn with(spec: &Value, path: &str, value: &str) -> Value {
    let mut spec = spec.clone();
    set(&mut spec, path, value);
    spec
}

/// Where istiod's image comes from.
fn registry<'a>(found: &Found<'a>) -> Option<&'a str> {
    let image = found.istiod.1.pointer("/spec/template/spec/containers/0/image")?.as_str()?;
    image.rsplit_once("/pilot").map(|(registry, _)| registry)
}

fn wanted(name: &str, spec: &Value) -> Result<MeshInstallation, AdoptError> {
    serde_json::from_value(manifest(name, spec)).map_err(AdoptError::Proposal)
}

/// What to know, in lines.
fn tell(found: &Found<'_>, objects: &Objects, notes: &[String], report: Option<&Report>) -> String {
    let mut text = String::new();
    let workloads = [Some(found.istiod), found.cni, found.ztunnel].into_iter().flatten();
    for (key, object) in workloads.chain(found.gateways.iter().chain(&found.uninjected).copied()) {
        line(&mut text, "found", [format!("{key}, made by {}", makers::origin_of(key, object))]);
    }
    line(&mut text, "note", notes.iter().chain(report.iter().flat_map(|report| &report.notes)).cloned());
    if let Some(report) = report {
        line(&mut text, "differs", differences(report));
        let desired: BTreeSet<_> = report.objects.iter().cloned().collect();
        let left = left_out(found, objects, &desired);
        line(&mut text, "left", left.iter().map(|key| format!("{key} is in nothing that the operator looks after")));
        if report.verdict == Verdict::Nothing {
            text.push_str("nothing differs: applied as it is, it changes nothing but whose the objects are\n");
        }
    }
    let all = of_mesh(found, objects).map(|(key, object)| makers::origin_of(key, object).forgetting());
    line(&mut text, "then", all.collect::<BTreeSet<_>>());
    text
}

/// What the operator would refuse, and what it would change beside that.
fn differences(report: &Report) -> Vec<String> {
    let refused: Vec<String> = report.refusals.iter().map(|refusal| refusal.message.clone()).collect();
    let is_new = |line: &String| !refused.iter().any(|refused| refused.ends_with(line));
    let changed = report.changes.iter().flat_map(changes).filter(is_new).collect::<Vec<_>>();
    refused.into_iter().chain(changed).collect()
}

fn changes(change: &ObjectChange) -> Vec<String> {
    match change.action {
        ObjectAction::Update => change.fields.iter().map(|field| controller::field(&change.key, field)).collect(),
        ObjectAction::Create => vec![format!("{} isn't there, and would be made", change.key)],
        ObjectAction::Delete => vec![format!("{} would be deleted", change.key)],
    }
}

fn line(text: &mut String, head: &str, all: impl IntoIterator<Item = String>) {
    for one in all {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{head}: {one}");
    }
}
