//! Generates the software bill of materials (SBOM), as `CycloneDX` 1.6 in JSON, from cargo's metadata. The output is
//! reproducible: it has no timestamp, and its serial number is derived from its content. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The inputs of the SBOM.
#[derive(Clone, Copy, Debug)]
pub struct SbomInputs<'a> {
    /// The output of `cargo metadata --format-version 1 --filter-platform TARGET`.
    pub metadata: &'a str,
    /// The output of `cargo tree --edges normal,build --prefix none --format {p}`: all compiled crates.
    pub compiled: &'a str,
    /// The output with `--edges normal,no-proc-macro`: the crates linked into the binary.
    pub linked: &'a str,
    /// `Cargo.lock`, for the checksums.
    pub lock: &'a str,
    /// The package of the binary.
    pub package: &'a str,
}

/// The SBOM can't be generated.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// Cargo's metadata has an unexpected format.
    #[error("can't parse cargo's metadata")]
    Metadata(#[source] serde_json::Error),
    /// The package doesn't exist.
    #[error("package {0} not found")]
    NoPackage(String),
    /// A compiled crate is missing in the metadata.
    #[error("{0} is compiled but missing in cargo's metadata")]
    Unknown(String),
    /// The SBOM can't be serialized.
    #[error("can't serialize the SBOM")]
    Write(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct CargoMetadata {
    packages: Vec<CargoPackage>,
    resolve: DependencyGraph,
}

#[derive(Deserialize)]
struct CargoPackage {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    repository: Option<String>,
    /// The registry; `None` for crates of the workspace.
    source: Option<String>,
}

#[derive(Deserialize)]
struct DependencyGraph {
    nodes: Vec<ResolvedPackage>,
}

#[derive(Deserialize)]
struct ResolvedPackage {
    id: String,
    dependencies: Vec<String>,
}

/// The name and version of a crate.
type CrateKey = (String, String);

/// Generates the SBOM.
pub fn sbom(inputs: SbomInputs<'_>) -> Result<String, SbomError> {
    let metadata: CargoMetadata = serde_json::from_str(inputs.metadata).map_err(SbomError::Metadata)?;
    let packages: BTreeMap<CrateKey, &CargoPackage> =
        metadata.packages.iter().map(|package| (package.key(), package)).collect();
    let (compiled, linked) = (crates(inputs.compiled), crates(inputs.linked));
    if let Some((name, version)) = compiled.iter().find(|key| !packages.contains_key(*key)) {
        return Err(SbomError::Unknown(format!("{name} {version}")));
    }
    let application = compiled.iter().find(|(name, _)| name == inputs.package);
    let application =
        application.and_then(|key| packages.get(key)).ok_or_else(|| SbomError::NoPackage(inputs.package.to_owned()))?;

    let checksums = checksums(inputs.lock);
    let part = |key: &CrateKey| {
        let package = packages.get(key).filter(|package| package.id != application.id)?;
        Some(package.component("library", linked.contains(key), checksums.get(key)))
    };
    let sbom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": application.component("application", true, None),
            "properties": [{"name": "cdx:reproducible", "value": "true"}],
        },
        "components": compiled.iter().filter_map(part).collect::<Vec<_>>(),
        "dependencies": dependencies(&metadata, &compiled),
    });
    let number = serial_number(&sbom.to_string());
    let sbom = with(sbom, "serialNumber", Some(number));
    serde_json::to_string_pretty(&sbom).map(|text| text + "\n").map_err(SbomError::Write)
}

impl CargoPackage {
    fn key(&self) -> CrateKey {
        (self.name.clone(), self.version.clone())
    }

    /// The reference in the SBOM: the package URL for crates from a registry.
    fn reference(&self) -> String {
        let (scheme, Self { name, version, .. }) = (if self.source.is_some() { "pkg:cargo/" } else { "" }, self);
        format!("{scheme}{name}@{version}")
    }

