//! Fields that the operator leaves to other field managers, depending on who owns them in the live object.

use serde_json::Value;

use super::object::{ADOPTED_INPUTS_ANNOTATION, COMPONENT_LABEL, Component, ENFORCE_LABEL, FIELD_MANAGER};
use super::ownership::OwnershipMeta;
use super::proxy_inputs::PROXY_INPUTS_ANNOTATION;

/// Whether [`effective`] may change this object, so that the apply needs a fresh read of the live one.
#[must_use]
pub fn depends_on_live(desired: &Value) -> bool {
    match desired.get("kind").and_then(Value::as_str) {
        Some("ValidatingWebhookConfiguration") => true,
        Some("MutatingWebhookConfiguration") => has_enforcer_label(desired),
        Some("Deployment") => desired.pointer("/spec/replicas").is_none() || proxy_inputs(desired).is_some(),
        Some("Namespace") => is_node_component_namespace(desired),
        _ => false,
    }
}

/// The desired object as it is to be applied: without fields that belong to another field manager by now, and with the
/// live value of fields that an apply would otherwise reset.
#[must_use]
pub fn effective(desired: Value, live: &Value) -> Value {
    let mut wanted = effective_for_overwrite(desired, live);
    retain_adopted_pods(&mut wanted, live);
    wanted
}

/// The same for `Adoption::Overwrite`, which always replaces the pods of an adopted gateway: once the other fields are
/// overwritten, the inputs of the existing pods are unknown.
#[must_use]
pub fn effective_for_overwrite(mut desired: Value, live: &Value) -> Value {
    match desired.get("kind").and_then(Value::as_str) {
        Some("ValidatingWebhookConfiguration") => {
            omit_failure_policy_set_by_istiod(&mut desired, live);
            include_enforcer_expressions(&mut desired, live);
        }
        Some("MutatingWebhookConfiguration") => include_enforcer_expressions(&mut desired, live),
        Some("Deployment") => {
            scale_up_from_zero(&mut desired, live);
            retain_replicas_until_autoscaled(&mut desired, live);
        }
        Some("Namespace") => omit_unowned_enforcement(&mut desired, live),
        _ => {}
    }
    desired
}

/// istiod changes `failurePolicy` from Ignore to Fail once its webhook answers. Applying Ignore again would start a
/// drift loop; once istiod owns the field, omitting it changes nothing.
fn omit_failure_policy_set_by_istiod(desired: &mut Value, live: &Value) {
    let flipped: Vec<&str> = entries(live)
        .filter(|hook| hook.get("failurePolicy").and_then(Value::as_str) == Some("Fail"))
        .filter_map(|hook| hook.get("name").and_then(Value::as_str))
        .collect();
    let Some(hooks) = desired.get_mut("webhooks").and_then(Value::as_array_mut) else { return };
    for hook in hooks {
        let name = hook.get("name").and_then(Value::as_str).unwrap_or_default();
        if flipped.contains(&name)
            && let Some(hook) = hook.as_object_mut()
        {
            hook.remove("failurePolicy");
        }
    }
}

/// On AKS, a label on webhook configurations disables the admissions enforcer. If the enforcer acts nevertheless, it
/// keeps adding its expressions to each `namespaceSelector`. They only exclude Azure's own namespaces, so the desired
/// object includes them to avoid a drift loop. Other changes of the selector are drift.
fn include_enforcer_expressions(desired: &mut Value, live: &Value) {
    if !has_enforcer_label(desired) {
        return;
    }
    let Some(hooks) = desired.get_mut("webhooks").and_then(Value::as_array_mut) else { return };
    for hook in hooks {
        let found = entries(live).find(|other| other.get("name") == hook.get("name"));
        let Some(live) = found.and_then(|other| other.pointer("/namespaceSelector/matchExpressions")) else { continue };
        let wanted = hook.pointer("/namespaceSelector/matchExpressions").and_then(Value::as_array);
        let (added, rest): (Vec<&Value>, Vec<&Value>) =
            live.as_array().into_iter().flatten().partition(|expression| is_enforcer_expression(expression));
        let expected: Vec<&Value> = wanted.into_iter().flatten().collect();
        if !added.is_empty() && rest == expected {
            super::merge::set(hook, "namespaceSelector.matchExpressions", live.clone());
        }
    }
}

