//! The chart values that users set, in the form in which they are rendered: legacy scopes are lifted, Service fields of
//! gateways are moved to the gateway, and keys that the operator owns are removed if they equal what it sets.

use meshwright_api::{Gateway, MeshInstallationSpec};
use semver::Version;
use serde_json::{Map, Value, json};

use super::merge::{get, merge};
use super::node_components::NodeComponents;
use super::owned_keys::{ValuesScope, keys_of, refusal};
use super::problem::Problem;
use super::revisions::DEFAULT;
use super::values::{self, Defaults};
use crate::catalog::{ChartName, Profile};
use crate::platform::Platform;

/// The spec with accepted values. Adds a problem for each key that contradicts the operator's own values.
#[must_use]
pub fn accept(
    spec: &MeshInstallationSpec,
    release: &Version,
    profile: &Profile,
    platform: &Platform,
    problems: &mut Vec<Problem>,
) -> MeshInstallationSpec {
    let mut accepted = spec.clone();
    for gateway in &mut accepted.gateways {
        *gateway = gateway.with_service_of_values().into_owned();
    }
    let plain = without_values(&accepted);
    let components = NodeComponents::of(&plain, profile, platform);
    let release = release.to_string();
    let own = |computed, gateway| OwnValues { spec: &plain, gateway, computed, release: &release, profile, platform };
    let given = &mut accepted.values;
    let charts = [
        (ValuesScope::Base, &mut given.base),
        (ValuesScope::Istiod, &mut given.istiod),
        (ValuesScope::Cni, &mut given.cni),
        (ValuesScope::Ztunnel, &mut given.ztunnel),
    ];
    for (scope, given) in charts.into_iter().filter(|(_, given)| !given.is_empty()) {
        let defaults = Defaults::of(scope.chart(), profile, platform);
        let computed = match scope {
            ValuesScope::Base => values::base(&plain, defaults),
            ValuesScope::Istiod => values::istiod(&plain, &components, defaults),
            ValuesScope::Cni => values::cni(&plain, &components, defaults),
            ValuesScope::Ztunnel | ValuesScope::Gateway => values::ztunnel(&plain, defaults),
        };
        let own = own(computed, None);
        own.check(scope, &mut given.0, &format!("spec.values.{}", scope.chart()), problems);
        lift(scope, &mut given.0);
        own.remove_equal_variables(&mut given.0);
    }
    let gateways = accepted.gateways.iter_mut().zip(&plain.gateways);
    for (given, gateway) in gateways.filter(|(given, _)| !given.values.is_empty()) {
        let computed = values::gateway(&plain, gateway, Defaults::of(ChartName::Gateway, profile, platform));
        let field = format!("spec.gateways[{}].values", gateway.name);
        own(computed, Some(gateway)).check(ValuesScope::Gateway, &mut given.values.0, &field, problems);
    }
    accepted
}

/// The spec as if users set no values.
fn without_values(spec: &MeshInstallationSpec) -> MeshInstallationSpec {
    let plain = |gateway: &Gateway| Gateway { values: meshwright_api::FreeForm::default(), ..gateway.clone() };
    MeshInstallationSpec {
        values: meshwright_api::ChartValues::default(),
        gateways: spec.gateways.iter().map(plain).collect(),
        ..spec.clone()
    }
}

/// The paths at which a user can set a value: the legacy scope, which takes precedence, and the top level.
#[must_use]
pub fn spellings(scope: ValuesScope, path: &str) -> Vec<String> {
    scope.legacy_scope().map(|legacy| format!("{legacy}.{path}")).into_iter().chain([path.to_owned()]).collect()
}

/// The path at which a user has set a value.
#[must_use]
pub fn written_path(scope: ValuesScope, values: &Map<String, Value>, path: &[&str]) -> String {
    let legacy = scope.legacy_scope().filter(|legacy| {
        let scope = values.get(*legacy);
        scope.is_some_and(|scope| path.iter().try_fold(scope, |at, key| at.get(key)).is_some())
    });
    legacy.into_iter().chain(path.iter().copied()).collect::<Vec<_>>().join(".")
}

