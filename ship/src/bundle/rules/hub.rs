//! Rules for the metadata that catalogs show: required fields, names and images.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::Regex;
use serde_json::Value;

use super::super::{Bundle, PACKAGE, list, text};
use super::csv::{images, is_list_of_strings};
use super::{Rule, RuleOrigin, violation_unless};

pub(super) const RULES: &[Rule] = &[
    Rule::error("display-name", RuleOrigin::Community, display_name),
    Rule::error("description", RuleOrigin::Community, description),
    Rule::error("summary", RuleOrigin::Community, summary),
    Rule::error("capabilities", RuleOrigin::Framework, capabilities),
    Rule::error("categories", RuleOrigin::Framework, categories),
    Rule::error("keywords", RuleOrigin::Community, keywords),
    Rule::error("created-at", RuleOrigin::Community, created_at),
    Rule::error("repository", RuleOrigin::Community, repository),
    Rule::error("support", RuleOrigin::Community, support),
    Rule::error("provider", RuleOrigin::Framework, provider),
    Rule::error("maintainers", RuleOrigin::Framework, maintainers),
    Rule::error("links", RuleOrigin::Framework, links),
    Rule::error("icon", RuleOrigin::Framework, icon),
    Rule::error("icon-size", RuleOrigin::Community, icon_size),
    Rule::error("container-image", RuleOrigin::Community, container_image),
    Rule::error("related-images", RuleOrigin::Framework, related_images),
    Rule::error("operator-name", RuleOrigin::Community, operator_name),
    Rule::error("openshift-versions", RuleOrigin::Community, openshift_versions),
    Rule::warning("no-placeholders", RuleOrigin::Own, no_placeholders),
];

fn between(bundle: &Bundle, pointer: &str, least: usize, most: usize) -> Vec<String> {
    let count = text(bundle.csv(), pointer).chars().count();
    violation_unless((least..=most).contains(&count), || {
        format!("{pointer} has {count} characters; allowed are {least} to {most}")
    })
}

fn annotation_between(bundle: &Bundle, name: &str, least: usize, most: usize) -> Vec<String> {
    let count = bundle.csv_annotation(name).unwrap_or_default().chars().count();
    violation_unless((least..=most).contains(&count), || {
        format!("the annotation {name} has {count} characters; allowed are {least} to {most}")
    })
}

fn display_name(bundle: &Bundle) -> Vec<String> {
    between(bundle, "/spec/displayName", 3, 50)
}

fn description(bundle: &Bundle) -> Vec<String> {
    between(bundle, "/spec/description", 20, usize::MAX)
}

/// A catalog's tile shows at most 135 characters.
fn summary(bundle: &Bundle) -> Vec<String> {
    annotation_between(bundle, "description", 10, 135)
}

fn capabilities(bundle: &Bundle) -> Vec<String> {
    const LEVELS: [&str; 5] = ["Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"];
    let level = bundle.csv_annotation("capabilities").unwrap_or_default();
    violation_unless(LEVELS.contains(&level), || {
        format!("{level:?} is not a capability level; use one of {}", LEVELS.join(", "))
    })
}

/// The categories that both the validators and the pipeline accept.
fn categories(bundle: &Bundle) -> Vec<String> {
    const KNOWN: [&str; 15] = [
        "AI/Machine Learning",
        "Application Runtime",
        "Big Data",
        "Cloud Provider",
        "Developer Tools",
        "Database",
        "Integration & Delivery",
        "Logging & Tracing",
        "Modernization & Migration",
        "Monitoring",
        "Networking",
        "OpenShift Optional",
        "Security",
        "Storage",
        "Streaming & Messaging",
    ];
    let named = bundle.csv_annotation("categories").unwrap_or_default().split(',').map(str::trim);
    named
        .filter(|name| !KNOWN.contains(name))
        .map(|name| format!("{name:?} is not a category of the catalogs"))
        .collect()
}

fn keywords(bundle: &Bundle) -> Vec<String> {
    violation_unless(is_list_of_strings(bundle.csv(), "/spec/keywords"), || {
        "the keywords are missing or have empty entries".into()
    })
}

fn created_at(bundle: &Bundle) -> Vec<String> {
    let at = bundle.csv_annotation("createdAt").unwrap_or_default();
    violation_unless(at.parse::<jiff::Timestamp>().is_ok(), || {
        format!("createdAt {at:?} must have the form 2026-11-21T00:00:00Z")
    })
}

fn is_web_url(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}

fn repository(bundle: &Bundle) -> Vec<String> {
    let url = bundle.csv_annotation("repository").unwrap_or_default();
    violation_unless(is_web_url(url), || format!("the repository {url:?} is not a web URL"))
}

fn support(bundle: &Bundle) -> Vec<String> {
    annotation_between(bundle, "support", 3, usize::MAX)
}

fn provider(bundle: &Bundle) -> Vec<String> {
    between(bundle, "/spec/provider/name", 3, usize::MAX)
}

fn maintainers(bundle: &Bundle) -> Vec<String> {
    let valid = |maintainer: &Value| {
        let email = text(maintainer, "/email").split_once('@');
        let email =
            email.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains(['@', ' ']));
        email && !text(maintainer, "/name").is_empty()
    };
    let all = list(bundle.csv(), "/spec/maintainers");
    violation_unless(!all.is_empty() && all.iter().all(valid), || {
        "maintainers are missing, or one lacks a name or e-mail address".into()
    })
}

