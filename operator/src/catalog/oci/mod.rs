//! Pulls a release from a registry: Istio's charts, one artifact each, as `helm push` leaves them there.
//!
//! [`source`] is where they are, [`credentials`] who asks, and `registry` talks to the registry (`roots` are whom it
//! believes, `sign_in` is what it shows). What comes is held against three digests: the manifest's (that of the request, if
//! it is pinned), the archive's (that in the manifest), and the chart's own, which from then on is checked at every use. Only
//! a whole release is put into the catalog, by `put`.

pub mod credentials;
mod error;
mod image;
mod registry;
mod roots;
mod sign_in;
pub mod source;

use std::{collections::BTreeMap, path::Path};

use oci_client::{
    Reference,
    manifest::{OciDescriptor, OciManifest},
};
use semver::Version;

use super::{
    ChartName, Digest, Facts, archive, assemble,
    files::Files,
    put::{self, Outcome},
};

pub use credentials::Credentials;
pub use error::PullError;
pub use image::{ResolveImageError, resolve_image};
use registry::Registry;
pub use source::Source;

/// What Helm calls a packed chart.
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// What to pull, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Pull<'a> {
    /// Where the charts are.
    pub from: &'a Source,
    /// The release's version, which is also the tag.
    pub version: &'a Version,
    /// Digests of manifests, in the notation of [`Digest`]: these charts are asked for by digest, whatever the tag means
    /// by now.
    pub pins: &'a BTreeMap<ChartName, Digest>,
    /// Digests of charts, as [`Digest::of`] takes them of their files: what a chart must be, whatever the tag means by now.
    pub contents: &'a BTreeMap<ChartName, Digest>,
    /// What is known of releases.
    pub facts: &'a Facts,
    /// Who asks.
    pub credentials: &'a Credentials,
    /// HTTP without TLS.
    pub plain_http: bool,
    /// The catalog; made if it doesn't exist.
    pub catalog: &'a Path,
    /// Whether other content under the same version may be replaced.
    pub replace: bool,
}

/// What a pull did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What became of the release.
    pub outcome: Outcome,
    /// The artifact of each chart, by digest.
    pub origins: BTreeMap<ChartName, String>,
    /// Charts that the registry doesn't have, and that a release can be without.
    pub absent: Vec<ChartName>,
}

/// Pulls a release into a catalog, if all of it is what it should be.
pub async fn pull(request: &Pull<'_>) -> Result<Pulled, PullError> {
    let registry = Registry::new(request.credentials, request.plain_http)?;
    let (mut charts, mut origins, mut absent) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for chart in ChartName::ALL {
        match pull_chart(&registry, chart, request).await {
            Ok((files, origin)) => {
                charts.insert(chart, files);
                origins.insert(chart, origin);
            }
            // Some charts are younger than some releases; one that was asked for by its digest must be there.
            Err(PullError::Missing { .. }) if !chart.is_indispensable() && !request.pins.contains_key(&chart) => {
                absent.push(chart);
            }
            Err(error) => return Err(error),
        }
    }
    let source = request.from.to_string();
    let mut file =
        assemble::release_file(request.version, &source, &charts, request.facts).map_err(PullError::Assemble)?;
    for entry in &mut file.charts {
        entry.origin = origins.get(&entry.name).cloned();
        let wanted = request.contents.get(&entry.name);
        if let Some(wanted) = wanted.filter(|wanted| **wanted != entry.digest) {
            let artifact = request.from.artifact(entry.name, request.version, None).to_string();
            return Err(PullError::Moved { artifact, wanted: wanted.clone(), found: entry.digest.clone() });
        }
    }
    let outcome = put::put(request.catalog, &file, &charts, request.replace).map_err(PullError::Put)?;
    Ok(Pulled { outcome, origins, absent })
}

/// The releases that a registry has, as the tags of istiod's chart tell: none where it has no such chart.
pub async fn versions(from: &Source, credentials: &Credentials, plain_http: bool) -> Result<Vec<Version>, PullError> {
    let registry = Registry::new(credentials, plain_http)?;
    let reference = from.artifact(ChartName::Istiod, &Version::new(0, 0, 0), None);
    let tags = match registry.tags(&reference).await {
        Err(PullError::Missing { .. }) => return Ok(Vec::new()),
        tags => tags?,
    };
    Ok(tags.iter().filter_map(|tag| Version::parse(&tag.replace('_', "+")).ok()).collect())
}

