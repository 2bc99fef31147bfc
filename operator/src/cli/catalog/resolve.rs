//! `meshwright catalog images --resolve`: asks registries which digests the images have.

use std::{collections::BTreeMap, fmt::Write as _, io};

use meshwright_api::{AddOnName, IMAGE_NAMES};

use crate::catalog::{
    image_list::ImageList,
    oci::{self, ResolveImageError},
};

/// Where the images are.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ResolveArgs {
    /// Ask the registries for the images' digests, and print them as `spec.images` takes them
    #[arg(long, conflicts_with = "output")]
    resolve: bool,
    /// Ask this registry, which holds copies: what `spec.images.registry` will be
    #[arg(long, requires = "resolve", value_name = "REGISTRY/PATH")]
    registry: Option<String>,
    /// Talk HTTP without TLS
    #[arg(long, requires = "resolve")]
    plain_http: bool,
}

/// The digests of a release's images can't be told.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The process got no runtime.
    #[error("can't start a runtime for requests")]
    StartRuntime(#[source] io::Error),
    /// One of them can't.
    #[error(transparent)]
    Image(ResolveImageError),
}

impl ResolveArgs {
    /// The text to print, if it was asked for.
    pub(super) fn text(&self, list: &ImageList) -> Result<Option<String>, ResolveError> {
        if !self.resolve {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ResolveError::StartRuntime)?;
        let (mut digests, mut absent) = (BTreeMap::new(), Vec::new());
        for (name, image) in pinned(list, self.registry.as_deref()) {
            let digest = runtime.block_on(oci::resolve_image(&image, self.plain_http)).map_err(ResolveError::Image)?;
            match digest {
                Some(digest) => _ = digests.insert(name, digest),
                None => absent.push(image),
            }
        }
        Ok(Some(yaml(self.registry.as_deref(), &digests, &absent)))
    }
}

/// Those that `spec.images.digests` knows, by their names there, each as the registry has it.
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
        _ = writeln!(text, "  # there is no {image}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_images_that_can_be_named_by_digest_are_asked_for_where_they_are() {
        let images = ["docker.io/prom/prometheus:v3", "r.example.com:5000/i/pilot:1.31.2-distroless", "busybox:1.28"];
        let list: ImageList = images.map(|image| (image.to_owned(), BTreeSet::new())).into();
        let of = |registry| pinned(&list, registry).into_iter().collect::<Vec<_>>();
        assert_eq!(of(None), [("pilot", images[1].to_owned()), ("prometheus", images[0].to_owned())]);
        let copies = [("pilot", "m/i/pilot:1.31.2-distroless".into()), ("prometheus", "m/i/prometheus:v3".into())];
        assert_eq!(of(Some("m/i")), copies);
    }

    #[test]
    fn what_is_printed_is_what_the_spec_takes() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let absent = ["m/i/kiali:v2".to_owned()];
        let text = yaml(Some("m:5000/i"), &[("pilot", digest.clone())].into(), &absent);
        let spec: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let images: meshwright_api::Images = serde_json::from_value(spec["images"].clone()).unwrap();
        assert_eq!((images.registry.as_deref(), &images.digests["pilot"]), (Some("m:5000/i"), &digest));
        assert!(text.ends_with("  # there is no m/i/kiali:v2\n"), "{text}");
        let none: serde_json::Value = serde_saphyr::from_str(&yaml(None, &BTreeMap::new(), &[])).unwrap();
        assert_eq!(none["images"]["digests"], serde_json::json!({}));
    }
}
