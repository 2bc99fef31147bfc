//! Add-ons: their charts, which are compiled into the binary, their values, the URLs by which they reach each other,
//! and the mesh configuration that they need.

mod bundled;
mod provider;
#[cfg(test)]
mod tests;
mod wiring;

use std::collections::BTreeMap;

use meshwright_api::{AddOn, AddOnName, MeshInstallationSpec};
use meshwright_chart::Chart;
use serde_json::{Value, json};

pub use self::bundled::LoadAddOnError;
pub use self::provider::provide_tracing;
use super::kind::Kind;
use super::object::{Component, short_hash};
use super::pod_template::annotate_pods;
use super::problem::Problem;
use crate::platform::Platform;

/// Annotation on the pod template of add-ons. They read their configuration at startup only, so that a changed checksum
/// has to roll the pods.
const CONFIGURATION_ANNOTATION: &str = "meshwright.dev/configuration";

/// Prefixes of values that may be null, which removes the chart's default: a pod may run without a limit.
const REMOVABLE: [&str; 2] = ["resources.limits.", "resources.requests."];

/// A Helm release of one add-on.
#[derive(Clone, Debug, PartialEq)]
pub struct AddOnRelease {
    /// Name in `spec.addons`, which is also the release name.
    pub name: AddOnName,
    /// Version of the add-on's application, independent of Istio's.
    pub version: String,
    /// Values that override the chart's defaults.
    pub values: Value,
}

impl AddOnRelease {
    /// Resolves `spec.addons`, sorted by name. Invalid values are appended to `problems`.
    #[must_use]
    pub fn all(spec: &MeshInstallationSpec, platform: &Platform, problems: &mut Vec<Problem>) -> Vec<Self> {
        let by_name: BTreeMap<AddOnName, &AddOn> = spec.addons.iter().map(|add_on| (add_on.name, add_on)).collect();
        if by_name.len() < spec.addons.len() {
            problems.push(Problem::new("spec.addons", "lists an add-on twice; list each once"));
        }
        by_name.into_values().filter_map(|add_on| Self::of(spec, add_on, platform, problems)).collect()
    }

    fn of(
        spec: &MeshInstallationSpec,
        add_on: &AddOn,
        platform: &Platform,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let name = add_on.name;
        let field = format!("spec.addons[{}].values", name.as_str());
        for (key, value) in &add_on.values.0 {
            reject_nulls(&field, key, value, problems);
        }
        let values = wiring::values(spec, add_on, platform, problems);
        let checked = bundled::chart(name).map_err(|error| error.to_string()).and_then(|chart| {
            let found = chart.problems(&values).map_err(|error| error.to_string())?;
            Ok((chart.app_version().to_owned(), found))
        });
        match checked {
            Ok((version, found)) => {
                problems.extend(found.into_iter().map(|problem| Problem::new(field.clone(), problem)));
                Some(Self { name, version, values })
            }
            Err(error) => {
                problems.push(Problem::new(field, error));
                None
            }
        }
    }

    /// Loads the bundled chart of this add-on.
    pub fn chart(&self) -> Result<Chart, LoadAddOnError> {
        bundled::chart(self.name)
    }

    /// The component that owns the add-on's objects.
    #[must_use]
    pub fn component(&self) -> Component {
        Component::AddOn(self.name.as_str().to_owned())
    }
}

/// Loads the charts of all add-ons.
pub fn charts() -> Result<BTreeMap<AddOnName, Chart>, LoadAddOnError> {
    AddOnName::ALL.into_iter().map(|name| Ok((name, bundled::chart(name)?))).collect()
}

/// Rejects nulls: in Helm a null removes the chart's default, and these charts require all values but single resources.
fn reject_nulls(field: &str, path: &str, value: &Value, problems: &mut Vec<Problem>) {
    match value {
        Value::Null if REMOVABLE.iter().any(|table| path.starts_with(table)) => {}
        Value::Null => {
            problems.push(Problem::new(format!("{field}.{path}"), "is null; set a value or remove the key"));
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                reject_nulls(field, &format!("{path}.{key}"), value, problems);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                reject_nulls(field, &format!("{path}[{index}]"), value, problems);
            }
        }
        _ => {}
    }
}

/// Annotates pod templates with a checksum of the release's `ConfigMap`s, so that a configuration change rolls the
/// pods.
pub(super) fn annotate_configuration_checksum(objects: &mut [(&str, Value)]) {
    let is_configuration = |object: &&Value| object.get("kind").and_then(Value::as_str) == Some(Kind::ConfigMap.name());
    let data: Vec<&Value> =
        objects.iter().map(|(_, object)| object).filter(is_configuration).filter_map(|map| map.get("data")).collect();
    let checksum = short_hash(json!(data).to_string().as_bytes());
    for (_, object) in objects {
        annotate_pods(object, CONFIGURATION_ANNOTATION, &checksum);
    }
}
