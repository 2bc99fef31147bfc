//! Fields that the next apply removes: only the operator owns them, and they are no longer desired. They are found by
//! `managedFields`, since a comparison of both objects can't distinguish them from fields that other clients added.

use serde_json::{Map, Value};

use super::canonical::is_empty;
use super::{Difference, DifferenceKind};
use crate::mesh::object::FIELD_MANAGER;

/// The fields of `live` that the next apply of `desired` removes, except for those that the API server sets to the same
/// default again.
#[must_use]
pub fn dropped(desired: &Value, live: &Value) -> Vec<Difference> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let (mut applied, mut others) = (Vec::new(), Vec::new());
    for entry in entries.into_iter().flatten() {
        let Some(fields) = entry.get("fieldsV1") else { continue };
        if is_own_apply(entry) { applied.push(fields) } else { others.push(fields) }
    }
    let mut found = Vec::new();
    for fields in applied.iter().filter_map(|fields| fields.as_object()) {
        walk("", fields, &others, Some(desired), live, &mut found);
    }
    found
}

/// Whether an entry stems from the operator's applies: an apply doesn't remove fields that it owns by an update.
fn is_own_apply(entry: &Value) -> bool {
    let is = |field: &str, value: &str| entry.get(field).and_then(Value::as_str) == Some(value);
    is("manager", FIELD_MANAGER) && is("operation", "Apply") && entry.get("subresource").is_none()
}

fn walk(
    path: &str,
    applied: &Map<String, Value>,
    others: &[&Value],
    desired: Option<&Value>,
    live: &Value,
    found: &mut Vec<Difference>,
) {
    for (key, inner) in applied {
        let Some(member) = FieldSetKey::parse(key) else { continue };
        let Some(value) = member.find(live).filter(|value| !is_empty(value)) else { continue };
        let wanted = desired.and_then(|desired| member.find(desired)).filter(|wanted| !wanted.is_null());
        let co_owners: Vec<&Value> = others.iter().filter_map(|other| other.get(key)).collect();
        let path = format!("{path}{}", member.display(path.is_empty()));
        if wanted.is_some() || !co_owners.is_empty() {
            // The field itself stays, but the apply may remove fields below it.
            let Some(inner) = inner.as_object() else { continue };
            walk(&path, inner, &co_owners, wanted, value, found);
        } else if !member.is_default(value, live) {
            let live = Some(value.clone());
            found.push(Difference { path, kind: DifferenceKind::Dropped, desired: None, live, extra_at: None });
        }
    }
}

/// A path segment in `managedFields`.
enum FieldSetKey<'k> {
    /// A field of an object: `f:name`.
    Field(&'k str),
    /// An element of a list by its keys: `k:{"name":"x"}`.
    Element(Map<String, Value>),
    /// An element of a set: `v:"x"`.
    Item(Value),
}

impl<'k> FieldSetKey<'k> {
    /// `None` for `.`, which is the object itself, and for the obsolete form `i:0`.
    fn parse(key: &'k str) -> Option<Self> {
        match key.split_once(':')? {
            ("f", name) => Some(Self::Field(name)),
            ("k", keys) => serde_json::from_str(keys).ok().map(Self::Element),
            ("v", item) => serde_json::from_str(item).ok().map(Self::Item),
            _ => None,
        }
    }

    fn find<'v>(&self, parent: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Field(name) => parent.get(name),
            Self::Element(keys) => {
                let same = |element: &&Value| keys.iter().all(|(key, value)| has_key(element, key, value));
                parent.as_array()?.iter().find(same)
            }
            Self::Item(item) => parent.as_array()?.iter().find(|element| *element == item),
        }
    }

    /// Formats the segment as in the paths of other differences.
    fn display(&self, first: bool) -> String {
        match self {
            Self::Field(name) if name.contains(['.', '/', '[']) => format!("[{name:?}]"),
            Self::Field(name) if first => (*name).to_owned(),
            Self::Field(name) => format!(".{name}"),
            Self::Element(keys) => {
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={}", bare(value))).collect();
                format!("[{}]", keys.join(","))
            }
            Self::Item(item) => format!("[{}]", bare(item)),
        }
    }

    fn is_default(&self, value: &Value, parent: &Value) -> bool {
        let Self::Field(name) = self else { return false };
        if *name == "targetPort" && parent.get("port") == Some(value) {
            return true;
        }
        match value {
            Value::String(text) => DEFAULT_TEXTS.contains(&(*name, text.as_str())),
            Value::Number(number) => DEFAULT_NUMBERS.iter().any(|(of, n)| of == name && number.as_i64() == Some(*n)),
            _ => false,
        }
    }
}