    /// Builds the component. Crates that are compiled but not linked have the scope `excluded`.
    fn component(&self, kind: &str, linked: bool, checksum: Option<&String>) -> Value {
        let component = json!({
            "type": kind,
            "bom-ref": self.reference(),
            "name": self.name,
            "version": self.version,
            "scope": if linked { "required" } else { "excluded" },
        });
        let component = with(component, "purl", self.source.as_ref().map(|_| self.reference()));
        // Older manifests have a slash in place of an SPDX expression.
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

/// Adds a field to an object if it has a value.
fn with(mut object: Value, field: &str, value: Option<impl Into<Value>>) -> Value {
    if let (Some(fields), Some(value)) = (object.as_object_mut(), value) {
        fields.insert(field.to_owned(), value.into());
    }
    object
}

/// The dependencies between compiled crates.
fn dependencies(metadata: &CargoMetadata, compiled: &BTreeSet<CrateKey>) -> Vec<Value> {
    let used: BTreeMap<&str, String> = metadata
        .packages
        .iter()
        .filter(|package| compiled.contains(&package.key()))
        .map(|package| (package.id.as_str(), package.reference()))
        .collect();
    let mut all: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for node in &metadata.resolve.nodes {
        if let Some(reference) = used.get(node.id.as_str()) {
            let depends_on = node.dependencies.iter().filter_map(|id| used.get(id.as_str()));
            all.entry(reference).or_default().extend(depends_on);
        }
    }
    all.into_iter().map(|(reference, depends_on)| json!({"ref": reference, "dependsOn": depends_on})).collect()
}

/// Parses the lines of `cargo tree`, which start with `name vVERSION`.
fn crates(tree: &str) -> BTreeSet<CrateKey> {
    let key = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    tree.lines().filter_map(key).collect()
}

/// Parses the checksums in a lock file.
fn checksums(lock: &str) -> BTreeMap<CrateKey, String> {
    let package = |block: &str| {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    };
    lock.split("[[package]]").filter_map(package).collect()
}

/// A version 8 UUID, derived from the SHA-256 of a text.
fn serial_number(text: &str) -> String {
    let mut hex: Vec<char> = Sha256::digest(text)
        .iter()
        .flat_map(|byte| format!("{byte:02x}").chars().collect::<Vec<_>>())
        .take(32)
        .collect();
    for (at, digit) in [(12, '8'), (16, 'a')] {
        if let Some(slot) = hex.get_mut(at) {
            *slot = digit;
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

    fn generate(compiled: &str, package: &str) -> Result<Value, SbomError> {
        let inputs = SbomInputs { metadata: &metadata(), compiled, linked: LINKED, lock: LOCK, package };
        sbom(inputs).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn linked_crates_are_required_and_others_excluded() {
        let sbom = generate(COMPILED, "app").unwrap();
        let scopes: Vec<(&str, &str)> = sbom["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["bom-ref"].as_str().unwrap(), it["scope"].as_str().unwrap()))
            .collect();
        assert_eq!(scopes, [("pkg:cargo/log@0.4.1", "required"), ("pkg:cargo/serde_derive@1.0.2", "excluded")]);
        assert_eq!(sbom["metadata"]["component"]["bom-ref"], "app@0.1.0");
    }

    #[test]
    fn components_have_license_expression_and_checksum() {
        let sbom = generate(COMPILED, "app").unwrap();
        let log = &sbom["components"][0];
        assert_eq!(log["licenses"], json!([{"expression": "MIT OR Apache-2.0"}]));
        assert_eq!(log["hashes"], json!([{"alg": "SHA-256", "content": "abc"}]));
    }

    #[test]
    fn omits_dev_dependencies() {
        let sbom = generate(COMPILED, "app").unwrap();
        assert_eq!(
            sbom["dependencies"][0],
            json!({"ref": "app@0.1.0", "dependsOn": ["pkg:cargo/log@0.4.1", "pkg:cargo/serde_derive@1.0.2"]})
        );
        assert!(!sbom.to_string().contains("proptest"));
    }

    #[test]
    fn serial_number_depends_on_inputs_only() {
        let sbom = generate(COMPILED, "app").unwrap();
        assert_eq!(sbom, generate(COMPILED, "app").unwrap());
        let other = generate(LINKED, "app").unwrap();
        assert_ne!(sbom["serialNumber"], other["serialNumber"]);
        let number = sbom["serialNumber"].as_str().unwrap();
        assert_eq!((number.len(), number.get(23..24)), (45, Some("8")), "{number}");
        assert_eq!(sbom["metadata"].get("timestamp"), None);
    }

    #[test]
    fn rejects_crates_missing_in_metadata() {
        let error = |compiled, package| generate(compiled, package).unwrap_err().to_string();
        assert_eq!(error("app v0.1.0\nrand v9.0.0", "app"), "rand 9.0.0 is compiled but missing in cargo's metadata");
        assert_eq!(error(COMPILED, "other"), "package other not found");
    }
}
