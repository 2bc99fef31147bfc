//! Whether istiod has loaded the configuration in its ConfigMaps. An injection template, which only the pod of the
//! injection check requests, writes into the pod's annotations what istiod has loaded.

use std::sync::Arc;

use semver::Version;
use serde_json::{Value, json};

use super::decode::{ReleaseTypes, different_value, unloaded_mesh_setting};
use super::injected_configuration::add_annotation;
use super::kind::Kind;
use super::merge::{lacks_entry, set};
use super::object::{Component, DesiredObject, ObjectKey};
use super::observed::{ObjectState, ObservedObjects};
use super::validated::ValidatedSpec;

/// Name of the injection template.
pub const TEMPLATE_NAME: &str = "meshwright";
const LOADED_VALUES: &str = "meshwright.dev/loaded-values";
const LOADED_MESH_CONFIG: &str = "meshwright.dev/loaded-mesh-config";

/// A JSON text within JSON is also a YAML scalar. All annotations of a pod may have 256 KiB, so that larger documents are
/// left out.
const TEMPLATE: &str = r#"{{- $values := toJson .Values }}
{{- $mesh := protoToJSON .MeshConfig }}
metadata:
  annotations:
    meshwright.dev/loaded-values: {{ if lt (len $values) 150000 }}{{ toJson $values }}{{ else }}""{{ end }}
    meshwright.dev/loaded-mesh-config: {{ if lt (len $mesh) 80000 }}{{ toJson $mesh }}{{ else }}""{{ end }}
"#;

/// The environment variable of istiod that names a second `ConfigMap` with a mesh configuration.
const SHARED_MESH_CONFIG: &str = "SHARED_MESH_CONFIG";

/// Adds the template to the values of the istiod chart, and the annotation that shows a pod's injected configuration.
/// Values that are set already stay.
pub(super) fn add_template(values: &mut Value) {
    let templates = "sidecarInjectorWebhook.templates";
    if lacks_entry(values, templates, TEMPLATE_NAME) {
        set(values, templates, json!({TEMPLATE_NAME: TEMPLATE}));
    }
    add_annotation(values);
}

/// What istiod must have loaded, since it is in its ConfigMaps.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedConfiguration {
    /// Templates of a pod that requests none.
    default_templates: Vec<String>,
    injector: ObjectKey,
    values: Value,
    /// `None` if istiod may read another mesh configuration as well.
    mesh: Option<(ObjectKey, Value)>,
    release: Version,
}

/// Whether the ConfigMaps in the cluster are those of `desired`, and have the template.
#[must_use]
pub fn is_written(validated: &ValidatedSpec, desired: &[Arc<DesiredObject>], live: &ObservedObjects) -> bool {
    let matches = |map: &DesiredObject| {
        live.get(&map.key).is_some_and(|live| live.state == ObjectState::of(Kind::ConfigMap, &map.value()))
    };
    validated.defaults.checks_loading()
        && config_map(validated, desired, "istio-sidecar-injector").is_some_and(matches)
        && config_map(validated, desired, "istio").is_none_or(matches)
}

fn config_map<'d>(
    validated: &ValidatedSpec,
    desired: &'d [Arc<DesiredObject>],
    name: &str,
) -> Option<&'d DesiredObject> {
    let name = validated.revision.object_name(name);
    let found = desired.iter().find(|d| d.key.kind == Kind::ConfigMap && d.key.name == name);
    found.filter(|map| map.component == Component::Istiod).map(AsRef::as_ref)
}

