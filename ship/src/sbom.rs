//! The software bill of materials, as `CycloneDX` 1.6 in JSON, from what cargo knows. The same inputs give the same text:
//! there is no time in it, and its serial number follows from its content. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What the bill is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What `cargo metadata --format-version 1 --filter-platform TARGET` printed.
    pub metadata: &'a str,
    /// What `cargo tree --edges normal,build --prefix none --format {p}` printed: all that is compiled.
    pub compiled: &'a str,
    /// What it printed with `--edges normal,no-proc-macro`: what ends in the program.
    pub linked: &'a str,
    /// `Cargo.lock`, for the checksums.
    pub lock: &'a str,
    /// The package whose program it is.
    pub package: &'a str,
}

/// The bill can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// Cargo's metadata isn't as expected.
    #[error("reading cargo's metadata failed")]
    Metadata(#[source] serde_json::Error),
    /// The package isn't among them.
    #[error("there is no package {0}")]
    NoPackage(String),
    /// A crate that is compiled isn't in the metadata.
    #[error("{0} is compiled, and cargo's metadata doesn't know it")]
    Unknown(String),
    /// The bill can't be written.
    #[error("writing the bill failed")]
    Write(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    repository: Option<String>,
    /// Where it is from; nothing for the workspace's own.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

/// Name and version.
type Key = (String, String);

/// Makes the bill.
pub fn sbom(inputs: Inputs<'_>) -> Result<String, SbomError> {
    let metadata: Metadata = serde_json::from_str(inputs.metadata).map_err(SbomError::Metadata)?;
    let packages: BTreeMap<Key, &Package> = metadata.packages.iter().map(|package| (package.key(), package)).collect();
    let (compiled, linked) = (crates(inputs.compiled), crates(inputs.linked));
    if let Some((name, version)) = compiled.iter().find(|key| !packages.contains_key(*key)) {
        return Err(SbomError::Unknown(format!("{name} {version}")));
    }
    let whole = compiled.iter().find(|(name, _)| name == inputs.package);
    let whole =
        whole.and_then(|key| packages.get(key)).ok_or_else(|| SbomError::NoPackage(inputs.package.to_owned()))?;

    let checksums = checksums(inputs.lock);
    let part = |key: &Key| {
        let package = packages.get(key).filter(|package| package.id != whole.id)?;
        Some(package.component("library", linked.contains(key), checksums.get(key)))
    };
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": whole.component("application", true, None),
            "properties": [{"name": "cdx:reproducible", "value": "true"}],
        },
        "components": compiled.iter().filter_map(part).collect::<Vec<_>>(),
        "dependencies": dependencies(&metadata, &compiled),
    });
    let number = serial_number(&bill.to_string());
    let bill = with(bill, "serialNumber", Some(number));
    serde_json::to_string_pretty(&bill).map(|text| text + "\n").map_err(SbomError::Write)
}

impl Package {
    fn key(&self) -> Key {
        (self.name.clone(), self.version.clone())
    }

    /// What it is called in the bill: by its package URL where it is from a registry.
    fn reference(&self) -> String {
        let (scheme, Self { name, version, .. }) = (if self.source.is_some() { "pkg:cargo/" } else { "" }, self);
        format!("{scheme}{name}@{version}")
    }

    /// What isn't in the program, but made it, has the scope `excluded`.
    fn component(&self, kind: &str, linked: bool, checksum: Option<&String>) -> Value {
        let component = json!({
            "type": kind,
            "bom-ref": self.reference(),
            "name": self.name,
            "version": self.version,
            "scope": if linked { "required" } else { "excluded" },
        });
        let component = with(component, "purl", self.source.as_ref().map(|_| self.reference()));
        // The form with a slash is older than SPDX expressions in manifests.
        let license = self.license.as_ref().map(|license| json!([{"expression": license.replace('/', " OR ")}]));
        let component = with(component, "licenses", license);
        let description = self.description.as_ref();
        let description = description.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let component = with(component, "description", description);
        let checksum = checksum.map(|checksum| json!([{"alg": "SHA-256", "content": checksum}]));
        let component = with(component, "hashes", checksum);
        let page = self.repository.as_ref().map(|url| json!([{"type": "vcs", "url": url}]));
        with(component, "externalReferences", page)
    }
}

/// An object with a further field, if there is a value for it.
fn with(mut object: Value, field: &str, value: Option<impl Into<Value>>) -> Value {
    if let (Some(fields), Some(value)) = (object.as_object_mut(), value) {
        fields.insert(field.to_owned(), value.into());
    }
    object
}

/// Who needs whom, among those that are compiled.
fn dependencies(metadata: &Metadata, compiled: &BTreeSet<Key>) -> Vec<Value> {
    let used: BTreeMap<&str, String> = metadata
        .packages
        .iter()
        .filter(|package| compiled.contains(&package.key()))
        .map(|package| (package.id.as_str(), package.reference()))
        .collect();
    let mut all: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for node in &metadata.resolve.nodes {
        if let Some(reference) = used.get(node.id.as_str()) {
            let needed = node.dependencies.iter().filter_map(|id| used.get(id.as_str()));
            all.entry(reference).or_default().extend(needed);
        }
    }
    all.into_iter().map(|(reference, needed)| json!({"ref": reference, "dependsOn": needed})).collect()
}

