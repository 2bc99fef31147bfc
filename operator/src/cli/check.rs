//! `meshwright check`: pre-install checks.

mod report;

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
use super::output::{OutputFormat, print};
use super::rbac::{self, RbacError};
use crate::catalog::Catalog;
use crate::catalog::store::OpenError;
use crate::check::input::CheckInput;
use crate::check::{CheckVerdict, Finding, evaluate, observe, workloads, worst};
use crate::controller::{ObservedCluster, resolve_observed};
use crate::mesh::cluster_scoped::ClusterScopedResources;
use crate::mesh::object::DesiredObject;
use crate::mesh::rbac::{InstallNamespaces, OperatorPermissions, Permission, PermissionsError};
use crate::nodeports::RangeDiscovery;
use crate::platform::{LoadPlatformError, Platforms};

/// Exit status if a check fails, so that scripts can distinguish it from an error.
const FAILED: u8 = 2;
/// Version of the JSON format; incremented when a field changes its meaning or is removed.
const FORMAT: u8 = 1;

/// Flags of `meshwright check`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Check a cluster before any installation
  meshwright check

  # Check whether a MeshInstallation can be applied
  meshwright check -f mesh.yaml --catalog releases

  # Find workloads with settings that don't work in a mesh
  meshwright check --workloads --namespace shop

The cluster is not changed. The node port range is detected with the creation of an invalid Service, which the API server \
rejects. Permissions are checked with access reviews: for the operator's ServiceAccount if it exists, otherwise for you, \
because Kubernetes only lets users grant permissions that they have. A check without the permission to read what it needs \
is Unknown.

Exit status: 0 if no check fails (Warn and Unknown are not failures), 2 if a check fails, 1 on an error.

