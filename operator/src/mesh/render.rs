//! Rendering of a [`ValidatedSpec`] with the release's charts into desired objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshwright_chart::{Capabilities, Chart, Limits, Release, Rendered, documents};
use serde_json::{Value, json};

use super::add_ons::{LoadAddOnError, annotate_configuration_checksum};
use super::injected_configuration;
use super::kind::Kind;
use super::object::{Component, DesiredObject, ObjectKey, ParseObjectError};
use super::patch::{ApplyPatchError, ObjectPatcher};
use super::pod_template::annotate_pods;
use super::proxy_inputs::{PROXY_INPUTS_ANNOTATION, proxy_inputs};
use super::revisions::{DEFAULT, Revision, TAG_LABEL};
use super::validated::{ChartRelease, MeshNamespace, ValidatedSpec};
use crate::catalog::ChartName;
use crate::nodeports::HEALTH_CHECK;

/// API group of webhook configurations and admission policies, as a prefix of `apiVersion`.
const ADMISSION: &str = "admissionregistration.k8s.io/";

/// Charts by name, ready to render.
pub type Charts = BTreeMap<ChartName, Arc<Chart>>;

/// Rendering failed, before anything was written.
#[derive(Debug, thiserror::Error)]
pub enum RenderMeshError {
    /// The release lacks a chart that the installation requires.
    #[error("chart {0} is not in the release")]
    MissingChart(ChartName),
    /// The bundled chart of an add-on can't be loaded.
    #[error(transparent)]
    AddOn(Box<LoadAddOnError>),
    /// A template failed.
    #[error("release {release}: {source}")]
    Chart {
        /// Name of the Helm release.
        release: String,
        /// Error of the template engine.
        #[source]
        source: Box<meshwright_chart::RenderError>,
    },
    /// The output of a template is not valid YAML.
    #[error("release {release}: {source}")]
    Document {
        /// Name of the Helm release.
        release: String,
        /// Error of the YAML parser.
        #[source]
        source: Box<meshwright_chart::DocumentError>,
    },
    /// The output of a template is not an object that Meshwright manages.
    #[error("release {release}, {template}: {source}")]
    Object {
        /// Name of the Helm release.
        release: String,
        /// Path of the template.
        template: String,
        /// Reason for the rejection.
        #[source]
        source: Box<ParseObjectError>,
    },
    /// A container has an environment variable twice, which the API server rejects without naming the source.
    #[error(
        "release {release}, {template}: container {container} has the environment variable {variable} twice, since the \
         chart sets it too; remove it, or set the chart value that determines it"
    )]
    RepeatedVariable {
        /// Name of the Helm release.
        release: String,
        /// Path of the template.
        template: String,
        /// Name of the container.
        container: String,
        /// Name of the variable.
        variable: String,
    },
    /// An entry of `spec.patches` can't be applied.
    #[error(transparent)]
    Patch(Box<ApplyPatchError>),
    /// Two components contain the same object.
    #[error("{first} and {second} both create {key}; rename one of them")]
    DuplicateObject {
        /// Key of the object.
        key: ObjectKey,
        /// Component that was rendered first.
        first: Component,
        /// Component that was rendered later.
        second: Component,
    },
}

/// Renders the whole installation. The result is deterministic, including the order of objects.
pub fn render(
    validated: &ValidatedSpec,
    charts: &Charts,
    capabilities: &Capabilities,
) -> Result<Vec<Arc<DesiredObject>>, RenderMeshError> {
    let mut desired: BTreeMap<ObjectKey, DesiredObject> = BTreeMap::new();
    let mut patcher = ObjectPatcher::new(&validated.patches);
    for (name, namespace) in &validated.namespaces {
        insert(&mut desired, render_namespace(validated, name, namespace, &mut patcher)?)?;
    }
    let mut injector = InjectorInputs::default();
    for release in &validated.releases {
        let chart = charts.get(&release.chart).ok_or(RenderMeshError::MissingChart(release.chart))?;
        for object in render_release(validated, release, chart, capabilities, &mut injector, &mut patcher)? {
            insert(&mut desired, object)?;
        }
    }
    for object in render_add_ons(validated, capabilities, &mut patcher)? {
        insert(&mut desired, object)?;
    }
    patcher.finish().map_err(|error| RenderMeshError::Patch(Box::new(error)))?;
    Ok(desired.into_values().map(Arc::new).collect())
}

fn render_namespace(
    validated: &ValidatedSpec,
    name: &str,
    namespace: &MeshNamespace,
    patcher: &mut ObjectPatcher<'_>,
) -> Result<DesiredObject, RenderMeshError> {
    let metadata = json!({"name": name, "labels": namespace.labels});
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    patcher.apply(&mut object, name).map_err(|error| RenderMeshError::Patch(Box::new(error)))?;
    DesiredObject::from_rendered(object, &namespace.component, &validated.owner, name).map_err(|source| {
        RenderMeshError::Object { release: "namespaces".into(), template: name.to_owned(), source: Box::new(source) }
    })
}

