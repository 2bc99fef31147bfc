//! Adoption of objects that another tool installed: which fields the operator takes over, and what would change.

use std::collections::BTreeSet;

use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation, ReplaceOperation};
use serde_json::{Map, Value, json};

use super::effective::proxy_inputs;
use super::fields::{FieldAction, FieldChange, field_changes, is_within};
use super::kind::Kind;
use super::merge::merge;
use super::object::{DesiredObject, FIELD_MANAGER, ObjectKey};
use super::proxy_inputs::PROXY_INPUTS_ANNOTATION;
use super::revisions::{REVISION_LABEL, TAG_LABEL};
use super::value_changes::value_changes;

/// Labels that Istio's charts set on all their objects. A field manager that owns one of them installed the object from
/// a chart: Helm, istioctl, the Sail Operator, or `kubectl apply` of Helm's output.
const CHART_LABELS: [&str; 5] =
    ["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/part-of", "chart", "release"];

/// Labels and annotations that only identify the installing tool or chart; those that end in `/` are prefixes. Adoption
/// changes them by design.
const TOOL_METADATA: [&str; 13] = [
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

/// Labels that istioctl sets on every object that it creates. They only have a meaning where the chart sets them too.
const ISTIOCTL_LABELS: [&str; 2] = [REVISION_LABEL, TAG_LABEL];

/// A patch of `managedFields` that moves the fields of the installing tool to the operator's field manager, as if the
/// operator had applied them. `None` if no field manager is identified as the installer. The patch changes nothing
/// else, and fails if the object has changed since it was read.
#[must_use]
pub fn take_over_patch(live: &Value) -> Option<Patch> {
    let entries = taken_over_entries(live)?;
    let replace = |path: [&str; 2], value: Value| {
        PatchOperation::Replace(ReplaceOperation { path: PointerBuf::from_tokens(path), value })
    };
    let version = live.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
    Some(Patch(vec![
        replace(["metadata", "managedFields"], Value::Array(entries)),
        replace(["metadata", "resourceVersion"], version),
    ]))
}

/// The live object as it is after [`take_over_patch`].
fn taken_over(live: &Value) -> Value {
    let mut live = live.clone();
    if let Some(entries) = taken_over_entries(&live)
        && let Some(managed) = live.pointer_mut("/metadata/managedFields")
    {
        *managed = Value::Array(entries);
    }
    live
}

/// Whether the installing tool owns a field of a live object, by the field's path in `managedFields`.
#[must_use]
pub fn is_owned_by_installer(live: &Value, path: &[&str]) -> bool {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let mut owned = entries.filter(|entry| has_chart_labels(entry)).filter_map(|entry| entry.get("fieldsV1"));
    owned.any(|fields| path.iter().try_fold(fields, |at, key| at.get(key)).is_some())
}

fn taken_over_entries(live: &Value) -> Option<Vec<Value>> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?;
    let version = live.get("apiVersion").and_then(Value::as_str)?;
    let installers: BTreeSet<&str> =
        entries.iter().filter(|entry| has_chart_labels(entry)).filter_map(manager).collect();
    let (taken_over, mut rest): (Vec<&Value>, Vec<Value>) = (
        entries.iter().filter(|e| is_taken_over(e, &installers)).collect(),
        entries.iter().filter(|e| !is_taken_over(e, &installers)).cloned().collect(),
    );
    let newest = taken_over.iter().filter_map(|entry| entry.get("time")).filter_map(Value::as_str).max()?;
    let mut fields = Value::Object(Map::new());
    // Field paths depend on the API version. Entries of another version can't be mapped, and their fields become
    // unowned.
    let same_version =
        taken_over.iter().filter(|entry| entry.get("apiVersion").and_then(Value::as_str) == Some(version));
    for entry in same_version {
        merge(&mut fields, entry.get("fieldsV1").cloned().unwrap_or_default());
    }
    exclude_ca_bundles(&mut fields);
    rest.push(json!({
        "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": version, "time": newest,
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    }));
    Some(rest)
}

/// istioctl copies istiod's CA bundle into the webhooks that it creates. If the operator owned that field, its next
/// apply would remove the bundle, and the webhook would fail until istiod sets it again. Unowned, it stays.
fn exclude_ca_bundles(fields: &mut Value) {
    for (_, webhook) in fields.get_mut("f:webhooks").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(config) = webhook.get_mut("f:clientConfig").and_then(Value::as_object_mut) {
            config.remove("f:caBundle");
        }
    }
}

