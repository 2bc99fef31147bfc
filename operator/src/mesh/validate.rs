//! Validation of a spec: converts it to a [`ValidatedSpec`], or reports all problems at once.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::{Gateway, MeshInstallationSpec, PlatformStatus};
use serde_json::{Map, Value};

use super::add_ons::AddOnRelease;
use super::free_text::check_free_text;
use super::images;
use super::node_components::{self, NodeComponents};
use super::object::{Component, ENFORCE_LABEL, Owner};
use super::operator_defaults::OperatorDefaults;
use super::owned_keys::ValuesScope;
use super::patch::ParsedPatch;
use super::problem::Problem;
use super::revisions::{INJECTION_LABEL, REVISION_LABEL, Revision};
use super::user_values::{self, written_path};
use super::validated::{ChartRelease, MeshNamespace, ValidatedSpec};
use super::values::{self, AMBIENT, Defaults, NATIVE_SIDECARS};
use crate::catalog::{ChartName, Profile};
use crate::nodeports::Pins;
use crate::platform::{GENERIC, Platform};

/// Names of the mesh's Helm releases and components. Neither the installation nor a gateway may have one of them.
const RELEASE_NAMES: [&str; 6] = ["base", "cni", "istio-base", "istiod", "istio-cni", "ztunnel"];
/// Maximum length of a Helm release's name.
const MAX_GATEWAY_NAME_LENGTH: usize = 53;

