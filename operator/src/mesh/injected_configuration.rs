//! The configuration that injected pods get, as a hash among the annotations that istiod adds to each of them. A pod with
//! another hash keeps an older configuration until it is restarted.

use std::sync::Arc;

use serde_json::{Value, json};

use super::kind::Kind;
use super::loaded_configuration::TEMPLATE_NAME;
use super::merge::{get, lacks_entry, set};
use super::object::{Component, DesiredObject, short_hash};
use super::proxy_inputs::{parse, used_values};
use super::validated::ValidatedSpec;

/// Annotation of injected pods: the hash of the configuration that they were injected with.
pub const INJECTED_CONFIGURATION_ANNOTATION: &str = "meshwright.dev/injected-configuration";

/// Stands for the hash until the configuration is rendered.
const PLACEHOLDER: &str = "meshwright-hash-of-injected-configuration";

/// Templates that istiod doesn't use for injection: that of the injection check, and those of the gateways that istiod
/// creates, whose pods it rolls itself.
const OTHER_TEMPLATES: [&str; 5] = [TEMPLATE_NAME, "waypoint", "kube-gateway", "agentgateway", "agentgateway-waypoint"];

/// Values that istiod reads without a template.
const INJECTOR_VALUES: [&str; 6] = [
    "global.multiCluster.clusterName",
    "global.network",
    "global.proxy.holdApplicationUntilProxyStarts",
    "global.proxy_init.image",
    "sidecarInjectorWebhook.injectedAnnotations",
    "sidecarInjectorWebhook.rewriteAppHTTPProbe",
];

/// Settings of the mesh that are in the spec of injected pods. istiod sends the others to running proxies.
const POD_SETTINGS: [&str; 6] = [
    "defaultConfig",
    "enablePrometheusMerge",
    "inboundTrafficPolicy",
    "proxyInboundListenPort",
    "proxyListenPort",
    "trustDomain",
];

/// Adds the annotation to the values of the istiod chart, unless they set it.
pub(super) fn add_annotation(values: &mut Value) {
    let annotations = "sidecarInjectorWebhook.injectedAnnotations";
    if lacks_entry(values, annotations, INJECTED_CONFIGURATION_ANNOTATION) {
        set(values, annotations, json!({INJECTED_CONFIGURATION_ANNOTATION: PLACEHOLDER}));
    }
}

/// Puts the hash into a rendered `ConfigMap` of istiod.
pub(super) fn fill_in(config_map: &mut Value, hash: &str) {
    let texts = config_map.get_mut("data").and_then(Value::as_object_mut);
    for text in texts.into_iter().flat_map(serde_json::Map::values_mut) {
        if let Value::String(text) = text
            && text.contains(PLACEHOLDER)
        {
            *text = text.replace(PLACEHOLDER, hash);
        }
    }
}

/// The hash of the data of the injector's and the mesh's `ConfigMap`s. `None` if the injector's can't be parsed.
#[must_use]
pub(super) fn hash_of(injector: &Value, mesh: Option<&Value>) -> Option<String> {
    let config: Value = parse(injector.get("config")?)?;
    let values: Value = parse(injector.get("values")?)?;
    let mesh: Value = mesh.and_then(|data| data.get("mesh")).and_then(parse).unwrap_or_default();
    let templates: Vec<Value> = config
        .get("templates")?
        .as_object()?
        .iter()
        .filter(|(name, _)| !OTHER_TEMPLATES.contains(&name.as_str()))
        .map(|(name, text)| json!([name, text, used_values(text.as_str().unwrap_or_default(), &values)]))
        .collect();
    let read: Vec<Option<&Value>> = INJECTOR_VALUES.iter().map(|path| get(&values, path)).collect();
    let settings: Vec<Option<&Value>> = POD_SETTINGS.iter().map(|name| mesh.get(name)).collect();
    let of_pods = json!([templates, config.get("defaultTemplates"), config.get("aliases"), read, settings]);
    Some(short_hash(of_pods.to_string().as_bytes()))
}

/// The hash that new pods of this control plane get. `None` for a revision of an older operator.
#[must_use]
pub fn injected_configuration(validated: &ValidatedSpec, desired: &[Arc<DesiredObject>]) -> Option<String> {
    if !validated.defaults.checks_loading() {
        return None;
    }
    let name = validated.revision.object_name("istio-sidecar-injector");
    let is_injector = |d: &&Arc<DesiredObject>| {
        d.key.kind == Kind::ConfigMap && d.key.name == name && d.component == Component::Istiod
    };
    let object = desired.iter().find(is_injector)?.value();
    let values: Value = parse(object.pointer("/data")?.get("values")?)?;
    let annotations = get(&values, "sidecarInjectorWebhook.injectedAnnotations")?;
    annotations.get(INJECTED_CONFIGURATION_ANNOTATION)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::object::Owner;
    use crate::mesh::operator_defaults::OperatorDefaults;

    fn injector(values: &Value) -> Value {
        let templates = json!({
            "sidecar": "level={{ .Values.global.proxy.logLevel }}", "waypoint": "{{ .Values.global.waypoint.resources }}",
            TEMPLATE_NAME: "{{ .Values.all }}",
        });
        let config = json!({"templates": templates, "defaultTemplates": ["sidecar"], "policy": "enabled"});
        json!({"config": config.to_string(), "values": values.to_string()})
    }

    fn hash(values: &Value, mesh: &str) -> String {
        hash_of(&injector(values), Some(&json!({"mesh": mesh}))).unwrap()
    }

    #[test]
    fn hash_covers_what_pods_get() {
        let before = hash(&json!({}), "");
        assert_ne!(before, hash(&json!({"global": {"proxy": {"logLevel": "debug"}}}), ""));
        assert_ne!(before, hash(&json!({"global": {"tag": "1.2"}}), ""));
        assert_ne!(before, hash(&json!({"sidecarInjectorWebhook": {"rewriteAppHTTPProbe": true}}), ""));
        assert_ne!(before, hash(&json!({}), "defaultConfig: {tracing: {zipkin: {address: 'new:9411'}}}"));
    }

    #[test]
    fn hash_ignores_what_only_istiod_reads() {
        let before = hash(&json!({}), "");
        assert_eq!(before, hash(&json!({"pilot": {"env": {"A": "1"}}, "all": 1}), "accessLogFile: /dev/stdout"));
        assert_eq!(before, hash(&json!({"global": {"waypoint": {"resources": {"limits": {}}}}}), ""));
    }

    #[test]
    fn rendered_hash_replaces_placeholder() {
        let mut values = json!({"sidecarInjectorWebhook": {"injectedAnnotations": {"a": "b"}}});
        add_annotation(&mut values);
        let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector"},
            "data": injector(&values)});
        fill_in(&mut map, "0123");
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 32, 0) };
        let desired = DesiredObject::from_rendered(map, &Component::Istiod, &owner, "istio-system").unwrap();
        let desired = [Arc::new(desired)];
        let validated = ValidatedSpec { defaults: OperatorDefaults::CURRENT, ..ValidatedSpec::empty(owner.clone()) };
        assert_eq!(injected_configuration(&validated, &desired).as_deref(), Some("0123"));
        assert_eq!(injected_configuration(&ValidatedSpec::empty(owner), &desired), None);
    }

    #[test]
    fn keeps_annotation_of_user() {
        let mut values =
            json!({"sidecarInjectorWebhook": {"injectedAnnotations": {INJECTED_CONFIGURATION_ANNOTATION: "own"}}});
        let before = values.clone();
        add_annotation(&mut values);
        assert_eq!(values, before);
    }
}
