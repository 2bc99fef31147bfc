//! What an apply takes out of a live object without a word: fields that nobody but we asked for, and that we no longer ask
//! for. Only `managedFields` knows them; the comparison of both sides doesn't, since what others added looks the same.

use serde_json::{Map, Value};

use super::canonical::is_empty;
use super::{Difference, DifferenceKind};
use crate::mesh::object::FIELD_MANAGER;

/// The fields of `live` that the next apply of `desired` takes out. What the API server puts back by itself, since it is
/// the default, is left out.
#[must_use]
pub fn dropped(desired: &Value, live: &Value) -> Vec<Difference> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for entry in entries.into_iter().flatten() {
        let Some(fields) = entry.get("fieldsV1") else { continue };
        if is_our_apply(entry) { ours.push(fields) } else { others.push(fields) }
    }
    let mut found = Vec::new();
    for fields in ours.iter().filter_map(|fields| fields.as_object()) {
        walk("", fields, &others, Some(desired), live, &mut found);
    }
    found
}

/// What the same manager wrote otherwise than by apply doesn't go with an apply.
fn is_our_apply(entry: &Value) -> bool {
    let is = |field: &str, value: &str| entry.get(field).and_then(Value::as_str) == Some(value);
    is("manager", FIELD_MANAGER) && is("operation", "Apply") && entry.get("subresource").is_none()
}

fn walk(
    path: &str,
    ours: &Map<String, Value>,
    others: &[&Value],
    desired: Option<&Value>,
    live: &Value,
    found: &mut Vec<Difference>,
) {
    for (key, inner) in ours {
        let Some(member) = Member::parse(key) else { continue };
        let Some(there) = member.find(live).filter(|there| !is_empty(there)) else { continue };
        let wanted = desired.and_then(|desired| member.find(desired)).filter(|wanted| !wanted.is_null());
        let holders: Vec<&Value> = others.iter().filter_map(|other| other.get(key)).collect();
        let place = format!("{path}{}", member.shown(path.is_empty()));
        if wanted.is_some() || !holders.is_empty() {
            // Somebody wants it to be there; what lies in it may go all the same.
            let Some(inner) = inner.as_object() else { continue };
            walk(&place, inner, &holders, wanted, there, found);
        } else if !member.is_default(there, live) {
            let live = Some(there.clone());
            found.push(Difference { path: place, kind: DifferenceKind::Dropped, desired: None, live, extra_at: None });
        }
    }
}

/// One step of the paths in `managedFields`.
enum Member<'k> {
    /// `f:name`
    Field(&'k str),
    /// `k:{"name":"x"}`
    Element(Map<String, Value>),
    /// `v:"x"`
    Item(Value),
}

impl<'k> Member<'k> {
    /// `None` for `.`, which stands for the place itself, and for what nobody writes any more (`i:0`).
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
                let same = |element: &&Value| keys.iter().all(|(key, value)| holds(element, key, value));
                parent.as_array()?.iter().find(same)
            }
            Self::Item(item) => parent.as_array()?.iter().find(|element| *element == item),
        }
    }

    /// As the places of other differences are written.
    fn shown(&self, first: bool) -> String {
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

/// A key of a list's elements; a protocol that isn't given is TCP.
fn holds(element: &Value, key: &str, value: &Value) -> bool {
    match element.get(key) {
        Some(found) => found == value,
        None => key == "protocol" && value == "TCP",
    }
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the API server writes where nothing is said, in the kinds that charts make.
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

/// The same for numbers.
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
            "metadata": {"labels": {"a/b": "1", "theirs": "2"}, "managedFields": managed},
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

    fn wanting(variables: &[&str]) -> Value {
        let mut object = live(variables, &[]);
        object["metadata"] = json!({"labels": {"a/b": "1"}});
        object
    }

    #[test]
    fn a_target_port_that_is_the_port_comes_back_by_itself() {
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
    fn what_we_alone_own_and_no_longer_want_goes_and_what_others_added_stays() {
        let live = live(&["A", "B", "THEIRS"], &[entry("meshwright", "Apply", &variables(&["A", "B"]))]);
        let container = "spec.template.spec.containers[name=discovery]";
        assert_eq!(paths(&wanting(&["A"]), &live), [format!("{container}.env[name=B]")]);
        assert_eq!(paths(&wanting(&["A", "B"]), &live), [""; 0]);
        assert_eq!(dropped(&wanting(&["A"]), &live)[0].live, Some(json!({"name": "B", "value": "1"})));
    }

    #[test]
    fn what_another_owns_too_stays() {
        let managed =
            [entry("meshwright", "Apply", &variables(&["A", "B"])), entry("kubectl", "Update", &variables(&["B"]))];
        assert_eq!(paths(&wanting(&["A"]), &live(&["A", "B"], &managed)), [""; 0]);
    }

    #[test]
    fn of_a_table_that_another_has_a_key_in_only_ours_goes() {
        let others = json!({"f:metadata": {"f:labels": {"f:theirs": {}}}});
        let managed = [entry("meshwright", "Apply", &variables(&[])), entry("kubectl", "Update", &others)];
        let mut desired = wanting(&[]);
        desired["metadata"] = json!({});
        assert_eq!(paths(&desired, &live(&[], &managed)), ["metadata.labels[\"a/b\"]"]);
    }

    #[test]
    fn what_we_wrote_otherwise_than_by_apply_counts_as_another_s() {
        let managed = [entry("meshwright", "Update", &variables(&["A"]))];
        assert_eq!(paths(&wanting(&[]), &live(&["A"], &managed)), [""; 0]);
    }

    #[test]
    fn a_default_that_is_no_longer_spelled_out_changes_nothing() {
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
    fn ports_of_services_are_told_apart_by_port_and_protocol() {
        let port = "k:{\"port\":443,\"protocol\":\"TCP\"}";
        let fields = json!({"f:spec": {"f:ports": {port: {".": {}, "f:port": {}, "f:name": {}, "f:protocol": {}}}}});
        let live = json!({"metadata": {"managedFields": [entry("meshwright", "Apply", &fields)]},
            "spec": {"ports": [{"port": 443, "protocol": "TCP", "name": "https"}]}});
        // In what we want the protocol may be left out.
        assert_eq!(paths(&json!({"spec": {"ports": [{"port": 443, "name": "https"}]}}), &live), [""; 0]);
        assert_eq!(
            paths(&json!({"spec": {"ports": [{"port": 80, "name": "http"}]}}), &live),
            ["spec.ports[port=443,protocol=TCP]"]
        );
    }
}
