//! Resources of older Istio releases that newer ones neither use nor remove. bundled-manifests/releases.yaml lists them as
//! `Kind name` with the placeholders `<namespace>` and `*`.

use std::collections::{BTreeMap, BTreeSet};

use super::input::CheckInput;
use super::snapshot::{ClusterSnapshot, ObjectInfo, delete_command};
use super::{Finding, require, unreadable};
use crate::catalog::ReleaseFacts;
use crate::mesh::text::{abbreviate, pluralize};

const CHECK: &str = "leftovers";
/// API groups that no supported Istio release reads, and the last component or release that did.
const UNUSED_GROUPS: [(&str, &str); 4] = [
    ("config.istio.io", "Mixer (Istio before 1.8)"),
    ("rbac.istio.io", "Istio before 1.6"),
    ("authentication.istio.io", "Istio before 1.6"),
    ("install.istio.io", "Istio's in-cluster operator (before 1.24)"),
];
/// Type of the Secrets that Citadel created for every ServiceAccount.
pub(super) const CITADEL_SECRET: &str = "istio.io/key-and-cert";

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let objects = &cluster.objects;
    let crds = match require(CHECK, "CRDs of older releases", &cluster.crds) {
        Ok(crds) => crds,
        Err(unknown) => return unknown,
    };
    let mut findings = match ReleaseFacts::bundled() {
        Ok(facts) => known(input, cluster, objects, &facts),
        Err(error) => return vec![Finding::unknown(CHECK, "older releases", error.to_string())],
    };
    findings.extend(unused_crds(crds));
    findings.extend(citadel_secrets(objects));
    findings.extend(unreadable(CHECK, cluster));
    if findings.is_empty() {
        findings.push(Finding::pass(CHECK, "the cluster", "no resources of older releases"));
    }
    findings
}

/// Grouped by release, kind and namespace, so that one command deletes all resources of a finding.
fn known(input: &CheckInput, cluster: &ClusterSnapshot, objects: &[ObjectInfo], facts: &ReleaseFacts) -> Vec<Finding> {
    let mut namespaces: BTreeSet<&str> = input.namespaces.keys().map(String::as_str).collect();
    namespaces.extend(cluster.namespaces.iter().flatten().map(|namespace| namespace.name.as_str()));
    let mut found: BTreeMap<(String, &str, String, Option<&str>), BTreeSet<&str>> = BTreeMap::new();
    for minor in facts.minors() {
        for pattern in minor.leftovers.iter().filter_map(|text| text.split_once(' ')) {
            let here = objects.iter().filter(|meta| !meta.is_ours() && fits(meta, pattern, &namespaces));
            for meta in here {
                let key = (minor.minor.to_string(), meta.kind.as_str(), meta.resource(), meta.namespace.as_deref());
                found.entry(key).or_default().insert(&meta.name);
            }
        }
    }
    let findings = found.into_iter().map(|((minor, kind, resource, namespace), names)| {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let place = namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default();
        let reason = format!("left over from Istio {minor}; {}", consequence(kind));
        let fix = delete_command(&resource, &names.join(" "), namespace);
        Finding::warn(CHECK, format!("{kind} {}{place}", abbreviate(&names)), reason).fix(fix)
    });
    findings.collect()
}

fn consequence(kind: &str) -> &'static str {
    if kind == "EnvoyFilter" { "proxies would report every request twice" } else { "no longer used" }
}

fn fits(meta: &ObjectInfo, (kind, name): (&str, &str), namespaces: &BTreeSet<&str>) -> bool {
    if meta.kind != kind {
        return false;
    }
    if let Some(prefix) = name.strip_suffix("<namespace>") {
        return meta.name.strip_prefix(prefix).is_some_and(|rest| namespaces.contains(rest));
    }
    match name.strip_suffix('*') {
        Some(prefix) => meta.name.starts_with(prefix),
        None => meta.name == name,
    }
}

