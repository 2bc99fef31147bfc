//! Images by their digests: checked, and written into the values of Istio's charts. Add-ons write theirs themselves.
//!
//! A chart makes the name of an image of registry, name, tag and variant, unless it is given one with a slash: that it takes
//! as it is, and so does istiod for what it injects. So an image with a digest is given by its whole name.

use meshwright_api::{AddOnName, IMAGE_NAMES, Images, MeshInstallationSpec};
use semver::Version;
use serde_json::{Map, Value};

use super::merge::{get, set};
use super::problem::Problem;
use crate::catalog::{ChartName, release_file};

/// A chart's values that take the whole name of an image.
struct Place {
    image: &'static str,
    chart: ChartName,
    paths: &'static [&'static str],
}

/// One for each of [`IMAGE_NAMES`]. What istiod injects for gateways is proxyv2, too.
const PLACES: [Place; 5] = [
    Place { image: "agentgateway", chart: ChartName::Istiod, paths: &["global.agentgateway.image"] },
    Place { image: "install-cni", chart: ChartName::Cni, paths: &["image"] },
    Place { image: "pilot", chart: ChartName::Istiod, paths: &["image"] },
    Place { image: "proxyv2", chart: ChartName::Istiod, paths: &["global.proxy.image", "global.proxy_init.image"] },
    Place { image: "ztunnel", chart: ChartName::Ztunnel, paths: &["image"] },
];

/// What is wrong with the digests of a spec.
pub fn digests(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    for (image, digest) in &spec.images.digests {
        let field = field(image);
        if let Err(error) = digest.parse::<crate::catalog::Digest>() {
            problems.push(Problem::new(&field, error.to_string()));
        }
        let Some((theirs, at, paths)) = values_that_name(image, spec) else {
            let names = IMAGE_NAMES.into_iter().chain(AddOnName::ALL.map(AddOnName::as_str));
            let message = format!("is no image that is known; there are {}", names.collect::<Vec<_>>().join(", "));
            problems.push(Problem::new(field, message));
            continue;
        };
        let theirs = Value::Object(theirs);
        for path in paths.iter().filter(|path| get(&theirs, path).is_some()) {
            let message = format!("{at}.{path} names this image too: leave one of them out");
            problems.push(Problem::new(&field, message));
        }
    }
}

/// The user's values that can name an image as well: these, where they stand, and the paths in them.
fn values_that_name(
    image: &str,
    spec: &MeshInstallationSpec,
) -> Option<(Map<String, Value>, String, &'static [&'static str])> {
    if let Some(add_on) = AddOnName::ALL.into_iter().find(|name| name.as_str() == image) {
        let listed = spec.addons.iter().find(|listed| listed.name == add_on);
        let theirs = listed.map(|listed| listed.values.0.clone()).unwrap_or_default();
        return Some((theirs, format!("spec.addons[{image}].values"), &["image.tag", "image.digest"]));
    }
    let place = PLACES.iter().find(|place| place.image == image)?;
    let theirs = match place.chart {
        ChartName::Cni => &spec.values.cni,
        ChartName::Ztunnel => &spec.values.ztunnel,
        _ => &spec.values.istiod,
    };
    Some((theirs.0.clone(), format!("spec.values.{}", place.chart), place.paths))
}

/// Whether digests are still those of another release, which would run under the name of this one. `before` is what was
/// accepted earlier. Add-ons have versions of their own.
pub fn left_behind<'a>(
    images: &Images,
    version: &Version,
    before: impl Iterator<Item = (&'a Version, &'a Images)>,
) -> Option<Problem> {
    let others = before.filter(|(other, _)| *other != version);
    let of_istio = |image: &str| PLACES.iter().any(|place| place.image == image);
    let known = others.flat_map(|(other, accepted)| accepted.digests.iter().map(move |known| (other, known)));
    known.filter(|(_, (image, _))| of_istio(image)).find_map(|(other, (image, known))| {
        let same = images.digests.get(image).is_some_and(|digest| digest == known);
        let message = format!("{known:?} is the image of {other}: give that of {version}, or leave it out");
        same.then(|| Problem::new(field(image), message))
    })
}

fn field(image: &str) -> String {
    format!("spec.images.digests[{image}]")
}

