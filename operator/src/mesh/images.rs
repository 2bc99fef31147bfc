//! Image digests of Istio's charts: validation of `spec.images.digests`, and the chart values that pin them. The charts
//! of add-ons have a value of their own for the digest.
//!
//! A chart composes an image reference from registry, name, tag and variant, unless the value contains a slash: then
//! the chart, and istiod for injected containers, use it unchanged. So a pinned image is set as a complete reference.

use meshwright_api::{AddOnName, IMAGE_NAMES, Images, MeshInstallationSpec};
use semver::Version;
use serde_json::{Map, Value};

use super::merge::{get, set};
use super::owned_keys::ValuesScope;
use super::problem::Problem;
use super::user_values::spellings;
use crate::catalog::{ChartName, ReleaseImages};

/// The values of a chart that accept a complete image reference.
struct ImageValues {
    image: &'static str,
    chart: ChartName,
    paths: &'static [&'static str],
}

/// One entry for each of [`IMAGE_NAMES`]. Gateways run proxyv2 too, which istiod injects.
const IMAGE_VALUES: [ImageValues; 5] = [
    ImageValues { image: "agentgateway", chart: ChartName::Istiod, paths: &["global.agentgateway.image"] },
    ImageValues { image: "install-cni", chart: ChartName::Cni, paths: &["image"] },
    ImageValues { image: "pilot", chart: ChartName::Istiod, paths: &["image"] },
    ImageValues {
        image: "proxyv2",
        chart: ChartName::Istiod,
        paths: &["global.proxy.image", "global.proxy_init.image"],
    },
    ImageValues { image: "ztunnel", chart: ChartName::Ztunnel, paths: &["image"] },
];

/// Checks that every digest in `spec.images.digests` is valid and sets a known image.
pub fn check_digests(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    for (image, digest) in &spec.images.digests {
        let field = field(image);
        if let Err(error) = digest.parse::<crate::catalog::Digest>() {
            problems.push(Problem::new(&field, error.to_string()));
        }
        let Some((user_values, at, paths)) = image_overrides(image, spec) else {
            let names = IMAGE_NAMES.into_iter().chain(AddOnName::ALL.map(AddOnName::as_str));
            let message = format!("is not a known image; use one of {}", names.collect::<Vec<_>>().join(", "));
            problems.push(Problem::new(field, message));
            continue;
        };
        let user_values = Value::Object(user_values);
        for path in paths.iter().filter(|path| get(&user_values, path).is_some()) {
            let message = format!("conflicts with {at}.{path}, which sets this image too; remove one of them");
            problems.push(Problem::new(&field, message));
        }
    }
}

/// The user's chart values that can set an image as well: the values, their path in the spec, and the paths in them.
fn image_overrides(image: &str, spec: &MeshInstallationSpec) -> Option<(Map<String, Value>, String, Vec<String>)> {
    if let Some(add_on) = AddOnName::ALL.into_iter().find(|name| name.as_str() == image) {
        let listed = spec.addons.iter().find(|listed| listed.name == add_on);
        let user_values = listed.map(|listed| listed.values.0.clone()).unwrap_or_default();
        let paths = ["image.tag", "image.digest"].map(str::to_owned).to_vec();
        return Some((user_values, format!("spec.addons[{image}].values"), paths));
    }
    let entry = IMAGE_VALUES.iter().find(|entry| entry.image == image)?;
    let (scope, user_values) = match entry.chart {
        ChartName::Cni => (ValuesScope::Cni, &spec.values.cni),
        ChartName::Ztunnel => (ValuesScope::Ztunnel, &spec.values.ztunnel),
        _ => (ValuesScope::Istiod, &spec.values.istiod),
    };
    let paths = entry.paths.iter().flat_map(|path| spellings(scope, path)).collect();
    Some((user_values.0.clone(), format!("spec.values.{}", entry.chart), paths))
}

/// A digest that an accepted revision (`before`) used for another version: it would run that version under this one's
/// name. Add-ons are exempt, since their versions are independent of Istio's.
pub fn stale_digest<'a>(
    images: &Images,
    version: &Version,
    before: impl Iterator<Item = (&'a Version, &'a Images)>,
) -> Option<Problem> {
    let others = before.filter(|(other, _)| *other != version);
    let of_istio = |image: &str| IMAGE_VALUES.iter().any(|entry| entry.image == image);
    let known = others.flat_map(|(other, accepted)| accepted.digests.iter().map(move |known| (other, known)));
    known.filter(|(_, (image, _))| of_istio(image)).find_map(|(other, (image, known))| {
        let same = images.digests.get(image).is_some_and(|digest| digest == known);
        let message =
            format!("{known:?} is the digest of version {other}; set the one of {version}, or remove the key");
        same.then(|| Problem::new(field(image), message))
    })
}

fn field(image: &str) -> String {
    format!("spec.images.digests[{image}]")
}

