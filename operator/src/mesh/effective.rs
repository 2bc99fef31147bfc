//! The never-own list: what a desired object asks for, given who owns which field of the live one.

use serde_json::Value;

use super::marks::Marks;
use super::object::{ADOPTED_INPUTS_ANNOTATION, COMPONENT_LABEL, Component, ENFORCE_LABEL, FIELD_MANAGER};
use super::proxy_inputs::PROXY_INPUTS_ANNOTATION;

/// Whether [`effective`] can make a difference: then it takes the live object, as it is now, to know what to apply.
#[must_use]
pub fn is_contested(desired: &Value) -> bool {
    match desired.get("kind").and_then(Value::as_str) {
        Some("ValidatingWebhookConfiguration") => true,
        Some("MutatingWebhookConfiguration") => has_enforcer_label(desired),
        Some("Deployment") => desired.pointer("/spec/replicas").is_none() || proxy_inputs(desired).is_some(),
        Some("Namespace") => is_a_node_agents(desired),
        _ => false,
    }
}

/// The desired object, less the fields that somebody else owns by now, and with those that only we own kept alive.
#[must_use]
pub fn effective(desired: Value, live: &Value) -> Value {
    let mut wanted = overwriting(desired, live);
    leave_adopted_pods(&mut wanted, live);
    wanted
}

/// The same where a gateway that somebody else made gets new pods: what shaped the old ones is not known any more when all
/// else has been changed.
#[must_use]
pub fn overwriting(mut desired: Value, live: &Value) -> Value {
    match desired.get("kind").and_then(Value::as_str) {
        Some("ValidatingWebhookConfiguration") => {
            leave_flipped_failure_policy(&mut desired, live);
            leave_what_the_enforcer_added(&mut desired, live);
        }
        Some("MutatingWebhookConfiguration") => leave_what_the_enforcer_added(&mut desired, live),
        Some("Deployment") => {
            wake_from_zero(&mut desired, live);
            keep_replicas_until_handed_over(&mut desired, live);
        }
        Some("Namespace") => leave_enforcement_to_others(&mut desired, live),
        _ => {}
    }
    desired
}

/// Istiod turns `failurePolicy` from Ignore to Fail once its webhook answers. Applying Ignore again would start a
/// fight that it wins; leaving the field out once it is istiod's changes nothing.
fn leave_flipped_failure_policy(desired: &mut Value, live: &Value) {
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

/// On AKS, webhook configurations carry the label that keeps the admissions enforcer away. Where it comes all the same it
/// adds its expressions to each `namespaceSelector` again and again. They only keep namespaces of Azure's own out of the
/// mesh: with them in what is desired there is nothing to fight over. Anything else that is changed there is put right.
fn leave_what_the_enforcer_added(desired: &mut Value, live: &Value) {
    if !has_enforcer_label(desired) {
        return;
    }
    let Some(hooks) = desired.get_mut("webhooks").and_then(Value::as_array_mut) else { return };
    for hook in hooks {
        let found = entries(live).find(|other| other.get("name") == hook.get("name"));
        let Some(live) = found.and_then(|other| other.pointer("/namespaceSelector/matchExpressions")) else { continue };
        let wanted = hook.pointer("/namespaceSelector/matchExpressions").and_then(Value::as_array);
        let (added, rest): (Vec<&Value>, Vec<&Value>) =
            live.as_array().into_iter().flatten().partition(|expression| is_enforcers(expression));
        let ours: Vec<&Value> = wanted.into_iter().flatten().collect();
        if !added.is_empty() && rest == ours {
            super::merge::set(hook, "namespaceSelector.matchExpressions", live.clone());
        }
    }
}

/// The label of the platform's file, by which it is known that there is an enforcer.
pub const ENFORCER_LABEL: &str = "admissions.enforcer/disabled";
/// What its expressions are about.
const ENFORCERS_KEYS: [&str; 2] = ["control-plane", "kubernetes.azure.com/managedby"];

fn has_enforcer_label(desired: &Value) -> bool {
    desired.pointer("/metadata/labels").is_some_and(|labels| labels.get(ENFORCER_LABEL).is_some())
}

fn is_enforcers(expression: &Value) -> bool {
    expression.get("key").and_then(Value::as_str).is_some_and(|key| ENFORCERS_KEYS.contains(&key))
}

fn entries(configuration: &Value) -> impl Iterator<Item = &Value> {
    configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten()
}

/// No autoscaler touches a workload that somebody scaled to zero, so the first pod is ours to bring back.
fn wake_from_zero(desired: &mut Value, live: &Value) {
    let asleep = live.pointer("/spec/replicas").and_then(Value::as_i64) == Some(0);
    if asleep
        && desired.pointer("/spec/replicas").is_none()
        && let Some(spec) = desired.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.insert("replicas".into(), 1.into());
    }
}