/// The crates of `cargo tree`'s lines, as `name vVERSION`, with more behind it.
fn crates(tree: &str) -> BTreeSet<Key> {
    let key = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    tree.lines().filter_map(key).collect()
}

/// The checksums of a lock file's packages.
fn checksums(lock: &str) -> BTreeMap<Key, String> {
    let package = |block: &str| {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    };
    lock.split("[[package]]").filter_map(package).collect()
}

/// A UUID of version 8, made from a text's SHA-256.
fn serial_number(text: &str) -> String {
    let mut hex: Vec<char> = Sha256::digest(text)
        .iter()
        .flat_map(|byte| format!("{byte:02x}").chars().collect::<Vec<_>>())
        .take(32)
        .collect();
    for (at, digit) in [(12, '8'), (16, 'a')] {
        if let Some(place) = hex.get_mut(at) {
            *place = digit;
        }
    }
    let hex: String = hex.into_iter().collect();
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| hex.get(from..to).unwrap_or_default());
    format!("urn:uuid:{}", parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPILED: &str =
        "app v0.1.0 (/somewhere/app)\nlog v0.4.1\nserde_derive v1.0.2 (proc-macro)\nlog v0.4.1 (*)\n";
    const LINKED: &str = "app v0.1.0 (/somewhere/app)\nlog v0.4.1\n";
    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"log\"\n\
                        version = \"0.4.1\"\nsource = \"registry\"\nchecksum = \"abc\"\n";

    fn metadata() -> String {
        let registry = "registry+https://registry.test";
        json!({
            "packages": [
                {"id": "1", "name": "app", "version": "0.1.0", "license": "Apache-2.0"},
                {"id": "2", "name": "log", "version": "0.4.1", "license": "MIT/Apache-2.0", "source": registry},
                {"id": "3", "name": "serde_derive", "version": "1.0.2", "source": registry},
                {"id": "4", "name": "proptest", "version": "1.0.0", "source": registry},
            ],
            "resolve": {"nodes": [
                {"id": "1", "dependencies": ["4", "3", "2"]},
                {"id": "2", "dependencies": []},
                {"id": "3", "dependencies": []},
                {"id": "4", "dependencies": ["2"]},
            ]},
        })
        .to_string()
    }

    fn made(compiled: &str, package: &str) -> Result<Value, SbomError> {
        let inputs = Inputs { metadata: &metadata(), compiled, linked: LINKED, lock: LOCK, package };
        sbom(inputs).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn what_is_linked_is_required_and_what_only_helped_to_compile_is_excluded() {
        let bill = made(COMPILED, "app").unwrap();
        let scopes: Vec<(&str, &str)> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["bom-ref"].as_str().unwrap(), it["scope"].as_str().unwrap()))
            .collect();
        assert_eq!(scopes, [("pkg:cargo/log@0.4.1", "required"), ("pkg:cargo/serde_derive@1.0.2", "excluded")]);
        assert_eq!(bill["metadata"]["component"]["bom-ref"], "app@0.1.0");
    }

    #[test]
    fn a_crate_has_its_licence_as_an_expression_and_its_checksum() {
        let bill = made(COMPILED, "app").unwrap();
        let log = &bill["components"][0];
        assert_eq!(log["licenses"], json!([{"expression": "MIT OR Apache-2.0"}]));
        assert_eq!(log["hashes"], json!([{"alg": "SHA-256", "content": "abc"}]));
    }

    #[test]
    fn tests_dependencies_are_not_in_the_bill() {
        let bill = made(COMPILED, "app").unwrap();
        assert_eq!(
            bill["dependencies"][0],
            json!({"ref": "app@0.1.0", "dependsOn": ["pkg:cargo/log@0.4.1", "pkg:cargo/serde_derive@1.0.2"]})
        );
        assert!(!bill.to_string().contains("proptest"));
    }

    #[test]
    fn the_same_inputs_give_the_same_bill_and_others_another_serial_number() {
        let bill = made(COMPILED, "app").unwrap();
        assert_eq!(bill, made(COMPILED, "app").unwrap());
        let other = made(LINKED, "app").unwrap();
        assert_ne!(bill["serialNumber"], other["serialNumber"]);
        let number = bill["serialNumber"].as_str().unwrap();
        assert_eq!((number.len(), number.get(23..24)), (45, Some("8")), "{number}");
        assert_eq!(bill["metadata"].get("timestamp"), None);
    }

    #[test]
    fn crates_that_the_metadata_lacks_are_refused() {
        let refusal = |compiled, package| made(compiled, package).unwrap_err().to_string();
        assert_eq!(
            refusal("app v0.1.0\nrand v9.0.0", "app"),
            "rand 9.0.0 is compiled, and cargo's metadata doesn't know it"
        );
        assert_eq!(refusal(COMPILED, "other"), "there is no package other");
    }
}
