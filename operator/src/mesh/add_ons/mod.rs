//! PURE: add-ons. Their charts come with the program; here are their values, how they find each other, and what the mesh
//! has to know of them.

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

/// Annotation on the pod template of add-ons: they read their configuration when they start.
const CONFIGURATION_ANNOTATION: &str = "meshwright.dev/configuration";

/// Tables of which a default can be taken away: a pod can be without a limit.
const MAY_GO: [&str; 2] = ["resources.limits.", "resources.requests."];

/// One add-on with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct AddOnRelease {
    /// Which.
    pub name: AddOnName,
    /// Its own version.
    pub version: String,
    /// Values, laid on the chart's own.
    pub values: Value,
}

impl AddOnRelease {
    /// The add-ons of a spec, by name; what is wrong with their values goes to `problems`.
    #[must_use]
    pub fn all(spec: &MeshInstallationSpec, platform: &Platform, problems: &mut Vec<Problem>) -> Vec<Self> {
        let by_name: BTreeMap<AddOnName, &AddOn> = spec.addons.iter().map(|add_on| (add_on.name, add_on)).collect();
        if by_name.len() < spec.addons.len() {
            problems.push(Problem::new("spec.addons", "one is listed twice: list each once"));
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
            refuse_nulls(&field, key, value, problems);
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

    /// Its chart.
    pub fn chart(&self) -> Result<Chart, LoadAddOnError> {
        bundled::chart(self.name)
    }

    /// What its objects belong to.
    #[must_use]
    pub fn component(&self) -> Component {
        Component::AddOn(self.name.as_str().to_owned())
    }
}

/// The charts of all add-ons.
pub fn charts() -> Result<BTreeMap<AddOnName, Chart>, LoadAddOnError> {
    AddOnName::ALL.into_iter().map(|name| Ok((name, bundled::chart(name)?))).collect()
}

/// To Helm a null takes a default away, and charts do without no value of theirs but single resources.
fn refuse_nulls(field: &str, path: &str, value: &Value, problems: &mut Vec<Problem>) {
    match value {
        Value::Null if MAY_GO.iter().any(|table| path.starts_with(table)) => {}
        Value::Null => {
            problems.push(Problem::new(format!("{field}.{path}"), "is null: give a value, or leave it out"));
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                refuse_nulls(field, &format!("{path}.{key}"), value, problems);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                refuse_nulls(field, &format!("{path}[{index}]"), value, problems);
            }
        }
        _ => {}
    }
}

/// Lets the pods among these objects follow the `ConfigMap`s among them.
pub(super) fn configure_pods(objects: &mut [(&str, Value)]) {
    let is_configuration = |object: &&Value| object.get("kind").and_then(Value::as_str) == Some(Kind::ConfigMap.name());
    let data: Vec<&Value> =
        objects.iter().map(|(_, object)| object).filter(is_configuration).filter_map(|map| map.get("data")).collect();
    let checksum = short_hash(json!(data).to_string().as_bytes());
    for (_, object) in objects {
        annotate_pods(object, CONFIGURATION_ANNOTATION, &checksum);
    }
}