/// The files of a chart, and the artifact that they came from.
async fn pull_chart(
    registry: &Registry<'_>,
    chart: ChartName,
    request: &Pull<'_>,
) -> Result<(Files, String), PullError> {
    let reference = request.from.artifact(chart, request.version, request.pins.get(&chart));
    let (manifest, digest) = registry.manifest(&reference).await?;
    let layer = chart_layer(manifest, &reference)?;
    let archive = registry.blob(&reference, &layer).await?;
    let unpacked =
        archive::unpack(&archive).map_err(|source| PullError::Unpack { artifact: reference.to_string(), source })?;
    let files = below_folder(chart, unpacked).map_err(|path| PullError::Layout {
        artifact: reference.to_string(),
        chart,
        path,
    })?;
    assemble::check_chart(chart, &files).map_err(PullError::Assemble)?;
    Ok((files, format!("oci://{}", reference.clone_with_digest(digest))))
}

/// The one layer that is a packed chart; a provenance file may lie beside it.
fn chart_layer(manifest: OciManifest, reference: &Reference) -> Result<OciDescriptor, PullError> {
    let found = match manifest {
        OciManifest::Image(manifest) => {
            let mut layers = manifest.layers;
            if let Some(at) = layers.iter().position(|layer| layer.media_type == CHART_LAYER) {
                return Ok(layers.swap_remove(at));
            }
            layers.into_iter().map(|layer| layer.media_type).collect::<Vec<_>>().join(", ")
        }
        OciManifest::ImageIndex(_) => "an index of images".to_owned(),
    };
    Err(PullError::NotAChart { artifact: reference.to_string(), found })
}

/// The files of a packed chart without the folder of its name; or the first file that is elsewhere.
fn below_folder(chart: ChartName, unpacked: Files) -> Result<Files, String> {
    let folder = format!("{chart}/");
    unpacked
        .into_iter()
        .map(|(path, content)| match path.strip_prefix(&folder) {
            Some(rest) => Ok((rest.to_owned(), content)),
            None => Err(path),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Reference {
        "registry.example.com/charts/istiod:1.31.2".parse().unwrap()
    }

    fn manifest(layers: &[&str]) -> OciManifest {
        let descriptor = |kind: &str| serde_json::json!({"mediaType": kind, "digest": "sha256:0", "size": 1});
        let layers: Vec<_> = layers.iter().map(|kind| descriptor(kind)).collect();
        let config = descriptor("application/vnd.cncf.helm.config.v1+json");
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
        serde_json::from_value(manifest).unwrap()
    }

    #[test]
    fn the_chart_is_found_beside_its_provenance() {
        let manifest = manifest(&["application/vnd.cncf.helm.chart.provenance.v1.prov", CHART_LAYER]);
        assert_eq!(chart_layer(manifest, &reference()).unwrap().media_type, CHART_LAYER);
    }

    #[test]
    fn what_is_no_chart_is_refused_with_what_it_is() {
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let error = chart_layer(manifest(&[layer]), &reference()).unwrap_err().to_string();
        assert!(error.contains("charts/istiod:1.31.2") && error.contains(layer), "{error}");
    }

    #[test]
    fn a_file_outside_the_charts_folder_is_named() {
        let files = |paths: &[&str]| paths.iter().map(|path| ((*path).to_owned(), Vec::new())).collect::<Files>();
        let inside = below_folder(ChartName::Base, files(&["base/Chart.yaml", "base/templates/a.yaml"])).unwrap();
        assert_eq!(inside.keys().collect::<Vec<_>>(), ["Chart.yaml", "templates/a.yaml"]);
        let outside = below_folder(ChartName::Base, files(&["base/Chart.yaml", "based/Chart.yaml"]));
        assert_eq!(outside, Err("based/Chart.yaml".to_owned()));
    }
}
