//! How add-ons find each other and the mesh: values that the user doesn't have to give.

use meshwright_api::{AddOn, AddOnName, Images, MeshInstallationSpec};
use serde_json::{Value, json};

use crate::mesh::merge::{get, set};
use crate::mesh::problem::Problem;
use crate::platform::Platform;

/// The value by which the operator tells a chart of the mesh.
const MESH: &str = "mesh";

/// Whether an add-on is listed.
pub(super) fn has(spec: &MeshInstallationSpec, name: AddOnName) -> bool {
    spec.addons.iter().any(|add_on| add_on.name == name)
}

/// The user's values of an add-on with what it needs of the mesh and of the others. What the user gives there wins.
pub(super) fn values(
    spec: &MeshInstallationSpec,
    add_on: &AddOn,
    platform: &Platform,
    problems: &mut Vec<Problem>,
) -> Value {
    let name = add_on.name.as_str();
    let mut values = Value::Object(add_on.values.0.clone());
    if values.get(MESH).is_some() {
        let message = "is set by the operator; leave it out";
        problems.push(Problem::new(format!("spec.addons[{name}].values.{MESH}"), message));
    }
    set(&mut values, MESH, about(spec, platform));
    image(&spec.images, name, &mut values);
    let mut find = |key: &str, other: AddOnName, service: &str| {
        let path = format!("{key}.url");
        let unset = matches!(get(&values, &path), None | Some(Value::Null)) && !is_malformed(&values, key);
        if unset && has(spec, other) {
            set(&mut values, &path, format!("http://{service}.{}", address(&spec.namespace, other)));
        }
        get(&values, &path).is_some_and(|url| url != "") || is_malformed(&values, key)
    };
    match add_on.name {
        AddOnName::Prometheus | AddOnName::Jaeger => {}
        AddOnName::Grafana | AddOnName::Kiali => {
            if !find("prometheus", AddOnName::Prometheus, "prometheus") {
                problems.push(Problem::new(
                    format!("spec.addons[{name}].values.prometheus.url"),
                    format!("{name} shows what Prometheus knows: list the add-on prometheus too, or set this to yours"),
                ));
            }
            find("tracing", AddOnName::Jaeger, "jaeger-query");
            if add_on.name == AddOnName::Kiali {
                find("grafana", AddOnName::Grafana, "grafana");
            }
        }
    }
    values
}

/// The registry and the digest of its image, which is called as the add-on is.
fn image(images: &Images, name: &str, values: &mut Value) {
    if is_malformed(values, "image") {
        return;
    }
    let mut fill = |path: &str, text: Option<String>| {
        if let (Some(text), None | Some(Value::Null)) = (text, get(values, path)) {
            set(values, path, text);
        }
    };
    fill("image.repository", images.registry.as_ref().map(|registry| format!("{registry}/{name}")));
    fill("image.digest", images.digests.get(name).cloned());
}

/// What was given is no table: the schema says so.
fn is_malformed(values: &Value, key: &str) -> bool {
    values.get(key).is_some_and(|given| !given.is_object())
}

/// Namespace and port of an add-on's Service for people and other add-ons.
fn address(namespace: &str, of: AddOnName) -> String {
    let port = match of {
        AddOnName::Prometheus => 9090,
        AddOnName::Grafana => 3000,
        AddOnName::Kiali => 20001,
        AddOnName::Jaeger => 16686,
    };
    format!("{namespace}:{port}")
}

/// What every chart is told of the mesh.
fn about(spec: &MeshInstallationSpec, platform: &Platform) -> Value {
    json!({
        "pullPolicy": spec.images.pull_policy.map(meshwright_api::PullPolicy::as_str),
        "pullSecrets": spec.images.pull_secrets,
        "assignsUsers": platform.chart_platform() == Some("openshift"),
    })
}
