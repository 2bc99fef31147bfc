//! `meshwright rbac`: the operator's permissions for the releases of a catalog, as manifests or as a document.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use meshwright_api::{AddOnName, ChartValues, MeshInstallationSpec, Profile as ProfileName};
use meshwright_chart::Capabilities;
use semver::Version;
use serde_json::{Value, json};

use super::directories::{self, Directories};
use super::manifest::{self, ReadManifestError};
use super::names::namespace;
use super::output::print;
use crate::catalog::{Catalog, Profile, Release, error_chain};
use crate::mesh::cluster_scoped::ClusterScopedResources;
use crate::mesh::object::{DesiredObject, Owner};
use crate::mesh::problem::sentence;
use crate::mesh::rbac::{InstallNamespaces, OperatorPermissions, PermissionsError};
use crate::mesh::render::render;
use crate::mesh::validate::validate;
use crate::platform::{GENERIC, LoadPlatformError, Platform, Platforms};

/// Flags of `meshwright rbac`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  # Apply the permissions that the releases of a catalog need
  meshwright rbac --catalog releases | kubectl apply --server-side -f -

  # For a control plane in another namespace
  meshwright rbac --catalog releases --mesh-namespace mesh-system

  # For an operator that can only write in the mesh's namespaces
  meshwright rbac --catalog releases --cluster-scoped-resources external --gateway-namespace edge

  # Show what each permission is for
  meshwright rbac --catalog releases --document")]
pub struct RbacArgs {
    /// Catalog directories. The result has the permissions that all releases in them need
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR")]
    pub(super) catalogs: Vec<Directories>,
    /// Namespace of the control plane
    #[arg(long, value_parser = namespace, default_value = super::MESH_NAMESPACE, value_name = "NAMESPACE")]
    pub(super) mesh_namespace: String,
    /// Namespace of the operator
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, value_name = "NAMESPACE")]
    pub(super) operator_namespace: String,
    /// File with Helm values in the format of spec.values, for chart options that need more permissions; - reads
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub(super) values: Option<PathBuf>,
    /// How the mesh's cluster-scoped resources are managed; must match the operator's flag
    #[arg(long, value_enum, default_value_t = ClusterScopedResources::Managed, value_name = "POLICY", conflicts_with = "document")]
    pub(super) cluster_scoped_resources: ClusterScopedResources,
    /// Additional namespace of gateways, istio-cni or ztunnel; can be repeated. Requires --cluster-scoped-resources
    /// external, because otherwise the operator has permissions in all namespaces
    #[arg(long = "gateway-namespace", value_parser = namespace, value_name = "NAMESPACE")]
    pub(super) gateway_namespaces: Vec<String>,
    /// Print a Markdown document that explains each permission, instead of manifests
    #[arg(long)]
    pub(super) document: bool,
}

