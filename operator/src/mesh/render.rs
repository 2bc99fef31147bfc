//! From [`Validated`] and charts to desired objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshwright_chart::{Capabilities, Chart, Limits, Release, Rendered, documents};
use serde_json::{Value, json};

use super::add_ons::{LoadAddOnError, configure_pods};
use super::kind::Kind;
use super::object::{AdmitObjectError, Component, Desired, ObjectKey};
use super::patch::{PatchObjectError, Patching};
use super::pod_template::annotate_pods;
use super::proxy_inputs::{PROXY_INPUTS_ANNOTATION, proxy_inputs};
use super::revisions::{DEFAULT, Revision, TAG_LABEL};
use super::validated::{ChartRelease, MeshNamespace, Validated};
use crate::catalog::ChartName;
use crate::nodeports::HEALTH_CHECK;

/// The group of webhook configurations and of admission policies.
const ADMISSION: &str = "admissionregistration.k8s.io/";

/// Charts by name, ready to render.
pub type Charts = BTreeMap<ChartName, Arc<Chart>>;

/// Rendering failed: nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum RenderMeshError {
    /// A chart that the installation needs is not among those given.
    #[error("chart {0} is not in the release")]
    MissingChart(ChartName),
    /// An add-on can't be made.
    #[error(transparent)]
    AddOn(Box<LoadAddOnError>),
    /// A template failed.
    #[error("release {release}: {source}")]
    Chart {
        /// Name of the Helm release.
        release: String,
        /// Cause.
        #[source]
        source: Box<meshwright_chart::RenderError>,
    },
    /// What a template produced is no YAML.
    #[error("release {release}: {source}")]
    Document {
        /// Name of the Helm release.
        release: String,
        /// Cause.
        #[source]
        source: Box<meshwright_chart::DocumentError>,
    },
    /// What a template produced is no object that can be applied.
    #[error("release {release}, {template}: {source}")]
    Object {
        /// Name of the Helm release.
        release: String,
        /// The template.
        template: String,
        /// Cause.
        #[source]
        source: Box<AdmitObjectError>,
    },
    /// A container gets a variable twice, which the API server refuses without saying where from.
    #[error(
        "release {release}, {template}: container {container} gets the variable {variable} twice, since the chart sets \
         it too: leave it out, or set the value that the chart makes it from"
    )]
    RepeatedVariable {
        /// Name of the Helm release.
        release: String,
        /// The template.
        template: String,
        /// Name of the container.
        container: String,
        /// Name of the variable.
        variable: String,
    },
    /// A patch of the spec doesn't fit.
    #[error(transparent)]
    Patch(Box<PatchObjectError>),
    /// Two components want the same object.
    #[error("{first} and {second} both make {key}: rename one")]
    Clash {
        /// The object.
        key: ObjectKey,
        /// Who made it first.
        first: Component,
        /// Who made it again.
        second: Component,
    },
}

/// Renders the whole installation. The same inputs give the same objects, in the same order.
pub fn render(
    validated: &Validated,
    charts: &Charts,
    capabilities: &Capabilities,
) -> Result<Vec<Arc<Desired>>, RenderMeshError> {
    let mut desired: BTreeMap<ObjectKey, Desired> = BTreeMap::new();
    let mut patching = Patching::new(&validated.patches);
    for (name, namespace) in &validated.namespaces {
        insert(&mut desired, admit_namespace(validated, name, namespace, &mut patching)?)?;
    }
    let mut injector = Injector::default();
    for release in &validated.releases {
        let chart = charts.get(&release.chart).ok_or(RenderMeshError::MissingChart(release.chart))?;
        for object in render_release(validated, release, chart, capabilities, &mut injector, &mut patching)? {
            insert(&mut desired, object)?;
        }
    }
    for object in render_add_ons(validated, capabilities, &mut patching)? {
        insert(&mut desired, object)?;
    }
    patching.finish().map_err(|error| RenderMeshError::Patch(Box::new(error)))?;
    Ok(desired.into_values().map(Arc::new).collect())
}

fn admit_namespace(
    validated: &Validated,
    name: &str,
    namespace: &MeshNamespace,
    patching: &mut Patching<'_>,
) -> Result<Desired, RenderMeshError> {
    let metadata = json!({"name": name, "labels": namespace.labels});
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    patching.apply(&mut object, name).map_err(|error| RenderMeshError::Patch(Box::new(error)))?;
    Desired::admit(object, &namespace.component, &validated.owner, name).map_err(|source| RenderMeshError::Object {
        release: "namespaces".into(),
        template: name.to_owned(),
        source: Box::new(source),
    })
}

/// The injector's inputs, kept while rendering: gateways are rendered after them.
#[derive(Default)]
struct Injector {
    config: Option<Value>,
    mesh: Option<Value>,
}

