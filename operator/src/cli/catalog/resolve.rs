//! `meshwright catalog images --resolve`: resolves the digests of images in their registries.

use std::{collections::BTreeMap, fmt::Write as _, io};

use meshwright_api::{AddOnName, IMAGE_NAMES};

use crate::catalog::{
    image_list::ImageList,
    oci::{self, ResolveImageError},
};

/// Flags for `--resolve`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ResolveArgs {
    /// Resolve the images' digests in the registries and print them in the format of `spec.images`
    #[arg(long, conflicts_with = "output")]
    resolve: bool,
    /// Resolve them in this mirror, which will be `spec.images.registry`
    #[arg(long, requires = "resolve", value_name = "REGISTRY/PATH")]
    registry: Option<String>,
    /// Use plain HTTP
    #[arg(long, requires = "resolve")]
    plain_http: bool,
}

/// The digests can't be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveDigestsError {
    /// The async runtime can't be started.
    #[error("can't start the async runtime")]
    StartRuntime(#[source] io::Error),
    /// The registry returned an error for an image.
    #[error(transparent)]
    Image(ResolveImageError),
}

impl ResolveArgs {
    /// The text to print if `--resolve` is set.
    pub(super) fn text(&self, list: &ImageList) -> Result<Option<String>, ResolveDigestsError> {
        if !self.resolve {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ResolveDigestsError::StartRuntime)?;
        let (mut digests, mut absent) = (BTreeMap::new(), Vec::new());
        for (name, image) in pinned(list, self.registry.as_deref()) {
            let digest =
                runtime.block_on(oci::resolve_image(&image, self.plain_http)).map_err(ResolveDigestsError::Image)?;
            match digest {
                Some(digest) => _ = digests.insert(name, digest),
                None => absent.push(image),
            }
        }
        Ok(Some(yaml(self.registry.as_deref(), &digests, &absent)))
    }
}

/// The images that `spec.images.digests` supports, by their names there, each with its reference in the registry.
fn pinned<'a>(list: &'a ImageList, registry: Option<&str>) -> BTreeMap<&'a str, String> {
    let known = |name: &str| IMAGE_NAMES.contains(&name) || AddOnName::ALL.iter().any(|add_on| add_on.as_str() == name);
    let named = list.keys().filter_map(|image| {
        let (_, tagged) = image.rsplit_once('/')?;
        let (name, _) = tagged.split_once(':')?;
        let copy = registry.map_or_else(|| image.clone(), |registry| format!("{registry}/{tagged}"));
        known(name).then_some((name, copy))
    });
    named.collect()
}

fn yaml(registry: Option<&str>, digests: &BTreeMap<&str, String>, absent: &[String]) -> String {
    let mut text = "images:\n".to_owned();
    // Writing to a String can't fail.
    if let Some(registry) = registry {
        _ = writeln!(text, "  registry: {registry}");
    }
    text.push_str(if digests.is_empty() { "  digests: {}\n" } else { "  digests:\n" });
    for (name, digest) in digests {
        _ = writeln!(text, "    {name}: {digest}");
    }
    for image in absent {
        _ = writeln!(text, "  # not found: {image}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn resolves_images_with_digest_field() {
        let images = ["docker.io/prom/prometheus:v3", "r.example.com:5000/i/pilot:1.31.2-distroless", "busybox:1.28"];
        let list: ImageList = images.map(|image| (image.to_owned(), BTreeSet::new())).into();
        let of = |registry| pinned(&list, registry).into_iter().collect::<Vec<_>>();
        assert_eq!(of(None), [("pilot", images[1].to_owned()), ("prometheus", images[0].to_owned())]);
        let copies = [("pilot", "m/i/pilot:1.31.2-distroless".into()), ("prometheus", "m/i/prometheus:v3".into())];
        assert_eq!(of(Some("m/i")), copies);
    }

    #[test]
    fn prints_valid_spec_images() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let absent = ["m/i/kiali:v2".to_owned()];
        let text = yaml(Some("m:5000/i"), &[("pilot", digest.clone())].into(), &absent);
        let spec: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let images: meshwright_api::Images = serde_json::from_value(spec["images"].clone()).unwrap();
        assert_eq!((images.registry.as_deref(), &images.digests["pilot"]), (Some("m:5000/i"), &digest));
        assert!(text.ends_with("  # not found: m/i/kiali:v2\n"), "{text}");
        let none: serde_json::Value = serde_saphyr::from_str(&yaml(None, &BTreeMap::new(), &[])).unwrap();
        assert_eq!(none["images"]["digests"], serde_json::json!({}));
    }
}