/// Label from the platform's file, which shows that the cluster runs the admissions enforcer.
pub const ENFORCER_LABEL: &str = "admissions.enforcer/disabled";
/// Label keys of the expressions that the enforcer adds.
const ENFORCER_KEYS: [&str; 2] = ["control-plane", "kubernetes.azure.com/managedby"];

fn has_enforcer_label(desired: &Value) -> bool {
    desired.pointer("/metadata/labels").is_some_and(|labels| labels.get(ENFORCER_LABEL).is_some())
}

fn is_enforcer_expression(expression: &Value) -> bool {
    expression.get("key").and_then(Value::as_str).is_some_and(|key| ENFORCER_KEYS.contains(&key))
}

fn entries(configuration: &Value) -> impl Iterator<Item = &Value> {
    configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten()
}

/// A HorizontalPodAutoscaler ignores a workload that was scaled to zero, so the operator restores the first replica.
fn scale_up_from_zero(desired: &mut Value, live: &Value) {
    let at_zero = live.pointer("/spec/replicas").and_then(Value::as_i64) == Some(0);
    if at_zero
        && desired.pointer("/spec/replicas").is_none()
        && let Some(spec) = desired.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.insert("replicas".into(), 1.into());
    }
}

/// When autoscaling is enabled, the desired object no longer has `replicas`. Dropping a field that only the operator
/// owns would reset it to 1, so the operator applies the live value until the autoscaler owns the field too.
fn retain_replicas_until_autoscaled(desired: &mut Value, live: &Value) {
    if desired.pointer("/spec/replicas").is_some() {
        return;
    }
    if managers(live, &["fieldsV1", "f:spec", "f:replicas"]) == [FIELD_MANAGER]
        && let Some(replicas) = live.pointer("/spec/replicas")
        && let Some(spec) = desired.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.insert("replicas".into(), replicas.clone());
    }
}

/// The pods of an adopted gateway have no checksum of their proxy inputs, and adding one would roll them. Until the
/// inputs change, the checksum is therefore an annotation of the Deployment instead.
fn retain_adopted_pods(desired: &mut Value, live: &Value) {
    let Some(inputs) = proxy_inputs(desired).cloned() else { return };
    let annotations = live.pointer("/metadata/annotations");
    let adopted = annotations.and_then(|all| all.get(ADOPTED_INPUTS_ANNOTATION)) == Some(&inputs);
    if proxy_inputs(live).is_some() || !(adopted || OwnershipMeta::of(live).is_absent()) {
        return;
    }
    if let Some(Value::Object(annotations)) = desired.pointer_mut(POD_ANNOTATIONS) {
        annotations.remove(PROXY_INPUTS_ANNOTATION);
    }
    if let Some(Value::Object(annotations)) = desired.pointer_mut("/metadata/annotations") {
        annotations.insert(ADOPTED_INPUTS_ANNOTATION.to_owned(), inputs);
    }
}

const POD_ANNOTATIONS: &str = "/spec/template/metadata/annotations";

/// The checksum of the proxy inputs in a workload's pod template.
#[must_use]
pub fn proxy_inputs(workload: &Value) -> Option<&Value> {
    workload.pointer(POD_ANNOTATIONS)?.get(PROXY_INPUTS_ANNOTATION)
}

/// The Pod Security level of an existing namespace is its owner's decision: the operator sets the label of a namespace
/// for cni or ztunnel only if it created the label and no other field manager has changed it.
fn omit_unowned_enforcement(desired: &mut Value, live: &Value) {
    let for_node_component = is_node_component_namespace(desired);
    let Some(labels) = desired.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) else { return };
    let path = ["fieldsV1", "f:metadata", "f:labels", &format!("f:{ENFORCE_LABEL}")];
    if for_node_component && managers(live, &path) != [FIELD_MANAGER] {
        labels.remove(ENFORCE_LABEL);
    }
}

