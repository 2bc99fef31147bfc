//! Values that the operator sets so that add-ons reach each other and the mesh without configuration by the user.

use meshwright_api::{AddOn, AddOnName, Images, MeshInstallationSpec};
use serde_json::{Value, json};

use crate::mesh::merge::{get, set};
use crate::mesh::problem::Problem;
use crate::platform::Platform;

/// The key below which the operator passes properties of the mesh to a chart.
const MESH: &str = "mesh";

/// Whether `spec.addons` lists an add-on.
pub(super) fn is_listed(spec: &MeshInstallationSpec, name: AddOnName) -> bool {
    spec.addons.iter().any(|add_on| add_on.name == name)
}

/// The values of an add-on: what the user sets takes precedence over properties of the mesh and URLs of other add-ons.
pub(super) fn values(
    spec: &MeshInstallationSpec,
    add_on: &AddOn,
    platform: &Platform,
    problems: &mut Vec<Problem>,
) -> Value {
    let name = add_on.name.as_str();
    let mut values = Value::Object(add_on.values.0.clone());
    if values.get(MESH).is_some() {
        let message = "is set by the operator; remove it";
        problems.push(Problem::new(format!("spec.addons[{name}].values.{MESH}"), message));
    }
    set(&mut values, MESH, mesh_values(spec, platform));
    image(&spec.images, name, &mut values);
    let mut default_url = |key: &str, other: AddOnName, service: &str| {
        let path = format!("{key}.url");
        let unset = matches!(get(&values, &path), None | Some(Value::Null)) && !is_malformed(&values, key);
        if unset && is_listed(spec, other) {
            set(&mut values, &path, format!("http://{service}.{}", address(&spec.namespace, other)));
        }
        get(&values, &path).is_some_and(|url| url != "") || is_malformed(&values, key)
    };
    match add_on.name {
        AddOnName::Prometheus | AddOnName::Jaeger => {}
        AddOnName::Grafana | AddOnName::Kiali => {
            if !default_url("prometheus", AddOnName::Prometheus, "prometheus") {
                problems.push(Problem::new(
                    format!("spec.addons[{name}].values.prometheus.url"),
                    format!(
                        "{name} requires Prometheus; list the add-on prometheus, or set the URL of your Prometheus"
                    ),
                ));
            }
            default_url("tracing", AddOnName::Jaeger, "jaeger-query");
            if add_on.name == AddOnName::Kiali {
                default_url("grafana", AddOnName::Grafana, "grafana");
            }
        }
    }
    values
}

/// Sets registry and digest of the add-on's image, whose name is the add-on's.
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

/// Whether the user's value is not an object, which the chart's schema reports.
fn is_malformed(values: &Value, key: &str) -> bool {
    values.get(key).is_some_and(|given| !given.is_object())
}

/// Namespace and port of an add-on's HTTP Service.
fn address(namespace: &str, of: AddOnName) -> String {
    let port = match of {
        AddOnName::Prometheus => 9090,
        AddOnName::Grafana => 3000,
        AddOnName::Kiali => 20001,
        AddOnName::Jaeger => 16686,
    };
    format!("{namespace}:{port}")
}

/// Properties of the mesh that every chart receives below [`MESH`].
fn mesh_values(spec: &MeshInstallationSpec, platform: &Platform) -> Value {
    json!({
        "pullPolicy": spec.images.pull_policy.map(meshwright_api::PullPolicy::as_str),
        "imagePullSecrets": spec.images.image_pull_secrets,
        "assignsUsers": platform.chart_platform() == Some("openshift"),
    })
}
