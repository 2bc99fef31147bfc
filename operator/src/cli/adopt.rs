//! `meshwright adopt`: generates the MeshInstallation for a mesh that Helm, istioctl or the Sail Operator installed.

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
use crate::adopting::{
    CHARTS_LABEL, ExistingMesh, FindMeshError, MeshSelector, Proposal, find_mesh, mesh_objects, not_adopted, propose,
};
use crate::catalog::store::OpenError;
use crate::check::managed_by;
use crate::controller;
use crate::mesh::merge::{get, set};
use crate::planning::objects::{LiveObjects, ObjectAction, ObjectChange};
use crate::planning::observe::{ReadObjectsError, read_labelled};
use crate::planning::{PlanReport, PlanVerdict};
use crate::platform::{LoadPlatformError, Platforms};

/// Exit status if the existing mesh differs from the generated MeshInstallation.
const DIFFERS: u8 = 2;

/// Flags of `meshwright adopt`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Generate the MeshInstallation, check its differences and apply it
  meshwright adopt >mesh.yaml
  kubectl apply --server-side -f mesh.yaml

  # Select one of several control planes
  meshwright adopt --mesh-namespace istio-system --revision canary --name canary

  # Also adopt gateways created by istioctl, replacing their pods
  meshwright adopt --overwrite

The cluster is not changed. The MeshInstallation is printed to standard output; standard error has the resources found, all \
differences per field, resources that are not adopted, and the next steps to stop the former tool from managing the mesh. \
With the default spec.adoption: Adopt, the operator only takes ownership of the resources; if anything would change, it \
changes nothing and reports the conflicts.

