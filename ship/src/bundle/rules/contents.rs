//! What a bundle consists of: its files, its objects, and the annotations that say where they are.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{Bundle, CSV, MANIFESTS, is_true, list, text};
use super::{Origin, Rule, unless};

pub(super) const RULES: &[Rule] = &[
    Rule::error("one-csv", Origin::Framework, one_csv),
    Rule::error("flat-manifests", Origin::Framework, flat_manifests),
    Rule::error("objects-are-named", Origin::Registry, objects_are_named),
    Rule::error("kinds-are-supported", Origin::Registry, kinds_are_supported),
    Rule::error("no-network-policy", Origin::Community, no_network_policy),
    Rule::error("owned-crds-are-there", Origin::Framework, owned_crds_are_there),
    Rule::error("crds-are-owned", Origin::Framework, crds_are_owned),
    Rule::error("crds-are-unique", Origin::OlmV1, crds_are_unique),
    Rule::error("no-removed-apis", Origin::Framework, no_removed_apis),
    Rule::error("no-service-account-twice", Origin::Framework, no_service_account_twice),
    Rule::error("disruption-budget", Origin::Framework, disruption_budget),
    Rule::error("priority-class", Origin::Framework, priority_class),
    Rule::error("size", Origin::Framework, size),
    Rule::error("media-type", Origin::Registry, media_type),
    Rule::error("folders", Origin::Registry, folders),
    Rule::error("channels", Origin::Registry, channels),
    Rule::warning("channel-names", Origin::Framework, channel_names),
];

fn one_csv(bundle: &Bundle) -> Vec<String> {
    let count = bundle.of_kind(CSV).count();
    unless(count == 1, || format!("the bundle has {count} objects of kind {CSV}"))
}

/// No folder and no hidden file below `manifests`.
fn flat_manifests(bundle: &Bundle) -> Vec<String> {
    let name = |path: &String| path.strip_prefix(MANIFESTS).unwrap_or(path).to_owned();
    let deep = bundle.manifests.keys().filter(|path| name(path).contains('/') || name(path).starts_with('.'));
    deep.map(|path| format!("{path} is in a folder of its own, or hidden")).collect()
}

fn objects_are_named(bundle: &Bundle) -> Vec<String> {
    let lacks = |object: &Value| {
        ["/apiVersion", "/kind", "/metadata/name"].into_iter().any(|field| text(object, field).is_empty())
    };
    let bare = bundle.manifests.iter().filter(|(_, object)| lacks(object));
    bare.map(|(path, _)| format!("{path} lacks apiVersion, kind or name")).collect()
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
    let strange = bundle.manifests.iter().filter(|(_, object)| !SUPPORTED.contains(&text(object, "/kind")));
    strange
        .map(|(path, object)| format!("{path} is of kind {:?}, which bundles can't hold", text(object, "/kind")))
        .collect()
}

fn no_network_policy(bundle: &Bundle) -> Vec<String> {
    let policies = bundle.of_kind("NetworkPolicy");
    policies.map(|policy| format!("NetworkPolicy {:?} is in the bundle", text(policy, "/metadata/name"))).collect()
}

/// Each version of each CRD, as in `meshinstallations.meshwright.dev/v1alpha1/MeshInstallation`.
fn definitions(bundle: &Bundle) -> Vec<String> {
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

fn owned_crds_are_there(bundle: &Bundle) -> Vec<String> {
    let absent = &owned(bundle) - &definitions(bundle).into_iter().collect();
    absent.iter().map(|key| format!("{key} is owned, and not in the bundle")).collect()
}

/// A further version of a CRD that is owned need not be.
fn crds_are_owned(bundle: &Bundle) -> Vec<String> {
    let names: BTreeSet<&str> = bundle.owned().iter().map(|crd| text(crd, "/name")).collect();
    let crds = bundle.of_kind("CustomResourceDefinition").map(|crd| text(crd, "/metadata/name"));
    crds.filter(|name| !names.contains(name)).map(|name| format!("{name} is in the bundle, and not owned")).collect()
}

fn crds_are_unique(bundle: &Bundle) -> Vec<String> {
    let all = definitions(bundle);
    let unique: BTreeSet<&String> = all.iter().collect();
    unless(unique.len() == all.len(), || "a CRD is in the bundle twice".into())
}

/// API versions that Kubernetes 1.22, 1.25 or 1.26 has no longer, for the kinds that bundles can hold.
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
    objects.map(|(path, object)| format!("{path} is of {}, which is no more", text(object, "/apiVersion"))).collect()
}