/// When autoscaling is switched on, `replicas` vanishes from the desired object. Dropping a field that we alone own
/// would reset it to 1, so the live value is applied until the autoscaler owns it too.
fn keep_replicas_until_handed_over(desired: &mut Value, live: &Value) {
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

/// A gateway that somebody else made has no checksum in its pods of what shapes its proxies, and one that is added would
/// replace them. So it is kept beside them, until it is another.
fn leave_adopted_pods(desired: &mut Value, live: &Value) {
    let Some(inputs) = proxy_inputs(desired).cloned() else { return };
    let annotations = live.pointer("/metadata/annotations");
    let adopted = annotations.and_then(|all| all.get(ADOPTED_INPUTS_ANNOTATION)) == Some(&inputs);
    if proxy_inputs(live).is_some() || !(adopted || Marks::of(live).are_missing()) {
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

/// The checksum of what shapes the proxies of a workload's pods.
#[must_use]
pub fn proxy_inputs(workload: &Value) -> Option<&Value> {
    workload.pointer(POD_ANNOTATIONS)?.get(PROXY_INPUTS_ANNOTATION)
}

/// How strict a namespace is that was there before us is its owner's decision: a node agent's namespace has its
/// enforcement from us only where we made it and nobody has changed that since.
fn leave_enforcement_to_others(desired: &mut Value, live: &Value) {
    let theirs = is_a_node_agents(desired);
    let Some(labels) = desired.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) else { return };
    let path = ["fieldsV1", "f:metadata", "f:labels", &format!("f:{ENFORCE_LABEL}")];
    if theirs && managers(live, &path) != [FIELD_MANAGER] {
        labels.remove(ENFORCE_LABEL);
    }
}

/// A namespace that is there for pods of nodes alone.
fn is_a_node_agents(namespace: &Value) -> bool {
    let label = namespace.get("metadata").and_then(|m| m.get("labels")).and_then(|l| l.get(COMPONENT_LABEL));
    let component = label.and_then(Value::as_str).and_then(Component::from_label);
    matches!(component, Some(Component::Cni | Component::Ztunnel))
}

/// Who owns a field of a live object.
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
    fn a_failure_policy_that_istiod_flipped_is_left_to_it() {
        let wanted = effective(validator("Ignore"), &validator("Fail"));
        assert_eq!(wanted["webhooks"][0], json!({"name": "v"}));
    }

    #[test]
    fn a_failure_policy_that_is_still_ours_is_applied() {
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
    fn what_the_enforcer_added_to_a_selector_is_left_where_there_is_one() {
        let ours = json!([{"key": "istio-injection", "operator": "In", "values": ["enabled"]}]);
        let both = json!([ours[0], {"key": "control-plane", "operator": "DoesNotExist"}]);
        let live = selecting(true, &both);
        assert_eq!(effective(selecting(true, &ours), &live), live);
        assert_eq!(effective(selecting(false, &ours), &live), selecting(false, &ours));
        assert!(is_contested(&selecting(true, &ours)) && !is_contested(&selecting(false, &ours)));
    }

    #[test]
    fn a_selector_without_expressions_takes_the_enforcers_too() {
        let mut wanted = selecting(true, &json!([]));
        wanted["webhooks"][0] = json!({"name": "w"});
        let live = selecting(
            true,
            &json!([{"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]}]),
        );
        assert_eq!(effective(wanted, &live), live);
    }

    #[test]
    fn any_other_change_of_a_selector_is_put_right_even_beside_the_enforcers() {
        let ours = json!([{"key": "istio-injection", "operator": "In", "values": ["enabled"]}]);
        let changed = [
            json!([ours[0], {"key": "team", "operator": "Exists"}]),
            json!([{"key": "control-plane", "operator": "DoesNotExist"}]),
            json!([{"key": "istio-injection", "operator": "Exists"}, {"key": "control-plane", "operator": "DoesNotExist"}]),
        ];
        for expressions in changed {
            let wanted = selecting(true, &ours);
            assert_eq!(effective(wanted.clone(), &selecting(true, &expressions)), wanted);
        }
    }

    #[test]
    fn the_pods_of_a_gateway_that_was_taken_over_stay_until_what_shapes_them_changes() {
        let gateway = |inputs: &str| {
            json!({
                "kind": "Deployment", "metadata": {"annotations": {}},
                "spec": {"replicas": 1, "template": {"metadata": {"annotations": {PROXY_INPUTS_ANNOTATION: inputs}}}},
            })
        };
        let mut theirs = gateway("1");
        theirs["spec"]["template"]["metadata"]["annotations"] = json!({});
        assert!(is_contested(&gateway("1")), "it takes the live one to know");
        let adopted = effective(gateway("1"), &theirs);
        assert_eq!(adopted["spec"], theirs["spec"]);
        assert_eq!(adopted["metadata"]["annotations"], json!({ADOPTED_INPUTS_ANNOTATION: "1"}));
        assert_eq!(overwriting(gateway("1"), &theirs), gateway("1"), "replaced at once");
        let mut ours = adopted.clone();
        ours["metadata"]["labels"] = json!({"meshwright.dev/installation": "mesh"});
        assert_eq!(effective(gateway("1"), &ours), adopted);
        assert_eq!(effective(gateway("2"), &ours), gateway("2"), "now they have to be replaced");
        ours["metadata"]["annotations"] = json!({});
        assert_eq!(effective(gateway("1"), &ours), gateway("1"), "ours from the first, and somebody took it out");
    }

    fn deployment(replicas: Option<i32>, managers: &[&str]) -> Value {
        let fields: Vec<Value> =
            managers.iter().map(|m| json!({"manager": m, "fieldsV1": {"f:spec": {"f:replicas": {}}}})).collect();
        let spec = replicas.map_or(json!({}), |r| json!({"replicas": r}));
        json!({"kind": "Deployment", "metadata": {"managedFields": fields}, "spec": spec})
    }

    #[test]
    fn replicas_stay_at_their_live_value_until_the_autoscaler_owns_them() {
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
    fn pod_security_of_a_namespace_that_another_made_is_its_owners_and_that_of_our_own_is_ours() {
        let enforced = |component, managers: &[&str]| {
            let wanted = effective(namespace(component, &[]), &namespace("x", managers));
            wanted["metadata"]["labels"].get(ENFORCE_LABEL).is_some()
        };
        assert!(enforced("cni", &[FIELD_MANAGER]));
        assert!(!enforced("cni", &[]));
        assert!(!enforced("ztunnel", &["kubectl"]));
        assert!(!enforced("ztunnel", &["kubectl", FIELD_MANAGER]));
        assert!(is_contested(&namespace("cni", &[])) && !is_contested(&namespace("namespaces", &[])));
        // What spec.namespaceLabels asks for is applied whoever had it before.
        assert!(enforced("namespaces", &["kubectl"]));
    }

    #[test]
    fn a_workload_that_was_scaled_to_zero_gets_its_first_pod_back_unless_zero_was_asked_for() {
        for managers in [&["kubectl"][..], &["meshwright"], &["meshwright", "kubectl"]] {
            let wanted = effective(deployment(None, &[]), &deployment(Some(0), managers));
            assert_eq!(wanted["spec"]["replicas"], 1, "{managers:?}");
        }
        let wanted = effective(deployment(Some(0), &[]), &deployment(Some(0), &["meshwright"]));
        assert_eq!(wanted["spec"]["replicas"], 0);
    }

    #[test]
    fn replicas_that_we_ask_for_are_ours() {
        let wanted = effective(deployment(Some(2), &[]), &deployment(Some(4), &["meshwright"]));
        assert_eq!(wanted["spec"]["replicas"], 2);
        assert!(!is_contested(&deployment(Some(2), &[])) && is_contested(&deployment(None, &[])));
    }
}