/// The permissions can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum RbacError {
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Catalog(#[source] Box<dyn Error>),
    /// The values file is invalid.
    #[error("can't read the values")]
    Values(#[source] Box<dyn Error>),
    /// The permissions are derived from the rendered charts of at least one release.
    #[error("the catalog has no usable release; add one with `meshwright catalog add`")]
    Empty,
    /// A release can't be rendered with one of the profiles.
    #[error("can't render Istio {version} with profile {profile} for platform {platform}: {reason}")]
    Render {
        /// Version of the release.
        version: Version,
        /// Name of the profile.
        profile: &'static str,
        /// Name of the platform.
        platform: String,
        /// The renderer's error.
        reason: String,
    },
    /// The platforms can't be read.
    #[error("can't read the platforms")]
    Platforms(#[source] LoadPlatformError),
    /// The roles of the releases can't be converted into permissions.
    #[error("can't compute the permissions")]
    Permissions(#[source] PermissionsError),
    /// An operator that manages cluster-scoped resources has permissions in all namespaces.
    #[error("--gateway-namespace requires --cluster-scoped-resources external")]
    GatewayNamespaces,
    /// The manifests can't be written as YAML.
    #[error("can't write the manifests as YAML")]
    Write(#[source] Box<serde_saphyr::ser::Error>),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// A namespace other than the control plane's, for the permissions that gateways need in any namespace.
const GATEWAY_NAMESPACE: &str = "gateways";
/// Templates only look at `major.minor`, and no role depends on it.
const KUBERNETES: &str = "v1.36.0";

/// Prints the permissions.
pub fn run(args: &RbacArgs) -> Result<ExitCode, RbacError> {
    print(io::stdout().lock(), &text(args)?).map_err(RbacError::Print)?;
    Ok(ExitCode::SUCCESS)
}

/// The permissions, as manifests or as the document.
pub(super) fn text(args: &RbacArgs) -> Result<String, RbacError> {
    let catalog = directories::open(&args.catalogs).map_err(|error| RbacError::Catalog(error.into()))?;
    let values = args.values.as_deref().map_or_else(|| Ok(ChartValues::default()), manifest::read_values);
    let values = values.map_err(|error: ReadManifestError| RbacError::Values(error.into()))?;
    let objects = objects_with(&catalog, &args.mesh_namespace, &values)?;
    if objects.is_empty() {
        return Err(RbacError::Empty);
    }
    let placement = InstallNamespaces { operator: args.operator_namespace.clone(), mesh: args.mesh_namespace.clone() };
    let permissions =
        OperatorPermissions::of(placement, objects.iter().map(Arc::as_ref)).map_err(RbacError::Permissions)?;
    let versions: Vec<String> = catalog.versions().into_iter().map(ToString::to_string).collect();
    let header = format!("Generated for Istio {}; don't edit. To update: make generate", versions.join(", "));
    if args.document { Ok(permissions.document(&header)) } else { yaml(&manifests(&permissions, args)?, &header) }
}

/// Each profile on the generic platform, and the default profile on each platform whose charts may render other roles.
/// The two don't influence each other, so other combinations add nothing.
fn render_combinations(platforms: &Platforms) -> impl Iterator<Item = (ProfileName, &Platform)> {
    let profiles = ProfileName::ALL.into_iter().filter_map(|profile| Some((profile, platforms.get(GENERIC)?)));
    let known = platforms.iter().filter(|platform| platform.chart_platform().is_some());
    profiles.chain(known.map(|platform| (ProfileName::Default, platform)))
}

fn manifests(permissions: &OperatorPermissions, args: &RbacArgs) -> Result<Vec<Value>, RbacError> {
    match args.cluster_scoped_resources {
        ClusterScopedResources::External => Ok(permissions.namespaced_manifests(&args.gateway_namespaces)),
        ClusterScopedResources::Managed if args.gateway_namespaces.is_empty() => Ok(permissions.manifests()),
        ClusterScopedResources::Managed => Err(RbacError::GatewayNamespaces),
    }
}

fn yaml(manifests: &[Value], header: &str) -> Result<String, RbacError> {
    let mut text = format!("# {header}\n");
    for manifest in manifests {
        let document = serde_saphyr::to_string(manifest).map_err(|error| RbacError::Write(Box::new(error)))?;
        text.push_str("---\n");
        text.push_str(&document);
    }
    Ok(text)
}

/// The resources of all releases, for all profiles and platforms, with a gateway and all add-ons.
pub(super) fn objects_of_all(catalog: &Catalog, namespace: &str) -> Result<Vec<Arc<DesiredObject>>, RbacError> {
    objects_with(catalog, namespace, &ChartValues::default())
}

/// As [`objects_of_all`], with additional Helm values.
fn objects_with(
    catalog: &Catalog,
    namespace: &str,
    values: &ChartValues,
) -> Result<Vec<Arc<DesiredObject>>, RbacError> {
    let platforms = Platforms::bundled().map_err(RbacError::Platforms)?;
    let mut objects = Vec::new();
    for release in catalog.releases() {
        for (profile, platform) in render_combinations(&platforms) {
            let rendered = objects_of(release, profile, platform, namespace, values);
            objects.extend(rendered.map_err(|reason| RbacError::Render {
                version: release.version().clone(),
                profile: profile.as_str(),
                platform: platform.name().to_owned(),
                reason,
            })?);
        }
    }
    Ok(objects)
}

/// The resources of one release with one profile, with a gateway and all add-ons.
pub(super) fn objects_of(
    release: &Release,
    profile: ProfileName,
    platform: &Platform,
    namespace: &str,
    values: &ChartValues,
) -> Result<Vec<Arc<DesiredObject>>, String> {
    let mut spec = spec(release.version(), profile, namespace).map_err(|error| error.to_string())?;
    spec.values.clone_from(values);
    let owner = Owner { installation: "permissions".into(), uid: String::new(), release: release.version().clone() };
    let profile = Profile::get(profile).map_err(|error| error.to_string())?;
    let validated = validate(&spec, owner, &profile, platform).map_err(|problems| sentence(&problems))?;
    let charts = release.load_charts(validated.releases.iter().map(|wanted| wanted.chart));
    let charts = charts.map_err(|error| error_chain(&error))?;
    render(&validated, &charts, &Capabilities::of_version(KUBERNETES)).map_err(|error| error_chain(&error))
}

fn spec(version: &Version, profile: ProfileName, namespace: &str) -> Result<MeshInstallationSpec, serde_json::Error> {
    serde_json::from_value(json!({
        "version": version.to_string(),
        "profile": profile,
        "namespace": namespace,
        "gateways": [{"name": "gateway", "namespace": GATEWAY_NAMESPACE}],
        "addons": AddOnName::ALL.map(|name| json!({"name": name})),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_specs_are_valid_for_every_profile() {
        for profile in ProfileName::ALL {
            let spec = spec(&Version::new(1, 31, 2), profile, "mesh").unwrap();
            assert_eq!((spec.profile, spec.namespace.as_str()), (profile, "mesh"));
            let gateway = spec.gateways.first().unwrap();
            assert_ne!(spec.gateway_namespace(gateway), spec.namespace);
        }
    }

    #[test]
    fn renders_all_profiles_and_chart_platforms() {
        let platforms = Platforms::bundled().unwrap();
        let render_combinations: Vec<(ProfileName, &str)> =
            render_combinations(&platforms).map(|(profile, on)| (profile, on.name())).collect();
        assert!(
            ProfileName::ALL.iter().all(|profile| render_combinations.contains(&(*profile, GENERIC))),
            "{render_combinations:?}"
        );
        assert!(render_combinations.contains(&(ProfileName::Default, "openshift")), "{render_combinations:?}");
    }

    #[test]
    fn prints_header_and_one_document_per_manifest() {
        let placement = InstallNamespaces { operator: "meshwright-system".into(), mesh: "istio-system".into() };
        let permissions = OperatorPermissions::of(placement, []).unwrap();
        let text = yaml(&permissions.manifests(), "header").unwrap();
        assert!(text.starts_with("# header\n---\n"));
        assert_eq!(text.matches("\n---\n").count(), permissions.manifests().len());
    }
}