/// Whether an element of a list has this value for a key. A missing protocol is TCP.
fn has_key(element: &Value, key: &str, value: &Value) -> bool {
    match element.get(key) {
        Some(found) => found == value,
        None => key == "protocol" && value == "TCP",
    }
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Defaults that the API server sets in the kinds of Istio's charts.
const DEFAULT_TEXTS: &[(&str, &str)] = &[
    ("dnsPolicy", "ClusterFirst"),
    ("externalTrafficPolicy", "Cluster"),
    ("imagePullPolicy", "IfNotPresent"),
    ("internalTrafficPolicy", "Cluster"),
    ("matchPolicy", "Equivalent"),
    ("protocol", "TCP"),
    ("reinvocationPolicy", "Never"),
    ("restartPolicy", "Always"),
    ("schedulerName", "default-scheduler"),
    ("scheme", "HTTP"),
    ("scope", "*"),
    ("sessionAffinity", "None"),
    ("terminationMessagePath", "/dev/termination-log"),
    ("terminationMessagePolicy", "File"),
];

/// Numeric defaults that the API server sets in the kinds of Istio's charts.
const DEFAULT_NUMBERS: &[(&str, i64)] = &[
    ("defaultMode", 420),
    ("failureThreshold", 3),
    ("periodSeconds", 10),
    ("progressDeadlineSeconds", 600),
    ("revisionHistoryLimit", 10),
    ("successThreshold", 1),
    ("terminationGracePeriodSeconds", 30),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    /// A Deployment whose container has these variables, with these entries of managed fields.
    fn live(variables: &[&str], managed: &[Value]) -> Value {
        let env: Vec<Value> = variables.iter().map(|name| json!({"name": name, "value": "1"})).collect();
        json!({
            "metadata": {"labels": {"a/b": "1", "foreign": "2"}, "managedFields": managed},
            "spec": {"template": {"spec": {"containers": [{"name": "discovery", "env": env}]}}},
        })
    }

    fn variables(names: &[&str]) -> Value {
        let mut env = serde_json::Map::new();
        for name in names {
            env.insert(format!("k:{}", json!({"name": name})), json!({".": {}, "f:name": {}, "f:value": {}}));
        }
        let container = json!({".": {}, "f:name": {}, "f:env": env});
        json!({
            "f:metadata": {"f:labels": {"f:a/b": {}}},
            "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"discovery\"}": container}}}},
        })
    }

    fn paths(desired: &Value, live: &Value) -> Vec<String> {
        dropped(desired, live).into_iter().map(|difference| difference.path).collect()
    }

    fn desired_with(variables: &[&str]) -> Value {
        let mut object = live(variables, &[]);
        object["metadata"] = json!({"labels": {"a/b": "1"}});
        object
    }

    #[test]
    fn ignores_target_port_that_defaults_to_port() {
        let ports = |target: i32| json!([{"name": "web", "port": 80, "protocol": "TCP", "targetPort": target}]);
        let key = "k:{\"port\":80,\"protocol\":\"TCP\"}";
        let fields = json!({"f:spec": {"f:ports": {key: {"f:port": {}, "f:targetPort": {}}}}});
        let live = |target: i32| {
            let managed = [entry("meshwright", "Apply", &fields)];
            json!({"metadata": {"managedFields": managed}, "spec": {"ports": ports(target)}})
        };
        let desired = json!({"spec": {"ports": [{"name": "web", "port": 80}]}});
        assert_eq!(paths(&desired, &live(80)), [""; 0]);
        assert_eq!(paths(&desired, &live(8080)), ["spec.ports[port=80,protocol=TCP].targetPort"]);
    }

    #[test]
    fn drops_own_fields_that_are_not_desired() {
        let live = live(&["A", "B", "FOREIGN"], &[entry("meshwright", "Apply", &variables(&["A", "B"]))]);
        let container = "spec.template.spec.containers[name=discovery]";
        assert_eq!(paths(&desired_with(&["A"]), &live), [format!("{container}.env[name=B]")]);
        assert_eq!(paths(&desired_with(&["A", "B"]), &live), [""; 0]);
        assert_eq!(dropped(&desired_with(&["A"]), &live)[0].live, Some(json!({"name": "B", "value": "1"})));
    }

    #[test]
    fn keeps_fields_with_another_owner() {
        let managed =
            [entry("meshwright", "Apply", &variables(&["A", "B"])), entry("kubectl", "Update", &variables(&["B"]))];
        assert_eq!(paths(&desired_with(&["A"]), &live(&["A", "B"], &managed)), [""; 0]);
    }

    #[test]
    fn drops_only_own_keys_of_shared_map() {
        let others = json!({"f:metadata": {"f:labels": {"f:foreign": {}}}});
        let managed = [entry("meshwright", "Apply", &variables(&[])), entry("kubectl", "Update", &others)];
        let mut desired = desired_with(&[]);
        desired["metadata"] = json!({});
        assert_eq!(paths(&desired, &live(&[], &managed)), ["metadata.labels[\"a/b\"]"]);
    }

    #[test]
    fn keeps_fields_owned_by_update() {
        let managed = [entry("meshwright", "Update", &variables(&["A"]))];
        assert_eq!(paths(&desired_with(&[]), &live(&["A"], &managed)), [""; 0]);
    }

    #[test]
    fn ignores_fields_that_revert_to_defaults() {
        let fields =
            json!({"f:spec": {"f:sessionAffinity": {}, "f:externalTrafficPolicy": {}, "f:minReadySeconds": {}}});
        let object = |policy: &str| {
            json!({"metadata": {"managedFields": [entry("meshwright", "Apply", &fields)]},
                "spec": {"sessionAffinity": "None", "externalTrafficPolicy": policy}})
        };
        assert_eq!(paths(&json!({"spec": {}}), &object("Cluster")), [""; 0]);
        assert_eq!(paths(&json!({"spec": {}}), &object("Local")), ["spec.externalTrafficPolicy"]);
    }

    #[test]
    fn distinguishes_service_ports_by_protocol() {
        let port = "k:{\"port\":443,\"protocol\":\"TCP\"}";
        let fields = json!({"f:spec": {"f:ports": {port: {".": {}, "f:port": {}, "f:name": {}, "f:protocol": {}}}}});
        let live = json!({"metadata": {"managedFields": [entry("meshwright", "Apply", &fields)]},
            "spec": {"ports": [{"port": 443, "protocol": "TCP", "name": "https"}]}});
        // The desired object may omit the protocol.
        assert_eq!(paths(&json!({"spec": {"ports": [{"port": 443, "name": "https"}]}}), &live), [""; 0]);
        assert_eq!(
            paths(&json!({"spec": {"ports": [{"port": 80, "name": "http"}]}}), &live),
            ["spec.ports[port=443,protocol=TCP]"]
        );
    }
}
