//! `meshwright rbac`: the operator's rights for the releases of a catalog, as manifests or as a document.

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
use crate::catalog::{Catalog, Profile, Release, explain};
use crate::mesh::cluster_objects::ClusterObjects;
use crate::mesh::object::{Desired, Owner};
use crate::mesh::problem::sentence;
use crate::mesh::render::render;
use crate::mesh::rights::{Placement, Rights, RightsError};
use crate::mesh::validate::validate;
use crate::platform::{GENERIC, LoadPlatformError, Platform, Platforms};

/// Flags of `meshwright rbac`.
#[derive(Args, Debug)]
pub struct RbacArgs {
    /// Directories of Istio releases, as `meshwright catalog` makes them; the rights are those that all of them need
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR")]
    pub(super) catalogs: Vec<Directories>,
    /// Namespace of the mesh's control plane
    #[arg(long, value_parser = namespace, default_value = super::MESH_NAMESPACE)]
    pub(super) namespace: String,
    /// Namespace of the operator
    #[arg(long, value_parser = namespace, default_value = super::OPERATOR_NAMESPACE, value_name = "NAMESPACE")]
    pub(super) operator_namespace: String,
    /// File with values of Istio's charts, as spec.values has them, by which their roles may allow more; - reads
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub(super) values: Option<PathBuf>,
    /// Who writes the objects of a mesh that are in no namespace; the operator has to be started with the same
    #[arg(long, value_enum, default_value_t = ClusterObjects::Managed, value_name = "WHO", conflicts_with = "document")]
    pub(super) cluster_objects: ClusterObjects,
    /// Another namespace that gateways, cni or ztunnel may be in; can be given again. Only with --cluster-objects
    /// preinstalled: otherwise they may be in any
    #[arg(long = "gateway-namespace", value_parser = namespace, value_name = "NAMESPACE")]
    pub(super) gateway_namespaces: Vec<String>,
    /// Print the document that tells of each right who needs it, instead of manifests
    #[arg(long)]
    pub(super) document: bool,
}

