//! What catalogs show of an operator: the required fields, names and images.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::Regex;
use serde_json::Value;

use super::super::{Bundle, PACKAGE, list, text};
use super::csv::{images, is_list_of_texts};
use super::{Origin, Rule, unless};

pub(super) const RULES: &[Rule] = &[
    Rule::error("display-name", Origin::Community, display_name),
    Rule::error("description", Origin::Community, description),
    Rule::error("summary", Origin::Community, summary),
    Rule::error("capabilities", Origin::Framework, capabilities),
    Rule::error("categories", Origin::Framework, categories),
    Rule::error("keywords", Origin::Community, keywords),
    Rule::error("created-at", Origin::Community, created_at),
    Rule::error("repository", Origin::Community, repository),
    Rule::error("support", Origin::Community, support),
    Rule::error("provider", Origin::Framework, provider),
    Rule::error("maintainers", Origin::Framework, maintainers),
    Rule::error("links", Origin::Framework, links),
    Rule::error("icon", Origin::Framework, icon),
    Rule::error("icon-size", Origin::Community, icon_size),
    Rule::error("container-image", Origin::Community, container_image),
    Rule::error("related-images", Origin::Framework, related_images),
    Rule::error("operator-name", Origin::Community, operator_name),
    Rule::error("openshift-versions", Origin::Community, openshift_versions),
    Rule::warning("no-placeholders", Origin::Own, no_placeholders),
];

fn between(bundle: &Bundle, pointer: &str, least: usize, most: usize) -> Vec<String> {
    let count = text(bundle.csv(), pointer).chars().count();
    unless((least..=most).contains(&count), || format!("{pointer} has {count} characters, not {least} to {most}"))
}

fn annotation_between(bundle: &Bundle, name: &str, least: usize, most: usize) -> Vec<String> {
    let count = bundle.csv_annotation(name).unwrap_or_default().chars().count();
    unless((least..=most).contains(&count), || {
        format!("the annotation {name} has {count} characters, not {least} to {most}")
    })
}

fn display_name(bundle: &Bundle) -> Vec<String> {
    between(bundle, "/spec/displayName", 3, 50)
}

fn description(bundle: &Bundle) -> Vec<String> {
    between(bundle, "/spec/description", 20, usize::MAX)
}

/// A tile shows no more than 135 characters.
fn summary(bundle: &Bundle) -> Vec<String> {
    annotation_between(bundle, "description", 10, 135)
}

fn capabilities(bundle: &Bundle) -> Vec<String> {
    const LEVELS: [&str; 5] = ["Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"];
    let level = bundle.csv_annotation("capabilities").unwrap_or_default();
    unless(LEVELS.contains(&level), || format!("{level:?} is no capability level: {}", LEVELS.join(", ")))
}

/// Those that the validators and the pipeline both know.
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
    named.filter(|name| !KNOWN.contains(name)).map(|name| format!("{name:?} is no category of the catalogs")).collect()
}

fn keywords(bundle: &Bundle) -> Vec<String> {
    unless(is_list_of_texts(bundle.csv(), "/spec/keywords"), || "there are no keywords, or empty ones".into())
}

fn created_at(bundle: &Bundle) -> Vec<String> {
    let at = bundle.csv_annotation("createdAt").unwrap_or_default();
    unless(at.parse::<jiff::Timestamp>().is_ok(), || format!("createdAt {at:?} is not as in 2026-11-21T00:00:00Z"))
}

fn is_page(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}

fn repository(bundle: &Bundle) -> Vec<String> {
    let url = bundle.csv_annotation("repository").unwrap_or_default();
    unless(is_page(url), || format!("the repository {url:?} is no address of a page"))
}

fn support(bundle: &Bundle) -> Vec<String> {
    annotation_between(bundle, "support", 3, usize::MAX)
}

fn provider(bundle: &Bundle) -> Vec<String> {
    between(bundle, "/spec/provider/name", 3, usize::MAX)
}

fn maintainers(bundle: &Bundle) -> Vec<String> {
    let reachable = |maintainer: &Value| {
        let email = text(maintainer, "/email").split_once('@');
        let email =
            email.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains(['@', ' ']));
        email && !text(maintainer, "/name").is_empty()
    };
    let all = list(bundle.csv(), "/spec/maintainers");
    unless(!all.is_empty() && all.iter().all(reachable), || {
        "a maintainer has no name, or no address; or there is none".into()
    })
}

