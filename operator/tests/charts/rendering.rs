//! Renders specs as the operator does, with the charts of a catalog.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use meshwright::catalog::{Catalog, ChartName, Profile, Release, ReleaseImages, error_chain};
use meshwright::mesh::merge::merge;
use meshwright::mesh::object::{DesiredObject, Owner};
use meshwright::mesh::operator_defaults::OperatorDefaults;
use meshwright::mesh::problem::sentence;
use meshwright::mesh::render::{Charts, render};
use meshwright::mesh::validate::validate;
use meshwright::nodeports::{
    AllocationError, AllocationInput, KnownRange, Pins, PortRange, RangeDiscovery, allocate, blocker, port_requests,
    reserved,
};
use meshwright::platform::{GENERIC, Platform, Platforms};
use meshwright_chart::Capabilities;
use serde_json::{Value, json};

/// The directories in `MESHWRIGHT_CATALOG`.
pub fn catalog_dirs() -> Vec<PathBuf> {
    let named = std::env::var_os("MESHWRIGHT_CATALOG").filter(|dirs| !dirs.is_empty());
    let dirs = named.expect("MESHWRIGHT_CATALOG must name a catalog of Istio releases; `make catalog` creates one");
    std::env::split_paths(&dirs).collect()
}

/// Renders specs with the charts of one release.
pub struct ChartRenderer {
    version: String,
    images: ReleaseImages,
    charts: Charts,
    defaults: OperatorDefaults,
}

/// Objects by kind, namespace and name, as `Service istio-system/istiod`.
pub type Objects = BTreeMap<String, Value>;

impl ChartRenderer {
    /// Creates a renderer for each release of the catalog.
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
            defaults: OperatorDefaults::FIRST,
        }
    }

    /// Adds the operator's own values, as for a new mesh.
    pub fn with_operator_values(self) -> Self {
        Self { defaults: OperatorDefaults::CURRENT, ..self }
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn charts(&self) -> &Charts {
        &self.charts
    }

    /// Renders a spec of this release with one gateway, `edge`, and `fields`. Returns the error of an invalid spec.
    pub fn objects(&self, fields: &Value) -> Result<Objects, String> {
        self.render(fields, |_| true)
    }

    /// As [`Self::objects`], without Istio's CRDs, which take most of the time.
    pub fn objects_of_workloads(&self, fields: &Value) -> Result<Objects, String> {
        self.render(fields, |chart| chart != ChartName::Base)
    }

    /// As [`Self::objects`], with stages and components.
    pub fn desired(&self, fields: &Value) -> Result<Vec<Arc<DesiredObject>>, String> {
        self.render_some(fields, |_| true)
    }

    fn render(&self, fields: &Value, is_wanted: impl Fn(ChartName) -> bool) -> Result<Objects, String> {
        let desired = self.render_some(fields, is_wanted)?;
        Ok(desired.iter().map(|object| (object.key.to_string(), object.value())).collect())
    }

    fn render_some(
        &self,
        fields: &Value,
        is_wanted: impl Fn(ChartName) -> bool,
    ) -> Result<Vec<Arc<DesiredObject>>, String> {
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
        let validated = validated.with_node_ports(pins).with_image_digests(&spec.images, &self.images);
        let validated = validated.with_defaults(self.defaults);
        render(&validated, &self.charts, &Capabilities::of_version("v1.36.3")).map_err(|error| error_chain(&error))
    }
}

/// The node ports of a spec in a cluster without other Services.
fn pins(spec: &meshwright_api::MeshInstallationSpec, platform: &Platform) -> Result<Pins, Vec<AllocationError>> {
    let range = KnownRange::of(&spec.node_ports, &RangeDiscovery::Known(PortRange::KUBERNETES), None)?;
    let (reserved, wanted) = (reserved(&spec.node_ports)?, port_requests(spec, platform.gateway_service_type()));
    let input = AllocationInput {
        range: &range,
        reserved: &reserved,
        requests: &wanted,
        previous: &Pins::default(),
        used: &[],
    };
    Ok(allocate(&input)?.in_use(&wanted))
}

/// The value in an object at a path of words. `name=x` selects the list entry with that name, and `yaml` parses a text.
/// Null if the path does not exist.
pub fn value_at(objects: &Objects, object: &str, path: &str) -> Value {
    value_at_path(objects, object, path.split_whitespace())
}

/// As [`value_at`], for words that contain spaces.
pub fn value_at_path<'a>(objects: &Objects, object: &str, mut path: impl Iterator<Item = &'a str>) -> Value {
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