/// Writes the images that have a digest into the values of a chart. `release` has registry and tag where the spec says
/// nothing else.
pub fn write(images: &Images, release: &release_file::Images, chart: ChartName, values: &mut Value) {
    let registry = images.registry.as_deref().unwrap_or(&release.hub);
    for place in PLACES.iter().filter(|place| place.chart == chart) {
        let Some(digest) = images.digests.get(place.image) else { continue };
        for path in place.paths {
            set(values, path, format!("{registry}/{}:{}@{digest}", place.image, release.tag));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    fn spec(fields: Value) -> MeshInstallationSpec {
        let mut all = json!({"version": "1.31.2"});
        crate::mesh::merge::merge(&mut all, fields);
        serde_json::from_value(all).unwrap()
    }

    fn told(fields: Value) -> Vec<String> {
        let mut problems = Vec::new();
        digests(&spec(fields), &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_image_has_its_place() {
        assert_eq!(PLACES.map(|place| place.image), IMAGE_NAMES);
        let release = release_file::Images { hub: "r/i".into(), tag: "1.31.2".into(), pullable: true, reason: None };
        for name in IMAGE_NAMES {
            let images = spec(json!({"images": {"digests": {name: digest('a')}}})).images;
            let mut written = Vec::new();
            for chart in ChartName::ALL {
                let mut values = json!({});
                write(&images, &release, chart, &mut values);
                written.extend((values != json!({})).then(|| values.to_string()));
            }
            assert_eq!(written.len(), 1, "{name}");
            assert!(written[0].contains(&format!("\"r/i/{name}:1.31.2@{}\"", digest('a'))), "{written:?}");
        }
    }

    #[test]
    fn the_registry_of_the_spec_goes_over_that_of_the_release() {
        let release = release_file::Images { hub: "r/i".into(), tag: "1.31.2".into(), pullable: true, reason: None };
        let images = spec(json!({"images": {"registry": "own:5000/x", "digests": {"pilot": digest('a')}}})).images;
        let mut values = json!({"image": "pilot"});
        write(&images, &release, ChartName::Istiod, &mut values);
        assert_eq!(values, json!({"image": format!("own:5000/x/pilot:1.31.2@{}", digest('a'))}));
    }

    #[test]
    fn what_is_no_image_or_no_digest_or_named_twice_is_refused_by_name() {
        assert_eq!(told(json!({"images": {"digests": {"pilot": digest('a')}}})), [""; 0]);
        let said = told(json!({"images": {"digests": {"istiod": digest('a')}}}));
        assert!(
            said[0].starts_with("spec.images.digests[istiod]: is no image that is known; there are agentgateway"),
            "{said:?}"
        );
        assert!(told(json!({"images": {"digests": {"pilot": "latest"}}}))[0].contains("\"latest\" is no digest"));
        let twice = json!({"images": {"digests": {"proxyv2": digest('a')}},
            "values": {"istiod": {"global": {"proxy_init": {"image": "x/y"}}}}});
        let said = told(twice);
        assert!(said[0].contains("spec.values.istiod.global.proxy_init.image names this image too"), "{said:?}");
        let of_add_on = |image: Value| {
            told(json!({"images": {"digests": {"jaeger": digest('a')}},
                "addons": [{"name": "jaeger", "values": {"image": image}}]}))
        };
        assert_eq!(of_add_on(json!({"repository": "own/jaeger"})), [""; 0]);
        for twice in [json!({"tag": "2.0.0"}), json!({"digest": digest('b')})] {
            let said = of_add_on(twice);
            assert!(said[0].starts_with("spec.images.digests[jaeger]: spec.addons[jaeger].values.image."), "{said:?}");
        }
    }

    #[test]
    fn digests_do_not_stay_behind_when_the_version_goes_on() {
        let images = |letter| spec(json!({"images": {"digests": {"pilot": digest(letter)}}})).images;
        let (old, new) = (Version::new(1, 31, 2), Version::new(1, 31, 3));
        let before = images('a');
        let refused = |now: &Images, version| left_behind(now, version, [(&old, &before)].into_iter());
        let problem = refused(&before, &new).unwrap();
        assert_eq!(problem.field, "spec.images.digests[pilot]");
        assert!(problem.message.ends_with("is the image of 1.31.2: give that of 1.31.3, or leave it out"), "{problem}");
        assert_eq!(refused(&images('b'), &new), None);
        assert_eq!(refused(&before, &old), None);
        let add_on = spec(json!({"images": {"digests": {"grafana": digest('a')}}})).images;
        assert_eq!(left_behind(&add_on, &new, [(&old, &add_on)].into_iter()), None);
    }
}
