//! Taking over what somebody else made: whose fields become ours, and what would change in the object.

use std::collections::BTreeSet;

use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation, ReplaceOperation};
use serde_json::{Map, Value, json};

use super::effective::proxy_inputs;
use super::fields::{FieldAction, FieldChange, field_changes, lies_in};
use super::kind::Kind;
use super::merge::merge;
use super::object::{Desired, FIELD_MANAGER, ObjectKey};
use super::proxy_inputs::PROXY_INPUTS_ANNOTATION;
use super::revisions::{REVISION_LABEL, TAG_LABEL};
use super::value_changes::value_changes;

/// Labels that charts give all their objects: who wrote one of them has made the object from a chart, be it Helm, istioctl,
/// the Sail Operator, or `kubectl apply` of what Helm printed.
const CHART_LABELS: [&str; 5] =
    ["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/part-of", "chart", "release"];

/// Labels and annotations that say who made an object, from which chart, and nothing else; those that end in `/` stand for
/// all that begin so. That they change is what adoption is.
const MAKERS_MARKS: [&str; 13] = [
    "app.kubernetes.io/",
    "chart",
    "helm.sh/",
    "heritage",
    "install.operator.istio.io/",
    "istio.io/owned-by",
    "kubectl.kubernetes.io/last-applied-configuration",
    "managed-by",
    "meta.helm.sh/",
    "operator.istio.io/",
    "operator-sdk/",
    "release",
    "sailoperator.io/",
];

/// Labels with which istioctl marks whatever it makes, by control plane and tag. Where a chart has them they mean something.
const ISTIOCTLS_LABELS: [&str; 2] = [REVISION_LABEL, TAG_LABEL];

/// The patch that makes the fields of whoever made an object ours, as if we had applied it; `None` where nobody who can be
/// told from others has made it. Nothing else in the object changes, and it must not have changed meanwhile.
#[must_use]
pub fn hand_over(live: &Value) -> Option<Patch> {
    let entries = handed_over_entries(live)?;
    let replace = |of: [&str; 2], value: Value| {
        PatchOperation::Replace(ReplaceOperation { path: PointerBuf::from_tokens(of), value })
    };
    let version = live.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
    Some(Patch(vec![
        replace(["metadata", "managedFields"], Value::Array(entries)),
        replace(["metadata", "resourceVersion"], version),
    ]))
}

/// A live object as it is once the fields of whoever made it are ours.
fn handed_over(live: &Value) -> Value {
    let mut live = live.clone();
    if let Some(entries) = handed_over_entries(&live)
        && let Some(managed) = live.pointer_mut("/metadata/managedFields")
    {
        *managed = Value::Array(entries);
    }
    live
}

/// Whether a field of a live object is of whoever made it, by its path in `managedFields`.
#[must_use]
pub fn is_makers(live: &Value, path: &[&str]) -> bool {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let mut made = entries.filter(|entry| has_chart_labels(entry)).filter_map(|entry| entry.get("fieldsV1"));
    made.any(|fields| path.iter().try_fold(fields, |at, key| at.get(key)).is_some())
}

fn handed_over_entries(live: &Value) -> Option<Vec<Value>> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?;
    let version = live.get("apiVersion").and_then(Value::as_str)?;
    let makers: BTreeSet<&str> = entries.iter().filter(|entry| has_chart_labels(entry)).filter_map(manager).collect();
    let (theirs, mut rest): (Vec<&Value>, Vec<Value>) = (
        entries.iter().filter(|e| is_of(e, &makers)).collect(),
        entries.iter().filter(|e| !is_of(e, &makers)).cloned().collect(),
    );
    let newest = theirs.iter().filter_map(|entry| entry.get("time")).filter_map(Value::as_str).max()?;
    let mut fields = Value::Object(Map::new());
    // Fields are named as in one version of the API; what was written in another can't be told apart, and is nobody's.
    let same = theirs.iter().filter(|entry| entry.get("apiVersion").and_then(Value::as_str) == Some(version));
    for entry in same {
        merge(&mut fields, entry.get("fieldsV1").cloned().unwrap_or_default());
    }
    leave_certificates(&mut fields);
    rest.push(json!({
        "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": version, "time": newest,
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    }));
    Some(rest)
}

