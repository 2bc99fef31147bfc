//! `meshwright catalog images`.

use clap::ValueEnum;
use meshwright_api::{ChartValues, Profile, version::VersionRequest};
use semver::Version;
use serde_json::{Value, json};

use super::{
    release_version,
    resolve::{ResolveArgs, ResolveDigestsError},
};
use crate::catalog::{
    Catalog, ChartName, Release, ReleaseFacts, error_chain,
    facts::Minor,
    image_list::{self, ImageList, ListImagesError},
    release::ChartError,
    release_file::ReleaseImages,
    store,
};
use crate::cli::rbac::objects_of;
use crate::mesh::add_ons::{self, LoadAddOnError};
use crate::platform::{GENERIC, Platforms};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # List all images of a release
  meshwright catalog images --version 1.31.2 --catalog releases

  # Resolve the digests in a mirror, in the format of spec.images
  meshwright catalog images --version 1.31.2 --resolve --registry registry.example.com/istio --catalog releases")]
pub(super) struct ImagesArgs {
    /// Version of the release, for example 1.31.2
    #[arg(long, value_name = "VERSION", value_parser = release_version)]
    version: Version,
    /// Only list the Istio images that this profile uses [default: the images of all charts]. Add-on images are always
    /// listed
    #[arg(long, value_name = "PROFILE", value_parser = profile)]
    profile: Option<Profile>,
    /// Output format; json also prints the resources that use each image
    #[arg(long, short, value_enum, default_value_t = ImageListFormat::Lines, value_name = "FORMAT")]
    output: ImageListFormat,
    #[command(flatten)]
    resolve: ResolveArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ImageListFormat {
    Lines,
    Json,
}

/// The images of a release can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The catalog doesn't have the release.
    #[error(transparent)]
    Resolve(store::ResolveError),
    /// A chart can't be used.
    #[error(transparent)]
    Chart(Box<ChartError>),
    /// An add-on's chart can't be used.
    #[error(transparent)]
    AddOn(Box<LoadAddOnError>),
    /// The profile can't be rendered.
    #[error("Istio {version} can't be rendered with profile {profile}: {reason}")]
    Render {
        /// Version of the release.
        version: Version,
        /// Name of the profile.
        profile: &'static str,
        /// The renderer's error.
        reason: String,
    },
    /// The digests can't be resolved.
    #[error(transparent)]
    Digests(ResolveDigestsError),
    /// The images can't be determined from the charts.
    #[error("can't list the images of Istio {version}")]
    List {
        /// Version of the release.
        version: Version,
        /// The underlying error.
        #[source]
        source: ListImagesError,
    },
}

/// The images don't depend on the Kubernetes version.
const DEFAULT_KUBERNETES: &str = "v1.33.0";

pub(super) fn text(args: &ImagesArgs, catalog: &Catalog, facts: &ReleaseFacts) -> Result<String, ImagesError> {
    let request = VersionRequest::Exact(args.version.clone());
    let release = catalog.resolve(&request).map_err(ImagesError::Resolve)?;
    let list = match args.profile {
        Some(profile) => of_profile(release, profile)?,
        None => of_charts(release, facts)?,
    };
    let list = list.map_err(|source| ImagesError::List { version: args.version.clone(), source })?;
    if let Some(text) = args.resolve.text(&list).map_err(ImagesError::Digests)? {
        return Ok(text);
    }
    Ok(match args.output {
        ImageListFormat::Lines => list.keys().flat_map(|image| [image.as_str(), "\n"]).collect(),
        ImageListFormat::Json => format!("{:#}\n", as_json(&args.version, release.images(), &list)),
    })
}

type Listed = Result<ImageList, ListImagesError>;

fn of_charts(release: &Release, facts: &ReleaseFacts) -> Result<Listed, ImagesError> {
    let names: Vec<ChartName> = release.charts().keys().copied().collect();
    let charts = release.load_charts(names).map_err(|error| ImagesError::Chart(Box::new(error)))?;
    let of_istio = charts.iter().filter(|(name, _)| name.has_images()).map(|(name, chart)| (name.as_str(), &**chart));
    let add_ons = add_ons::charts().map_err(|error| ImagesError::AddOn(Box::new(error)))?;
    let of_add_ons = add_ons.iter().map(|(name, chart)| (name.as_str(), chart));
    let supported =
        facts.minor(Minor::of(release.version())).map(|facts| format!("v{}.0", facts.kubernetes.supported.1));
    let kubernetes = supported.unwrap_or_else(|_| DEFAULT_KUBERNETES.to_owned());
    Ok(image_list::list(of_istio.chain(of_add_ons), &kubernetes))
}