The JSON output is one object: format (1), verdict (the worst of Pass, Unknown, Warn, Fail) and findings, a list with check \
(a stable ID), verdict, subject, reason and, if there is something to do, fix.")]
pub struct CheckArgs {
    /// File with the MeshInstallation to check for; - reads standard input. Without it, only checks that apply to every
    /// mesh run
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Catalog directories
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", value_name = "DIR")]
    catalogs: Vec<Directories>,
    /// Check application workloads instead
    #[arg(long)]
    workloads: bool,
    /// Only check workloads in this namespace
    #[arg(long, short, value_parser = namespace, requires = "workloads", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Namespace of the control plane; with --file, spec.namespace is used
    #[arg(long, value_parser = namespace, default_value = super::MESH_NAMESPACE, conflicts_with = "file", value_name = "NAMESPACE")]
    mesh_namespace: String,
    /// Namespace of the operator
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, value_name = "NAMESPACE")]
    operator_namespace: String,
    /// How the mesh's cluster-scoped resources are managed. With external, only the permissions that the operator then
    /// needs are checked
    #[arg(long, value_enum, default_value_t = ClusterScopedResources::Managed, value_name = "POLICY", conflicts_with = "workloads")]
    cluster_scoped_resources: ClusterScopedResources,
    /// Output format
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text, value_name = "FORMAT")]
    output: OutputFormat,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The checks can't run.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file is invalid.
    #[error(transparent)]
    Manifest(ReadManifestError),
    /// Checking a MeshInstallation requires its release.
    #[error("no catalog; set --catalog or MESHWRIGHT_CATALOG")]
    NoCatalog,
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Catalog(#[source] OpenError),
    /// The bundled platform data is invalid.
    #[error("can't read the platforms")]
    Platforms(#[source] LoadPlatformError),
    /// The required permissions can't be computed.
    #[error("can't compute the permissions")]
    Permissions(#[source] PermissionsError),
    /// The catalog's releases can't be rendered.
    #[error("can't compute the permissions")]
    Releases(#[source] Box<RbacError>),
    /// The cluster can't be reached.
    #[error(transparent)]
    Cluster(ClusterError),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Runs the checks and prints their findings.
pub fn run(args: &CheckArgs) -> Result<ExitCode, CheckError> {
    let findings = cluster::block_on(check(args)).map_err(CheckError::Cluster)??;
    let text = match args.output {
        OutputFormat::Text => report::text(&findings, report::width()),
        OutputFormat::Json => {
            let report = json!({"format": FORMAT, "verdict": worst(&findings), "findings": findings});
            format!("{report:#}\n")
        }
    };
    print(anstream::stdout().lock(), &text).map_err(CheckError::Print)?;
    Ok(if worst(&findings) == CheckVerdict::Fail { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

async fn check(args: &CheckArgs) -> Result<Vec<Finding>, CheckError> {
    let installation = args.file.as_deref().map(manifest::read).transpose().map_err(CheckError::Manifest)?;
    let cluster = cluster::connect(&args.cluster).await.map_err(CheckError::Cluster)?;
    let version = cluster.kubernetes.map_err(CheckError::Cluster)?;
    let client = &cluster.clients.requests;
    if args.workloads {
        let mesh_namespace = installation.map_or_else(|| args.mesh_namespace.clone(), |mesh| mesh.spec.namespace);
        let workloads = Box::pin(observe::workloads(client, args.namespace.as_deref())).await;
        return Ok(workloads::evaluate(&workloads, &[mesh_namespace, args.operator_namespace.clone()]));
    }
    Box::pin(check_cluster(args, client, installation, &version)).await
}

async fn check_cluster(
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
    let detected = Box::pin(observe::detect(client, Arc::clone(&platforms), kubernetes, &name)).await;
    let (input, desired) = match (&installation, &catalog) {
        (Some(mesh), Some(catalog)) => {
            let (node_ports, used_ports) = match &detected.node_ports {
                Ok(ports) => (ports.range.clone(), ports.used_ports.clone()),
                Err(reason) => (RangeDiscovery::Unknown(reason.clone()), Vec::new()),
            };
            let observed = ObservedCluster {
                catalog,
                platforms: &platforms,
                capabilities: Capabilities::of_version(kubernetes),
                platform: detected.platform.clone().unwrap_or_default(),
                node_ports,
                held: used_ports,
                records: &[],
                running: None,
                proxies: Vec::new(),
            };
            let resolved = resolve_observed(&observed, mesh);
            let desired = resolved.as_ref().map(|resolved| resolved.desired.clone()).unwrap_or_default();
            (CheckInput::for_installation(mesh, resolved, available, today), desired)
        }
        (Some(_), None) => return Err(CheckError::NoCatalog),
        (None, Some(catalog)) => {
            let namespace = &args.mesh_namespace;
            let objects = rbac::objects_of_all(catalog, namespace);
            let objects = objects.map_err(|error| CheckError::Releases(Box::new(error)))?;
            (CheckInput::without_installation(namespace, available, today), objects)
        }
        (None, None) => (CheckInput::without_installation(&args.mesh_namespace, available, today), Vec::new()),
    };
    let permissions = required_permissions(args, &input.namespace, &desired)?;
    let cluster = Box::pin(observe::observe(client, &input, &args.operator_namespace, permissions, detected)).await;
    Ok(evaluate(&input, &cluster))
}

fn required_permissions(
    args: &CheckArgs,
    mesh: &str,
    desired: &[Arc<DesiredObject>],
) -> Result<Vec<Permission>, CheckError> {
    let placement = InstallNamespaces { operator: args.operator_namespace.clone(), mesh: mesh.to_owned() };
    let permissions =
        OperatorPermissions::of(placement, desired.iter().map(Arc::as_ref)).map_err(CheckError::Permissions)?;
    if args.cluster_scoped_resources == ClusterScopedResources::Managed {
        return Ok(permissions.list());
    }
    // Without a MeshInstallation the gateways' namespaces are unknown.
    let named = desired.iter().filter(|_| args.file.is_some()).filter_map(|desired| desired.key.namespace.clone());
    Ok(permissions.namespaced_list(&named.collect::<Vec<_>>()))
}
