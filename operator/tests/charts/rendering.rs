//! From a spec to objects, as the operator does it, with the charts of a catalog.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use meshwright::catalog::release_file::Images;
use meshwright::catalog::{Catalog, ChartName, Profile, Release, explain};
use meshwright::mesh::merge::merge;
use meshwright::mesh::object::{Desired, Owner};
use meshwright::mesh::problem::sentence;
use meshwright::mesh::render::{Charts, render};
use meshwright::mesh::validate::validate;
use meshwright::nodeports::{
    Discovery, KnownRange, Pins, PortRange, Question, Refused, allocate, blocker, reserved, wanted,
};
use meshwright::platform::{GENERIC, Platform, Platforms};
use meshwright_chart::Capabilities;
use serde_json::{Value, json};

/// The directories of the catalog.
pub fn catalog_dirs() -> Vec<PathBuf> {
    let named = std::env::var_os("MESHWRIGHT_CATALOG").filter(|dirs| !dirs.is_empty());
    let dirs = named.expect("MESHWRIGHT_CATALOG must name a catalog of Istio releases; `make catalog` makes one");
    std::env::split_paths(&dirs).collect()
}

/// One release with its charts loaded.
pub struct Mill {
    version: String,
    images: Images,
    charts: Charts,
}

/// Objects by kind, namespace and name, as `Service istio-system/istiod`.
pub type Objects = BTreeMap<String, Value>;

impl Mill {
    /// One for each release of the catalog.
    pub fn all() -> Vec<Self> {
        let catalog = Catalog::open(&catalog_dirs()).unwrap();
        assert!(!catalog.releases().is_empty(), "the catalog is empty; `make catalog` fills it");
        catalog.releases().iter().map(Self::of).collect()
    }

    fn of(release: &Release) -> Self {
        let load = |chart: &ChartName| (*chart, Arc::new(release.load_chart(*chart).unwrap()));
        Self {
            version: release.version().to_string(),
            images: release.images().clone(),
            charts: release.charts().keys().map(load).collect(),
        }
    }

    /// The release's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What a spec of this release's version with one gateway, `edge`, and then `fields`, comes to; or what is wrong
    /// with it.
    pub fn objects(&self, fields: &Value) -> Result<Objects, String> {
        self.render(fields, |_| true)
    }

    /// The same without Istio's CRDs, which take most of the time.
    pub fn objects_of_workloads(&self, fields: &Value) -> Result<Objects, String> {
        self.render(fields, |chart| chart != ChartName::Base)
    }

    /// The same in the order of their keys, with all that is known of each.
    pub fn desired(&self, fields: &Value) -> Result<Vec<Arc<Desired>>, String> {
        self.render_some(fields, |_| true)
    }

    fn render(&self, fields: &Value, is_wanted: impl Fn(ChartName) -> bool) -> Result<Objects, String> {
        let desired = self.render_some(fields, is_wanted)?;
        Ok(desired.iter().map(|object| (object.key.to_string(), object.value())).collect())
    }

    fn render_some(&self, fields: &Value, is_wanted: impl Fn(ChartName) -> bool) -> Result<Vec<Arc<Desired>>, String> {
        let mut spec = json!({"version": self.version, "gateways": [{"name": "edge"}]});
        merge(&mut spec, fields.clone());
        let spec: meshwright_api::MeshInstallationSpec = serde_json::from_value(spec).map_err(|e| e.to_string())?;
        let owner = Owner { installation: "test".into(), uid: "uid".into(), release: self.version.parse().unwrap() };
        let profile = Profile::get(spec.profile).unwrap();
        let platforms = Platforms::bundled().unwrap();
        let platform = platforms.get(if spec.platform.is_auto() { GENERIC } else { spec.platform.as_str() }).unwrap();
        let mut validated = validate(&spec, owner, &profile, platform).map_err(|problems| sentence(&problems))?;
        validated.releases.retain(|release| is_wanted(release.chart));
        let pins = pins(&spec, platform).map_err(|refused| blocker(&refused).message)?;
        let validated = validated.pin(pins).name_images(&spec.images, &self.images);
        render(&validated, &self.charts, &Capabilities::of_version("v1.36.3")).map_err(|error| explain(&error))
    }
}

/// The node ports that a spec gets where nobody else has any.
fn pins(spec: &meshwright_api::MeshInstallationSpec, platform: &Platform) -> Result<Pins, Vec<Refused>> {
    let range = KnownRange::of(&spec.node_ports, &Discovery::Told(PortRange::KUBERNETES), None)?;
    let (reserved, wanted) = (reserved(&spec.node_ports)?, wanted(spec, platform.gateway_service_type()));
    let question =
        Question { range: &range, reserved: &reserved, wanted: &wanted, remembered: &Pins::default(), held: &[] };
    Ok(allocate(&question)?.in_use(&wanted))
}

/// What is found in an object by a path of words. `name=x` picks the entry of a list that is called so, and `yaml`
/// goes on inside a text. Null if there is no such thing.
pub fn look(objects: &Objects, object: &str, path: &str) -> Value {
    look_at(objects, object, path.split_whitespace())
}

/// The same for words that have spaces in them.
pub fn look_at<'a>(objects: &Objects, object: &str, mut path: impl Iterator<Item = &'a str>) -> Value {
    let start = objects.get(object).cloned();
    let step = |at: Value, word: &str| -> Option<Value> {
        match at {
            Value::String(text) if word == "yaml" => serde_saphyr::from_str(&text).ok(),
            Value::Array(list) => match word.split_once('=') {
                Some((key, value)) => list.into_iter().find(|entry| entry[key] == value),
                None => list.into_iter().nth(word.parse().ok()?),
            },
            Value::Object(mut map) => map.remove(word),
            _ => None,
        }
    };
    start.and_then(|start| path.try_fold(start, step)).unwrap_or_default()
}
