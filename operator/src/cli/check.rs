//! `meshwright check`: what speaks for and against a mesh in a cluster.

mod show;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use kube::Client;
use meshwright_api::MeshInstallation;
use meshwright_chart::Capabilities;
use serde_json::json;

use super::cluster::{self, ClusterArgs, ClusterError};
use super::directories::{self, Directories};
use super::manifest::{self, ReadManifestError};
use super::names::namespace;
use super::output::{Output, print};
use super::rbac::{self, RbacError};
use crate::catalog::Catalog;
use crate::catalog::store::OpenError;
use crate::check::asked::Asked;
use crate::check::{Finding, Verdict, judge, observe, workloads, worst};
use crate::controller::{Surroundings, resolve_for};
use crate::mesh::cluster_objects::ClusterObjects;
use crate::mesh::object::Desired;
use crate::mesh::rights::{Placement, Right, Rights, RightsError};
use crate::nodeports::Discovery;
use crate::platform::{LoadPlatformError, Platforms};

/// Where a check fails, so that a script can tell that from a command that failed.
const FAILED: u8 = 2;
/// Of the JSON form; rises when a field changes its meaning or goes.
const FORMAT: u8 = 1;

/// Flags of `meshwright check`.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is written to the cluster: its range of node ports is learnt by asking for a Service that it refuses. Rights are looked at by reviews of access: those of the operator's ServiceAccount where \
it is there already, else yours, since nobody can grant what he doesn't hold. What you may not see is Unknown, never \
passed.

Exit status: 0 when no check fails (warnings and unknowns are no failures), 2 when one does, 1 on an error.