/// The images in the operator's rendering, with a gateway and all add-ons.
fn of_profile(release: &Release, profile: Profile) -> Result<Listed, ImagesError> {
    let failed = |reason| ImagesError::Render { version: release.version().clone(), profile: profile.as_str(), reason };
    let platforms = Platforms::bundled().map_err(|error| failed(error_chain(&error)))?;
    let platform = platforms.get(GENERIC).ok_or_else(|| failed(format!("platform {GENERIC} does not exist")))?;
    let objects = objects_of(release, profile, platform, "istio-system", &ChartValues::default()).map_err(failed)?;
    Ok(image_list::of_objects(objects.iter().map(|object| object.value())))
}

fn profile(text: &str) -> Result<Profile, String> {
    let known = || Profile::ALL.map(Profile::as_str).join(", ");
    let found = Profile::ALL.into_iter().find(|profile| profile.as_str() == text);
    found.ok_or_else(|| format!("unknown profile {text:?}; use one of: {}", known()))
}

fn as_json(version: &Version, of_release: &ReleaseImages, list: &ImageList) -> Value {
    let images: Vec<Value> = list.iter().map(|(image, users)| json!({"image": image, "usedBy": users})).collect();
    let ReleaseImages { hub: _, tag: _, pullable, reason } = of_release;
    let mut value = json!({"format": 1, "version": version.to_string(), "pullable": pullable, "images": images});
    if let (Some(reason), Some(fields)) = (reason, value.as_object_mut()) {
        fields.insert("reason".to_owned(), json!(reason));
    }
    value
}

#[cfg(test)]
mod tests {
    use std::fs;

    use meshwright_api::AddOnName;

    use super::*;
    use crate::catalog::tests::{source_tree, write};
    use crate::cli::catalog::tests::run;

    #[test]
    fn lists_images_with_users_in_json() {
        let source = source_tree();
        let pod = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: istiod}\nspec: {template: {spec: {containers: \
                   [{image: \"{{ .Values._internal_defaults_do_not_set.global.hub }}/pilot:1\"}]}}}\n";
        let path = "manifests/charts/istio-control/istio-discovery/templates/deployment.yaml";
        write(source.path(), path, pod);
        let catalog = tempfile::TempDir::new().unwrap();
        let (from, dir) = (source.path().to_str().unwrap(), catalog.path().to_str().unwrap());
        run(&["add", "--from", from, "--version", "1.31.2", "--catalog", dir]).unwrap();

        let images = |format: &str| run(&["images", "--version", "1.31.2", "--catalog", dir, "-o", format]).unwrap().1;
        let lines = images("lines");
        let of_istio: Vec<&str> = lines.lines().filter(|image| image.contains("istio")).collect();
        assert_eq!(of_istio, ["registry.istio.io/release/pilot:1"]);
        for name in AddOnName::ALL.map(AddOnName::as_str) {
            assert!(lines.lines().any(|image| image.contains(&format!("/{name}:"))), "{name}: {lines}");
        }
        let list: Value = serde_json::from_str(&images("json")).unwrap();
        assert_eq!((list["format"].as_i64(), list["pullable"].as_bool()), (Some(1), Some(true)));
        let of_istiod = list["images"].as_array().unwrap().iter().find(|it| it["image"] == of_istio[0]).unwrap();
        assert_eq!(of_istiod["usedBy"], json!(["Deployment istiod"]));

        let error = run(&["images", "--version", "1.31.3", "--catalog", dir]).unwrap_err();
        assert_eq!(error.to_string(), "version 1.31.3 is not in the catalog, which has 1.31.2");
        fs::write(catalog.path().join("1.31.2/charts/cni/values.yaml"), "evil: true\n").unwrap();
        let error = run(&["images", "--version", "1.31.2", "--catalog", dir]).unwrap_err();
        assert!(error.to_string().contains("chart cni of release 1.31.2 is damaged"), "{error}");
    }
}