/// The rights could not be worked out.
#[derive(Debug, thiserror::Error)]
pub enum RbacError {
    /// The catalog can't be read.
    #[error("opening the catalog failed")]
    Catalog(#[source] Box<dyn Error>),
    /// The file of values is no good.
    #[error("reading the values failed")]
    Values(#[source] Box<dyn Error>),
    /// There is nothing to work them out from.
    #[error("the catalog has no release that can be used: add one with `meshwright catalog add`")]
    Empty,
    /// A release can't be rendered with one of the profiles.
    #[error("rendering Istio {version} with profile {profile} for platform {platform} failed: {reason}")]
    Render {
        /// The release.
        version: Version,
        /// The profile.
        profile: &'static str,
        /// The platform.
        platform: String,
        /// Why not.
        reason: String,
    },
    /// The platforms can't be read.
    #[error("reading the platforms failed")]
    Platforms(#[source] LoadPlatformError),
    /// The releases' roles can't be held.
    #[error("working out the rights failed")]
    Rights(#[source] RightsError),
    /// The rights of an operator that writes everywhere don't depend on namespaces of gateways.
    #[error("--gateway-namespace makes a difference with --cluster-objects preinstalled alone")]
    Everywhere,
    /// The manifests can't be written as YAML.
    #[error("writing the manifests as YAML failed")]
    Write(#[source] Box<serde_saphyr::ser::Error>),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// A namespace that is not the control plane's: what a gateway needs there, it needs anywhere.
const ELSEWHERE: &str = "gateways";
/// Charts ask for no more than `major.minor`, and no role depends on it.
const KUBERNETES: &str = "v1.36.0";

/// Prints the rights.
pub fn run(args: &RbacArgs) -> Result<ExitCode, RbacError> {
    print(io::stdout().lock(), &text(args)?).map_err(RbacError::Print)?;
    Ok(ExitCode::SUCCESS)
}

/// The rights, as manifests or as the document.
pub(super) fn text(args: &RbacArgs) -> Result<String, RbacError> {
    let catalog = directories::open(&args.catalogs).map_err(|error| RbacError::Catalog(error.into()))?;
    let values = args.values.as_deref().map_or_else(|| Ok(ChartValues::default()), manifest::read_values);
    let values = values.map_err(|error: ReadManifestError| RbacError::Values(error.into()))?;
    let objects = objects_with(&catalog, &args.namespace, &values)?;
    if objects.is_empty() {
        return Err(RbacError::Empty);
    }
    let placement = Placement { operator: args.operator_namespace.clone(), mesh: args.namespace.clone() };
    let rights = Rights::of(placement, objects.iter().map(Arc::as_ref)).map_err(RbacError::Rights)?;
    let versions: Vec<String> = catalog.versions().into_iter().map(ToString::to_string).collect();
    let made = format!("Generated for Istio {}; don't edit. To renew: make generate", versions.join(", "));
    if args.document { Ok(rights.document(&made)) } else { yaml(&manifests(&rights, args)?, &made) }
}

/// Every profile, and every platform for which the charts may make other roles. They do the one apart from the other.
fn cases(platforms: &Platforms) -> impl Iterator<Item = (ProfileName, &Platform)> {
    let profiles = ProfileName::ALL.into_iter().filter_map(|profile| Some((profile, platforms.get(GENERIC)?)));
    let known = platforms.iter().filter(|platform| platform.chart_platform().is_some());
    profiles.chain(known.map(|platform| (ProfileName::Default, platform)))
}

fn manifests(rights: &Rights, args: &RbacArgs) -> Result<Vec<Value>, RbacError> {
    match args.cluster_objects {
        ClusterObjects::Preinstalled => Ok(rights.manifests_in_namespaces(&args.gateway_namespaces)),
        ClusterObjects::Managed if args.gateway_namespaces.is_empty() => Ok(rights.manifests()),
        ClusterObjects::Managed => Err(RbacError::Everywhere),
    }
}

fn yaml(manifests: &[Value], made: &str) -> Result<String, RbacError> {
    let mut text = format!("# {made}\n");
    for manifest in manifests {
        let document = serde_saphyr::to_string(manifest).map_err(|error| RbacError::Write(Box::new(error)))?;
        text.push_str("---\n");
        text.push_str(&document);
    }
    Ok(text)
}

/// All that a catalog's releases make of every profile and platform, with a gateway and all add-ons.
pub(super) fn objects_of_all(catalog: &Catalog, namespace: &str) -> Result<Vec<Arc<Desired>>, RbacError> {
    objects_with(catalog, namespace, &ChartValues::default())
}

/// The same with values for the charts.
fn objects_with(catalog: &Catalog, namespace: &str, values: &ChartValues) -> Result<Vec<Arc<Desired>>, RbacError> {
    let platforms = Platforms::bundled().map_err(RbacError::Platforms)?;
    let mut objects = Vec::new();
    for release in catalog.releases() {
        for (profile, platform) in cases(&platforms) {
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

/// All that a release makes of a profile with a gateway.
pub(super) fn objects_of(
    release: &Release,
    profile: ProfileName,
    platform: &Platform,
    namespace: &str,
    values: &ChartValues,
) -> Result<Vec<Arc<Desired>>, String> {
    let mut spec = spec(release.version(), profile, namespace).map_err(|error| error.to_string())?;
    spec.values.clone_from(values);
    let owner = Owner { installation: "rights".into(), uid: String::new(), release: release.version().clone() };
    let profile = Profile::get(profile).map_err(|error| error.to_string())?;
    let validated = validate(&spec, owner, &profile, platform).map_err(|problems| sentence(&problems))?;
    let charts = release.load_charts(validated.releases.iter().map(|wanted| wanted.chart));
    let charts = charts.map_err(|error| explain(&error))?;
    render(&validated, &charts, &Capabilities::of_version(KUBERNETES)).map_err(|error| explain(&error))
}

fn spec(version: &Version, profile: ProfileName, namespace: &str) -> Result<MeshInstallationSpec, serde_json::Error> {
    serde_json::from_value(json!({
        "version": version.to_string(),
        "profile": profile,
        "namespace": namespace,
        "gateways": [{"name": "gateway", "namespace": ELSEWHERE}],
        "addons": AddOnName::ALL.map(|name| json!({"name": name})),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specs_that_are_rendered_are_good_for_every_profile() {
        for profile in ProfileName::ALL {
            let spec = spec(&Version::new(1, 31, 2), profile, "mesh").unwrap();
            assert_eq!((spec.profile, spec.namespace.as_str()), (profile, "mesh"));
            let gateway = spec.gateways.first().unwrap();
            assert_ne!(spec.gateway_namespace(gateway), spec.namespace);
        }
    }

    #[test]
    fn every_profile_and_every_platform_of_the_charts_is_rendered() {
        let platforms = Platforms::bundled().unwrap();
        let cases: Vec<(ProfileName, &str)> = cases(&platforms).map(|(profile, on)| (profile, on.name())).collect();
        assert!(ProfileName::ALL.iter().all(|profile| cases.contains(&(*profile, GENERIC))), "{cases:?}");
        assert!(cases.contains(&(ProfileName::Default, "openshift")), "{cases:?}");
    }

    #[test]
    fn manifests_are_separate_documents_below_a_line_that_says_how_they_were_made() {
        let placement = Placement { operator: "meshwright-system".into(), mesh: "istio-system".into() };
        let rights = Rights::of(placement, []).unwrap();
        let text = yaml(&rights.manifests(), "made by hand").unwrap();
        assert!(text.starts_with("# made by hand\n---\n"));
        assert_eq!(text.matches("\n---\n").count(), rights.manifests().len());
    }
}