The JSON form is one object: format (1), verdict (the gravest of Pass, Unknown, Warn, Fail) and findings, a list of check \
(a name that stays the same), verdict, subject, reason and, where there is something to do, fix.")]
pub struct CheckArgs {
    /// File with the MeshInstallation that shall be applied; - reads standard input. Without it the checks that hold for
    /// every mesh are made
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Directories of Istio releases, as `meshwright catalog` makes them
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", value_name = "DIR")]
    catalogs: Vec<Directories>,
    /// Look at applications instead: what would keep them from being meshed
    #[arg(long)]
    workloads: bool,
    /// Look at the applications of this namespace only
    #[arg(long, short, value_parser = namespace, requires = "workloads", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Namespace of the control plane, where no file says it
    #[arg(long, value_parser = namespace, default_value = super::MESH_NAMESPACE, conflicts_with = "file", value_name = "NAMESPACE")]
    mesh_namespace: String,
    /// Namespace of the operator
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, value_name = "NAMESPACE")]
    operator_namespace: String,
    /// Who writes the objects of a mesh that are in no namespace: with preinstalled, the rights looked at are those of an
    /// operator that is started with the same
    #[arg(long, value_enum, default_value_t = ClusterObjects::Managed, value_name = "WHO", conflicts_with = "workloads")]
    cluster_objects: ClusterObjects,
    /// How to show the findings
    #[arg(long, short, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The cluster could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file is no good.
    #[error(transparent)]
    Manifest(ReadManifestError),
    /// A release is needed.
    #[error("no catalog: name its directory with --catalog, or in MESHWRIGHT_CATALOG")]
    NoCatalog,
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Catalog(#[source] OpenError),
    /// The program's own data are faulty.
    #[error("can't read the platforms")]
    Platforms(#[source] LoadPlatformError),
    /// Which rights are needed can't be worked out.
    #[error("working out the rights failed")]
    Rights(#[source] RightsError),
    /// The catalog's releases can't be rendered.
    #[error("working out the rights failed")]
    Releases(#[source] Box<RbacError>),
    /// The cluster can't be asked.
    #[error(transparent)]
    Cluster(ClusterError),
    /// The findings can't be printed.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Checks a cluster.
pub fn run(args: &CheckArgs) -> Result<ExitCode, CheckError> {
    let findings = cluster::block_on(check(args)).map_err(CheckError::Cluster)??;
    let text = match args.output {
        Output::Text => show::text(&findings, show::width()),
        Output::Json => {
            let report = json!({"format": FORMAT, "verdict": worst(&findings), "findings": findings});
            format!("{report:#}\n")
        }
    };
    print(anstream::stdout().lock(), &text).map_err(CheckError::Print)?;
    Ok(if worst(&findings) == Verdict::Fail { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

async fn check(args: &CheckArgs) -> Result<Vec<Finding>, CheckError> {
    let installation = args.file.as_deref().map(manifest::read).transpose().map_err(CheckError::Manifest)?;
    let cluster = cluster::connect(&args.cluster).await.map_err(CheckError::Cluster)?;
    let version = cluster.kubernetes.map_err(CheckError::Cluster)?;
    let client = &cluster.clients.requests;
    if args.workloads {
        let own = installation.map_or_else(|| args.mesh_namespace.clone(), |mesh| mesh.spec.namespace);
        let apps = Box::pin(observe::apps(client, args.namespace.as_deref())).await;
        return Ok(workloads::judge(&apps, &[own, args.operator_namespace.clone()]));
    }
    Box::pin(of_cluster(args, client, installation, &version)).await
}

async fn of_cluster(
    args: &CheckArgs,
    client: &Client,
    installation: Option<MeshInstallation>,
    kubernetes: &str,
) -> Result<Vec<Finding>, CheckError> {
    let catalog = if args.catalogs.is_empty() {
        None
    } else {
        Some(directories::open(&args.catalogs).map_err(CheckError::Catalog)?)
    };
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let available = catalog.iter().flat_map(Catalog::versions).cloned().collect();
    let platforms = Arc::new(Platforms::bundled().map_err(CheckError::Platforms)?);
    let name = installation.as_ref().map(kube::ResourceExt::name_any).unwrap_or_default();
    let surveyed = observe::survey(client, Arc::clone(&platforms), kubernetes, &name).await;
    let (asked, desired) = match (&installation, &catalog) {
        (Some(mesh), Some(catalog)) => {
            let (node_ports, held) = match &surveyed.node_ports {
                Ok(ports) => (ports.range.clone(), ports.held.clone()),
                Err(why) => (Discovery::Unknown(why.clone()), Vec::new()),
            };
            let surroundings = Surroundings {
                catalog,
                platforms: &platforms,
                capabilities: Capabilities::of_version(kubernetes),
                platform: surveyed.platform.clone().unwrap_or_default(),
                node_ports,
                held,
                records: &[],
                running: None,
                proxies: Vec::new(),
            };
            let accepted = resolve_for(&surroundings, mesh);
            let desired = accepted.as_ref().map(|accepted| accepted.desired.clone()).unwrap_or_default();
            (Asked::by(mesh, accepted, available, today), desired)
        }
        (Some(_), None) => return Err(CheckError::NoCatalog),
        (None, Some(catalog)) => {
            let namespace = &args.mesh_namespace;
            let objects = rbac::objects_of_all(catalog, namespace);
            let objects = objects.map_err(|error| CheckError::Releases(Box::new(error)))?;
            (Asked::anything(namespace, available, today), objects)
        }
        (None, None) => (Asked::anything(&args.mesh_namespace, available, today), Vec::new()),
    };
    let rights = needed(args, &asked.namespace, &desired)?;
    let cluster = observe::observe(client, &asked, &args.operator_namespace, rights, surveyed).await;
    Ok(judge(&asked, &cluster))
}

fn needed(args: &CheckArgs, mesh: &str, desired: &[Arc<Desired>]) -> Result<Vec<Right>, CheckError> {
    let placement = Placement { operator: args.operator_namespace.clone(), mesh: mesh.to_owned() };
    let rights = Rights::of(placement, desired.iter().map(Arc::as_ref)).map_err(CheckError::Rights)?;
    if args.cluster_objects == ClusterObjects::Managed {
        return Ok(rights.list());
    }
    // Where nothing is asked for, no namespace of a gateway is known.
    let named = desired.iter().filter(|_| args.file.is_some()).filter_map(|desired| desired.key.namespace.clone());
    Ok(rights.list_in_namespaces(&named.collect::<Vec<_>>()))
}