Exit status: 0 if nothing differs, 2 if something differs, 1 on an error. See docs/adoption.md.")]
pub struct AdoptArgs {
    /// Name of the generated MeshInstallation
    #[arg(long, default_value = "mesh", value_name = "NAME")]
    name: String,
    /// Namespace of the control plane to adopt, if there are several
    #[arg(long, value_parser = namespace, value_name = "NAMESPACE")]
    mesh_namespace: Option<String>,
    /// Revision of the control plane to adopt, if there are several; default selects the one without a revision name
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Generate spec.adoption: Overwrite, with which the operator changes what differs and also adopts istioctl's
    /// gateways
    #[arg(long)]
    overwrite: bool,
    /// Catalog directories
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR")]
    catalogs: Vec<Directories>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The MeshInstallation can't be generated or compared.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Catalog(#[source] OpenError),
    /// The bundled platform data is invalid.
    #[error("can't read the platforms")]
    Platforms(#[source] LoadPlatformError),
    /// The cluster can't be reached.
    #[error(transparent)]
    Cluster(ClusterError),
    /// Live resources can't be read.
    #[error(transparent)]
    Objects(ReadObjectsError),
    /// MeshInstallations can't be listed.
    #[error("can't read MeshInstallations")]
    List(#[source] Box<kube::Error>),
    /// There is no control plane to adopt, or several.
    #[error(transparent)]
    Find(FindMeshError),
    /// The generated spec is invalid.
    #[error("the generated MeshInstallation is invalid")]
    Proposal(#[source] serde_json::Error),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
    /// The operator would reject the generated MeshInstallation.
    #[error("can't compare the generated MeshInstallation with the cluster")]
    Compare(#[source] PlanError),
}

/// Prints the MeshInstallation and the report.
pub fn run(args: &AdoptArgs) -> Result<ExitCode, AdoptError> {
    cluster::block_on(adopt(args)).map_err(AdoptError::Cluster)?
}

async fn adopt(args: &AdoptArgs) -> Result<ExitCode, AdoptError> {
    let catalog = directories::open(&args.catalogs).map_err(AdoptError::Catalog)?;
    let platforms = Arc::new(Platforms::bundled().map_err(AdoptError::Platforms)?);
    let cluster = cluster::connect(&args.cluster).await.map_err(AdoptError::Cluster)?;
    let kubernetes = cluster.kubernetes.map_err(AdoptError::Cluster)?;
    let client = cluster.clients.requests;
    let objects = read_labelled(&client, CHARTS_LABEL).await.map_err(AdoptError::Objects)?;
    let choice = MeshSelector { namespace: args.mesh_namespace.clone(), revision: args.revision.clone() };
    let found = find_mesh(&objects, &choice).map_err(AdoptError::Find)?;
    let adoption = if args.overwrite { Adoption::Overwrite } else { Adoption::Adopt };
    let Proposal { spec, notes } = propose(&found, &objects, adoption);
    let installations = cluster::installations(&client).await.map_err(|error| AdoptError::List(Box::new(error)))?;
    let reader = observe::ClusterReader {
        client,
        kubernetes,
        operator_namespace: super::OPERATOR_NAMESPACE,
        installations: &installations,
        catalog: &catalog,
        platforms,
        dry_run: false,
    };
    let (spec, compared) = closest(&reader, &args.name, spec, &found).await?;
    let header = format!("# Istio {} in {}, generated by meshwright adopt\n", found.version, found.namespace);
    let text = format!("{header}{}", yaml_text(&manifest(&args.name, &spec)));
    print(io::stdout().lock(), &text).map_err(AdoptError::Print)?;
    let report = compared.map_err(AdoptError::Compare);
    let summary = summary(&found, &objects, &notes, report.as_ref().ok());
    print(io::stderr().lock(), &summary).map_err(AdoptError::Print)?;
    Ok(if report?.verdict == PlanVerdict::Nothing { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

fn manifest(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": name}, "spec": spec})
}

/// The variant with the fewest differences. Whether the charts had the platform's values, or images from another
/// registry, only shows in the rendered resources.
async fn closest(
    reader: &observe::ClusterReader<'_>,
    name: &str,
    spec: Value,
    found: &ExistingMesh<'_>,
) -> Result<(Value, Result<PlanReport, PlanError>), AdoptError> {
    let mut attempts = vec![spec.clone()];
    if let Some(registry) = registry(found).filter(|_| get(&spec, "images.registry").is_none()) {
        attempts.push(with(&spec, "images.registry", registry));
    }
    if get(&spec, "platform").is_none() {
        attempts.extend(attempts.clone().iter().map(|spec| with(spec, "platform", "generic")));
    }
    let mut snapshot = match observe::read(reader, &installation(name, &spec)?).await {
        Ok(snapshot) => snapshot,
        Err(error) => return Ok((spec, Err(error))),
    };
    let mut closest: Option<(usize, Value, Result<PlanReport, PlanError>)> = None;
    for spec in attempts {
        let compared = Box::pin(observe::plan(reader, &mut snapshot, &installation(name, &spec)?, None)).await;
        let differences = compared.as_ref().map_or(usize::MAX, |report| report.refusals.len() + report.changes.len());
        if closest.as_ref().is_none_or(|(least, ..)| differences < *least) {
            closest = Some((differences, spec, compared));
        }
        if differences == 0 {
            break;
        }
    }
    let Some((_, spec, compared)) = closest else { return Err(AdoptError::Find(FindMeshError::None)) };
    Ok((spec, compared))
}

fn with(spec: &Value, path: &str, value: &str) -> Value {
    let mut spec = spec.clone();
    set(&mut spec, path, value);
    spec
}

/// The registry of istiod's image.
fn registry<'a>(found: &ExistingMesh<'a>) -> Option<&'a str> {
    let image = found.istiod.1.pointer("/spec/template/spec/containers/0/image")?.as_str()?;
    image.rsplit_once("/pilot").map(|(registry, _)| registry)
}

fn installation(name: &str, spec: &Value) -> Result<MeshInstallation, AdoptError> {
    serde_json::from_value(manifest(name, spec)).map_err(AdoptError::Proposal)
}

/// The report for standard error.
fn summary(found: &ExistingMesh<'_>, objects: &LiveObjects, notes: &[String], report: Option<&PlanReport>) -> String {
    let mut text = String::new();
    let workloads = [Some(found.istiod), found.cni, found.ztunnel].into_iter().flatten();
    for (key, object) in workloads.chain(found.gateways.iter().chain(&found.uninjected).copied()) {
        write_lines(&mut text, "found", [format!("{key}, managed by {}", managed_by::manager_of(key, object))]);
    }
    write_lines(&mut text, "note", notes.iter().chain(report.iter().flat_map(|report| &report.notes)).cloned());
    if let Some(report) = report {
        write_lines(&mut text, "differs", differences(report));
        let desired: BTreeSet<_> = report.objects.iter().cloned().collect();
        let not_adopted = not_adopted(found, objects, &desired);
        write_lines(
            &mut text,
            "not adopted",
            not_adopted.iter().map(|key| format!("{key} will not be managed any more")),
        );
        if report.verdict == PlanVerdict::Nothing {
            text.push_str("no differences: applying it only changes the ownership of the resources\n");
        }
    }
    let all =
        mesh_objects(found, objects).map(|(key, object)| managed_by::manager_of(key, object).release_instructions());
    write_lines(&mut text, "next", all.collect::<BTreeSet<_>>());
    text
}

/// Conflicts that the operator would report, and other changes.
fn differences(report: &PlanReport) -> Vec<String> {
    let conflicts: Vec<String> = report.refusals.iter().map(|refusal| refusal.message.clone()).collect();
    let is_new = |change: &String| !conflicts.iter().any(|conflict| conflict.ends_with(change));
    let changed = report.changes.iter().flat_map(changes).filter(is_new).collect::<Vec<_>>();
    conflicts.into_iter().chain(changed).collect()
}

fn changes(change: &ObjectChange) -> Vec<String> {
    match change.action {
        ObjectAction::Update => {
            change.fields.iter().map(|field| controller::describe_change(&change.key, field)).collect()
        }
        ObjectAction::Create => vec![format!("{} would be created", change.key)],
        ObjectAction::Delete => vec![format!("{} would be deleted", change.key)],
    }
}

fn write_lines(text: &mut String, prefix: &str, entries: impl IntoIterator<Item = String>) {
    for entry in entries {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{prefix}: {entry}");
    }
}
