//! Promises of the documents to their readers: links lead somewhere, the index is whole, every reason has its entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use meshwright_api::conditions::{ConditionType, Reason};

use super::markdown::Document;
use super::{documents, read, root};
use crate::runtime::leader::LeaderState;
use crate::runtime::metrics::{Metrics, ProbeResult, ReconcileResult, WriteVerb};

/// What is wrong with the links of a document.
fn broken_links(document: &Document) -> Vec<String> {
    let here = root().join(&document.path);
    let broken = |link: &str| {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { here.clone() } else { here.parent()?.join(file) };
        if !target.exists() {
            return Some(format!("there is no {file}"));
        }
        let known =
            anchor.is_empty() || read(&target.canonicalize().ok()?).anchors().iter().any(|known| known == anchor);
        (!known).then(|| format!("{link} has no such heading"))
    };
    let links = document.links.iter().filter(|link| !link.text.contains("://") && !link.text.starts_with("mailto:"));
    let told = links.filter_map(|link| Some(format!("{}:{}: {}", document.path, link.line, broken(&link.text)?)));
    told.collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_there_are() {
    let found: Vec<String> = documents().iter().flat_map(broken_links).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_link_to_nowhere_is_complained_of() {
    let of = |link: &str| broken_links(&Document::parse("docs/x.md", &format!("[a]({link})"))).len();
    assert_eq!((of("install.md"), of("../README.md#two-commands"), of("https://istio.io/x")), (0, 0, 0));
    assert_eq!((of("instal.md"), of("install.md#nothing")), (1, 1));
}

#[test]
fn the_index_has_every_document() {
    let index = read(&root().join("docs/README.md"));
    let listed: BTreeSet<&str> = index.links.iter().map(|link| link.text.as_str()).collect();
    for document in documents() {
        let name = document.path.strip_prefix("docs/").unwrap_or("README.md");
        assert!(name == "README.md" || listed.contains(name), "docs/README.md doesn't list {name}");
    }
}

#[test]
fn every_condition_and_reason_has_its_place_in_troubleshooting() {
    let document = read(&root().join("docs/troubleshooting.md"));
    let reasons: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let entries: Vec<&str> = document.headings.iter().map(String::as_str).filter(|text| !text.contains(' ')).collect();
    let told: BTreeSet<&str> = entries
        .iter()
        .copied()
        .filter(|entry| !matches!(*entry, "Troubleshooting" | "Conditions" | "Events"))
        .collect();
    assert_eq!(told, reasons, "docs/troubleshooting.md: a heading for each reason, and for no other");
    assert_eq!(told.len() + 3, entries.len(), "a reason is told of twice");
    for condition in ConditionType::ALL {
        let named = document.code.iter().any(|code| code.text == condition.as_str());
        assert!(named, "docs/troubleshooting.md doesn't tell of {}", condition.as_str());
    }
}

/// Name, type and label of each metric, as the operator tells them when all has happened once.
fn metrics() -> BTreeSet<[String; 3]> {
    let metrics = Metrics::new();
    metrics.reconciled(ReconcileResult::Unchanged, Duration::ZERO);
    metrics.wrote(WriteVerb::Apply);
    metrics.healed("Deployment");
    metrics.probed(ProbeResult::Proved);
    metrics.set_leader(&LeaderState::Leading);
    metrics.set_watched("Pod", 1);
    metrics.set_proxies(&BTreeMap::from([("1.31.2".to_owned(), 1)]));
    let text = metrics.encode().unwrap();
    let label = |name: &str| {
        let labels = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        labels.and_then(|labels| labels.split('=').next()).unwrap_or_default().to_owned()
    };
    let told = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).map(|(name, kind)| {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        [name.clone(), kind.to_owned(), label(&name)]
    });
    told.collect()
}

#[test]
fn the_table_of_metrics_has_what_the_operator_tells() {
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let row = |line: &str| -> Option<[String; 3]> {
        let mut cells = line.strip_prefix("| `")?.split('|').map(|cell| cell.replace('`', "").trim().to_owned());
        Some([cells.next()?, cells.next()?, cells.next()?])
    };
    assert_eq!(text.lines().filter_map(row).collect::<BTreeSet<_>>(), metrics());
}

#[test]
fn the_kubernetes_that_is_needed_is_the_same_wherever_it_is_said() {
    let said = |path: &str, begin: &str| {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let rest = text.split_once(begin).unwrap_or_else(|| panic!("{path} doesn't say {begin}")).1;
        rest.split('.')
            .take(2)
            .map(|part| part.chars().take_while(char::is_ascii_digit).collect())
            .collect::<Vec<String>>()
    };
    let bundle = said("config/olm/base/base.yaml", "\nminKubeVersion: ");
    assert_eq!(bundle.len(), 2, "{bundle:?}");
    assert_eq!(said("config/chart/Chart.yaml", "\nkubeVersion: \">="), bundle);
    assert_eq!(said("docs/install.md", "**Kubernetes "), bundle);
    assert_eq!(said("docs/quick-start.md", "Kubernetes "), bundle);
}
