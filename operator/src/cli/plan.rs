//! `meshwright plan`: the changes that a MeshInstallation would make.

mod dry_run;
mod notes;
pub(super) mod observe;
mod report;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use kube::ResourceExt;
use meshwright_api::MeshInstallation;
use serde_json::{Value, json};

use super::cluster::{self, ClusterArgs, ClusterError};
use super::directories::{self, Directories};
use super::manifest::{self, ReadManifestError};
use super::names::namespace;
use super::output::{OutputFormat, print};
use crate::catalog::store::OpenError;
use crate::mesh::health::Blocker;
use crate::mesh::object::ParseObjectError;
use crate::planning::observe::ReadObjectsError;
use crate::planning::{PlanReport, PlanVerdict};
use crate::platform::{LoadPlatformError, Platforms};

/// Exit status if there are changes, so that scripts can distinguish it from an error.
const CHANGES: u8 = 2;
/// Version of the JSON format; incremented when a field changes its meaning or is removed.
const FORMAT: u8 = 1;

/// Flags of `meshwright plan`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Show the changes that applying a file would make
  meshwright plan -f mesh.yaml

  # Show the changes of an upgrade
  meshwright plan mesh --version 1.31.3

  # Show what the operator still has to change
  meshwright plan mesh

The cluster is only read. Like the operator before a rollout, the command sends the changed objects in a server-side dry run, \
which stores nothing, and shows rejections; without the permissions for that, it shows what was not checked. The plan is \
computed by the operator's code from the given catalog and the operator's revision history. With a different catalog, the \
operator's actual changes can differ.

Exit status: 0 if nothing would change, 2 if something would change, 1 on an error or if the operator would reject it.

