//! Rules for the bundle's files, objects and annotations.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{Bundle, CSV, MANIFESTS, is_true, list, text};
use super::{Rule, RuleOrigin, violation_unless};

pub(super) const RULES: &[Rule] = &[
    Rule::error("one-csv", RuleOrigin::Framework, one_csv),
    Rule::error("flat-manifests", RuleOrigin::Framework, flat_manifests),
    Rule::error("objects-are-named", RuleOrigin::Registry, objects_are_named),
    Rule::error("kinds-are-supported", RuleOrigin::Registry, kinds_are_supported),
    Rule::error("no-network-policy", RuleOrigin::Community, no_network_policy),
    Rule::error("owned-crds-exist", RuleOrigin::Framework, owned_crds_exist),
    Rule::error("crds-are-owned", RuleOrigin::Framework, crds_are_owned),
    Rule::error("crds-are-unique", RuleOrigin::OlmV1, crds_are_unique),
    Rule::error("no-removed-apis", RuleOrigin::Framework, no_removed_apis),
    Rule::error("no-duplicate-service-account", RuleOrigin::Framework, no_duplicate_service_account),
    Rule::error("disruption-budget", RuleOrigin::Framework, disruption_budget),
    Rule::error("priority-class", RuleOrigin::Framework, priority_class),
    Rule::error("size", RuleOrigin::Framework, size),
    Rule::error("media-type", RuleOrigin::Registry, media_type),
    Rule::error("directories", RuleOrigin::Registry, directories),
    Rule::error("channels", RuleOrigin::Registry, channels),
    Rule::warning("channel-names", RuleOrigin::Framework, channel_names),
];

fn one_csv(bundle: &Bundle) -> Vec<String> {
    let count = bundle.of_kind(CSV).count();
    violation_unless(count == 1, || format!("the bundle has {count} objects of kind {CSV}"))
}

/// `manifests` must have no subdirectories and no hidden files.
fn flat_manifests(bundle: &Bundle) -> Vec<String> {
    let name = |path: &String| path.strip_prefix(MANIFESTS).unwrap_or(path).to_owned();
    let deep = bundle.manifests.keys().filter(|path| name(path).contains('/') || name(path).starts_with('.'));
    deep.map(|path| format!("{path} is in a subdirectory or hidden")).collect()
}

fn objects_are_named(bundle: &Bundle) -> Vec<String> {
    let lacks = |object: &Value| {
        ["/apiVersion", "/kind", "/metadata/name"].into_iter().any(|field| text(object, field).is_empty())
    };
    let incomplete = bundle.manifests.iter().filter(|(_, object)| lacks(object));
    incomplete.map(|(path, _)| format!("{path} lacks apiVersion, kind or name")).collect()
}

fn kinds_are_supported(bundle: &Bundle) -> Vec<String> {
    const SUPPORTED: [&str; 22] = [
        CSV,
        "CustomResourceDefinition",
        "Secret",
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "ServiceAccount",
        "Service",
        "Role",
        "RoleBinding",
        "PrometheusRule",
        "ServiceMonitor",
        "PodDisruptionBudget",
        "PriorityClass",
        "VerticalPodAutoscaler",
        "ConsoleYAMLSample",
        "ConsoleQuickStart",
        "ConsoleCLIDownload",
        "ConsoleLink",
        "ConsolePlugin",
        "NetworkPolicy",
        "PodMonitor",
    ];
    let unsupported = bundle.manifests.iter().filter(|(_, object)| !SUPPORTED.contains(&text(object, "/kind")));
    unsupported
        .map(|(path, object)| format!("{path} has kind {:?}, which bundles don't support", text(object, "/kind")))
        .collect()
}

fn no_network_policy(bundle: &Bundle) -> Vec<String> {
    let policies = bundle.of_kind("NetworkPolicy");
    policies
        .map(|policy| format!("NetworkPolicy {:?} is not allowed in a bundle", text(policy, "/metadata/name")))
        .collect()
}

/// Returns each version of each CRD, such as `meshinstallations.meshwright.dev/v1alpha1/MeshInstallation`.
fn crd_versions(bundle: &Bundle) -> Vec<String> {
    let versions = |crd: &Value| {
        let (name, kind) = (text(crd, "/metadata/name").to_owned(), text(crd, "/spec/names/kind").to_owned());
        let all = list(crd, "/spec/versions").iter().map(|version| text(version, "/name").to_owned());
        all.map(move |version| format!("{name}/{version}/{kind}")).collect::<Vec<_>>()
    };
    bundle.of_kind("CustomResourceDefinition").flat_map(versions).collect()
}

fn owned(bundle: &Bundle) -> BTreeSet<String> {
    let key = |crd: &Value| format!("{}/{}/{}", text(crd, "/name"), text(crd, "/version"), text(crd, "/kind"));
    bundle.owned().iter().map(key).collect()
}

fn owned_crds_exist(bundle: &Bundle) -> Vec<String> {
    let absent = &owned(bundle) - &crd_versions(bundle).into_iter().collect();
    absent.iter().map(|key| format!("{key} is owned but not in the bundle")).collect()
}

