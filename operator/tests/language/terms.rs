//! Terms of the project's former dialect, each with the term that Kubernetes, Helm or Istio people use.

use std::collections::BTreeSet;

use regex::{Regex, RegexSet};

use crate::assert_none;
use crate::source::{SourceFile, tracked_files};

/// Where a term is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In prose and in identifiers, which are split into words: `TellOf` and `tell_of` count as `tell of`.
    Everywhere,
    /// As the name of a Rust type, function, constant or module, in Rust files.
    RustIdentifier,
}

struct Term {
    /// A regular expression, matched without regard to case in prose, exactly for identifiers.
    pattern: &'static str,
    instead: &'static str,
    place: Where,
}

const fn term(pattern: &'static str, instead: &'static str) -> Term {
    Term { pattern, instead, place: Where::Everywhere }
}

const fn identifier(pattern: &'static str, instead: &'static str) -> Term {
    Term { pattern, instead, place: Where::RustIdentifier }
}

const TERMS: &[Term] = &[
    term(r"tells?|told", "report, show, distinguish"),
    term(r"somebody(?:'s)?|whoever|nobody(?:'s)?", "another client, a user; or name who it is"),
    term(r"anew", "again; re-create, restart"),
    term(r"whatever becomes of|what becomes of", "regardless of; what happens to"),
    term(r"is to be had|are to be had", "is available"),
    term(r"so long as", "while"),
    term(r"in the way", "blocks, conflicts with"),
    term(r"puts? right|put(?:ting)? back in order", "revert drift, recreate"),
    term(r"made anew|is made again", "recreated"),
    term(r"rights", "permissions (RBAC)"),
    term(r"definitions", "CRDs"),
    term(r"objects? in no namespace|those in no namespace", "cluster-scoped resources"),
    term(r"objects? of others|others' objects?", "unmanaged resources"),
    term(r"heals?|healed|healing", "revert drift, recreate"),
    term(r"way back|no way back|on (?:its|the) way|under way", "rollback; in progress"),
    term(r"farewell", "termination grace"),
    term(r"aftermath", "attribution window"),
    term(r"what (?:runs|serves)", "the current revision, the active control plane"),
    term(r"proof of injection|prove injection|probe of injection", "injection check"),
    term(r"node agents?", "istio-cni and ztunnel, DaemonSets"),
    term(r"fight over", "conflict with another controller, drift loop"),
    term(r"last good", "last known good"),
    term(r"speaks? (?:for|against)", "checks, findings"),
    term(r"release in halves", "a partial write"),
    term(r"may be moved to a release", "can be upgraded to"),
    term(r"(?:he|she|him|her|his|hers)", "they, the user, the controller, it"),
    term(r"looked? at", "read, observed, checked"),
    term(r"learns?|learnt|learned", "observe, detect, record"),
    term(r"wants? of|is asked for by", "requires"),
    identifier(
        r"Heading|Course|Standing|Arrangement|Contest|Surroundings|Sight|Sighting|Travel|Travelling|Moving",
        "language.md: names in code",
    ),
    identifier(
        r"Way|Route|Late|Marks|Wanting|Preinstalled|Asked|Told|Asker|Symptoms|Surveyor|Beside",
        "language.md: names in code",
    ),
    identifier(r"Accepted|Proved|Verdict", "ResolvedRevision, Deployed, RevisionVerdict"),
    identifier(
        r"gauge|spare|learn|reach|doubt|charge|why|explain|make_way|leaving|asleep|awake|tell_others|hold_contested",
        "language.md: names in code",
    ),
    identifier(r"FAREWELL|AFTERMATH|TAKE_OUT", "language.md: names in code"),
];

/// Names that Kubernetes, Helm, JSON Schema or Argo CD give: they are no findings.
const GIVEN_NAMES: [&str; 5] =
    ["network-attachment-definitions", "\"definitions\"", "#/definitions/", "selfHeal", "JSON Schema definitions"];

/// A file in which a term stays, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("api/src/upgrade.rs", "rights", "reads the names that the statuses of older operators have"),
    ("api/src/upgrade.rs", "definitions", "reads the names that the statuses of older operators have"),
];

