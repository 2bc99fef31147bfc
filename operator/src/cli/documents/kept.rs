//! Promises of the documents to their readers: links lead somewhere, the index is whole, every reason has its entry.

use std::collections::BTreeSet;

use meshwright_api::conditions::{ConditionType, Reason};

use super::markdown::Document;
use super::{documents, read, root};

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
