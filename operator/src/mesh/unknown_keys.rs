//! Keys of the spec's free-form values that have no effect, since neither the chart, its templates nor istiod knows them.
//! They are reported as warnings and never refused: a chart of another release may know them.

use std::collections::BTreeSet;

use meshwright_api::MeshInstallationSpec;
use meshwright_chart::KnownKeys;
use semver::Version;
use serde_json::{Map, Value};

use super::decode::{ConfigDocument, ReleaseTypes, field_names, field_type, message_of};
use super::owned_keys::ValuesScope;
use super::problem::Problem;
use super::render::Charts;

/// Most warnings that are listed in status and printed by commands.
const LISTED: usize = 10;
/// The key for a chart that is a dependency of another one. Helm reads it, not the chart.
const DEPENDENCY_CONDITION: &str = "enabled";
/// Depth of messages that is searched: deeper ones contain themselves.
const MAX_DEPTH: usize = 32;

/// Keys with a field in the spec that does what they did in other charts.
const FIELDS: &[(ValuesScope, &str, &str)] = &[
    (ValuesScope::Gateway, "service.nodePorts", "use the gateway's service.ports[].nodePort"),
    (ValuesScope::Gateway, "global.meshConfig", "use spec.meshConfig"),
    (ValuesScope::Base, "meshConfig", "use spec.meshConfig"),
    (ValuesScope::Base, "pilot", "use spec.values.istiod"),
    (ValuesScope::Cni, "meshConfig", "use spec.meshConfig"),
    (ValuesScope::Cni, "pilot", "use spec.values.istiod"),
    (ValuesScope::Ztunnel, "ztunnel", "set its keys at the top level"),
    (ValuesScope::Istiod, "podDisruptionBudget", "set pdb"),
    (ValuesScope::Istiod, "ingressGateways", "use spec.gateways"),
    (ValuesScope::Istiod, "egressGateways", "use spec.gateways"),
    (ValuesScope::Istiod, "grafana", "use spec.addons"),
    (ValuesScope::Istiod, "kiali", "use spec.addons"),
    (ValuesScope::Istiod, "prometheus", "use spec.addons"),
    (ValuesScope::Istiod, "tracing", "use spec.addons and spec.meshConfig.extensionProviders"),
];

/// A warning for each unknown key, with the nearest known key or field. `spec` is as the user wrote it.
#[must_use]
pub fn unknown_keys(spec: &MeshInstallationSpec, release: &Version, charts: &Charts) -> Vec<Problem> {
    let (mut found, types) = (Vec::new(), ReleaseTypes::of(release));
    mesh_config(types, &spec.mesh_config.0, "spec.meshConfig", &mut found);
    let values = &spec.values;
    let shared = [
        (ValuesScope::Base, &values.base),
        (ValuesScope::Istiod, &values.istiod),
        (ValuesScope::Cni, &values.cni),
        (ValuesScope::Ztunnel, &values.ztunnel),
    ]
    .map(|(scope, values)| (scope, values, format!("spec.values.{}", scope.chart())));
    let gateways = spec
        .gateways
        .iter()
        .map(|gateway| (ValuesScope::Gateway, &gateway.values, format!("spec.gateways[{}].values", gateway.name)));
    for (scope, values, field) in shared.into_iter().chain(gateways).filter(|(_, values, _)| !values.is_empty()) {
        let Some(chart) = charts.get(&scope.chart()) else { continue };
        let known = chart.known_keys();
        ChartSearch { scope, types, known: &known, found: &mut found }.chart_values(&values.0, &field);
    }
    found
}

/// The first warnings, and how many more there are.
#[must_use]
pub fn abbreviated(warnings: &[Problem]) -> Vec<String> {
    let listed = warnings.iter().take(LISTED).map(ToString::to_string);
    let more = match warnings.len().saturating_sub(LISTED) {
        0 => None,
        more => Some(format!("spec: {more} more unknown keys; meshwright render lists all of them")),
    };
    listed.chain(more).collect()
}

fn mesh_config(types: ReleaseTypes, values: &Map<String, Value>, field: &str, found: &mut Vec<Problem>) {
    let known = KnownKeys::default();
    let mut search = ChartSearch { scope: ValuesScope::Istiod, types, known: &known, found };
    let level =
        KeyLevel { types, keys: Vec::new(), messages: ReleaseTypes::root(ConfigDocument::Mesh).into_iter().collect() };
    search.values(values, &level, field, "", 0);
}

/// What is known at one level of the values.
struct KeyLevel<'a> {
    types: ReleaseTypes,
    /// Keys of the chart.
    keys: Vec<&'a KnownKeys>,
    /// Messages that istiod decodes at this level.
    messages: Vec<&'static str>,
}

impl<'a> KeyLevel<'a> {
    /// The level below a key; `None` if the key is unknown.
    fn below(&self, key: &str) -> Option<LevelBelow<'a>> {
        let keys: Vec<&'a KnownKeys> = self.keys.iter().filter_map(|known| known.get(key)).collect();
        let of_message = |message: &&str| field_type(self.types, message, key);
        let fields: Vec<&'static str> = self.messages.iter().filter_map(of_message).collect();
        if keys.is_empty() && fields.is_empty() {
            return None;
        }
        let messages: Vec<&'static str> =
            fields.iter().copied().filter_map(|field| message_of(self.types, field)).collect();
        let accepts_all = keys.iter().any(|known| known.is_free_form()) || messages.len() < fields.len();
        Some(if accepts_all {
            LevelBelow::FreeForm
        } else {
            LevelBelow::Level(Self { types: self.types, keys, messages })
        })
    }

    fn names(&self) -> BTreeSet<&'a str> {
        let mut names: BTreeSet<&'a str> =
            self.keys.iter().flat_map(|known| known.entries()).map(|(name, _)| name).collect();
        for message in &self.messages {
            names.extend(field_names(self.types, message).map(|name| -> &'a str { name }));
        }
        names
    }
}