/// Files that are not held against the terms.
fn is_exempt(path: &str) -> bool {
    // This list, licences, and what records former names for users.
    path.starts_with("operator/tests/language/")
        || matches!(path, "LICENSE" | "CHANGELOG.md")
        || matches!(path.rsplit(['/', '.']).next(), Some("lock" | "sum"))
}

/// Identifiers as words: `TellOf` and `tell_of` become `Tell Of` and `tell of`.
fn words(line: &str) -> String {
    let mut words = String::with_capacity(line.len() + 8);
    let mut previous = ' ';
    for character in line.chars() {
        if character == '_' {
            words.push(' ');
        } else {
            if character.is_ascii_uppercase() && previous.is_ascii_lowercase() {
                words.push(' ');
            }
            words.push(character);
        }
        previous = character;
    }
    words
}

struct Finding {
    path: String,
    line: usize,
    found: String,
    instead: &'static str,
}

fn findings(files: &[SourceFile]) -> Vec<Finding> {
    let of = |place: Where| TERMS.iter().filter(move |term| term.place == place);
    let prose: Vec<String> = of(Where::Everywhere).map(|term| format!(r"(?i)\b(?:{})\b", term.pattern)).collect();
    let names: Vec<String> = of(Where::RustIdentifier)
        .map(|term| {
            format!(r"\b(?:struct|enum|trait|type|fn|const|static|mod)\s+(?:{})\b|^\s*(?:{0})\s*[,({{]", term.pattern)
        })
        .collect();
    let prose_set = RegexSet::new(&prose).unwrap();
    let names_set = RegexSet::new(&names).unwrap();
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !is_exempt(&file.path)) {
        for (number, line) in file.lines() {
            let line = &GIVEN_NAMES.iter().fold(line.to_owned(), |line, name| line.replace(name, ""));
            let text = words(line);
            let hits = prose_set.matches(&text).into_iter().zip(std::iter::repeat((&prose, Where::Everywhere, &text)));
            let raw = line.to_owned();
            let in_code = file.is_rust().then(|| names_set.matches(&raw));
            let in_code = in_code.iter().flatten().zip(std::iter::repeat((&names, Where::RustIdentifier, &raw)));
            for (index, (patterns, place, text)) in hits.chain(in_code) {
                let Some(matched) = Regex::new(&patterns[index]).unwrap().find(text).map(|m| m.as_str().to_owned())
                else {
                    continue;
                };
                let Some(term) = of(place).nth(index) else { continue };
                found.push(Finding { path: file.path.clone(), line: number, found: matched, instead: term.instead });
            }
        }
    }
    found
}

#[test]
fn text_uses_terms_of_the_field() {
    let found = findings(&tracked_files());
    let mut used = BTreeSet::new();
    let mut lines = Vec::new();
    for finding in &found {
        let excepted = EXCEPTIONS
            .iter()
            .position(|(path, term, _)| *path == finding.path && finding.found.to_lowercase().contains(term));
        match excepted {
            Some(index) => drop(used.insert(index)),
            None => lines
                .push(format!("{}:{}: {:?}; write: {}", finding.path, finding.line, finding.found, finding.instead)),
        }
    }
    for (index, (path, term, _)) in EXCEPTIONS.iter().enumerate() {
        if !used.contains(&index) {
            lines.push(format!("{path}: the exception for {term:?} is no longer needed"));
        }
    }
    assert_none(&lines, "write what Kubernetes, Helm and Istio people write");
}

#[test]
fn refuses_terms_in_prose_and_identifiers() {
    let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
    let files = [
        file("a.md", "The user is told.\nhealthy pods are ready\n"),
        file("b.rs", "fn tell_of_heals() {}\nstruct Heading;\nlet heading = 1;\n"),
        file("CHANGELOG.md", "The step `Rights` is now `RBAC`.\n"),
    ];
    let found: Vec<(String, usize)> = findings(&files).into_iter().map(|f| (f.path, f.line)).collect();
    let expected = [("a.md", 1), ("b.rs", 1), ("b.rs", 1), ("b.rs", 2)].map(|(path, line)| (path.to_owned(), line));
    assert_eq!(found, expected);
}