/// Merges the legacy scope over the top level, as the charts of istiod and cni do.
fn lift(scope: ValuesScope, values: &mut Map<String, Value>) {
    let Some(legacy) = scope.legacy_scope() else { return };
    match values.remove(legacy) {
        Some(Value::Object(mut lifted)) => {
            // The charts lift one level only.
            lifted.remove(legacy);
            let mut merged = Value::Object(std::mem::take(values));
            merge(&mut merged, Value::Object(lifted));
            if let Value::Object(merged) = merged {
                *values = merged;
            }
        }
        None | Some(Value::Null) => {}
        // The chart rejects it.
        Some(other) => drop(values.insert(legacy.to_owned(), other)),
    }
}

/// What happens to a key that the operator owns.
enum Acceptance {
    /// It has no effect.
    Remove,
    /// No field of the spec determines the value.
    Keep,
    /// It contradicts the operator.
    Refuse,
}

/// What the operator sets for a chart.
struct OwnValues<'a> {
    spec: &'a MeshInstallationSpec,
    gateway: Option<&'a Gateway>,
    computed: Value,
    release: &'a str,
    profile: &'a Profile,
    platform: &'a Platform,
}

impl OwnValues<'_> {
    fn check(&self, scope: ValuesScope, given: &mut Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
        let mut values = Value::Object(std::mem::take(given));
        for (key, instead) in keys_of(scope) {
            for path in spellings(scope, key) {
                let Some(value) = get(&values, &path) else { continue };
                match self.acceptance(scope, key, value) {
                    Acceptance::Keep => {}
                    Acceptance::Remove => remove(&mut values, &path),
                    Acceptance::Refuse => problems.push(refusal(format!("{field}.{path}"), value, instead)),
                }
            }
        }
        if let Value::Object(values) = values {
            *given = values;
        }
    }

    /// Removes environment variables that the operator sets to the same value.
    fn remove_equal_variables(&self, given: &mut Map<String, Value>) {
        let own = self.computed.get("env");
        let Some(Value::Object(variables)) = given.get_mut("env") else { return };
        variables.retain(|name, value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            own.and_then(|own| own.get(name)?.as_str()) != Some(text.as_str())
        });
    }

    fn acceptance(&self, scope: ValuesScope, key: &str, value: &Value) -> Acceptance {
        if value.is_null() {
            Acceptance::Remove
        } else if self.is_undetermined(scope, key) {
            Acceptance::Keep
        } else if self.equals_own(key, value) {
            Acceptance::Remove
        } else {
            Acceptance::Refuse
        }
    }

    /// Whether the fields that determine a value are not set.
    fn is_undetermined(&self, scope: ValuesScope, key: &str) -> bool {
        let (control_plane, images) = (&self.spec.control_plane, &self.spec.images);
        match (scope, key) {
            (ValuesScope::Istiod, "autoscaleEnabled" | "autoscaleMin" | "autoscaleMax" | "replicaCount") => {
                control_plane.replicas.is_none() && control_plane.autoscaling.is_none()
            }
            (ValuesScope::Gateway, "replicaCount" | "autoscaling.enabled") => {
                self.gateway.is_some_and(|gateway| gateway.replicas.is_none() && gateway.autoscaling.is_none())
            }
            // Images with a digest are written with their registry.
            (_, "hub" | "global.hub") => images.registry.is_none() && images.digests.is_empty(),
            _ => false,
        }
    }

    /// Whether a value is the operator's own or, if it sets none, the chart's default.
    fn equals_own(&self, key: &str, value: &Value) -> bool {
        let own = get(&self.computed, key);
        if own == Some(value) {
            return true;
        }
        let spec = self.spec;
        let text = value.as_str();
        let is_one_of = |accepted: &[Option<&str>]| {
            text.is_some_and(|text| text.is_empty() || accepted.iter().flatten().any(|accepted| *accepted == text))
        };
        match key {
            "profile" | "global.profile" => text.is_some_and(|text| self.is_profile(text)),
            "platform" | "global.platform" => {
                is_one_of(&[Some(self.platform.name()), self.platform.chart_platform(), self.profile.platform()])
            }
            "revision" => is_one_of(&[spec.revision.as_deref()]),
            "global.istioNamespace" | "istioNamespace" => is_one_of(&[Some(&spec.namespace)]),
            "hub" | "global.hub" => is_one_of(&[spec.images.registry.as_deref()]),
            "tag" | "global.tag" => is_one_of(&[Some(self.release)]),
            "global.resourceScope" | "resourceScope" => is_one_of(&[Some("all")]),
            "defaultRevision" => {
                let follows = spec.revision.is_none() || spec.tags.iter().any(|tag| tag.name == DEFAULT);
                text == Some(DEFAULT) && follows
            }
            "revisionTags" => {
                let listed = value.as_array().map(|tags| tags.iter().filter_map(Value::as_str).collect::<Vec<_>>());
                listed.is_some_and(|mut listed| {
                    let mut tags: Vec<&str> = spec.tags.iter().map(|tag| tag.name.as_str()).collect();
                    listed.sort_unstable();
                    tags.sort_unstable();
                    listed.is_empty() || listed == tags
                })
            }
            "configMap" => *value == true,
            "autoscaleEnabled" => own.is_none() && *value == true,
            "autoscaleMin" | "replicaCount" => own.is_none() && *value == 1,
            "autoscaleMax" => own.is_none() && *value == 5,
            "istiodRemote" => is_part_of(value, &istiod_remote()),
            "global.externalIstiod"
            | "global.configCluster"
            | "global.omitSidecarInjectorConfigMap"
            | "global.operatorManageWebhooks" => *value == false,
            "trustedZtunnelName" | "resourceName" => is_one_of(&[Some("ztunnel")]),
            "taint.namespace" => is_one_of(&[Some(&spec.namespace).filter(|_| own.is_none()).map(String::as_str)]),
            "name" => is_one_of(&[self.gateway.map(|gateway| gateway.name.as_str())]),
            "kind" => text == Some("Deployment"),
            "networkGateway" => is_one_of(&[self.gateway.and_then(|gateway| gateway.network.as_deref())]),
            "networkGatewayPorts" => is_part_of(value, &network_gateway_ports()),
            "service.loadBalancerSourceRanges" => value.as_array().is_some_and(Vec::is_empty),
            "compatibilityVersion"
            | "global.compatibilityVersion"
            | "base.validationCABundle"
            | "base.validationURL"
            | "trustedZtunnelNamespace"
            | "xdsAddress"
            | "service.clusterIP"
            | "service.loadBalancerClass"
            | "service.externalTrafficPolicy" => is_one_of(&[]),
            _ => false,
        }
    }

    /// Whether a profile of the charts is that of the spec. The charts have no profile `default`.
    fn is_profile(&self, name: &str) -> bool {
        let chart_profile = self.profile.chart_profile();
        name.is_empty()
            || name == self.spec.profile.as_str()
            || chart_profile == Some(name)
            || (chart_profile.is_none() && name == "default")
    }
}