impl ExpectedConfiguration {
    /// Reads the rendered ConfigMaps. `None` if they lack the template.
    #[must_use]
    pub fn new(validated: &ValidatedSpec, desired: &[Arc<DesiredObject>]) -> Option<Self> {
        let document = |map: &DesiredObject, key: &str| {
            let text = map.value().pointer("/data")?.get(key)?.as_str()?.to_owned();
            meshwright_chart::parse_yaml(&text).ok()
        };
        let injector = config_map(validated, desired, "istio-sidecar-injector")?;
        let config = document(injector, "config")?;
        let template = config.get("templates")?.get(TEMPLATE_NAME)?.as_str()?;
        if template.trim() != TEMPLATE.trim() {
            return None;
        }
        let names = config.get("defaultTemplates").and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned));
        let mesh = config_map(validated, desired, "istio").filter(|_| !has_shared_mesh_config(desired));
        Some(Self {
            default_templates: names.collect(),
            injector: injector.key.clone(),
            values: document(injector, "values")?,
            mesh: mesh.and_then(|map| Some((map.key.clone(), document(map, "mesh")?))),
            release: validated.owner.release.clone(),
        })
    }

    /// The value of the annotation `inject.istio.io/templates` of a pod that would request no template.
    #[must_use]
    pub fn templates(&self) -> String {
        let names = self.default_templates.iter().map(String::as_str);
        let names: Vec<&str> = names.chain([TEMPLATE_NAME]).collect();
        if names.len() == 1 { format!("sidecar,{TEMPLATE_NAME}") } else { names.join(",") }
    }

    /// What istiod has not loaded, from the pod of an injection check; `None` if it has loaded everything.
    #[must_use]
    pub fn unloaded(&self, pod: &Value) -> Option<String> {
        let annotations = pod.pointer("/metadata/annotations");
        let text = |name: &str| annotations.and_then(|all| all.get(name)?.as_str()).map(str::to_owned);
        let (Some(values), Some(mesh)) = (text(LOADED_VALUES), text(LOADED_MESH_CONFIG)) else {
            return Some(self.without_template());
        };
        let values: Option<Value> = serde_json::from_str(&values).ok();
        if let Some(path) = values.and_then(|loaded| different_value(&self.values, &loaded)) {
            return Some(format!("{}: data.values.{path} differs", self.injector));
        }
        let (key, rendered) = self.mesh.as_ref()?;
        let loaded: Value = serde_json::from_str(&mesh).ok()?;
        let path = unloaded_mesh_setting(ReleaseTypes::of(&self.release), rendered, &loaded)?;
        Some(format!("{key}: data.mesh.{path} differs"))
    }

    /// What istiod has not loaded, if it denied the pod because it doesn't know the template.
    #[must_use]
    pub fn unknown_template(&self, denial: &str) -> Option<String> {
        let message = format!("requested template {TEMPLATE_NAME:?} not found");
        denial.contains(&message).then(|| self.without_template())
    }

    fn without_template(&self) -> String {
        format!("{}: data.config.templates.{TEMPLATE_NAME} is unknown to it", self.injector)
    }
}

