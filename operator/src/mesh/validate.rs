//! From the raw spec to [`Validated`], or to all that is wrong with it at once.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_api::{Gateway, MeshInstallationSpec, PlatformStatus};
use serde_json::{Map, Value};

use super::add_ons::AddOnRelease;
use super::images;
use super::node_agents::{self, NodeAgents};
use super::object::{Component, ENFORCE_LABEL, Owner};
use super::owned_keys::{Scope, owned_keys};
use super::patch::TargetedPatch;
use super::problem::Problem;
use super::revisions::{INJECTION_LABEL, REVISION_LABEL, Revision};
use super::texts::texts;
use super::validated::{ChartRelease, MeshNamespace, Validated};
use super::values::{self, AMBIENT, Defaults, NATIVE_SIDECARS};
use crate::catalog::{ChartName, Profile};
use crate::nodeports::Pins;
use crate::platform::{GENERIC, Platform};

/// Names of our Helm releases, and of components in status, that no installation and no gateway may have.
const RELEASE_NAMES: [&str; 6] = ["base", "cni", "istio-base", "istiod", "istio-cni", "ztunnel"];
/// Longest name that a Helm release can have.
const LONGEST_GATEWAY_NAME: usize = 53;

/// Checks the spec and resolves it into charts and values.
pub fn validate(
    spec: &MeshInstallationSpec,
    owner: Owner,
    profile: &Profile,
    platform: &Platform,
) -> Result<Validated, Vec<Problem>> {
    let mut problems = Vec::new();
    installation_name(spec, &owner, &mut problems);
    namespace_labels(spec, &mut problems);
    names_of_others(spec, &mut problems);
    texts(spec, &mut problems);
    chart_values(spec, &mut problems);
    images::digests(spec, &mut problems);
    environment(spec, profile, platform, &mut problems);
    gateways(spec, &mut problems);
    profile_fits(spec, profile, platform, &mut problems);
    node_agents::check(spec, profile, platform, &mut problems);
    let add_ons = AddOnRelease::all(spec, platform, &mut problems);
    let patches = patches(spec, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let from = |chart: ChartName| Defaults {
        chart,
        // The gateway chart has nothing in its profiles.
        chart_profile: profile.chart_profile().filter(|_| chart != ChartName::Gateway),
        chart_platform: profile.platform().or(platform.chart_platform()),
        profile: profile.values(chart),
        platform,
    };
    let agents = NodeAgents::of(spec, profile, platform);
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
            name: revision.of_object("istiod"),
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
    Ok(Validated {
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
        platform: told_of(platform),
    })
}

/// The namespaces that all of this needs.
fn namespaces(spec: &MeshInstallationSpec, releases: &[ChartRelease]) -> BTreeMap<String, MeshNamespace> {
    let of = |release: &ChartRelease| {
        if node_agents::is_their_own(&release.namespace, spec) {
            let labels = [(ENFORCE_LABEL.to_owned(), node_agents::PRIVILEGED.to_owned())].into();
            return MeshNamespace { component: release.component.clone(), labels };
        }
        let own = release.namespace == spec.namespace;
        let labels = if own { spec.namespace_labels.clone() } else { BTreeMap::new() };
        MeshNamespace { component: Component::Namespaces, labels }
    };
    let mut namespaces = BTreeMap::new();
    for release in releases {
        let agent = matches!(release.component, Component::Cni | Component::Ztunnel);
        if !(agent && node_agents::is_the_clusters(&release.namespace)) {
            namespaces.entry(release.namespace.clone()).or_insert_with(|| of(release));
        }
    }
    namespaces
}

fn patches(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) -> Vec<TargetedPatch> {
    let parsed = spec.patches.iter().enumerate().map(|(index, patch)| TargetedPatch::parse(index, patch));
    parsed.filter_map(|patch| patch.map_err(|said| problems.extend(said)).ok()).collect()
}

/// What status says of a platform; how it is known isn't the spec's affair.
fn told_of(platform: &Platform) -> PlatformStatus {
    PlatformStatus {
        name: Some(platform.name().to_owned()),
        load_balancer: Some(platform.load_balancer()),
        privileged_pods: Some(platform.privileged_pods()),
        ..PlatformStatus::default()
    }
}

/// By name: the order in which gateways are listed means nothing.
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
                "{name:?} is the name of one of the mesh's own releases; tools that track app.kubernetes.io/instance \
                 would mix them up: choose another"
            ),
        ));
    }
}