fn links(bundle: &Bundle) -> Vec<String> {
    let all = list(bundle.csv(), "/spec/links");
    let valid = |link: &Value| !text(link, "/name").is_empty() && is_web_url(text(link, "/url"));
    violation_unless(!all.is_empty() && all.iter().all(valid), || {
        "links are missing, or one lacks a name or URL".into()
    })
}

/// Returns the icon as text, if there is exactly one valid icon.
fn svg(bundle: &Bundle) -> Option<String> {
    let [icon] = list(bundle.csv(), "/spec/icon") else { return None };
    let known = ["image/gif", "image/jpeg", "image/png", "image/svg+xml"].contains(&text(icon, "/mediatype"));
    let bytes = BASE64.decode(text(icon, "/base64data")).ok().filter(|bytes| known && !bytes.is_empty())?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn icon(bundle: &Bundle) -> Vec<String> {
    violation_unless(svg(bundle).is_some(), || {
        "there must be exactly one icon, in Base64 and with a known media type".into()
    })
}

static SVG_SIZE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"<svg[^>]* width="([0-9]+)" height="([0-9]+)""#).ok());

/// Catalogs show at most 80 by 40 pixels. The icon is an SVG, which has its size.
fn icon_size(bundle: &Bundle) -> Vec<String> {
    let Some(svg) = svg(bundle) else { return Vec::new() };
    let sides = SVG_SIZE.as_ref().and_then(|sides| sides.captures(&svg)).map(|sides| sides.extract::<2>().1);
    let fits = |side: &str, most: u32| side.parse::<u32>().is_ok_and(|side| side <= most);
    violation_unless(sides.is_some_and(|[width, height]| fits(width, 80) && fits(height, 40)), || {
        "the icon has no size, or is larger than 80 by 40".into()
    })
}

/// A registry with path, then a tag or digest.
static IMAGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?$")
        .ok()
});

fn is_image(name: &str) -> bool {
    let pinned = name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    pinned && IMAGE.as_ref().is_some_and(|image| image.is_match(name))
}

/// Must be a full image name, and the one that runs.
fn container_image(bundle: &Bundle) -> Vec<String> {
    let image = bundle.csv_annotation("containerImage").unwrap_or_default();
    let mut wrong =
        violation_unless(is_image(image), || format!("{image:?} is not an image name with registry and tag or digest"));
    wrong.extend(violation_unless(images(bundle).contains(image), || {
        format!("no container runs the containerImage {image:?}")
    }));
    wrong
}

/// All images must have full names, and the images that run must be listed, so that they are mirrored.
fn related_images(bundle: &Bundle) -> Vec<String> {
    let related: Vec<&str> = list(bundle.csv(), "/spec/relatedImages").iter().map(|it| text(it, "/image")).collect();
    let bad =
        related.iter().filter(|image| !is_image(image)).map(|image| format!("{image:?} is not a full image name"));
    let unnamed = images(bundle).into_iter().filter(|image| !related.contains(image));
    bad.chain(unnamed.map(|image| format!("relatedImages lacks {image:?}, which runs"))).collect()
}

/// The package must have the name of the `ClusterServiceVersion`.
fn operator_name(bundle: &Bundle) -> Vec<String> {
    let name = text(bundle.csv(), "/metadata/name");
    let (operator, _) = name.split_once('.').unwrap_or((name, ""));
    let package = bundle.annotation(PACKAGE).unwrap_or_default();
    violation_unless(operator == package, || {
        format!("the package is {package:?}, but the ClusterServiceVersion has {operator:?}")
    })
}

/// OpenShift 4.N has Kubernetes 1.(N+13), which must not be older than minKubeVersion.
fn openshift_versions(bundle: &Bundle) -> Vec<String> {
    let named = bundle.annotation("com.redhat.openshift.versions").unwrap_or_default();
    let first = named.trim_start_matches(['=', 'v']).split(['-', ',']).next().unwrap_or_default();
    let minor = first.strip_prefix("4.").and_then(|minor| minor.parse::<u64>().ok());
    let least = semver::Version::parse(text(bundle.csv(), "/spec/minKubeVersion")).map(|version| version.minor);
    violation_unless(matches!((minor, least), (Some(minor), Ok(least)) if minor + 13 >= least), || {
        format!("com.redhat.openshift.versions {named:?} is missing, invalid, or older than minKubeVersion")
    })
}

/// Hosts that end in `.example` are placeholders for values of the publisher.
fn no_placeholders(bundle: &Bundle) -> Vec<String> {
    let csv = bundle.csv();
    let annotations = ["containerImage", "repository"].map(|name| bundle.csv_annotation(name).unwrap_or_default());
    let emails = list(csv, "/spec/maintainers").iter().map(|maintainer| text(maintainer, "/email"));
    let host = |name: &str| {
        let name = name.rsplit('@').next().unwrap_or(name);
        let name = name.split_once("://").map_or(name, |(_, rest)| rest);
        name.split('/').next().is_some_and(|host| host.ends_with(".example"))
    };
    let all = annotations.into_iter().chain(emails);
    all.filter(|name| host(name)).map(|name| format!("{name} is a placeholder")).collect()
}