/// The injector's `ConfigMap`s, collected while istiod is rendered. Gateways are rendered later and depend on them.
#[derive(Default)]
struct InjectorInputs {
    config: Option<Value>,
    mesh: Option<Value>,
}

impl InjectorInputs {
    fn collect(&mut self, object: &Value, revision: &Revision) {
        let Some(data) = object.get("data") else { return };
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if name == revision.object_name("istio-sidecar-injector") {
            self.config = Some(data.clone());
        } else if name == revision.object_name("istio") {
            self.mesh = Some(data.clone());
        }
    }

    fn checksum(&self) -> Option<String> {
        proxy_inputs(self.config.as_ref()?, self.mesh.as_ref())
    }

    /// The hash of the configuration that injected pods get.
    fn injected_configuration(&self) -> Option<String> {
        injected_configuration::hash_of(self.config.as_ref()?, self.mesh.as_ref())
    }
}

fn render_release(
    validated: &ValidatedSpec,
    release: &ChartRelease,
    chart: &Chart,
    capabilities: &Capabilities,
    injector: &mut InjectorInputs,
    patcher: &mut ObjectPatcher<'_>,
) -> Result<Vec<DesiredObject>, RenderMeshError> {
    let mut objects = Vec::new();
    let name = || release.name.clone();
    let helm_release = Release { name: name(), namespace: release.namespace.clone() };
    let checksum = matches!(release.component, Component::Gateway(_)).then(|| injector.checksum()).flatten();
    let texts = texts(chart, &helm_release, &release.values, capabilities)?;
    let mut config_maps = Vec::new();
    for rendered in rendered(&texts, &release.name) {
        let (template, mut object) = rendered?;
        patcher.apply(&mut object, &release.namespace).map_err(|error| RenderMeshError::Patch(Box::new(error)))?;
        if release.component == Component::Istiod {
            injector.collect(&object, &validated.revision);
            if object.get("kind").and_then(Value::as_str) == Some(Kind::ConfigMap.name()) {
                // They get the hash of what all of them contain.
                config_maps.push((template, object));
                continue;
            }
        }
        if let Some((container, variable)) = repeated_variable(&object) {
            let template = template.to_owned();
            return Err(RenderMeshError::RepeatedVariable { release: name(), template, container, variable });
        }
        label_webhooks(&mut object, &validated.webhook_labels);
        if let Some(checksum) = &checksum {
            annotate_pods(&mut object, PROXY_INPUTS_ANNOTATION, checksum);
        }
        pin_node_ports(&mut object, validated, release);
        let component = component_of(&object, &release.component);
        objects.push(to_desired(object, &component, validated, helm_release.clone(), template)?);
    }
    let hash = (!config_maps.is_empty()).then(|| injector.injected_configuration()).flatten();
    for (template, mut object) in config_maps {
        if let Some(hash) = &hash {
            injected_configuration::fill_in(&mut object, hash);
        }
        objects.push(to_desired(object, &release.component, validated, helm_release.clone(), template)?);
    }
    Ok(objects)
}

/// Renders the templates of a chart.
fn texts(
    chart: &Chart,
    release: &Release,
    values: &Value,
    capabilities: &Capabilities,
) -> Result<Vec<Rendered>, RenderMeshError> {
    let texts = chart.render(release, values, capabilities, &Limits::default());
    texts.map_err(|source| RenderMeshError::Chart { release: release.name.clone(), source: Box::new(source) })
}

/// Parses rendered templates into objects, each with the path of its template. Lazily, since all CRDs parsed at once
/// would determine the process's peak memory and fragment its heap.
fn rendered<'t>(
    texts: &'t [Rendered],
    release: &'t str,
) -> impl Iterator<Item = Result<(&'t str, Value), RenderMeshError>> {
    let failed = |source| RenderMeshError::Document { release: release.to_owned(), source: Box::new(source) };
    let of_text = move |text: &'t Rendered| {
        documents(text).map(move |document| Ok((text.template.as_str(), document.map_err(failed)?)))
    };
    texts.iter().flat_map(of_text)
}

fn to_desired(
    object: Value,
    component: &Component,
    validated: &ValidatedSpec,
    release: Release,
    template: &str,
) -> Result<DesiredObject, RenderMeshError> {
    let desired = DesiredObject::from_rendered(object, component, &validated.owner, &release.namespace);
    desired.map_err(|source| RenderMeshError::Object {
        release: release.name,
        template: template.to_owned(),
        source: Box::new(source),
    })
}

