//! `meshwright plan`: what would happen if a MeshInstallation were applied to a cluster.

mod notes;
pub(super) mod observe;
mod show;

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
use super::output::{Output, print};
use crate::catalog::store::OpenError;
use crate::mesh::health::Blocker;
use crate::mesh::object::AdmitObjectError;
use crate::planning::observe::ReadObjectsError;
use crate::planning::{Report, Verdict};
use crate::platform::{LoadPlatformError, Platforms};

/// Where something would change, so that a script can tell that from a command that failed.
const CHANGES: u8 = 2;
/// Of the JSON form; rises when a field changes its meaning or goes.
const FORMAT: u8 = 1;

/// Flags of `meshwright plan`.
#[derive(Args, Debug)]
#[command(after_help = "\
The cluster is only read: nothing is written, not even by a dry run. The plan is made by the operator's own functions, from \
the catalog that is given here and what the operator remembers; with another catalog than the operator's it can differ from \
what the operator does.

Exit status: 0 when nothing would change, 2 when something would, 1 on an error or where the operator would refuse it.

The JSON form is one object: format (1), installation, running, wanted, platform, verdict (Nothing, Changes, Refused), \
refusals, changes (action, kind, namespace, name, component, fields with path, action, old and new), marksOnly, rollouts \
(kind, namespace, name, action, because), steps (step, writes, note) and notes.")]
pub struct PlanArgs {
    /// The MeshInstallation of the cluster to plan for, instead of a file
    #[arg(required_unless_present = "file", conflicts_with = "file", value_name = "NAME")]
    name: Option<String>,
    /// File with the MeshInstallation as it would be applied; - reads standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The version that the MeshInstallation NAME would have
    #[arg(long, conflicts_with = "file", value_name = "VERSION")]
    version: Option<String>,
    /// Directories of Istio releases, as `meshwright catalog` makes them
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR")]
    catalogs: Vec<Directories>,
    /// Namespace of the operator, where it keeps what it remembers
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, value_name = "NAMESPACE")]
    operator_namespace: String,
    /// How to show the plan
    #[arg(long, short, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// There is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file is no good.
    #[error(transparent)]
    Manifest(ReadManifestError),
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Catalog(#[source] OpenError),
    /// The program's own data are faulty.
    #[error("can't read the platforms")]
    Platforms(#[source] LoadPlatformError),
    /// The cluster can't be asked.
    #[error(transparent)]
    Cluster(ClusterError),
    /// The API server didn't answer, or refused.
    #[error("can't read MeshInstallations")]
    List(#[source] Box<kube::Error>),
    /// There is no installation of that name.
    #[error("no MeshInstallation is called {0:?}")]
    NotFound(String),
    /// It is on its way out.
    #[error("MeshInstallation {0} is being deleted: nothing of its spec is followed any more")]
    Deleting(String),
    /// The API server would refuse the change.
    #[error("the API server would refuse the change:\n  {}", .0.join("\n  "))]
    Change(Vec<String>),
    /// The operator can't make objects of it.
    #[error("{}: {}", .0.reason.as_str(), .0.message)]
    Refused(Blocker),
    /// Objects can't be read.
    #[error(transparent)]
    Objects(ReadObjectsError),
    /// The steps can't be worked out.
    #[error("can't work out the steps")]
    Steps(#[source] AdmitObjectError),
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
        Output::Text => show::text(&report),
        Output::Json => format!("{:#}\n", with_format(&report)),
    };
    print(anstream::stdout().lock(), &text).map_err(PlanError::Print)?;
    Ok(match report.verdict {
        Verdict::Nothing => ExitCode::SUCCESS,
        Verdict::Changes => ExitCode::from(CHANGES),
        Verdict::Refused => ExitCode::FAILURE,
    })
}

fn with_format(report: &Report) -> Value {
    let mut value = json!(report);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("format".into(), FORMAT.into());
    }
    value
}

async fn plan(args: &PlanArgs, given: Option<MeshInstallation>) -> Result<Report, PlanError> {
    let catalog = directories::open(&args.catalogs).map_err(PlanError::Catalog)?;
    let platforms = Platforms::bundled().map_err(PlanError::Platforms)?;
    let cluster = cluster::connect(&args.cluster).await.map_err(PlanError::Cluster)?;
    let kubernetes = cluster.kubernetes.map_err(PlanError::Cluster)?;
    let client = cluster.clients.requests;
    let all = cluster::installations(&client).await.map_err(|error| PlanError::List(Box::new(error)))?;
    let name = given.as_ref().map_or_else(|| args.name.clone().unwrap_or_default(), ResourceExt::name_any);
    let present = all.iter().find(|installation| installation.name_any() == name);
    let wanted = wanted(given, present, &name, args.version.as_deref())?;
    let sight = observe::Sight {
        client,
        kubernetes,
        operator_namespace: &args.operator_namespace,
        installations: &all,
        catalog: &catalog,
        platforms: Arc::new(platforms),
    };
    let mut view = observe::look(&sight, &wanted).await?;
    observe::plan(&sight, &mut view, &wanted, present).await
}

/// The installation as the API server would have it after the change.
fn wanted(
    given: Option<MeshInstallation>,
    present: Option<&MeshInstallation>,
    name: &str,
    version: Option<&str>,
) -> Result<MeshInstallation, PlanError> {
    let Some(present) = present else { return given.ok_or_else(|| PlanError::NotFound(name.to_owned())) };
    if present.metadata.deletion_timestamp.is_some() {
        return Err(PlanError::Deleting(name.to_owned()));
    }
    let mut wanted = present.clone();
    if let Some(given) = given {
        wanted.spec = given.spec;
    }
    if let Some(version) = version {
        version.clone_into(&mut wanted.spec.version);
    }
    match manifest::refused_change(present, &wanted) {
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
    fn the_present_installation_keeps_its_identity_and_takes_the_spec_of_the_file_or_the_version() {
        let mut present = installation(&json!({"version": "1.31.2"}));
        present.metadata.uid = Some("u".into());
        let given = installation(&json!({"version": "1.31.3", "profile": "demo"}));
        let by_file = wanted(Some(given.clone()), Some(&present), "mesh", None).unwrap();
        assert_eq!((by_file.metadata.uid.as_deref(), &by_file.spec), (Some("u"), &given.spec));
        let by_version = wanted(None, Some(&present), "mesh", Some("1.31.4")).unwrap();
        assert_eq!((by_version.spec.version.as_str(), by_version.spec.profile), ("1.31.4", present.spec.profile));
    }

    #[test]
    fn what_is_not_there_is_being_deleted_or_cannot_be_changed_has_no_plan() {
        let present = installation(&json!({"version": "1.31.2"}));
        assert!(matches!(wanted(None, None, "mesh", None), Err(PlanError::NotFound(name)) if name == "mesh"));
        let moved = installation(&json!({"version": "1.31.2", "namespace": "elsewhere"}));
        let refused = wanted(Some(moved), Some(&present), "mesh", None).unwrap_err();
        assert!(refused.to_string().contains("namespace can't be changed"), "{refused}");
        let bad = wanted(None, Some(&present), "mesh", Some("v1.31.3")).unwrap_err();
        assert!(bad.to_string().contains("without a leading v"), "{bad}");
        let mut leaving = present;
        leaving.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-11-21T10:00:00Z".parse().unwrap()));
        assert!(matches!(wanted(None, Some(&leaving), "mesh", None), Err(PlanError::Deleting(_))));
    }
}