/// Validates the spec and resolves it to charts and values.
pub fn validate(
    spec: &MeshInstallationSpec,
    owner: Owner,
    profile: &Profile,
    platform: &Platform,
) -> Result<ValidatedSpec, Vec<Problem>> {
    let (mut problems, mut contradictions) = (Vec::new(), Vec::new());
    let written = spec;
    let spec = &user_values::accept(written, &owner.release, profile, platform, &mut contradictions);
    installation_name(spec, &owner, &mut problems);
    namespace_labels(spec, &mut problems);
    name_collisions(spec, &mut problems);
    check_free_text(spec, &mut problems);
    problems.append(&mut contradictions);
    images::check_digests(written, &mut problems);
    environment(spec, &written.values.istiod.0, profile, platform, &mut problems);
    gateways(spec, &mut problems);
    profile_platform(spec, profile, platform, &mut problems);
    node_components::check(spec, profile, platform, &mut problems);
    let add_ons = AddOnRelease::all(spec, platform, &mut problems);
    let patches = patches(spec, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let from = |chart: ChartName| Defaults::of(chart, profile, platform);
    let agents = NodeComponents::of(spec, profile, platform);
    let revision = Revision::of(spec);
    let mut releases = vec![
        ChartRelease {
            chart: ChartName::Base,
            name: "istio-base".into(),
            namespace: spec.namespace.clone(),
            component: Component::Base,
            values: values::base(spec, from(ChartName::Base)),
        },
        ChartRelease {
            chart: ChartName::Istiod,
            name: revision.object_name("istiod"),
            namespace: spec.namespace.clone(),
            component: Component::Istiod,
            values: values::istiod(spec, &agents, from(ChartName::Istiod)),
        },
    ];
    releases.extend(agents.cni.clone().map(|namespace| ChartRelease {
        chart: ChartName::Cni,
        name: "istio-cni".into(),
        namespace,
        component: Component::Cni,
        values: values::cni(spec, &agents, from(ChartName::Cni)),
    }));
    releases.extend(agents.ztunnel.clone().map(|namespace| ChartRelease {
        chart: ChartName::Ztunnel,
        name: "ztunnel".into(),
        namespace,
        component: Component::Ztunnel,
        values: values::ztunnel(spec, from(ChartName::Ztunnel)),
    }));
    releases.extend(sorted_gateways(spec).map(|gateway| ChartRelease {
        chart: ChartName::Gateway,
        name: gateway.name.clone(),
        namespace: spec.gateway_namespace(gateway).to_owned(),
        component: Component::Gateway(gateway.name.clone()),
        values: values::gateway(spec, gateway, from(ChartName::Gateway)),
    }));
    let addresses_required = spec.gateways.iter().filter(|g| g.require_address).map(|g| g.name.clone()).collect();
    Ok(ValidatedSpec {
        owner,
        namespace: spec.namespace.clone(),
        revision,
        tags: spec.tags.iter().map(|tag| tag.name.clone()).collect(),
        namespaces: namespaces(spec, &releases),
        releases,
        add_ons,
        patches,
        addresses_required,
        node_ports: Pins::default(),
        webhook_labels: platform.webhook_labels(),
        platform: platform_status(platform),
        defaults: OperatorDefaults::FIRST,
    })
}

/// The namespaces of the releases, with their labels.
fn namespaces(spec: &MeshInstallationSpec, releases: &[ChartRelease]) -> BTreeMap<String, MeshNamespace> {
    let namespace_of = |release: &ChartRelease| {
        if node_components::is_dedicated(&release.namespace, spec) {
            let labels = [(ENFORCE_LABEL.to_owned(), node_components::PRIVILEGED.to_owned())].into();
            return MeshNamespace { component: release.component.clone(), labels };
        }
        let is_control_plane = release.namespace == spec.namespace;
        let labels = if is_control_plane { spec.namespace_labels.clone() } else { BTreeMap::new() };
        MeshNamespace { component: Component::Namespaces, labels }
    };
    let mut namespaces = BTreeMap::new();
    for release in releases {
        let is_node_component = matches!(release.component, Component::Cni | Component::Ztunnel);
        if !(is_node_component && node_components::is_cluster_namespace(&release.namespace)) {
            namespaces.entry(release.namespace.clone()).or_insert_with(|| namespace_of(release));
        }
    }
    namespaces
}

fn patches(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) -> Vec<ParsedPatch> {
    let parsed = spec.patches.iter().enumerate().map(|(index, patch)| ParsedPatch::parse(index, patch));
    parsed.filter_map(|patch| patch.map_err(|found| problems.extend(found)).ok()).collect()
}

/// The platform's properties for status, without evidence, which doesn't depend on the spec.
fn platform_status(platform: &Platform) -> PlatformStatus {
    PlatformStatus {
        name: Some(platform.name().to_owned()),
        load_balancer: Some(platform.load_balancer()),
        privileged_pods: Some(platform.privileged_pods()),
        ..PlatformStatus::default()
    }
}

/// Gateways sorted by name, since their order in the spec has no meaning.
fn sorted_gateways(spec: &MeshInstallationSpec) -> impl Iterator<Item = &Gateway> {
    spec.gateways.iter().map(|g| (&g.name, g)).collect::<BTreeMap<_, _>>().into_values()
}

fn installation_name(spec: &MeshInstallationSpec, owner: &Owner, problems: &mut Vec<Problem>) {
    let name = owner.installation.as_str();
    let gateway = spec.gateways.iter().any(|gateway| gateway.name == name);
    if gateway || RELEASE_NAMES.contains(&name) {
        problems.push(Problem::new(
            "metadata.name",
            format!(
                "{name:?} is also the name of one of the mesh's Helm releases, which tools that track \
                 app.kubernetes.io/instance would confuse; choose another name"
            ),
        ));
    }
}

fn namespace_labels(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    for key in spec.namespace_labels.keys() {
        if matches!(key.as_str(), INJECTION_LABEL | REVISION_LABEL) {
            problems.push(Problem::new(
                format!("spec.namespaceLabels[{key}]"),
                "enables injection in the control plane's namespace, where istiod could not start without a running istiod; \
                 remove it",
            ));
        } else if key.starts_with("meshwright.dev/") || key == "kubernetes.io/metadata.name" {
            problems.push(Problem::new(format!("spec.namespaceLabels[{key}]"), "is reserved; remove it"));
        }
    }
}

/// Checks that no gateway has the name of an add-on or of the control plane.
fn name_collisions(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    for add_on in spec.addons.iter().map(|add_on| add_on.name.as_str()) {
        if spec.gateways.iter().any(|gateway| gateway.name == add_on) {
            let message = format!("{add_on:?} is the name of an add-on in spec.addons; choose another name");
            problems.push(Problem::new(format!("spec.gateways[{add_on}].name"), message));
        }
    }
    let istiod = Revision::of(spec).object_name("istiod");
    if spec.revision.is_some() && spec.gateways.iter().any(|gateway| gateway.name == istiod) {
        let message = format!("{istiod:?} is the name of this revision's control plane; choose another name");
        problems.push(Problem::new(format!("spec.gateways[{istiod}].name"), message));
    }
}

/// Checks that a platform-specific profile matches the platform.
fn profile_platform(spec: &MeshInstallationSpec, profile: &Profile, platform: &Platform, problems: &mut Vec<Problem>) {
    let Some(required) = profile.platform() else { return };
    if platform.name() != required && platform.name() != GENERIC {
        let message = format!(
            "{:?} requires platform {required}, but the platform is {}; choose another profile, or set spec.platform to \
             {required} if the detected platform is wrong",
            spec.profile.as_str(),
            platform.name()
        );
        problems.push(Problem::new("spec.profile", message));
    }
}

/// Checks that each environment variable of istiod has one source: the precedence of two would be arbitrary. `written`
/// are the values of istiod as the user wrote them.
fn environment(
    spec: &MeshInstallationSpec,
    written: &Map<String, Value>,
    profile: &Profile,
    platform: &Platform,
    problems: &mut Vec<Problem>,
) {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    let mut note = |name, source: String, problems: &mut Vec<Problem>| {
        if let Some(first) = seen.get(name) {
            problems.push(Problem::new(source, format!("{name:?} is set by {first} too; set it once")));
        } else {
            seen.insert(name, source);
        }
    };
    if spec.proxy.native_sidecar.is_some() {
        note(NATIVE_SIDECARS, "spec.proxy.nativeSidecar".into(), problems);
    }
    if NodeComponents::of(spec, profile, platform).ztunnel.is_some() {
        note(AMBIENT, "spec.ztunnel".into(), problems);
    }
    for variable in &spec.control_plane.env {
        note(&variable.name, format!("spec.controlPlane.env[{}]", variable.name), problems);
    }
    let values = &spec.values.istiod.0;
    let field = |path: &[&str]| format!("spec.values.istiod.{}", written_path(ValuesScope::Istiod, written, path));
    for name in values.get("env").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        note(name, field(&["env", name]), problems);
    }
    for entry in values.get("envVarFrom").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = entry.get("name").and_then(Value::as_str) {
            note(name, format!("{}[{name}]", field(&["envVarFrom"])), problems);
        }
    }
}

fn gateways(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    let mut names = BTreeSet::new();
    for gateway in &spec.gateways {
        let field = format!("spec.gateways[{}]", gateway.name);
        if RELEASE_NAMES.contains(&gateway.name.as_str()) {
            let message = format!("{:?} is the name of a mesh component; choose another name", gateway.name);
            problems.push(Problem::new(format!("{field}.name"), message));
        }
        if gateway.name.len() > MAX_GATEWAY_NAME_LENGTH {
            let message = format!("has {} characters; the maximum is {MAX_GATEWAY_NAME_LENGTH}", gateway.name.len());
            problems.push(Problem::new(format!("{field}.name"), message));
        }
        if !names.insert(&gateway.name) {
            problems.push(Problem::new(format!("{field}.name"), "two gateways have this name; rename one of them"));
        }
    }
}

#[cfg(test)]
mod tests;