fn render_add_ons(
    validated: &ValidatedSpec,
    capabilities: &Capabilities,
    patcher: &mut ObjectPatcher<'_>,
) -> Result<Vec<DesiredObject>, RenderMeshError> {
    let mut objects = Vec::new();
    for add_on in &validated.add_ons {
        let chart = add_on.chart().map_err(|error| RenderMeshError::AddOn(Box::new(error)))?;
        let release = Release { name: add_on.name.as_str().to_owned(), namespace: validated.namespace.clone() };
        let texts = texts(&chart, &release, &add_on.values, capabilities)?;
        let mut objects_of_chart = rendered(&texts, &release.name).collect::<Result<Vec<_>, _>>()?;
        for (_, object) in &mut objects_of_chart {
            patcher.apply(object, &release.namespace).map_err(|error| RenderMeshError::Patch(Box::new(error)))?;
        }
        annotate_configuration_checksum(&mut objects_of_chart);
        for (template, object) in objects_of_chart {
            objects.push(to_desired(object, &add_on.component(), validated, release.clone(), template)?);
        }
    }
    Ok(objects)
}

/// The component of an object, usually that of its chart. Exceptions: istiod's chart contains the tags, and the base
/// chart contains the validation of configuration without a revision, which belongs to the tag `default`.
fn component_of(object: &Value, chart: &Component) -> Component {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let tag = object.pointer("/metadata/labels").and_then(|labels| labels.get(TAG_LABEL)).and_then(Value::as_str);
    match (chart, tag) {
        (Component::Istiod, Some(tag)) => Component::Tag(tag.to_owned()),
        (Component::Base, _) if text("/apiVersion").is_some_and(|version| version.starts_with(ADMISSION)) => {
            Component::Tag(DEFAULT.to_owned())
        }
        _ => chart.clone(),
    }
}

/// The names of a container and of an environment variable that it has twice.
fn repeated_variable(object: &Value) -> Option<(String, String)> {
    let entries = |of: &Value, list: &str| of.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |of: &Value| of.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    ["/spec/template/spec/containers", "/spec/template/spec/initContainers"]
        .into_iter()
        .flat_map(|list| entries(object, list))
        .find_map(|container| {
            let mut seen = BTreeSet::new();
            let repeated = entries(&container, "/env").iter().map(name).find(|variable| !seen.insert(variable.clone()));
            Some((name(&container), repeated?))
        })
}

/// Sets the platform's labels on webhook configurations, for which the charts have no value.
fn label_webhooks(object: &mut Value, labels: &BTreeMap<String, String>) {
    let kind = object.get("kind").and_then(Value::as_str);
    let kinds = [Kind::MutatingWebhookConfiguration, Kind::ValidatingWebhookConfiguration];
    if !labels.is_empty() && kinds.iter().any(|webhook| kind == Some(webhook.name())) {
        super::merge::merge(object, json!({"metadata": {"labels": labels}}));
    }
}

/// Sets the allocated node ports in a gateway's Service. The charts of some releases have no values for node ports of
/// east-west gateways, or for the health check.
fn pin_node_ports(object: &mut Value, validated: &ValidatedSpec, release: &ChartRelease) {
    if object.get("kind").and_then(Value::as_str) != Some(Kind::Service.name()) {
        return;
    }
    let pinned = |name: &str| validated.node_ports.get(&release.port_key(name)).map(|(port, _)| port);
    for port in object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
        if let Some(node_port) = pinned(name) {
            super::merge::set(port, "nodePort", node_port);
        }
    }
    if let Some(node_port) = pinned(HEALTH_CHECK) {
        super::merge::set(object, "spec.healthCheckNodePort", node_port);
    }
}

fn insert(desired: &mut BTreeMap<ObjectKey, DesiredObject>, object: DesiredObject) -> Result<(), RenderMeshError> {
    if let Some(first) = desired.get(&object.key) {
        return Err(RenderMeshError::DuplicateObject {
            key: object.key.clone(),
            first: first.component.clone(),
            second: object.component,
        });
    }
    desired.insert(object.key.clone(), object);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_webhook_configurations_only() {
        let labels = BTreeMap::from([("a/b".to_owned(), "true".to_owned())]);
        let labelled = |kind: &str| {
            let mut object = json!({"kind": kind, "metadata": {"name": "x", "labels": {"app": "y"}}});
            label_webhooks(&mut object, &labels);
            object["metadata"]["labels"].clone()
        };
        let both = json!({"app": "y", "a/b": "true"});
        assert_eq!(labelled("MutatingWebhookConfiguration"), both);
        assert_eq!(labelled("ValidatingWebhookConfiguration"), both);
        assert_eq!(labelled("Service"), json!({"app": "y"}));
    }
}
