//! Labels of namespaces that keep pods of the mesh from starting: a label that excludes a gateway's pods from
//! injection, and labels that `meshConfig.discoverySelectors` don't select.
//!
//! istiod creates its root certificate (`ConfigMap` istio-ca-root-cert) only in namespaces that the selectors select, and
//! gateways and ztunnel mount it. It treats its own namespace like any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde_json::Value;

use super::injection_check::excluded_by;
use super::kind::Kind;
use super::object::{Component, DesiredObject};
use super::validated::ValidatedSpec;

/// Labels of a Namespace.
pub type Labels = BTreeMap<String, String>;

/// The label that the API server sets, so that no client can change it.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Image in Istio's gateway chart that the injector replaces by the proxy's.
const PLACEHOLDER: &str = "auto";
/// Both spellings that istiod accepts.
const DISCOVERY_SELECTORS: [&str; 2] = ["discoverySelectors", "discovery_selectors"];

/// What a mesh requires of the labels of its namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespaceRules {
    /// The revision of the control plane, followed by its tags.
    revisions: Vec<String>,
    /// Empty if istiod discovers every namespace.
    selectors: Vec<LabelSelector>,
    pods: Vec<MeshPods>,
}

/// The pods of one component.
#[derive(Clone, Debug, PartialEq)]
struct MeshPods {
    component: Component,
    namespace: String,
    /// They get their proxy by injection.
    injected: bool,
}

/// Why the labels of a namespace keep a component from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceObstacle {
    /// The component: istiod, ztunnel or a gateway.
    pub component: Component,
    /// Name of the namespace.
    pub namespace: String,
    /// Rule that the namespace violates.
    pub cause: ObstacleCause,
}

/// Which rule the labels of a namespace violate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObstacleCause {
    /// This label, as `key=value`, excludes the pods from injection.
    NotInjected(String),
    /// No discovery selector selects the namespace. The label changes after which one does, as arguments of
    /// `kubectl label`; empty if no change of labels is enough.
    NotDiscovered(Vec<String>),
}

impl NamespaceRules {
    /// The rules of a mesh; `desired` are its rendered objects.
    #[must_use]
    pub fn of(validated: &ValidatedSpec, desired: &[Arc<DesiredObject>]) -> Self {
        let tags = validated.tags.iter().cloned();
        let control_plane =
            MeshPods { component: Component::Istiod, namespace: validated.namespace.clone(), injected: false };
        let pods = desired.iter().filter_map(|object| {
            let injected = match (&object.component, object.key.kind) {
                (Component::Gateway(_), Kind::Deployment | Kind::DaemonSet) => has_placeholder(&object.value()),
                (Component::Ztunnel, Kind::DaemonSet) => false,
                _ => return None,
            };
            let namespace = object.key.namespace.clone()?;
            Some(MeshPods { component: object.component.clone(), namespace, injected })
        });
        Self {
            revisions: std::iter::once(validated.revision.label().to_owned()).chain(tags).collect(),
            selectors: discovery_selectors(desired),
            pods: std::iter::once(control_plane).chain(pods).collect(),
        }
    }

    /// The revision of the control plane.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        self.revisions.first().map(String::as_str)
    }

    /// The components that the labels of their namespace keep from working. `labels_of` returns `None` for a namespace
    /// whose labels are unknown.
    #[must_use]
    pub fn obstacles<'l>(&self, labels_of: impl Fn(&str) -> Option<&'l Labels>) -> Vec<NamespaceObstacle> {
        let of_pods = |pods: &MeshPods| {
            let labels = labels_of(&pods.namespace)?;
            let cause = self.excluding_label(labels).filter(|_| pods.injected).map(ObstacleCause::NotInjected);
            let cause = cause.or_else(|| self.missing_labels(labels).map(ObstacleCause::NotDiscovered))?;
            Some(NamespaceObstacle { component: pods.component.clone(), namespace: pods.namespace.clone(), cause })
        };
        self.pods.iter().filter_map(of_pods).collect()
    }

    /// The label that excludes pods from injection by the revision and by all of its tags.
    fn excluding_label(&self, labels: &Labels) -> Option<String> {
        let mut found = self.revisions.iter().map(|name| excluded_by(labels, name));
        let first = found.next().flatten()?;
        found.all(|label| label.is_some()).then_some(first)
    }

    /// The fewest label changes after which a selector selects the namespace; `None` if one does already.
    fn missing_labels(&self, labels: &Labels) -> Option<Vec<String>> {
        if self.selectors.is_empty() {
            return None;
        }
        let changes: Vec<Vec<String>> =
            self.selectors.iter().filter_map(|selector| label_changes(selector, labels)).collect();
        match changes.into_iter().min_by_key(Vec::len) {
            Some(fewest) => (!fewest.is_empty()).then_some(fewest),
            None => Some(Vec::new()),
        }
    }
}