/// OLM makes the `ServiceAccount` that the Deployment names.
fn no_service_account_twice(bundle: &Bundle) -> Vec<String> {
    let named = |account: &str| {
        bundle.deployments().iter().any(|it| text(it, "/spec/template/spec/serviceAccountName") == account)
    };
    let accounts = bundle.of_kind("ServiceAccount").map(|account| text(account, "/metadata/name"));
    accounts.filter(|name| named(name)).map(|name| format!("the ServiceAccount {name} is OLM's to make")).collect()
}

/// Budgets that let no node be drained.
fn disruption_budget(bundle: &Bundle) -> Vec<String> {
    let stuck = |budget: &Value| {
        let most = budget.pointer("/spec/maxUnavailable").is_some_and(|most| *most == 0 || *most == "0%");
        most || text(budget, "/spec/minAvailable") == "100%"
    };
    let budgets = bundle.of_kind("PodDisruptionBudget").filter(|budget| stuck(budget));
    budgets.map(|it| format!("PodDisruptionBudget {:?} allows no disruption", text(it, "/metadata/name"))).collect()
}

fn priority_class(bundle: &Bundle) -> Vec<String> {
    let classes = bundle.of_kind("PriorityClass").filter(|class| is_true(class, "/globalDefault"));
    classes
        .map(|class| format!("PriorityClass {:?} is the default of all pods", text(class, "/metadata/name")))
        .collect()
}

/// OLM unpacks a bundle into one `ConfigMap`, compressed; this asks for less before it is.
fn size(bundle: &Bundle) -> Vec<String> {
    const MOST: usize = 1 << 20;
    unless(bundle.size <= MOST, || format!("the bundle has {} bytes, more than {MOST}", bundle.size))
}

fn media_type(bundle: &Bundle) -> Vec<String> {
    let value = bundle.annotation("operators.operatorframework.io.bundle.mediatype.v1").unwrap_or_default();
    unless(value == "registry+v1", || format!("the media type is {value:?}, not registry+v1"))
}

fn folders(bundle: &Bundle) -> Vec<String> {
    let wrong = |(part, folder): &(&str, &str)| {
        bundle.annotation(&format!("operators.operatorframework.io.bundle.{part}.v1")) != Some(folder)
    };
    let parts = [("manifests", "manifests/"), ("metadata", "metadata/")];
    parts
        .iter()
        .filter(|part| wrong(part))
        .map(|(part, folder)| format!("the {part} are not said to be in {folder}"))
        .collect()
}

fn named_channels(bundle: &Bundle) -> Vec<&str> {
    let named = bundle.annotation("operators.operatorframework.io.bundle.channels.v1").unwrap_or_default();
    named.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// At least one, and the default among them.
fn channels(bundle: &Bundle) -> Vec<String> {
    let (all, default) = (named_channels(bundle), "operators.operatorframework.io.bundle.channel.default.v1");
    let default = bundle.annotation(default).unwrap_or_default();
    unless(all.contains(&default), || format!("the default channel {default:?} is none of {all:?}"))
}

fn channel_names(bundle: &Bundle) -> Vec<String> {
    let usual = |name: &&str| ["candidate", "fast", "stable"].iter().any(|usual| name.starts_with(usual));
    let odd = named_channels(bundle).into_iter().filter(|name| !usual(name));
    odd.map(|name| format!("the channel {name:?} begins with none of candidate, fast, stable")).collect()
}