/// Writes the images that have a digest into the values of a chart. `release` provides the tag, and the registry unless
/// the spec sets one.
pub fn write_digests(images: &Images, release: &ReleaseImages, chart: ChartName, values: &mut Value) {
    let registry = images.registry.as_deref().unwrap_or(&release.hub);
    for entry in IMAGE_VALUES.iter().filter(|entry| entry.chart == chart) {
        let Some(digest) = images.digests.get(entry.image) else { continue };
        for path in entry.paths {
            set(values, path, format!("{registry}/{}:{}@{digest}", entry.image, release.tag));
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

    fn problems_of(fields: Value) -> Vec<String> {
        let mut problems = Vec::new();
        check_digests(&spec(fields), &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sets_every_image_in_one_chart() {
        assert_eq!(IMAGE_VALUES.map(|entry| entry.image), IMAGE_NAMES);
        let release = ReleaseImages { hub: "r/i".into(), tag: "1.31.2".into(), pullable: true, reason: None };
        for name in IMAGE_NAMES {
            let images = spec(json!({"images": {"digests": {name: digest('a')}}})).images;
            let mut written = Vec::new();
            for chart in ChartName::ALL {
                let mut values = json!({});
                write_digests(&images, &release, chart, &mut values);
                written.extend((values != json!({})).then(|| values.to_string()));
            }
            assert_eq!(written.len(), 1, "{name}");
            assert!(written[0].contains(&format!("\"r/i/{name}:1.31.2@{}\"", digest('a'))), "{written:?}");
        }
    }

    #[test]
    fn registry_of_spec_overrides_release() {
        let release = ReleaseImages { hub: "r/i".into(), tag: "1.31.2".into(), pullable: true, reason: None };
        let images = spec(json!({"images": {"registry": "own:5000/x", "digests": {"pilot": digest('a')}}})).images;
        let mut values = json!({"image": "pilot"});
        write_digests(&images, &release, ChartName::Istiod, &mut values);
        assert_eq!(values, json!({"image": format!("own:5000/x/pilot:1.31.2@{}", digest('a'))}));
    }

    #[test]
    fn rejects_unknown_image_bad_digest_and_duplicate() {
        assert_eq!(problems_of(json!({"images": {"digests": {"pilot": digest('a')}}})), [""; 0]);
        let messages = problems_of(json!({"images": {"digests": {"istiod": digest('a')}}}));
        assert!(
            messages[0].starts_with("spec.images.digests[istiod]: is not a known image; use one of agentgateway"),
            "{messages:?}"
        );
        assert!(
            problems_of(json!({"images": {"digests": {"pilot": "latest"}}}))[0].contains("invalid digest \"latest\"")
        );
        let twice = json!({"images": {"digests": {"proxyv2": digest('a')}},
            "values": {"istiod": {"global": {"proxy_init": {"image": "x/y"}}}}});
        let messages = problems_of(twice);
        assert!(
            messages[0]
                .contains("conflicts with spec.values.istiod.global.proxy_init.image, which sets this image too"),
            "{messages:?}"
        );
        let legacy = json!({"pilot": {"image": "x"}});
        let messages =
            problems_of(json!({"images": {"digests": {"pilot": digest('a')}}, "values": {"istiod": legacy}}));
        assert!(messages[0].contains("conflicts with spec.values.istiod.pilot.image"), "{messages:?}");
        let of_add_on = |image: Value| {
            problems_of(json!({"images": {"digests": {"jaeger": digest('a')}},
                "addons": [{"name": "jaeger", "values": {"image": image}}]}))
        };
        assert_eq!(of_add_on(json!({"repository": "own/jaeger"})), [""; 0]);
        for twice in [json!({"tag": "2.0.0"}), json!({"digest": digest('b')})] {
            let messages = of_add_on(twice);
            assert!(
                messages[0]
                    .starts_with("spec.images.digests[jaeger]: conflicts with spec.addons[jaeger].values.image."),
                "{messages:?}"
            );
        }
    }

    #[test]
    fn rejects_digest_of_previous_version() {
        let images = |letter| spec(json!({"images": {"digests": {"pilot": digest(letter)}}})).images;
        let (old, new) = (Version::new(1, 31, 2), Version::new(1, 31, 3));
        let before = images('a');
        let check = |now: &Images, version| stale_digest(now, version, [(&old, &before)].into_iter());
        let problem = check(&before, &new).unwrap();
        assert_eq!(problem.field, "spec.images.digests[pilot]");
        assert!(
            problem.message.ends_with("is the digest of version 1.31.2; set the one of 1.31.3, or remove the key"),
            "{problem}"
        );
        assert_eq!(check(&images('b'), &new), None);
        assert_eq!(check(&before, &old), None);
        let add_on = spec(json!({"images": {"digests": {"grafana": digest('a')}}})).images;
        assert_eq!(stale_digest(&add_on, &new, [(&old, &add_on)].into_iter()), None);
    }
}
