//! Values that would render invalid objects.

use super::*;

#[test]
fn rejects_nulls_except_for_single_resources() {
    let values = json!({
        "image": {"tag": null}, "retention": null, "tolerations": [{"key": null}],
        "resources": {"requests": null, "limits": {"memory": null}},
    });
    let messages = problems(json!({"addons": [{"name": "prometheus", "values": values}]})).join("; ");
    for path in ["image.tag", "retention", "tolerations[0].key", "resources.requests"] {
        assert!(messages.contains(&format!("spec.addons[prometheus].values.{path}: is null")), "{path}: {messages}");
    }
    assert!(!messages.contains("limits"), "{messages}");
    let unlimited = json!({"resources": {"limits": {"memory": null}}});
    let [prometheus] = &releases(json!({"addons": [{"name": "prometheus", "values": unlimited}]}))[..] else {
        panic!()
    };
    let objects = objects(prometheus);
    let pod = &find(&objects, "Deployment", "prometheus")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["resources"]["limits"], json!({}));
}

#[test]
fn validates_quantities_and_network_policy_peers() {
    let with = |values: Value| problems(json!({"addons": [{"name": "jaeger", "values": values}]})).join("; ");
    let memory = |quantity: Value| with(json!({"resources": {"limits": {"memory": quantity}}}));
    for good in [json!("1.5Gi"), json!("512M"), json!(1_073_741_824), json!("1e9"), json!("0"), json!(0.5)] {
        assert_eq!(memory(good.clone()), "", "{good}");
    }
    for bad in [json!("lots"), json!("1 Gi"), json!("1GiB"), json!("-1Gi"), json!(""), json!(-1), json!({})] {
        assert!(memory(bad.clone()).contains("resources.limits.memory: must"), "{bad}: {}", memory(bad.clone()));
    }
    let from = |peer: Value| with(json!({"networkPolicy": {"from": [peer]}}));
    let selector = json!({"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "k", "operator": "Exists"}]});
    for good in [
        json!({"podSelector": selector, "namespaceSelector": {}}),
        json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}),
    ] {
        assert_eq!(from(good.clone()), "", "{good}");
    }
    for (bad, path) in [
        (json!({"foo": 1}), "networkPolicy.from[0].foo: unknown"),
        (json!({}), "networkPolicy.from[0]: must have at least 1"),
        (json!({"podSelector": {"team": "a"}}), "podSelector.team: unknown"),
        (json!({"ipBlock": {}}), "ipBlock: cidr is required"),
        (json!({"podSelector": {"matchExpressions": [{"key": "k", "operator": "Is"}]}}), "operator: must be one of"),
    ] {
        assert!(from(bad.clone()).contains(path), "{bad}: {}", from(bad.clone()));
    }
}
