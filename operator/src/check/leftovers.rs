//! What older releases of Istio left behind and a newer one doesn't remove. What is known of each release is in
//! bundled-manifests/releases.yaml, as `Kind name` with the place holders `<namespace>` and `*`.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::Asked;
use super::cluster::{Cluster, Meta, deletion};
use super::{Finding, hidden, look};
use crate::catalog::Facts;
use crate::mesh::words::{count, few};

const CHECK: &str = "leftovers";
/// Groups of definitions that no living release of Istio reads, and the last that did.
const DEAD_GROUPS: [(&str, &str); 4] = [
    ("config.istio.io", "Mixer, of Istio before 1.8"),
    ("rbac.istio.io", "Istio before 1.6"),
    ("authentication.istio.io", "Istio before 1.6"),
    ("install.istio.io", "the operator that Istio had before 1.24"),
];
/// Type of the Secrets that Citadel made for every ServiceAccount.
pub(super) const CITADEL_SECRET: &str = "istio.io/key-and-cert";

pub(super) fn findings(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let objects = &cluster.objects;
    let definitions = match look(CHECK, "definitions of older releases", &cluster.definitions) {
        Ok(definitions) => definitions,
        Err(unknown) => return unknown,
    };
    let mut findings = match Facts::bundled() {
        Ok(facts) => known(asked, cluster, objects, &facts),
        Err(error) => return vec![Finding::unknown(CHECK, "older releases", error.to_string())],
    };
    findings.extend(dead_definitions(definitions));
    findings.extend(citadel_secrets(objects));
    findings.extend(hidden(CHECK, cluster));
    if findings.is_empty() {
        findings.push(Finding::pass(CHECK, "the cluster", "nothing of older releases was left behind"));
    }
    findings
}

/// By release, kind and namespace, so that one command removes what one finding names.
fn known(asked: &Asked, cluster: &Cluster, objects: &[Meta], facts: &Facts) -> Vec<Finding> {
    let mut namespaces: BTreeSet<&str> = asked.namespaces.keys().map(String::as_str).collect();
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
    let told = found.into_iter().map(|((minor, kind, resource, namespace), names)| {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let place = namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default();
        let reason = format!("left behind by Istio {minor}; {}", consequence(kind));
        let fix = deletion(&resource, &names.join(" "), namespace);
        Finding::warn(CHECK, format!("{kind} {}{place}", few(&names)), reason).fix(fix)
    });
    told.collect()
}

fn consequence(kind: &str) -> &'static str {
    if kind == "EnvoyFilter" { "proxies would count every request twice" } else { "nothing uses it any more" }
}

fn fits(meta: &Meta, (kind, name): (&str, &str), namespaces: &BTreeSet<&str>) -> bool {
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

fn dead_definitions(definitions: &[Meta]) -> impl Iterator<Item = Finding> + '_ {
    DEAD_GROUPS.into_iter().filter_map(|(group, of)| {
        let suffix = format!(".{group}");
        let names: Vec<String> =
            definitions.iter().filter(|d| d.name.ends_with(&suffix)).map(|d| d.name.clone()).collect();
        if names.is_empty() {
            return None;
        }
        let subject = format!("{} of {group}", count(names.len(), "CustomResourceDefinition"));
        let reason = format!("of {of}; today's Istio reads none of their objects: {}", few(&names));
        Some(
            Finding::warn(CHECK, subject, reason)
                .fix(format!("look at what is in them, then: {}", deletion("crd", &names.join(" "), None))),
        )
    })
}

fn citadel_secrets(objects: &[Meta]) -> Option<Finding> {
    let places: Vec<String> =
        objects.iter().filter(|meta| meta.type_ == Some(CITADEL_SECRET)).map(Meta::place).collect();
    if places.is_empty() {
        return None;
    }
    let reason = format!("certificates that Citadel of Istio 1.0 to 1.5 made, and nothing uses: {}", few(&places));
    Some(
        Finding::warn(CHECK, count(places.len(), "Secret"), reason)
            .fix(format!("kubectl delete secrets --all-namespaces --field-selector type={CITADEL_SECRET}")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::samples::{self, meta};
    use super::*;

    fn judged(objects: Vec<Meta>, definitions: Vec<Meta>) -> Vec<Finding> {
        let mut cluster = samples::cluster();
        cluster.objects = objects;
        cluster.definitions = Ok(definitions);
        findings(&samples::asked(), &cluster)
    }

    #[test]
    fn roles_and_filters_of_1_13_are_named_with_the_command_that_removes_them() {
        let filter = |name| Meta { group: "networking.istio.io".into(), ..meta("EnvoyFilter", "istio-system", name) };
        let found = judged(
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
            "kubectl delete envoyfilter.networking.istio.io stats-filter-1.13 tcp-stats-filter-1.13 --namespace istio-system",
        ];
        assert_eq!(fixes, expected);
        assert!(found[1].reason.contains("1.13") && found[1].reason.contains("twice"), "{found:?}");
    }

    #[test]
    fn a_role_of_today_or_of_a_namespace_that_is_not_there_is_no_leftover() {
        let today = [
            meta("ClusterRole", "", "istiod-clusterrole-istio-system"),
            meta("ClusterRole", "", "istiod-reports"),
            meta("ClusterRole", "", "istiod-istio-system").labelled("meshwright.dev/installation", "mesh"),
        ];
        let found = judged(today.to_vec(), vec![]);
        assert_eq!((found.len(), found[0].verdict), (1, Verdict::Pass), "{found:?}");
    }

    #[test]
    fn definitions_that_nothing_reads_and_citadels_secrets_are_counted() {
        let crd = |name| meta("CustomResourceDefinition", "", name);
        let found = judged(
            vec![meta("Secret", "shop", "istio.default").typed(CITADEL_SECRET)],
            vec![crd("rules.config.istio.io"), crd("handlers.config.istio.io"), crd("gateways.networking.istio.io")],
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].subject, "2 CustomResourceDefinitions of config.istio.io");
        assert!(found[1].reason.contains("shop/istio.default"));
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Warn));
    }
}