impl Injector {
    fn note(&mut self, object: &Value, revision: &Revision) {
        let Some(data) = object.get("data") else { return };
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if name == revision.of_object("istio-sidecar-injector") {
            self.config = Some(data.clone());
        } else if name == revision.of_object("istio") {
            self.mesh = Some(data.clone());
        }
    }

    fn checksum(&self) -> Option<String> {
        proxy_inputs(self.config.as_ref()?, self.mesh.as_ref())
    }
}

fn render_release(
    validated: &Validated,
    release: &ChartRelease,
    chart: &Chart,
    capabilities: &Capabilities,
    injector: &mut Injector,
    patching: &mut Patching<'_>,
) -> Result<Vec<Desired>, RenderMeshError> {
    let mut objects = Vec::new();
    let name = || release.name.clone();
    let helm_release = Release { name: name(), namespace: release.namespace.clone() };
    let checksum = matches!(release.component, Component::Gateway(_)).then(|| injector.checksum()).flatten();
    let texts = texts(chart, &helm_release, &release.values, capabilities)?;
    for rendered in rendered(&texts, &release.name) {
        let (template, mut object) = rendered?;
        patching.apply(&mut object, &release.namespace).map_err(|error| RenderMeshError::Patch(Box::new(error)))?;
        if release.component == Component::Istiod {
            injector.note(&object, &validated.revision);
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
        objects.push(admit(object, &component, validated, helm_release.clone(), template)?);
    }
    Ok(objects)
}

/// What the templates of a chart give.
fn texts(
    chart: &Chart,
    release: &Release,
    values: &Value,
    capabilities: &Capabilities,
) -> Result<Vec<Rendered>, RenderMeshError> {
    let texts = chart.render(release, values, capabilities, &Limits::default());
    texts.map_err(|source| RenderMeshError::Chart { release: release.name.clone(), source: Box::new(source) })
}

/// The objects of texts, each with the template that it is from. One at a time: parsed, all definitions together would set
/// the process's peak of memory, and what is kept of them would lie beyond it.
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

fn admit(
    object: Value,
    component: &Component,
    validated: &Validated,
    release: Release,
    template: &str,
) -> Result<Desired, RenderMeshError> {
    let admitted = Desired::admit(object, component, &validated.owner, &release.namespace);
    admitted.map_err(|source| RenderMeshError::Object {
        release: release.name,
        template: template.to_owned(),
        source: Box::new(source),
    })
}

fn render_add_ons(
    validated: &Validated,
    capabilities: &Capabilities,
    patching: &mut Patching<'_>,
) -> Result<Vec<Desired>, RenderMeshError> {
    let mut objects = Vec::new();
    for add_on in &validated.add_ons {
        let chart = add_on.chart().map_err(|error| RenderMeshError::AddOn(Box::new(error)))?;
        let release = Release { name: add_on.name.as_str().to_owned(), namespace: validated.namespace.clone() };
        let texts = texts(&chart, &release, &add_on.values, capabilities)?;
        let mut made = rendered(&texts, &release.name).collect::<Result<Vec<_>, _>>()?;
        for (_, object) in &mut made {
            patching.apply(object, &release.namespace).map_err(|error| RenderMeshError::Patch(Box::new(error)))?;
        }
        configure_pods(&mut made);
        for (template, object) in made {
            objects.push(admit(object, &add_on.component(), validated, release.clone(), template)?);
        }
    }
    Ok(objects)
}

/// What an object belongs to: mostly what its chart is for. But tags come out of istiod's chart, and the validation of what
/// asks for no revision, which goes where the default goes, out of the base chart.
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

/// A container and a variable that its list has twice.
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

/// No chart has a value for labels of its webhook configurations.
fn label_webhooks(object: &mut Value, labels: &BTreeMap<String, String>) {
    let kind = object.get("kind").and_then(Value::as_str);
    let kinds = [Kind::MutatingWebhookConfiguration, Kind::ValidatingWebhookConfiguration];
    if !labels.is_empty() && kinds.iter().any(|webhook| kind == Some(webhook.name())) {
        super::merge::merge(object, json!({"metadata": {"labels": labels}}));
    }
}

/// Writes the node ports into a gateway's Service. Some releases' charts have no values for those of east-west gateways,
/// or for the health check's.
fn pin_node_ports(object: &mut Value, validated: &Validated, release: &ChartRelease) {
    if object.get("kind").and_then(Value::as_str) != Some(Kind::Service.name()) {
        return;
    }
    let pinned = |name: &str| validated.node_ports.get(&release.slot(name)).map(|(port, _)| port);
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

fn insert(desired: &mut BTreeMap<ObjectKey, Desired>, object: Desired) -> Result<(), RenderMeshError> {
    if let Some(first) = desired.get(&object.key) {
        return Err(RenderMeshError::Clash {
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
    fn labels_of_the_platform_go_on_webhook_configurations_and_on_nothing_else() {
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
