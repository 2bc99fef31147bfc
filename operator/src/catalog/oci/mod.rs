//! Pulls a release from a registry, where each of Istio's charts is an artifact created by `helm push`.
//!
//! `source` parses the location of the charts, `credentials` reads credentials, `registry` is the client (with its
//! trusted `roots` and `auth`). Three digests are verified: the manifest's (of the request, if pinned), the archive's
//! (in the manifest) and the chart's own, which is checked again at every use. Only a complete release is written to
//! the catalog.

mod auth;
pub mod credentials;
mod error;
mod image;
mod registry;
mod roots;
pub mod source;

use std::{collections::BTreeMap, path::Path};

use oci_client::{
    Reference,
    manifest::{OciDescriptor, OciManifest},
};
use semver::Version;

use super::{
    ChartName, Digest, ReleaseFacts, archive, assemble,
    files::Files,
    put::{self, PutOutcome},
};

pub use credentials::Credentials;
pub use error::PullError;
pub use image::{ResolveImageError, resolve_image};
use registry::Registry;
pub use source::RegistrySource;

/// Helm's media type of a packed chart.
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// Arguments of [`pull`].
#[derive(Clone, Copy, Debug)]
pub struct PullOptions<'a> {
    /// The location of the charts.
    pub from: &'a RegistrySource,
    /// The release's version, which is also the tag.
    pub version: &'a Version,
    /// Manifest digests: these charts are pulled by digest, not by tag.
    pub pins: &'a BTreeMap<ChartName, Digest>,
    /// The expected [`Digest`]s of charts' files. Detects a tag that was moved.
    pub chart_digests: &'a BTreeMap<ChartName, Digest>,
    /// The facts about releases.
    pub facts: &'a ReleaseFacts,
    /// The credentials for the registry.
    pub credentials: &'a Credentials,
    /// Whether to use HTTP without TLS.
    pub plain_http: bool,
    /// The catalog; created if it doesn't exist.
    pub catalog: &'a Path,
    /// Whether to replace different content of the same version.
    pub replace: bool,
}

/// The result of [`pull`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullResult {
    /// The effect on the catalog.
    pub outcome: PutOutcome,
    /// The artifact of each chart, with its manifest digest.
    pub origins: BTreeMap<ChartName, String>,
    /// Optional charts that the registry doesn't have.
    pub absent: Vec<ChartName>,
}

/// Pulls a release and writes it to a catalog, if all digests match.
pub async fn pull(request: &PullOptions<'_>) -> Result<PullResult, PullError> {
    let registry = Registry::new(request.credentials, request.plain_http)?;
    let (mut charts, mut origins, mut absent) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let mut left = archive::MAX_UNPACKED;
    for chart in ChartName::ALL {
        match pull_chart(&registry, chart, request, left).await {
            Ok((files, origin)) => {
                left = left.saturating_sub(archive::unpacked_size(&files));
                charts.insert(chart, files);
                origins.insert(chart, origin);
            }
            // Older releases lack some charts; a pinned chart must exist.
            Err(PullError::Missing { .. }) if !chart.is_required() && !request.pins.contains_key(&chart) => {
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
        let wanted = request.chart_digests.get(&entry.name);
        if let Some(wanted) = wanted.filter(|wanted| **wanted != entry.digest) {
            let artifact = request.from.artifact(entry.name, request.version, None).to_string();
            return Err(PullError::Moved { artifact, wanted: wanted.clone(), found: entry.digest.clone() });
        }
    }
    let outcome = put::put(request.catalog, &file, &charts, request.replace).map_err(PullError::Put)?;
    Ok(PullResult { outcome, origins, absent })
}

/// Lists the releases in a registry by the tags of the istiod chart; empty if the chart doesn't exist.
pub async fn versions(
    from: &RegistrySource,
    credentials: &Credentials,
    plain_http: bool,
) -> Result<Vec<Version>, PullError> {
    let registry = Registry::new(credentials, plain_http)?;
    let reference = from.artifact(ChartName::Istiod, &Version::new(0, 0, 0), None);
    let tags = match registry.tags(&reference).await {
        Err(PullError::Missing { .. }) => return Ok(Vec::new()),
        tags => tags?,
    };
    Ok(tags.iter().filter_map(|tag| Version::parse(&tag.replace('_', "+")).ok()).collect())
}

/// Pulls a chart of at most `limit` bytes unpacked; returns its files and its artifact, with the manifest digest.
async fn pull_chart(
    registry: &Registry<'_>,
    chart: ChartName,
    request: &PullOptions<'_>,
    limit: u64,
) -> Result<(Files, String), PullError> {
    let reference = request.from.artifact(chart, request.version, request.pins.get(&chart));
    let (manifest, digest) = registry.manifest(&reference).await?;
    let layer = chart_layer(manifest, &reference)?;
    let packed = registry.blob(&reference, &layer).await?;
    let unpacked = archive::unpack_within(&packed, limit)
        .map_err(|source| PullError::Unpack { artifact: reference.to_string(), source })?;
    // Unpacked files are parsed, which takes several times their size.
    drop(packed);
    let files = strip_directory(chart, unpacked).map_err(|path| PullError::Layout {
        artifact: reference.to_string(),
        chart,
        path,
    })?;
    assemble::check_chart(chart, &files).map_err(PullError::Assemble)?;
    Ok((files, format!("oci://{}", reference.clone_with_digest(digest))))
}

/// Returns the layer with the packed chart; there may be another one with a provenance file.
fn chart_layer(manifest: OciManifest, reference: &Reference) -> Result<OciDescriptor, PullError> {
    let found = match manifest {
        OciManifest::Image(manifest) => {
            let mut layers = manifest.layers;
            if let Some(at) = layers.iter().position(|layer| layer.media_type == CHART_LAYER) {
                return Ok(layers.swap_remove(at));
            }
            layers.into_iter().map(|layer| layer.media_type).collect::<Vec<_>>().join(", ")
        }
        OciManifest::ImageIndex(_) => "an image index".to_owned(),
    };
    Err(PullError::NotAChart { artifact: reference.to_string(), found })
}

/// Strips the chart's directory from the paths of a packed chart; returns the first path outside it as error.
fn strip_directory(chart: ChartName, unpacked: Files) -> Result<Files, String> {
    let directory = format!("{chart}/");
    unpacked
        .into_iter()
        .map(|(path, content)| match path.strip_prefix(&directory) {
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
    fn finds_chart_beside_provenance() {
        let manifest = manifest(&["application/vnd.cncf.helm.chart.provenance.v1.prov", CHART_LAYER]);
        assert_eq!(chart_layer(manifest, &reference()).unwrap().media_type, CHART_LAYER);
    }

    #[test]
    fn rejects_artifact_that_is_no_chart() {
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let error = chart_layer(manifest(&[layer]), &reference()).unwrap_err().to_string();
        assert!(error.contains("charts/istiod:1.31.2") && error.contains(layer), "{error}");
    }

    #[test]
    fn names_file_outside_chart_directory() {
        let files = |paths: &[&str]| paths.iter().map(|path| ((*path).to_owned(), Vec::new())).collect::<Files>();
        let inside = strip_directory(ChartName::Base, files(&["base/Chart.yaml", "base/templates/a.yaml"])).unwrap();
        assert_eq!(inside.keys().collect::<Vec<_>>(), ["Chart.yaml", "templates/a.yaml"]);
        let outside = strip_directory(ChartName::Base, files(&["base/Chart.yaml", "based/Chart.yaml"]));
        assert_eq!(outside, Err("based/Chart.yaml".to_owned()));
    }
}