fn manager(entry: &Value) -> Option<&str> {
    entry.get("manager").and_then(Value::as_str)
}

/// Whether the operator takes an entry over: an installer's, or one that the operator applied itself. Entries of the
/// subresources status and scale keep their managers.
fn is_taken_over(entry: &Value, installers: &BTreeSet<&str>) -> bool {
    let applied = entry.get("operation").and_then(Value::as_str) == Some("Apply");
    let matches =
        |name: &str| installers.contains(name) || (name == FIELD_MANAGER && applied && !installers.is_empty());
    entry.get("subresource").is_none() && manager(entry).is_some_and(matches)
}

fn has_chart_labels(entry: &Value) -> bool {
    let labels = entry.pointer("/fieldsV1/f:metadata/f:labels");
    CHART_LABELS.iter().any(|label| labels.is_some_and(|labels| labels.get(format!("f:{label}")).is_some()))
}

/// What adoption would change in an unmanaged object, besides metadata of the installing tool: fields whose value
/// differs, and fields that the installer set and the operator would remove.
#[must_use]
pub fn differences(desired: &DesiredObject, live: &Value) -> Vec<FieldChange> {
    if is_informational(&desired.key) {
        return Vec::new();
    }
    let changes = field_changes(desired, &taken_over(live)).into_iter();
    changes
        .filter(|change| !is_tool_metadata_change(change))
        .flat_map(|change| text_changes(&desired.key, change))
        .collect()
}

/// The same for `Adoption::Overwrite`, which in addition replaces the pods of a gateway.
#[must_use]
pub fn overwrite_changes(desired: &DesiredObject, live: &Value) -> Vec<FieldChange> {
    let wanted = desired.value();
    let inputs = proxy_inputs(&wanted).filter(|inputs| proxy_inputs(live) != Some(*inputs));
    let rolled = inputs.map(|inputs| FieldChange {
        path: format!("spec.template.metadata.annotations[{PROXY_INPUTS_ANNOTATION:?}]"),
        action: if proxy_inputs(live).is_some() { FieldAction::Changed } else { FieldAction::Added },
        old: proxy_inputs(live).cloned(),
        new: Some(inputs.clone()),
    });
    differences(desired, live).into_iter().chain(rolled).collect()
}

/// Whether it is the ConfigMap in which the chart documents its values. No component reads it.
fn is_informational(key: &ObjectKey) -> bool {
    key.kind == Kind::ConfigMap && (key.name == "values" || key.name.starts_with("values-"))
}

fn is_tool_metadata_change(change: &FieldChange) -> bool {
    let is_istioctl_label = || ISTIOCTL_LABELS.iter().any(|label| change.path == format!("metadata.labels[{label:?}]"));
    is_tool_metadata(&change.path) || (change.action == FieldAction::Removed && is_istioctl_label())
}

/// Whether a field only identifies the tool or chart that installed the object.
#[must_use]
pub fn is_tool_metadata(path: &str) -> bool {
    if is_within(path, "metadata.ownerReferences") {
        return true;
    }
    let table = ["metadata.labels", "metadata.annotations"].into_iter().find(|table| is_within(path, table));
    let Some(rest) = table.and_then(|table| path.strip_prefix(table)) else { return false };
    let key = rest.trim_start_matches(['.', '[', '"']).trim_end_matches(['"', ']']);
    TOOL_METADATA.iter().any(|known| key == *known || (known.ends_with('/') && key.starts_with(known)))
}

/// The changes inside a ConfigMap value that is YAML or JSON itself; none if both texts parse to the same value.
fn text_changes(key: &ObjectKey, change: FieldChange) -> Vec<FieldChange> {
    let parse = |value: &Option<Value>| -> Option<Value> {
        let parsed: Value = serde_saphyr::from_str(value.as_ref()?.as_str()?).ok()?;
        parsed.is_object().then_some(parsed)
    };
    if key.kind != Kind::ConfigMap || change.action != FieldAction::Changed {
        return vec![change];
    }
    let (Some(old), Some(new)) = (parse(&change.old), parse(&change.new)) else { return vec![change] };
    let nested = |inner: FieldChange| FieldChange { path: format!("{}.{}", change.path, inner.path), ..inner };
    value_changes(&old, &new).into_iter().map(nested).collect()
}

#[cfg(test)]
mod tests;