fn has_shared_mesh_config(desired: &[Arc<DesiredObject>]) -> bool {
    let is_istiod = |d: &&Arc<DesiredObject>| d.key.kind == Kind::Deployment && d.component == Component::Istiod;
    desired.iter().filter(is_istiod).any(|istiod| {
        let object = istiod.value();
        let containers = object.pointer("/spec/template/spec/containers").and_then(Value::as_array);
        let variables = |container: &Value| container.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_set = |variable: &Value| {
            variable.get("name").and_then(Value::as_str) == Some(SHARED_MESH_CONFIG)
                && variable.get("value").and_then(Value::as_str) != Some("")
        };
        containers.into_iter().flatten().flat_map(variables).any(|variable| is_set(&variable))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::injection_check::read_created_pod;
    use crate::mesh::object::Owner;
    use crate::mesh::observed::ObservedObject;
    use crate::mesh::operator_defaults::OperatorDefaults;

    fn owner() -> Owner {
        Owner { installation: "mesh".into(), uid: "u".into(), release: Version::new(1, 32, 0) }
    }

    fn validated() -> ValidatedSpec {
        ValidatedSpec { defaults: OperatorDefaults::CURRENT, ..ValidatedSpec::empty(owner()) }
    }

    fn object(value: Value) -> Arc<DesiredObject> {
        Arc::new(DesiredObject::from_rendered(value, &Component::Istiod, &owner(), "istio-system").unwrap())
    }

    fn map(name: &str, data: &Value) -> Arc<DesiredObject> {
        object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}))
    }

    fn values() -> Value {
        json!({"global": {"tag": "1.32.0"}, "sidecarInjectorWebhook": {"templates": {TEMPLATE_NAME: TEMPLATE}}})
    }

    fn rendered(templates: &Value) -> Vec<Arc<DesiredObject>> {
        let config = json!({"defaultTemplates": ["sidecar", "own"], "templates": templates}).to_string();
        let injector = json!({"config": config, "values": values().to_string()});
        let mesh = json!({"mesh": "accessLogFile: /dev/stdout\ndefaultConfig:\n  concurrency: 2\n"});
        vec![map("istio-sidecar-injector", &injector), map("istio", &mesh)]
    }

    fn expected() -> ExpectedConfiguration {
        ExpectedConfiguration::new(&validated(), &rendered(&json!({TEMPLATE_NAME: TEMPLATE}))).unwrap()
    }

    fn pod(values: &Value, mesh: &Value) -> Value {
        let annotations = json!({LOADED_VALUES: values.to_string(), LOADED_MESH_CONFIG: mesh.to_string()});
        json!({"metadata": {"annotations": annotations}})
    }

    #[test]
    fn template_keeps_values_of_user() {
        let mut values = json!({"sidecarInjectorWebhook": {"templates": {"own": "a", TEMPLATE_NAME: "b"}}});
        add_template(&mut values);
        assert_eq!(values["sidecarInjectorWebhook"]["templates"], json!({"own": "a", TEMPLATE_NAME: "b"}));
        let mut values = json!({"sidecarInjectorWebhook": {"templates": {"own": "a"}}});
        add_template(&mut values);
        assert_eq!(values["sidecarInjectorWebhook"]["templates"], json!({"own": "a", TEMPLATE_NAME: TEMPLATE}));
        assert!(TEMPLATE.contains(LOADED_VALUES) && TEMPLATE.contains(LOADED_MESH_CONFIG));
    }

    #[test]
    fn pod_requests_default_templates_too() {
        assert_eq!(expected().templates(), "sidecar,own,meshwright");
        assert_eq!(ExpectedConfiguration::new(&validated(), &rendered(&json!({}))), None, "of an older operator");
        let own = json!({TEMPLATE_NAME: "metadata: {}"});
        assert_eq!(ExpectedConfiguration::new(&validated(), &rendered(&own)), None, "the user's template");
    }

    #[test]
    fn reports_first_difference_by_path() {
        let mesh =
            json!({"accessLogFile": "/dev/stdout", "defaultConfig": {"concurrency": 2}, "proxyListenPort": 15001});
        let unloaded = |values: &Value, mesh: &Value| expected().unloaded(&pod(values, mesh));
        assert_eq!(unloaded(&values(), &mesh), None);
        let mut old = values();
        old["global"]["tag"] = "1.31.0".into();
        assert_eq!(
            unloaded(&old, &mesh).as_deref(),
            Some("ConfigMap istio-system/istio-sidecar-injector: data.values.global.tag differs")
        );
        assert_eq!(
            unloaded(&values(), &json!({"accessLogFile": "/dev/stdout", "defaultConfig": {}})).as_deref(),
            Some("ConfigMap istio-system/istio: data.mesh.defaultConfig.concurrency differs")
        );
        let too_large = json!({"metadata": {"annotations": {LOADED_VALUES: "", LOADED_MESH_CONFIG: ""}}});
        assert_eq!(expected().unloaded(&too_large), None, "not compared");
    }

    #[test]
    fn injected_pod_with_other_values_is_not_loaded() {
        let created = |values: &Value| {
            let mut pod = pod(values, &json!({"accessLogFile": "/dev/stdout", "defaultConfig": {"concurrency": 2}}));
            pod["spec"] = json!({"containers": [{"name": "istio-proxy", "image": "proxyv2:1.32.0"}]});
            read_created_pod(&pod, Some(&expected())).name()
        };
        assert_eq!(created(&values()), "Injected");
        assert_eq!(created(&json!({"global": {"tag": "1.32.0"}})), "NotLoaded");
        assert_eq!(read_created_pod(&json!({}), Some(&expected())).name(), "NotInjected");
    }

    #[test]
    fn unknown_template_is_not_loaded() {
        let denial = "admission webhook \"namespace.sidecar-injector.istio.io\" denied the request: failed to run \
                      injection template: requested template \"meshwright\" not found; have sidecar, gateway";
        let unloaded = expected().unknown_template(denial).unwrap();
        assert!(unloaded.starts_with("ConfigMap istio-system/istio-sidecar-injector: "), "{unloaded}");
        assert_eq!(expected().unknown_template("requested template \"own\" not found; have meshwright"), None);
        assert_eq!(expected().unloaded(&json!({"metadata": {}})), Some(unloaded));
    }

    #[test]
    fn shared_mesh_config_is_not_compared() {
        let istiod = |env: Value| {
            object(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod"},
                "spec": {"template": {"spec": {"containers": [{"name": "discovery", "env": env}]}}}}))
        };
        let with = |env: Value| {
            let mut desired = rendered(&json!({TEMPLATE_NAME: TEMPLATE}));
            desired.push(istiod(env));
            ExpectedConfiguration::new(&validated(), &desired).unwrap().mesh.is_some()
        };
        assert!(with(json!([{"name": "REVISION", "value": "default"}])));
        assert!(!with(json!([{"name": SHARED_MESH_CONFIG, "value": "more"}])));
    }

    #[test]
    fn only_written_configuration_is_expected() {
        let desired = rendered(&json!({TEMPLATE_NAME: TEMPLATE}));
        let live = |maps: &[Arc<DesiredObject>]| {
            let of = |map: &Arc<DesiredObject>| {
                (map.key.clone(), ObservedObject::of(Kind::ConfigMap, &map.value(), None, None))
            };
            maps.iter().map(of).collect::<ObservedObjects>()
        };
        assert!(is_written(&validated(), &desired, &live(&desired)));
        assert!(!is_written(&ValidatedSpec::empty(owner()), &desired, &live(&desired)), "an older revision");
        assert!(!is_written(&validated(), &desired, &live(&rendered(&json!({})))), "the previous configuration");
        assert!(!is_written(&validated(), &desired, &ObservedObjects::new()));
    }
}
