//! Tests that links are valid, the index is complete, and every reason and metric is documented.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use meshwright_api::conditions::{ConditionType, Reason};

use super::markdown::Document;
use super::{documents, read, root};
use crate::runtime::leader::LeaderState;
use crate::runtime::metrics::{InjectionCheckResult, Metrics, ReconcileResult, WriteVerb};

/// The broken links of a document.
fn broken_links(document: &Document) -> Vec<String> {
    let here = root().join(&document.path);
    let broken = |link: &str| {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { here.clone() } else { here.parent()?.join(file) };
        if !target.exists() {
            return Some(format!("{file} does not exist"));
        }
        let known =
            anchor.is_empty() || read(&target.canonicalize().ok()?).anchors().iter().any(|known| known == anchor);
        (!known).then(|| format!("{link}: heading not found"))
    };
    let links = document.links.iter().filter(|link| !link.text.contains("://") && !link.text.starts_with("mailto:"));
    let problems = links.filter_map(|link| Some(format!("{}:{}: {}", document.path, link.line, broken(&link.text)?)));
    problems.collect()
}

#[test]
fn links_in_documents_are_valid() {
    let found: Vec<String> = documents().iter().flat_map(broken_links).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn reports_broken_links() {
    let of = |link: &str| broken_links(&Document::parse("docs/x.md", &format!("[a]({link})"))).len();
    assert_eq!((of("install.md"), of("../README.md#what-works"), of("https://istio.io/x")), (0, 0, 0));
    assert_eq!((of("instal.md"), of("install.md#nothing")), (1, 1));
}

#[test]
fn index_lists_every_document() {
    let index = read(&root().join("docs/README.md"));
    let listed: BTreeSet<&str> = index.links.iter().map(|link| link.text.as_str()).collect();
    for document in documents() {
        let name = document.path.strip_prefix("docs/").unwrap_or("README.md");
        assert!(name == "README.md" || listed.contains(name), "docs/README.md doesn't list {name}");
    }
}

#[test]
fn troubleshooting_documents_every_reason() {
    let document = read(&root().join("docs/troubleshooting.md"));
    let reasons: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let entries: Vec<&str> = document.headings.iter().map(String::as_str).filter(|text| !text.contains(' ')).collect();
    let problems: BTreeSet<&str> = entries
        .iter()
        .copied()
        .filter(|entry| !matches!(*entry, "Troubleshooting" | "Conditions" | "Events"))
        .collect();
    assert_eq!(problems, reasons, "docs/troubleshooting.md: a heading for each reason, and for no other");
    assert_eq!(problems.len() + 3, entries.len(), "a reason has two headings");
    for condition in ConditionType::ALL {
        let named = document.code.iter().any(|code| code.text == condition.as_str());
        assert!(named, "docs/troubleshooting.md doesn't mention {}", condition.as_str());
    }
}

/// Name, type and label of each metric, after every event has happened once.
fn metrics() -> BTreeSet<[String; 3]> {
    let metrics = Metrics::new();
    metrics.count_reconcile(ReconcileResult::Unchanged, Duration::ZERO);
    metrics.count_write(WriteVerb::Apply);
    metrics.count_drift_revert("Deployment");
    metrics.count_injection_check(InjectionCheckResult::Injected);
    metrics.set_leader(&LeaderState::Leading);
    metrics.set_watched("Pod", 1);
    metrics.set_oversized("configmaps", 1);
    metrics.set_watch_ages(&BTreeMap::from([("pods".to_owned(), Duration::ZERO)]));
    metrics.set_proxies(&BTreeMap::from([("1.31.2".to_owned(), 1)]));
    let text = metrics.encode().unwrap();
    let label = |name: &str| {
        let labels = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        labels.and_then(|labels| labels.split('=').next()).unwrap_or_default().to_owned()
    };
    let problems = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).map(|(name, kind)| {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        [name.clone(), kind.to_owned(), label(&name)]
    });
    problems.collect()
}

#[test]
fn metrics_table_matches_exported_metrics() {
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let row = |line: &str| -> Option<[String; 3]> {
        let mut cells = line.strip_prefix("| `")?.split('|').map(|cell| cell.replace('`', "").trim().to_owned());
        Some([cells.next()?, cells.next()?, cells.next()?])
    };
    assert_eq!(text.lines().filter_map(row).collect::<BTreeSet<_>>(), metrics());
}

#[test]
fn minimum_kubernetes_version_is_consistent() {
    let minimum_version = |path: &str, begin: &str| {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let rest = text.split_once(begin).unwrap_or_else(|| panic!("{path} doesn't contain {begin}")).1;
        rest.split('.')
            .take(2)
            .map(|part| part.chars().take_while(char::is_ascii_digit).collect())
            .collect::<Vec<String>>()
    };
    let bundle = minimum_version("config/olm/base/base.yaml", "\nminKubeVersion: ");
    assert_eq!(bundle.len(), 2, "{bundle:?}");
    assert_eq!(minimum_version("config/chart/Chart.yaml", "\nkubeVersion: \">="), bundle);
    assert_eq!(minimum_version("docs/install.md", "**Kubernetes "), bundle);
    assert_eq!(minimum_version("docs/quick-start.md", "Kubernetes "), bundle);
}
