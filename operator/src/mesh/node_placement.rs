//! Which nodes the mesh's pods are scheduled on: Linux nodes, and for istio-cni and ztunnel only nodes with a kubelet
//! that runs `DaemonSet`s.

use serde_json::{Value, json};

use super::merge::{get, set};
use crate::catalog::ChartName;

/// The label with a node's operating system, which the kubelet sets.
pub const OS_LABEL: &str = "kubernetes.io/os";
/// Labels of virtual nodes, which run no `DaemonSet`s: of EKS Fargate (Amazon EKS user guide, Fargate pod execution), and
/// of virtual-kubelet, as in AKS virtual nodes (virtual-kubelet's documentation).
pub const VIRTUAL_NODES: [(&str, &str); 2] =
    [("eks.amazonaws.com/compute-type", "fargate"), ("type", "virtual-kubelet")];

const REQUIRED_NODES: &str = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";

/// Adds the placement to a chart's values. Values that are set already stay.
pub fn write(chart: ChartName, values: &mut Value) {
    match chart {
        ChartName::Base => {}
        ChartName::Istiod | ChartName::Gateway => select_linux(values),
        // These charts select Linux themselves.
        ChartName::Cni | ChartName::Ztunnel => avoid_virtual_nodes(values),
    }
}

/// Adds the node selector for Linux.
pub fn select_linux(values: &mut Value) {
    let is_set = match values.get("nodeSelector") {
        None | Some(Value::Null) => false,
        Some(Value::Object(selector)) => selector.contains_key(OS_LABEL),
        // The renderer or the API server reports it.
        Some(_) => true,
    };
    if !is_set {
        set(values, "nodeSelector", json!({OS_LABEL: "linux"}));
    }
}

/// Adds a node affinity against virtual nodes, unless the user has chosen the nodes.
fn avoid_virtual_nodes(values: &mut Value) {
    // The chart of ztunnel reads values below `global` as its own.
    let is_chosen = get(values, REQUIRED_NODES).is_some() || get(values, &format!("global.{REQUIRED_NODES}")).is_some();
    let is_malformed = |path: &str| get(values, path).is_some_and(|value| !value.is_object() && !value.is_null());
    if is_chosen || is_malformed("affinity") || is_malformed("affinity.nodeAffinity") {
        return;
    }
    let expressions = VIRTUAL_NODES.map(|(key, value)| json!({"key": key, "operator": "NotIn", "values": [value]}));
    set(values, REQUIRED_NODES, json!({"nodeSelectorTerms": [{"matchExpressions": expressions}]}));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(chart: ChartName, mut values: Value) -> Value {
        write(chart, &mut values);
        values
    }

    #[test]
    fn selects_linux_beside_other_labels() {
        for chart in [ChartName::Istiod, ChartName::Gateway] {
            let linux = json!({OS_LABEL: "linux"});
            assert_eq!(written(chart, json!({}))["nodeSelector"], linux);
            assert_eq!(written(chart, json!({"nodeSelector": null}))["nodeSelector"], linux);
            assert_eq!(
                written(chart, json!({"nodeSelector": {"pool": "infra"}}))["nodeSelector"],
                json!({"pool": "infra", OS_LABEL: "linux"})
            );
        }
        assert_eq!(written(ChartName::Base, json!({})), json!({}));
    }

    #[test]
    fn keeps_operating_system_of_user() {
        for selector in [json!({OS_LABEL: "custom"}), json!({OS_LABEL: null}), json!("malformed")] {
            let values = json!({"nodeSelector": selector});
            assert_eq!(written(ChartName::Istiod, values.clone()), values);
        }
    }

    #[test]
    fn daemon_sets_avoid_virtual_nodes() {
        let terms =
            |values: &Value| get(values, REQUIRED_NODES).and_then(|nodes| nodes.get("nodeSelectorTerms")).cloned();
        for chart in [ChartName::Cni, ChartName::Ztunnel] {
            let preferred = json!({"affinity": {"podAntiAffinity": {"a": 1}}});
            let values = written(chart, preferred);
            let expected = json!([{"matchExpressions": [
                {"key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"]},
                {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]},
            ]}]);
            assert_eq!(terms(&values), Some(expected));
            assert_eq!(get(&values, "affinity.podAntiAffinity.a"), Some(&json!(1)));
        }
    }

    #[test]
    fn keeps_nodes_that_user_requires() {
        let required =
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}});
        for values in
            [json!({"affinity": required}), json!({"global": {"affinity": required}}), json!({"affinity": "malformed"})]
        {
            assert_eq!(written(ChartName::Ztunnel, values.clone()), values);
        }
    }
}