The JSON output is one object: format (1), installation, running, wanted, platform, verdict (Nothing, Changes, Refused), \
refusals, changes (action, kind, namespace, name, component, fields with path, action, old and new), marksOnly, rollouts \
(kind, namespace, name, action, because), steps (step, writes, note) and notes.")]
pub struct PlanArgs {
    /// Name of an existing MeshInstallation to plan for, instead of a file
    #[arg(required_unless_present = "file", conflicts_with = "file", value_name = "NAME")]
    name: Option<String>,
    /// File with the MeshInstallation to apply; - reads standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Plan with this spec.version for the MeshInstallation NAME
    #[arg(long, conflicts_with = "file", value_name = "VERSION")]
    version: Option<String>,
    /// Catalog directories
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR")]
    catalogs: Vec<Directories>,
    /// Namespace of the operator, which has its revision history
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, value_name = "NAMESPACE")]
    operator_namespace: String,
    /// Output format
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text, value_name = "FORMAT")]
    output: OutputFormat,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The plan can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file is invalid.
    #[error(transparent)]
    Manifest(ReadManifestError),
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Catalog(#[source] OpenError),
    /// The bundled platform data is invalid.
    #[error("can't read the platforms")]
    Platforms(#[source] LoadPlatformError),
    /// The cluster can't be reached.
    #[error(transparent)]
    Cluster(ClusterError),
    /// MeshInstallations can't be listed.
    #[error("can't read MeshInstallations")]
    List(#[source] Box<kube::Error>),
    /// There is no MeshInstallation with this name.
    #[error("MeshInstallation {0:?} not found")]
    NotFound(String),
    /// The MeshInstallation is being deleted.
    #[error("MeshInstallation {0} is being deleted; the operator no longer applies its spec")]
    Deleting(String),
    /// The API server would reject the change.
    #[error("the API server would reject the change:\n  {}", .0.join("\n  "))]
    Change(Vec<String>),
    /// The operator would reject the spec.
    #[error("{}: {}", .0.reason.as_str(), .0.message)]
    Refused(Blocker),
    /// Live resources can't be read.
    #[error(transparent)]
    Objects(ReadObjectsError),
    /// The upgrade steps can't be computed.
    #[error("can't compute the upgrade steps")]
    Steps(#[source] ParseObjectError),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Prints the plan.
pub fn run(args: &PlanArgs) -> Result<ExitCode, PlanError> {
    let given = args.file.as_deref().map(manifest::read).transpose();
    let given = given.map_err(PlanError::Manifest)?;
    let report = cluster::block_on(plan(args, given)).map_err(PlanError::Cluster)??;
    let text = match args.output {
        OutputFormat::Text => report::text(&report),
        OutputFormat::Json => format!("{:#}\n", with_format(&report)),
    };
    print(anstream::stdout().lock(), &text).map_err(PlanError::Print)?;
    Ok(match report.verdict {
        PlanVerdict::Nothing => ExitCode::SUCCESS,
        PlanVerdict::Changes => ExitCode::from(CHANGES),
        PlanVerdict::Refused => ExitCode::FAILURE,
    })
}

fn with_format(report: &PlanReport) -> Value {
    let mut value = json!(report);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("format".into(), FORMAT.into());
    }
    value
}

async fn plan(args: &PlanArgs, given: Option<MeshInstallation>) -> Result<PlanReport, PlanError> {
    let catalog = directories::open(&args.catalogs).map_err(PlanError::Catalog)?;
    let platforms = Platforms::bundled().map_err(PlanError::Platforms)?;
    let cluster = cluster::connect(&args.cluster).await.map_err(PlanError::Cluster)?;
    let kubernetes = cluster.kubernetes.map_err(PlanError::Cluster)?;
    let client = cluster.clients.requests;
    let all = cluster::installations(&client).await.map_err(|error| PlanError::List(Box::new(error)))?;
    let name = given.as_ref().map_or_else(|| args.name.clone().unwrap_or_default(), ResourceExt::name_any);
    let current = all.iter().find(|installation| installation.name_any() == name);
    let wanted = wanted(given, current, &name, args.version.as_deref())?;
    let reader = observe::ClusterReader {
        client,
        kubernetes,
        operator_namespace: &args.operator_namespace,
        installations: &all,
        catalog: &catalog,
        platforms: Arc::new(platforms),
        dry_run: true,
    };
    let mut snapshot = observe::read(&reader, &wanted).await?;
    observe::plan(&reader, &mut snapshot, &wanted, current).await
}

/// The MeshInstallation after the change.
fn wanted(
    given: Option<MeshInstallation>,
    current: Option<&MeshInstallation>,
    name: &str,
    version: Option<&str>,
) -> Result<MeshInstallation, PlanError> {
    let Some(current) = current else { return given.ok_or_else(|| PlanError::NotFound(name.to_owned())) };
    if current.metadata.deletion_timestamp.is_some() {
        return Err(PlanError::Deleting(name.to_owned()));
    }
    let mut wanted = current.clone();
    if let Some(given) = given {
        wanted.spec = given.spec;
    }
    if let Some(version) = version {
        version.clone_into(&mut wanted.spec.version);
    }
    match manifest::update_errors(current, &wanted) {
        problems if problems.is_empty() => Ok(wanted),
        problems => Err(PlanError::Change(problems)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(spec: &Value) -> MeshInstallation {
        let object = json!({"apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
            "metadata": {"name": "mesh"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn combines_current_identity_with_new_spec() {
        let mut current = installation(&json!({"version": "1.31.2"}));
        current.metadata.uid = Some("u".into());
        let given = installation(&json!({"version": "1.31.3", "profile": "demo"}));
        let by_file = wanted(Some(given.clone()), Some(&current), "mesh", None).unwrap();
        assert_eq!((by_file.metadata.uid.as_deref(), &by_file.spec), (Some("u"), &given.spec));
        let by_version = wanted(None, Some(&current), "mesh", Some("1.31.4")).unwrap();
        assert_eq!((by_version.spec.version.as_str(), by_version.spec.profile), ("1.31.4", current.spec.profile));
    }

    #[test]
    fn rejects_missing_deleted_and_immutable() {
        let current = installation(&json!({"version": "1.31.2"}));
        assert!(matches!(wanted(None, None, "mesh", None), Err(PlanError::NotFound(name)) if name == "mesh"));
        let changed = installation(&json!({"version": "1.31.2", "namespace": "elsewhere"}));
        let error = wanted(Some(changed), Some(&current), "mesh", None).unwrap_err();
        assert!(error.to_string().contains("namespace is immutable"), "{error}");
        let bad = wanted(None, Some(&current), "mesh", Some("v1.31.3")).unwrap_err();
        assert!(bad.to_string().contains("leading v"), "{bad}");
        let mut deleting = current;
        deleting.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-11-21T10:00:00Z".parse().unwrap()));
        assert!(matches!(wanted(None, Some(&deleting), "mesh", None), Err(PlanError::Deleting(_))));
    }
}