enum LevelBelow<'a> {
    /// Every key can have an effect.
    FreeForm,
    /// These keys have an effect.
    Level(KeyLevel<'a>),
}

/// Searches the values of one chart.
struct ChartSearch<'s> {
    scope: ValuesScope,
    types: ReleaseTypes,
    known: &'s KnownKeys,
    found: &'s mut Vec<Problem>,
}

impl<'s> ChartSearch<'s> {
    fn chart_values(&mut self, values: &Map<String, Value>, field: &str) {
        let root = ReleaseTypes::root(ConfigDocument::Values);
        let messages = match self.scope {
            ValuesScope::Istiod => root.into_iter().chain(self.message_of_values("pilot")).collect(),
            ValuesScope::Cni => self.message_of_values("cni").into_iter().collect(),
            ValuesScope::Base | ValuesScope::Ztunnel | ValuesScope::Gateway => Vec::new(),
        };
        let known = self.known;
        let top = KeyLevel { types: self.types, keys: vec![known], messages };
        let legacy = self.scope.legacy_scope();
        for (key, value) in values {
            let field = format!("{field}.{key}");
            match (key.as_str(), value) {
                (DEPENDENCY_CONDITION, _) => {}
                ("global", Value::Object(values)) => {
                    let global = self.global();
                    self.values(values, &global, &field, key, 1);
                }
                ("meshConfig", Value::Object(values)) if known.get(key).is_some() => {
                    mesh_config(self.types, values, &field, self.found);
                }
                (key, Value::Object(values)) if Some(key) == legacy => self.chart_values(values, &field),
                _ => self.value(key, value, &top, &field, key, 0),
            }
        }
    }

    /// The message of a key in the values of all charts.
    fn message_of_values(&self, key: &str) -> Option<&'static str> {
        field_type(self.types, ReleaseTypes::root(ConfigDocument::Values)?, key)
    }

    /// The level of `global`. The charts share one message; those of gateways and ztunnel read all values there too.
    fn global(&self) -> KeyLevel<'s> {
        let reads_all = matches!(self.scope, ValuesScope::Gateway | ValuesScope::Ztunnel);
        let keys = self.known.get("global").into_iter().chain(reads_all.then_some(self.known)).collect();
        KeyLevel { types: self.types, keys, messages: self.message_of_values("global").into_iter().collect() }
    }

    fn values(&mut self, values: &Map<String, Value>, level: &KeyLevel<'_>, field: &str, path: &str, depth: usize) {
        for (key, value) in values {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            self.value(key, value, level, &format!("{field}.{key}"), &path, depth);
        }
    }

    /// `field` is the path in the spec, `path` that in the chart's values.
    fn value(&mut self, key: &str, value: &Value, level: &KeyLevel<'_>, field: &str, path: &str, depth: usize) {
        let Some(below) = level.below(key) else {
            let advice = self.advice(key, level, path);
            self.found.push(Problem::new(field, format!("unknown key, it has no effect; {advice}")));
            return;
        };
        let LevelBelow::Level(below) = below else { return };
        if depth >= MAX_DEPTH {
            return;
        }
        match value {
            Value::Object(values) => self.values(values, &below, field, path, depth + 1),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Object(values) = item {
                        self.values(values, &below, &format!("{field}[{index}]"), path, depth + 1);
                    }
                }
            }
            _ => {}
        }
    }

    fn advice(&self, key: &str, level: &KeyLevel<'_>, path: &str) -> String {
        let is_same = |entry: &&(ValuesScope, &str, &str)| entry.0 == self.scope && entry.1 == path;
        if let Some((_, _, instead)) = FIELDS.iter().find(is_same) {
            return (*instead).to_owned();
        }
        let nearest = level.names().into_iter().map(|name| (distance(key, name), name)).min();
        if let Some((_, name)) = nearest.filter(|(distance, _)| *distance <= allowed_distance(key)) {
            return format!("did you mean {name}?");
        }
        let mut elsewhere = Vec::new();
        paths_of(self.known, key, "", &mut elsewhere);
        match &*elsewhere {
            [only] => format!("did you mean {only}, from the top of the chart's values?"),
            _ => "check its spelling, or remove it".to_owned(),
        }
    }
}

/// The paths at which a chart has a key of this name.
fn paths_of(known: &KnownKeys, key: &str, prefix: &str, found: &mut Vec<String>) {
    for (name, below) in known.entries() {
        let path = format!("{prefix}{name}");
        paths_of(below, key, &format!("{path}."), found);
        if name == key {
            found.push(path);
        }
    }
}

/// The number of edits that still make a similar name.
fn allowed_distance(name: &str) -> usize {
    (name.len() / 3).clamp(1, 3)
}

/// The number of letters to insert, delete or replace (Levenshtein), without regard to case.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.to_lowercase().chars().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for (other, pair) in to.iter().zip(row.windows(2)) {
            let [diagonal, above] = pair else { continue };
            left = (diagonal + usize::from(*other != letter)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