fn links(bundle: &Bundle) -> Vec<String> {
    let all = list(bundle.csv(), "/spec/links");
    let good = |link: &Value| !text(link, "/name").is_empty() && is_page(text(link, "/url"));
    unless(!all.is_empty() && all.iter().all(good), || "a link has no name, or no address; or there is none".into())
}

/// The one icon as a text; nothing when there isn't exactly one that can be read.
fn svg(bundle: &Bundle) -> Option<String> {
    let [icon] = list(bundle.csv(), "/spec/icon") else { return None };
    let known = ["image/gif", "image/jpeg", "image/png", "image/svg+xml"].contains(&text(icon, "/mediatype"));
    let bytes = BASE64.decode(text(icon, "/base64data")).ok().filter(|bytes| known && !bytes.is_empty())?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn icon(bundle: &Bundle) -> Vec<String> {
    unless(svg(bundle).is_some(), || "there isn't one icon, in Base64 and of a known media type".into())
}

static SIDES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"<svg[^>]* width="([0-9]+)" height="([0-9]+)""#).ok());

/// Catalogs show 80 by 40 pixels. Ours is an SVG, which says how large it is.
fn icon_size(bundle: &Bundle) -> Vec<String> {
    let Some(svg) = svg(bundle) else { return Vec::new() };
    let sides = SIDES.as_ref().and_then(|sides| sides.captures(&svg)).map(|sides| sides.extract::<2>().1);
    let fits = |side: &str, most: u32| side.parse::<u32>().is_ok_and(|side| side <= most);
    unless(sides.is_some_and(|[width, height]| fits(width, 80) && fits(height, 40)), || {
        "the icon says no size, or one beyond 80 by 40".into()
    })
}

// Registry with path, then a tag or a digest.
static IMAGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?$")
        .ok()
});

fn is_image(name: &str) -> bool {
    let pinned = name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    pinned && IMAGE.as_ref().is_some_and(|image| image.is_match(name))
}

/// A full name, which is also the one that runs.
fn container_image(bundle: &Bundle) -> Vec<String> {
    let image = bundle.csv_annotation("containerImage").unwrap_or_default();
    let mut wrong = unless(is_image(image), || format!("{image:?} is no image with registry and tag"));
    wrong.extend(unless(images(bundle).contains(image), || format!("no container runs the containerImage {image:?}")));
    wrong
}

/// Each by a full name; and all that run are there, so that they can be mirrored.
fn related_images(bundle: &Bundle) -> Vec<String> {
    let related: Vec<&str> = list(bundle.csv(), "/spec/relatedImages").iter().map(|it| text(it, "/image")).collect();
    let bad = related.iter().filter(|image| !is_image(image)).map(|image| format!("{image:?} is no related image"));
    let unnamed = images(bundle).into_iter().filter(|image| !related.contains(image));
    bad.chain(unnamed.map(|image| format!("relatedImages lacks {image:?}, which runs"))).collect()
}

/// The package is called as the `ClusterServiceVersion` is.
fn operator_name(bundle: &Bundle) -> Vec<String> {
    let name = text(bundle.csv(), "/metadata/name");
    let (operator, _) = name.split_once('.').unwrap_or((name, ""));
    let package = bundle.annotation(PACKAGE).unwrap_or_default();
    unless(operator == package, || format!("the package is {package:?}, the ClusterServiceVersion's {operator:?}"))
}

/// OpenShift 4.N has Kubernetes 1.(N+13): no release may be named that is older than minKubeVersion.
fn openshift_versions(bundle: &Bundle) -> Vec<String> {
    let named = bundle.annotation("com.redhat.openshift.versions").unwrap_or_default();
    let first = named.trim_start_matches(['=', 'v']).split(['-', ',']).next().unwrap_or_default();
    let minor = first.strip_prefix("4.").and_then(|minor| minor.parse::<u64>().ok());
    let least = semver::Version::parse(text(bundle.csv(), "/spec/minKubeVersion")).map(|version| version.minor);
    unless(matches!((minor, least), (Some(minor), Ok(least)) if minor + 13 >= least), || {
        format!("com.redhat.openshift.versions is {named:?}: absent, unreadable, or older than minKubeVersion")
    })
}

/// Names below `.example` are nobody's: whoever publishes the bundle puts his own there.
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
