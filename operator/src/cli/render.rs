//! `meshwright render`: the manifests that the operator would apply for a MeshInstallation, without a cluster.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use kube::ResourceExt as _;
use meshwright_api::version::VersionRequest;
use meshwright_api::{Adoption, MeshInstallation};
use meshwright_chart::{Capabilities, yaml_text};
use semver::Version;
use serde_json::{Value, json};

use super::directories::{self, Directories};
use super::manifest::{self, ReadManifestError};
use super::output::print;
use crate::catalog::facts::{Minor, ParseFactsError, VersionRefusal};
use crate::catalog::store::OpenError;
use crate::catalog::{Catalog, ReleaseFacts};
use crate::controller::{ObservedCluster, ResolvedRevision, resolve_observed};
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::object::{DesiredObject, HASH_ANNOTATION, ParseObjectError, UID_ANNOTATION};
use crate::mesh::observed::ObservedObjects;
use crate::mesh::plan::plan;
use crate::mesh::problem::Problem;
use crate::mesh::upgrade::with_rules_of;
use crate::nodeports::RangeDiscovery;
use crate::platform::{DetectedPlatform, LoadPlatformError, Platforms};

/// Flags of `meshwright render`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Render the manifests of a MeshInstallation
  meshwright render -f mesh.yaml --catalog releases

  # Render exactly what the operator applies, with the ownership annotations of an existing MeshInstallation
  kubectl get meshinstallation mesh -o yaml | meshwright render -f -

  # Apply the CRDs for an operator with --cluster-scoped-resources external
  meshwright render -f mesh.yaml --scope crds | kubectl apply --server-side --force-conflicts -f -

Resources are printed in the order in which the operator installs them. No cluster is contacted. The file is validated \
against the CRD's schema and rules, and unknown fields are rejected; rules about updates (immutable fields) are not \
checked because there is no previous version.

Without a cluster the platform can't be detected: if spec.platform doesn't name one, the generic platform is used. Node \
ports that the spec leaves to the operator are allocated as in a cluster without NodePort Services, from \
spec.nodePorts.range or else from the platform's default range.