impl NamespaceObstacle {
    /// The component as messages name it.
    fn subject(&self) -> String {
        match &self.component {
            Component::Gateway(name) => format!("gateway {name}"),
            other => other.to_string(),
        }
    }

    /// What happens to which component, and why.
    #[must_use]
    pub fn reason(&self) -> String {
        let Self { namespace, cause, .. } = self;
        let subject = self.subject();
        match (cause, &self.component) {
            (ObstacleCause::NotInjected(label), _) => format!(
                "{subject}: Namespace {namespace} is labelled {label}, which excludes its pods from injection by this mesh"
            ),
            (ObstacleCause::NotDiscovered(_), Component::Istiod) => format!(
                "{subject}: meshConfig.discoverySelectors don't select Namespace {namespace}, so istiod ignores the \
                 mesh-wide configuration in it"
            ),
            (ObstacleCause::NotDiscovered(_), _) => format!(
                "{subject}: meshConfig.discoverySelectors don't select Namespace {namespace}, so istiod doesn't create \
                 ConfigMap istio-ca-root-cert there, which its pods need to start"
            ),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        let namespace = &self.namespace;
        match &self.cause {
            ObstacleCause::NotInjected(label) => {
                let key = label.split('=').next().unwrap_or(label);
                format!("remove the label: kubectl label namespace {namespace} {key}-")
            }
            ObstacleCause::NotDiscovered(changes) if changes.is_empty() => {
                format!("add {{matchLabels: {{{NAME_LABEL}: {namespace}}}}} to spec.meshConfig.discoverySelectors")
            }
            ObstacleCause::NotDiscovered(changes) => {
                format!("label it: kubectl label namespace {namespace} {} --overwrite", changes.join(" "))
            }
        }
    }

    /// Reason and fix in one sentence.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{}; {}", self.reason(), self.fix())
    }
}

fn has_placeholder(workload: &Value) -> bool {
    let containers = workload.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let mut images = containers.into_iter().flatten().filter_map(|container| container.get("image")?.as_str());
    images.any(|image| image == PLACEHOLDER)
}

/// The selectors in the rendered mesh configuration. None if one of them is invalid, since istiod then ignores all.
fn discovery_selectors(desired: &[Arc<DesiredObject>]) -> Vec<LabelSelector> {
    let is_mesh_config = |object: &&Arc<DesiredObject>| {
        object.component == Component::Istiod
            && object.key.kind == Kind::ConfigMap
            && !object.key.is_injector_configuration()
    };
    let selectors = desired.iter().filter(is_mesh_config).find_map(|object| {
        let object = object.value();
        let text = object.pointer("/data/mesh")?.as_str()?;
        // Parsed only if present, since this runs in every reconcile.
        let key = DISCOVERY_SELECTORS.into_iter().find(|key| text.contains(*key))?;
        let mesh_config = meshwright_chart::parse_yaml(text).ok()?;
        serde_json::from_value::<Vec<LabelSelector>>(mesh_config.get(key)?.clone()).ok()
    });
    selectors.filter(|all| all.iter().all(is_valid)).unwrap_or_default()
}

fn is_valid(selector: &LabelSelector) -> bool {
    selector.match_expressions.iter().flatten().all(|requirement| {
        let has_values = requirement.values.as_ref().is_some_and(|values| !values.is_empty());
        match requirement.operator.as_str() {
            "In" | "NotIn" => has_values,
            "Exists" | "DoesNotExist" => !has_values,
            _ => false,
        }
    })
}

/// The label changes after which a selector selects a namespace; empty if it does already, `None` if they would include
/// a label that can't be changed.
fn label_changes(selector: &LabelSelector, labels: &Labels) -> Option<Vec<String>> {
    let equal = selector.match_labels.iter().flatten();
    let equal = equal.filter(|(key, value)| labels.get(*key) != Some(*value));
    let equal = equal.map(|(key, value)| (key.as_str(), format!("{key}={value}")));
    let expressions = selector.match_expressions.iter().flatten();
    let expressions =
        expressions.filter_map(|requirement| Some((requirement.key.as_str(), change(requirement, labels)?)));
    equal.chain(expressions).map(|(key, change)| (key != NAME_LABEL).then_some(change)).collect()
}

/// The change of a label that fulfils a requirement; `None` if the labels fulfil it.
fn change(requirement: &LabelSelectorRequirement, labels: &Labels) -> Option<String> {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    let value = labels.get(key);
    let values = values.as_deref().unwrap_or_default();
    let is_listed = value.is_some_and(|value| values.contains(value));
    match operator.as_str() {
        "In" if !is_listed => Some(format!("{key}={}", values.first()?)),
        "NotIn" if is_listed => Some(format!("{key}-")),
        "Exists" if value.is_none() => Some(format!("{key}=true")),
        "DoesNotExist" if value.is_some() => Some(format!("{key}-")),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