/// istioctl copies istiod's certificate into webhooks that it makes. Nobody's field stays as it is until istiod changes it;
/// one of ours would go, and refuse everything until then.
fn leave_certificates(fields: &mut Value) {
    for (_, webhook) in fields.get_mut("f:webhooks").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(config) = webhook.get_mut("f:clientConfig").and_then(Value::as_object_mut) {
            config.remove("f:caBundle");
        }
    }
}

fn manager(entry: &Value) -> Option<&str> {
    entry.get("manager").and_then(Value::as_str)
}

/// Whether an entry goes over to us: of a maker, or what we applied ourselves. Status and scale stay whose they are.
fn is_of(entry: &Value, makers: &BTreeSet<&str>) -> bool {
    let applied = entry.get("operation").and_then(Value::as_str) == Some("Apply");
    let is_maker = |name: &str| makers.contains(name) || (name == FIELD_MANAGER && applied && !makers.is_empty());
    entry.get("subresource").is_none() && manager(entry).is_some_and(is_maker)
}

fn has_chart_labels(entry: &Value) -> bool {
    let labels = entry.pointer("/fieldsV1/f:metadata/f:labels");
    CHART_LABELS.iter().any(|label| labels.is_some_and(|labels| labels.get(format!("f:{label}")).is_some()))
}

/// What would change in a live object that is nobody's if it became ours, besides who made it: fields that get another
/// value, and those that whoever made it wrote and we don't.
#[must_use]
pub fn differences(desired: &Desired, live: &Value) -> Vec<FieldChange> {
    if is_for_people(&desired.key) {
        return Vec::new();
    }
    let changes = field_changes(desired, &handed_over(live)).into_iter();
    changes.filter(|change| !is_a_makers_mark(change)).flat_map(|change| inside(&desired.key, change)).collect()
}

/// The same where what differs is changed: the pods of a gateway are replaced with it.
#[must_use]
pub fn overwritten(desired: &Desired, live: &Value) -> Vec<FieldChange> {
    let wanted = desired.value();
    let inputs = proxy_inputs(&wanted).filter(|inputs| proxy_inputs(live) != Some(*inputs));
    let replaced = inputs.map(|inputs| FieldChange {
        path: format!("spec.template.metadata.annotations[{PROXY_INPUTS_ANNOTATION:?}]"),
        action: if proxy_inputs(live).is_some() { FieldAction::Changed } else { FieldAction::Added },
        old: proxy_inputs(live).cloned(),
        new: Some(inputs.clone()),
    });
    differences(desired, live).into_iter().chain(replaced).collect()
}

/// The ConfigMap in which the chart tells people what values it was given: nothing reads it.
fn is_for_people(key: &ObjectKey) -> bool {
    key.kind == Kind::ConfigMap && (key.name == "values" || key.name.starts_with("values-"))
}

fn is_a_makers_mark(change: &FieldChange) -> bool {
    let is_istioctls = || ISTIOCTLS_LABELS.iter().any(|label| change.path == format!("metadata.labels[{label:?}]"));
    says_who_made_it(&change.path) || (change.action == FieldAction::Removed && is_istioctls())
}

/// Whether a place in an object says who made it, and nothing else.
#[must_use]
pub fn says_who_made_it(path: &str) -> bool {
    if lies_in(path, "metadata.ownerReferences") {
        return true;
    }
    let table = ["metadata.labels", "metadata.annotations"].into_iter().find(|table| lies_in(path, table));
    let Some(rest) = table.and_then(|table| path.strip_prefix(table)) else { return false };
    let key = rest.trim_start_matches(['.', '[', '"']).trim_end_matches(['"', ']']);
    MAKERS_MARKS.iter().any(|mark| key == *mark || (mark.ends_with('/') && key.starts_with(mark)))
}

/// What changes inside a text of a ConfigMap that is YAML or JSON itself: nothing, where it only says the same in other words.
fn inside(key: &ObjectKey, change: FieldChange) -> Vec<FieldChange> {
    let parse = |value: &Option<Value>| -> Option<Value> {
        let parsed: Value = serde_saphyr::from_str(value.as_ref()?.as_str()?).ok()?;
        parsed.is_object().then_some(parsed)
    };
    if key.kind != Kind::ConfigMap || change.action != FieldAction::Changed {
        return vec![change];
    }
    let (Some(old), Some(new)) = (parse(&change.old), parse(&change.new)) else { return vec![change] };
    let deeper = |inner: FieldChange| FieldChange { path: format!("{}.{}", change.path, inner.path), ..inner };
    value_changes(&old, &new).into_iter().map(deeper).collect()
}

#[cfg(test)]
mod tests;
