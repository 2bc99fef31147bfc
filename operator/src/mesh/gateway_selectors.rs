//! Gateways whose Services would select each other's pods: an internal gateway would be reachable through a public one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::kind::Kind;
use super::object::{Component, DesiredObject};
use super::problem::Problem;

/// A problem for each gateway whose Service selects the pods of another gateway.
#[must_use]
pub fn problems(desired: &[Arc<DesiredObject>]) -> Vec<Problem> {
    let of_kind = |kind: Kind| {
        desired.iter().filter(move |object| object.key.kind == kind).filter_map(|object| match &object.component {
            Component::Gateway(name) => Some((name, object)),
            _ => None,
        })
    };
    let mut problems = Vec::new();
    for (gateway, service) in of_kind(Kind::Service) {
        let selector = labels(service, "/spec/selector");
        for (other, deployment) in of_kind(Kind::Deployment) {
            let pods = labels(deployment, "/spec/template/metadata/labels");
            let same_namespace = service.key.namespace == deployment.key.namespace;
            let selects = !selector.is_empty() && selector.iter().all(|(key, value)| pods.get(key) == Some(value));
            if other != gateway && same_namespace && selects {
                let labels: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
                problems.push(Problem::new(
                    format!("spec.gateways[{gateway}]"),
                    format!(
                        "its Service selects the pods of gateway {other} too ({}); give one of them other labels \
                         (values.labels) or another namespace",
                        labels.join(", ")
                    ),
                ));
            }
        }
    }
    problems
}

fn labels(object: &DesiredObject, path: &str) -> BTreeMap<String, String> {
    let value = object.value();
    let labels = value.pointer(path).and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::Owner;

    fn gateway(name: &str, namespace: &str, labels: &Value) -> [Arc<DesiredObject>; 2] {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        let object = |api_version: &str, kind: &str, spec: Value| {
            let object = json!({
                "apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec,
            });
            let component = Component::Gateway(name.into());
            Arc::new(DesiredObject::from_rendered(object, &component, &owner, namespace).unwrap())
        };
        [
            object("v1", "Service", json!({"selector": labels})),
            object("apps/v1", "Deployment", json!({"template": {"metadata": {"labels": labels}}})),
        ]
    }

    #[test]
    fn refuses_gateways_with_the_same_labels() {
        let found = |second: [Arc<DesiredObject>; 2]| {
            let first = gateway("public", "edge", &json!({"istio": "ingressgateway"}));
            problems(&[first, second].concat()).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let same = found(gateway("internal", "edge", &json!({"istio": "ingressgateway"})));
        assert_eq!(same.len(), 2, "{same:?}");
        assert!(same[0].starts_with("spec.gateways[public]: its Service selects the pods of gateway internal too"));
        assert_eq!(found(gateway("internal", "edge", &json!({"istio": "internal"}))), Vec::<String>::new());
        assert_eq!(found(gateway("internal", "other", &json!({"istio": "ingressgateway"}))), Vec::<String>::new());
    }
}