fn namespace_labels(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    for key in spec.namespace_labels.keys() {
        if matches!(key.as_str(), INJECTION_LABEL | REVISION_LABEL) {
            problems.push(Problem::new(
                format!("spec.namespaceLabels[{key}]"),
                "injection can't be switched on where the control plane runs: without a running istiod no pod of it \
                 could start; leave it out",
            ));
        } else if key.starts_with("meshwright.dev/") || key == "kubernetes.io/metadata.name" {
            problems.push(Problem::new(format!("spec.namespaceLabels[{key}]"), "is set by others; leave it out"));
        }
    }
}

/// A gateway's objects must not be called like the control plane's, or like an add-on's.
fn names_of_others(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    for add_on in spec.addons.iter().map(|add_on| add_on.name.as_str()) {
        if spec.gateways.iter().any(|gateway| gateway.name == add_on) {
            let message = format!("{add_on:?} is what an add-on of spec.addons is called: choose another");
            problems.push(Problem::new(format!("spec.gateways[{add_on}].name"), message));
        }
    }
    let istiod = Revision::of(spec).of_object("istiod");
    if spec.revision.is_some() && spec.gateways.iter().any(|gateway| gateway.name == istiod) {
        let message = format!("{istiod:?} is what the control plane of this revision is called: choose another");
        problems.push(Problem::new(format!("spec.gateways[{istiod}].name"), message));
    }
}

fn chart_values(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    let base = Value::Object(spec.values.base.0.clone());
    let istiod = Value::Object(spec.values.istiod.0.clone());
    problems.extend(owned_keys(Scope::Base, &base, "spec.values.base"));
    problems.extend(owned_keys(Scope::Istiod, &istiod, "spec.values.istiod"));
    let cni = Value::Object(spec.values.cni.0.clone());
    let ztunnel = Value::Object(spec.values.ztunnel.0.clone());
    problems.extend(owned_keys(Scope::Cni, &cni, "spec.values.cni"));
    problems.extend(owned_keys(Scope::Ztunnel, &ztunnel, "spec.values.ztunnel"));
    for gateway in &spec.gateways {
        let values = Value::Object(gateway.values.0.clone());
        let field = format!("spec.gateways[{}].values", gateway.name);
        problems.extend(owned_keys(Scope::Gateway, &values, &field));
    }
}

/// A profile for one platform makes no working mesh of another.
fn profile_fits(spec: &MeshInstallationSpec, profile: &Profile, platform: &Platform, problems: &mut Vec<Problem>) {
    let Some(meant) = profile.platform() else { return };
    if platform.name() != meant && platform.name() != GENERIC {
        let message = format!(
            "{:?} is for platform {meant}, and this is {}: choose another profile, or set spec.platform to {meant} if it \
             is that after all",
            spec.profile.as_str(),
            platform.name()
        );
        problems.push(Problem::new("spec.profile", message));
    }
}

/// A variable set in two places would win by accident.
fn environment(spec: &MeshInstallationSpec, profile: &Profile, platform: &Platform, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    let mut note = |name, source: String, problems: &mut Vec<Problem>| {
        if let Some(first) = seen.get(name) {
            problems.push(Problem::new(source, format!("{name:?} is set by {first} too: set it once")));
        } else {
            seen.insert(name, source);
        }
    };
    if spec.proxy.native_sidecar.is_some() {
        note(NATIVE_SIDECARS, "spec.proxy.nativeSidecar".into(), problems);
    }
    if NodeAgents::of(spec, profile, platform).ztunnel.is_some() {
        note(AMBIENT, "spec.ztunnel".into(), problems);
    }
    for variable in &spec.control_plane.env {
        note(&variable.name, format!("spec.controlPlane.env[{}]", variable.name), problems);
    }
    let values = &spec.values.istiod.0;
    for name in values.get("env").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        note(name, format!("spec.values.istiod.env.{name}"), problems);
    }
    for entry in values.get("envVarFrom").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = entry.get("name").and_then(Value::as_str) {
            note(name, format!("spec.values.istiod.envVarFrom[{name}]"), problems);
        }
    }
}

fn gateways(spec: &MeshInstallationSpec, problems: &mut Vec<Problem>) {
    let mut names = BTreeSet::new();
    for gateway in &spec.gateways {
        let field = format!("spec.gateways[{}]", gateway.name);
        if RELEASE_NAMES.contains(&gateway.name.as_str()) {
            let message = format!("{:?} is the name of a component of the mesh: choose another", gateway.name);
            problems.push(Problem::new(format!("{field}.name"), message));
        }
        if gateway.name.len() > LONGEST_GATEWAY_NAME {
            let message = format!("has {} characters; {LONGEST_GATEWAY_NAME} is the most", gateway.name.len());
            problems.push(Problem::new(format!("{field}.name"), message));
        }
        if !names.insert(&gateway.name) {
            problems.push(Problem::new(format!("{field}.name"), "two gateways have this name: rename one"));
        }
    }
}

#[cfg(test)]
mod tests;