/// Whether a namespace was created for cni or ztunnel alone.
fn is_node_component_namespace(namespace: &Value) -> bool {
    let label = namespace.get("metadata").and_then(|m| m.get("labels")).and_then(|l| l.get(COMPONENT_LABEL));
    let component = label.and_then(Value::as_str).and_then(Component::from_label);
    matches!(component, Some(Component::Cni | Component::Ztunnel))
}

/// The field managers that own a field of a live object.
fn managers<'a>(live: &'a Value, path: &[&str]) -> Vec<&'a str> {
    live.pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| path.iter().try_fold(*entry, |at, key| at.get(key)).is_some())
        .filter_map(|entry| entry.get("manager").and_then(Value::as_str))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn validator(policy: &str) -> Value {
        json!({"kind": "ValidatingWebhookConfiguration", "webhooks": [{"name": "v", "failurePolicy": policy}]})
    }

    #[test]
    fn omits_failure_policy_that_istiod_changed() {
        let wanted = effective(validator("Ignore"), &validator("Fail"));
        assert_eq!(wanted["webhooks"][0], json!({"name": "v"}));
    }

    #[test]
    fn applies_failure_policy_that_istiod_has_not_changed() {
        assert_eq!(effective(validator("Ignore"), &validator("Ignore")), validator("Ignore"));
    }

    fn selecting(label: bool, expressions: &Value) -> Value {
        let labels = if label { json!({ENFORCER_LABEL: "true"}) } else { json!({}) };
        json!({
            "kind": "MutatingWebhookConfiguration", "metadata": {"labels": labels},
            "webhooks": [{"name": "w", "namespaceSelector": {"matchExpressions": expressions}}],
        })
    }

    #[test]
    fn accepts_expressions_of_aks_enforcer() {
        let desired = json!([{"key": "istio-injection", "operator": "In", "values": ["enabled"]}]);
        let both = json!([desired[0], {"key": "control-plane", "operator": "DoesNotExist"}]);
        let live = selecting(true, &both);
        assert_eq!(effective(selecting(true, &desired), &live), live);
        assert_eq!(effective(selecting(false, &desired), &live), selecting(false, &desired));
        assert!(depends_on_live(&selecting(true, &desired)) && !depends_on_live(&selecting(false, &desired)));
    }

    #[test]
    fn accepts_enforcer_expressions_on_empty_selector() {
        let mut wanted = selecting(true, &json!([]));
        wanted["webhooks"][0] = json!({"name": "w"});
        let live = selecting(
            true,
            &json!([{"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]}]),
        );
        assert_eq!(effective(wanted, &live), live);
    }

    #[test]
    fn reverts_other_selector_changes() {
        let desired = json!([{"key": "istio-injection", "operator": "In", "values": ["enabled"]}]);
        let changed = [
            json!([desired[0], {"key": "team", "operator": "Exists"}]),
            json!([{"key": "control-plane", "operator": "DoesNotExist"}]),
            json!([{"key": "istio-injection", "operator": "Exists"}, {"key": "control-plane", "operator": "DoesNotExist"}]),
        ];
        for expressions in changed {
            let wanted = selecting(true, &desired);
            assert_eq!(effective(wanted.clone(), &selecting(true, &expressions)), wanted);
        }
    }

    #[test]
    fn adopted_gateway_pods_roll_only_on_new_inputs() {
        let gateway = |inputs: &str| {
            json!({
                "kind": "Deployment", "metadata": {"annotations": {}},
                "spec": {"replicas": 1, "template": {"metadata": {"annotations": {PROXY_INPUTS_ANNOTATION: inputs}}}},
            })
        };
        let mut unmanaged = gateway("1");
        unmanaged["spec"]["template"]["metadata"]["annotations"] = json!({});
        assert!(depends_on_live(&gateway("1")), "depends on the live object");
        let adopted = effective(gateway("1"), &unmanaged);
        assert_eq!(adopted["spec"], unmanaged["spec"]);
        assert_eq!(adopted["metadata"]["annotations"], json!({ADOPTED_INPUTS_ANNOTATION: "1"}));
        assert_eq!(effective_for_overwrite(gateway("1"), &unmanaged), gateway("1"), "rolled immediately");
        let mut managed = adopted.clone();
        managed["metadata"]["labels"] = json!({"meshwright.dev/installation": "mesh"});
        assert_eq!(effective(gateway("1"), &managed), adopted);
        assert_eq!(effective(gateway("2"), &managed), gateway("2"), "changed inputs roll the pods");
        managed["metadata"]["annotations"] = json!({});
        assert_eq!(effective(gateway("1"), &managed), gateway("1"), "not adopted: restores a removed annotation");
    }

    fn deployment(replicas: Option<i32>, managers: &[&str]) -> Value {
        let fields: Vec<Value> =
            managers.iter().map(|m| json!({"manager": m, "fieldsV1": {"f:spec": {"f:replicas": {}}}})).collect();
        let spec = replicas.map_or(json!({}), |r| json!({"replicas": r}));
        json!({"kind": "Deployment", "metadata": {"managedFields": fields}, "spec": spec})
    }

    #[test]
    fn keeps_live_replicas_until_autoscaler_owns_them() {
        let wanted = effective(deployment(None, &[]), &deployment(Some(4), &["meshwright"]));
        assert_eq!(wanted["spec"]["replicas"], 4);
        let wanted = effective(deployment(None, &[]), &deployment(Some(4), &["meshwright", "kube-controller-manager"]));
        assert_eq!(wanted["spec"].get("replicas"), None);
    }

    fn namespace(component: &str, managers: &[&str]) -> Value {
        let label = format!("f:{ENFORCE_LABEL}");
        let fields: Vec<Value> = managers
            .iter()
            .map(|m| json!({"manager": m, "fieldsV1": {"f:metadata": {"f:labels": {&label: {}}}}}))
            .collect();
        let labels = json!({ENFORCE_LABEL: "privileged", COMPONENT_LABEL: component});
        json!({"kind": "Namespace", "metadata": {"labels": labels, "managedFields": fields}})
    }

    #[test]
    fn enforces_pod_security_only_on_own_namespaces() {
        let enforced = |component, managers: &[&str]| {
            let wanted = effective(namespace(component, &[]), &namespace("x", managers));
            wanted["metadata"]["labels"].get(ENFORCE_LABEL).is_some()
        };
        assert!(enforced("cni", &[FIELD_MANAGER]));
        assert!(!enforced("cni", &[]));
        assert!(!enforced("ztunnel", &["kubectl"]));
        assert!(!enforced("ztunnel", &["kubectl", FIELD_MANAGER]));
        assert!(depends_on_live(&namespace("cni", &[])) && !depends_on_live(&namespace("namespaces", &[])));
        // Labels from spec.namespaceLabels are applied regardless of their field manager.
        assert!(enforced("namespaces", &["kubectl"]));
    }

    #[test]
    fn restores_one_replica_after_scale_to_zero() {
        for managers in [&["kubectl"][..], &["meshwright"], &["meshwright", "kubectl"]] {
            let wanted = effective(deployment(None, &[]), &deployment(Some(0), managers));
            assert_eq!(wanted["spec"]["replicas"], 1, "{managers:?}");
        }
        let wanted = effective(deployment(Some(0), &[]), &deployment(Some(0), &["meshwright"]));
        assert_eq!(wanted["spec"]["replicas"], 0);
    }

    #[test]
    fn applies_replicas_from_spec() {
        let wanted = effective(deployment(Some(2), &[]), &deployment(Some(4), &["meshwright"]));
        assert_eq!(wanted["spec"]["replicas"], 2);
        assert!(!depends_on_live(&deployment(Some(2), &[])) && depends_on_live(&deployment(None, &[])));
    }
}