fn unused_crds(crds: &[ObjectInfo]) -> impl Iterator<Item = Finding> + '_ {
    UNUSED_GROUPS.into_iter().filter_map(|(group, of)| {
        let suffix = format!(".{group}");
        let names: Vec<String> = crds.iter().filter(|d| d.name.ends_with(&suffix)).map(|d| d.name.clone()).collect();
        if names.is_empty() {
            return None;
        }
        let subject = format!("{} of {group}", pluralize(names.len(), "CRD"));
        let reason = format!("from {of}; current Istio releases don't read their resources: {}", abbreviate(&names));
        Some(
            Finding::warn(CHECK, subject, reason)
                .fix(format!("after checking their resources: {}", delete_command("crd", &names.join(" "), None))),
        )
    })
}

fn citadel_secrets(objects: &[ObjectInfo]) -> Option<Finding> {
    let names: Vec<String> =
        objects.iter().filter(|meta| meta.type_ == Some(CITADEL_SECRET)).map(ObjectInfo::qualified_name).collect();
    if names.is_empty() {
        return None;
    }
    let reason = format!("unused certificates created by Citadel (Istio 1.0 to 1.5): {}", abbreviate(&names));
    Some(
        Finding::warn(CHECK, pluralize(names.len(), "Secret"), reason)
            .fix(format!("kubectl delete secrets --all-namespaces --field-selector type={CITADEL_SECRET}")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::super::samples::{self, meta};
    use super::*;

    fn findings_for(objects: Vec<ObjectInfo>, crds: Vec<ObjectInfo>) -> Vec<Finding> {
        let mut cluster = samples::cluster();
        cluster.objects = objects;
        cluster.crds = Ok(crds);
        findings(&samples::input(), &cluster)
    }

    #[test]
    fn reports_istio_1_13_roles_and_filters() {
        let filter =
            |name| ObjectInfo { group: "networking.istio.io".into(), ..meta("EnvoyFilter", "istio-system", name) };
        let found = findings_for(
            vec![
                meta("ClusterRole", "", "istiod-istio-system"),
                meta("ClusterRole", "", "istio-reader-istio-system"),
                filter("stats-filter-1.13"),
                filter("tcp-stats-filter-1.13"),
            ],
            vec![],
        );
        let fixes: Vec<_> = found.iter().filter_map(|finding| finding.fix.as_deref()).collect();
        let expected = [
            "kubectl delete clusterrole istio-reader-istio-system istiod-istio-system",
            "kubectl delete envoyfilter.networking.istio.io stats-filter-1.13 tcp-stats-filter-1.13 --namespace \
             istio-system",
        ];
        assert_eq!(fixes, expected);
        assert!(found[1].reason.contains("1.13") && found[1].reason.contains("twice"), "{found:?}");
    }

    #[test]
    fn ignores_current_roles() {
        let current = [
            meta("ClusterRole", "", "istiod-clusterrole-istio-system"),
            meta("ClusterRole", "", "istiod-reports"),
            meta("ClusterRole", "", "istiod-istio-system").labelled("meshwright.dev/installation", "mesh"),
        ];
        let found = findings_for(current.to_vec(), vec![]);
        assert_eq!((found.len(), found[0].verdict), (1, CheckVerdict::Pass), "{found:?}");
    }

    #[test]
    fn counts_unused_crds_and_citadel_secrets() {
        let crd = |name| meta("CustomResourceDefinition", "", name);
        let found = findings_for(
            vec![meta("Secret", "shop", "istio.default").typed(CITADEL_SECRET)],
            vec![crd("rules.config.istio.io"), crd("handlers.config.istio.io"), crd("gateways.networking.istio.io")],
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].subject, "2 CRDs of config.istio.io");
        assert!(found[1].reason.contains("shop/istio.default"));
        assert!(found.iter().all(|finding| finding.verdict == CheckVerdict::Warn));
    }
}