The annotations meshwright.dev/installation-uid and meshwright.dev/desired-hash are only rendered if the file has \
metadata.uid.")]
pub struct RenderArgs {
    /// File with the MeshInstallation; - reads standard input
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Catalog directories
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR")]
    catalogs: Vec<Directories>,
    /// Kubernetes version to render for, such as v1.36.3 [default: the newest that the release supports]
    #[arg(long, value_name = "VERSION", value_parser = kubernetes_version)]
    kubernetes: Option<String>,
    /// Resources to render. For parts, the release's support status isn't checked because the release may already be
    /// installed
    #[arg(long, value_enum, default_value_t = RenderScope::All, value_name = "SCOPE")]
    scope: RenderScope,
    /// Extend ClusterRoles with the rules of this release, so that the installed control plane works until the upgrade
    /// ends
    #[arg(long, value_name = "VERSION")]
    with_roles_of: Option<Version>,
    /// Output format; json prints one List
    #[arg(long, short, value_enum, default_value_t = RenderFormat::Yaml, value_name = "FORMAT")]
    output: RenderFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RenderFormat {
    Yaml,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RenderScope {
    /// All resources
    All,
    /// Cluster-scoped resources other than CRDs
    ClusterScoped,
    /// CRDs, which all meshes in a cluster share; use the newest mesh's release
    Crds,
}

impl RenderScope {
    fn includes(self, kind: Kind) -> bool {
        let is_crd = kind == Kind::CustomResourceDefinition;
        match self {
            Self::All => true,
            Self::ClusterScoped => !kind.namespaced() && !is_crd,
            Self::Crds => is_crd,
        }
    }
}

/// The MeshInstallation can't be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderCommandError {
    /// The file is invalid.
    #[error(transparent)]
    Manifest(ReadManifestError),
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Catalog(#[source] OpenError),
    /// The bundled data about Istio's minor releases is invalid.
    #[error("can't read the bundled release data")]
    Facts(#[source] ParseFactsError),
    /// The bundled platform data is invalid.
    #[error("can't read the platforms")]
    Platforms(#[source] LoadPlatformError),
    /// There is no data about the release from which to derive the Kubernetes version.
    #[error("the Kubernetes version to render for is unknown; set --kubernetes")]
    UnknownRelease(#[source] VersionRefusal),
    /// The combined ClusterRole can't be serialized.
    #[error("can't combine the ClusterRoles of two releases")]
    CombineRoles(#[source] ParseObjectError),
    /// The operator would reject the MeshInstallation as well.
    #[error("{}: {}", .0.reason.as_str(), .0.message)]
    Refused(Blocker),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Prints the resources.
pub fn run(args: &RenderArgs) -> Result<ExitCode, RenderCommandError> {
    let installation = manifest::read(&args.file).map_err(RenderCommandError::Manifest)?;
    let RenderedMesh { text, warnings } = rendered(args, &installation)?;
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect::<Vec<_>>().concat();
    print(io::stderr().lock(), &warnings).map_err(RenderCommandError::Print)?;
    print(io::stdout().lock(), &text).map_err(RenderCommandError::Print)?;
    Ok(ExitCode::SUCCESS)
}

/// The manifests, and the keys of the spec that have no effect.
struct RenderedMesh {
    text: String,
    warnings: Vec<Problem>,
}

fn rendered(args: &RenderArgs, installation: &MeshInstallation) -> Result<RenderedMesh, RenderCommandError> {
    let catalog = directories::open(&args.catalogs).map_err(RenderCommandError::Catalog)?;
    let kube_version = match &args.kubernetes {
        Some(version) => version.clone(),
        None => newest_kubernetes(&installation.spec.version)?,
    };
    let capabilities = Capabilities::of_version(kube_version);
    let platforms = Platforms::bundled().map_err(RenderCommandError::Platforms)?;
    let resolve = |installation: &MeshInstallation, running: Option<Version>| {
        let observed = ObservedCluster {
            catalog: &catalog,
            platforms: &platforms,
            capabilities: capabilities.clone(),
            platform: DetectedPlatform::default(),
            node_ports: RangeDiscovery::Unknown("no cluster was contacted".to_owned()),
            held: Vec::new(),
            records: &[],
            running,
            proxies: Vec::new(),
        };
        resolve_observed(&observed, installation).map_err(RenderCommandError::Refused)
    };
    // CRDs and cluster-scoped resources can also be applied for an installed release that is no longer supported.
    let assumed_running =
        if args.scope == RenderScope::All { None } else { resolve_release(&catalog, &installation.spec.version) };
    let with_version = |version: &Version| {
        let mut running = installation.clone();
        running.spec.version = version.to_string();
        resolve(&running, Some(version.clone()))
    };
    let running = args.with_roles_of.as_ref().map(with_version).transpose()?;
    let mut resolved = resolve(installation, assumed_running)?;
    if let Some(running) = running {
        combine_roles(&mut resolved.desired, &running.desired).map_err(RenderCommandError::CombineRoles)?;
    }
    resolved.desired.retain(|desired| args.scope.includes(desired.key.kind));
    let objects = objects(&resolved);
    let head = format!(
        "MeshInstallation {}, Istio {}, Kubernetes {}; generated by meshwright render",
        installation.name_any(),
        resolved.inputs.version,
        resolved.inputs.kubernetes
    );
    let text = match args.output {
        RenderFormat::Yaml => yaml(&head, &objects),
        RenderFormat::Json => format!("{:#}\n", json!({"apiVersion": "v1", "kind": "List", "items": objects})),
    };
    Ok(RenderedMesh { text, warnings: resolved.unknown_keys })
}

/// The release that a version resolves to, if the catalog has one.
fn resolve_release(catalog: &Catalog, version: &str) -> Option<Version> {
    let request: VersionRequest = version.parse().ok()?;
    Some(catalog.resolve(&request).ok()?.version().clone())
}

/// Adds the rules of another release's ClusterRoles.
fn combine_roles(desired: &mut [Arc<DesiredObject>], other: &[Arc<DesiredObject>]) -> Result<(), ParseObjectError> {
    for role in desired.iter_mut().filter(|desired| desired.key.kind == Kind::ClusterRole) {
        let same = other.iter().map(Arc::as_ref).filter(|other| other.key == role.key);
        if let Some(joined) = with_rules_of(role, same)? {
            *role = Arc::new(joined);
        }
    }
    Ok(())
}

fn yaml(head: &str, objects: &[Value]) -> String {
    let mut text = format!("# {head}\n");
    for object in objects {
        text.push_str("---\n");
        text.push_str(&yaml_text(object));
    }
    text
}

/// The resources in installation order: that of a plan for a cluster without a mesh.
fn objects(resolved: &ResolvedRevision) -> Vec<Value> {
    let owner = &resolved.validated.owner;
    let plan = plan(&resolved.desired, &ObservedObjects::default(), owner, &BTreeSet::new(), true, Adoption::Refuse);
    let mut objects: Vec<Value> = plan.steps.iter().map(|step| step.desired.value()).collect();
    if owner.uid.is_empty() {
        objects.iter_mut().for_each(remove_uid_annotations);
    }
    objects
}

/// Removes the UID, which only the API server assigns, and the hash, which depends on it.
fn remove_uid_annotations(object: &mut Value) {
    if let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") {
        annotations.remove(UID_ANNOTATION);
        annotations.remove(HASH_ANNOTATION);
    }
}

/// The default for `--kubernetes`.
fn newest_kubernetes(version: &str) -> Result<String, RenderCommandError> {
    // `resolve_observed` rejects an invalid version and names the field.
    let Ok(request) = version.parse::<VersionRequest>() else { return Ok("v1.0.0".into()) };
    let facts = ReleaseFacts::bundled().map_err(RenderCommandError::Facts)?;
    let (major, minor) = request.minor();
    let facts = facts.minor(Minor { major, minor }).map_err(RenderCommandError::UnknownRelease)?;
    Ok(format!("v{}.0", facts.kubernetes.supported.1))
}

/// Parses a version as the API server reports it: `v1.36.3`. The `v` and the patch are optional.
fn kubernetes_version(text: &str) -> Result<String, String> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    let full = if plain.split('.').count() == 2 { format!("{plain}.0") } else { plain.to_owned() };
    match Version::parse(&full) {
        Ok(version) => Ok(format!("v{version}")),
        Err(_) => Err("use a Kubernetes version such as v1.36.3 or 1.36".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};
    use meshwright_api::conditions::Reason;

    use super::*;
    use crate::cli::catalog::tests::with_release;

    /// The error for a MeshInstallation with this version.
    fn rejection(version: &str, catalog: &str, more: &[&str]) -> Option<Blocker> {
        let words = [&["render", "--file=-", "--catalog", catalog], more].concat();
        let matches = RenderArgs::augment_args(Command::new("render")).try_get_matches_from(words).unwrap();
        let installation = MeshInstallation::new("mesh", serde_json::from_value(json!({"version": version})).unwrap());
        match rendered(&RenderArgs::from_arg_matches(&matches).unwrap(), &installation) {
            Ok(_) => None,
            Err(RenderCommandError::Refused(blocker)) => Some(blocker),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn renders_parts_of_unsupported_installed_release() {
        let unsupported =
            |rejection: Option<Blocker>| rejection.is_some_and(|b| b.reason == Reason::VersionNotSupported);
        let (_catalog, old) = with_release("1.28.3");
        assert!(unsupported(rejection("1.28", &old, &[])));
        for version in ["1.28", "1.28.3"] {
            assert!(!unsupported(rejection(version, &old, &["--scope=cluster-scoped"])), "{version}");
            assert!(!unsupported(rejection(version, &old, &["--scope=crds", "--kubernetes=v1.36.0"])));
        }
        let (_other, new) = with_release("1.31.2");
        let both = format!("{old}:{new}");
        // The test charts can't be rendered completely, so only the reason VersionNotSupported matters here.
        assert!(!unsupported(rejection("1.31.2", &both, &["--scope=cluster-scoped", "--with-roles-of=1.28.3"])));
        assert!(!unsupported(rejection("1.31.2", &both, &["--with-roles-of=1.28.3"])));
    }

    #[test]
    fn scope_selects_crds_or_cluster_scoped_resources() {
        let kinds = [Kind::CustomResourceDefinition, Kind::ClusterRole, Kind::Deployment];
        assert_eq!(kinds.map(|kind| RenderScope::All.includes(kind)), [true, true, true]);
        assert_eq!(kinds.map(|kind| RenderScope::ClusterScoped.includes(kind)), [false, true, false]);
        assert_eq!(kinds.map(|kind| RenderScope::Crds.includes(kind)), [true, false, false]);
    }

    #[test]
    fn parses_short_and_provider_kubernetes_versions() {
        assert_eq!(kubernetes_version("1.36"), Ok("v1.36.0".into()));
        assert_eq!(kubernetes_version("v1.33.4-gke.1245000"), Ok("v1.33.4-gke.1245000".into()));
        assert!(kubernetes_version("latest").is_err());
        assert!(kubernetes_version("1").is_err());
    }

    #[test]
    fn defaults_to_newest_supported_kubernetes() {
        let facts = ReleaseFacts::bundled().unwrap();
        let newest = facts.minor(Minor { major: 1, minor: 31 }).unwrap().kubernetes.supported.1;
        assert_eq!(newest_kubernetes("1.31.2").unwrap(), format!("v{newest}.0"));
        assert!(newest_kubernetes("7.1").is_err());
    }

    #[test]
    fn removes_only_uid_dependent_annotations() {
        let annotations = json!({UID_ANNOTATION: "", HASH_ANNOTATION: "x", "meshwright.dev/release": "1.31.2"});
        let mut object = json!({"metadata": {"name": "istio", "annotations": annotations}});
        remove_uid_annotations(&mut object);
        assert_eq!(object["metadata"]["annotations"], json!({"meshwright.dev/release": "1.31.2"}));
    }
}