/// The chart's default of `istiodRemote`.
fn istiod_remote() -> Value {
    json!({
        "enabled": false, "enabledLocalInjectorIstiod": false, "injectionURL": "", "injectionPath": "/inject",
        "injectionCABundle": "",
    })
}

/// The chart's default of `networkGatewayPorts`.
fn network_gateway_ports() -> Value {
    let port = |number: i32| json!({"port": number, "targetPort": number});
    json!({"status-port": port(15021), "tls": port(15443), "tls-istiod": port(15012), "tls-webhook": port(15017)})
}

/// Whether every value that is set equals its default.
fn is_part_of(value: &Value, defaults: &Value) -> bool {
    match (value, defaults) {
        (Value::Object(values), Value::Object(defaults)) => {
            values.iter().all(|(key, value)| defaults.get(key).is_some_and(|default| is_part_of(value, default)))
        }
        (value, default) => value == default,
    }
}

/// Removes the value at a path, and the maps that become empty.
fn remove(values: &mut Value, path: &str) {
    let Value::Object(map) = values else { return };
    match path.split_once('.') {
        None => drop(map.remove(path)),
        Some((first, rest)) => {
            let Some(inner) = map.get_mut(first) else { return };
            remove(inner, rest);
            if inner.as_object().is_some_and(Map::is_empty) {
                map.remove(first);
            }
        }
    }
}

#[cfg(test)]
mod tests;