/// Compares names only: not every version of an owned CRD must be owned.
fn crds_are_owned(bundle: &Bundle) -> Vec<String> {
    let names: BTreeSet<&str> = bundle.owned().iter().map(|crd| text(crd, "/name")).collect();
    let crds = bundle.of_kind("CustomResourceDefinition").map(|crd| text(crd, "/metadata/name"));
    crds.filter(|name| !names.contains(name)).map(|name| format!("{name} is in the bundle but not owned")).collect()
}

fn crds_are_unique(bundle: &Bundle) -> Vec<String> {
    let all = crd_versions(bundle);
    let unique: BTreeSet<&String> = all.iter().collect();
    violation_unless(unique.len() == all.len(), || "the bundle has a duplicate CRD".into())
}

/// Checks for API versions removed in Kubernetes 1.22, 1.25 and 1.26.
fn no_removed_apis(bundle: &Bundle) -> Vec<String> {
    const REMOVED: [&str; 15] = [
        "admissionregistration.k8s.io/v1beta1",
        "apiextensions.k8s.io/v1beta1",
        "apiregistration.k8s.io/v1beta1",
        "authentication.k8s.io/v1beta1",
        "authorization.k8s.io/v1beta1",
        "autoscaling/v2beta1",
        "autoscaling/v2beta2",
        "certificates.k8s.io/v1beta1",
        "coordination.k8s.io/v1beta1",
        "extensions/v1beta1",
        "networking.k8s.io/v1beta1",
        "policy/v1beta1",
        "rbac.authorization.k8s.io/v1beta1",
        "scheduling.k8s.io/v1beta1",
        "storage.k8s.io/v1beta1",
    ];
    let objects = bundle.manifests.iter().filter(|(_, object)| REMOVED.contains(&text(object, "/apiVersion")));
    objects.map(|(path, object)| format!("{path} uses {}, which was removed", text(object, "/apiVersion"))).collect()
}

/// OLM creates the `ServiceAccount` of the Deployment.
fn no_duplicate_service_account(bundle: &Bundle) -> Vec<String> {
    let named = |account: &str| {
        bundle.deployments().iter().any(|it| text(it, "/spec/template/spec/serviceAccountName") == account)
    };
    let accounts = bundle.of_kind("ServiceAccount").map(|account| text(account, "/metadata/name"));
    accounts
        .filter(|name| named(name))
        .map(|name| format!("ServiceAccount {name} is created by OLM; remove it"))
        .collect()
}

/// Checks for budgets that block node drains.
fn disruption_budget(bundle: &Bundle) -> Vec<String> {
    let blocks_drain = |budget: &Value| {
        let most = budget.pointer("/spec/maxUnavailable").is_some_and(|most| *most == 0 || *most == "0%");
        most || text(budget, "/spec/minAvailable") == "100%"
    };
    let budgets = bundle.of_kind("PodDisruptionBudget").filter(|budget| blocks_drain(budget));
    budgets.map(|it| format!("PodDisruptionBudget {:?} allows no disruption", text(it, "/metadata/name"))).collect()
}

fn priority_class(bundle: &Bundle) -> Vec<String> {
    let classes = bundle.of_kind("PriorityClass").filter(|class| is_true(class, "/globalDefault"));
    classes
        .map(|class| format!("PriorityClass {:?} must not be the global default", text(class, "/metadata/name")))
        .collect()
}

/// OLM stores a compressed bundle in a `ConfigMap`; the rule limits the uncompressed size.
fn size(bundle: &Bundle) -> Vec<String> {
    const MAX: usize = 1 << 20;
    violation_unless(bundle.size <= MAX, || format!("the bundle has {} bytes, more than {MAX}", bundle.size))
}

fn media_type(bundle: &Bundle) -> Vec<String> {
    let value = bundle.annotation("operators.operatorframework.io.bundle.mediatype.v1").unwrap_or_default();
    violation_unless(value == "registry+v1", || format!("the media type is {value:?}, not registry+v1"))
}

fn directories(bundle: &Bundle) -> Vec<String> {
    let wrong = |(part, directory): &(&str, &str)| {
        bundle.annotation(&format!("operators.operatorframework.io.bundle.{part}.v1")) != Some(directory)
    };
    let parts = [("manifests", "manifests/"), ("metadata", "metadata/")];
    parts
        .iter()
        .filter(|part| wrong(part))
        .map(|(part, directory)| format!("the annotation for {part} is not {directory}"))
        .collect()
}

fn named_channels(bundle: &Bundle) -> Vec<&str> {
    let named = bundle.annotation("operators.operatorframework.io.bundle.channels.v1").unwrap_or_default();
    named.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// The default channel must be one of the channels.
fn channels(bundle: &Bundle) -> Vec<String> {
    let (all, default) = (named_channels(bundle), "operators.operatorframework.io.bundle.channel.default.v1");
    let default = bundle.annotation(default).unwrap_or_default();
    violation_unless(all.contains(&default), || format!("the default channel {default:?} is not one of {all:?}"))
}

fn channel_names(bundle: &Bundle) -> Vec<String> {
    let usual = |name: &&str| ["candidate", "fast", "stable"].iter().any(|usual| name.starts_with(usual));
    let other = named_channels(bundle).into_iter().filter(|name| !usual(name));
    other.map(|name| format!("the channel {name:?} should start with candidate, fast or stable")).collect()
}
