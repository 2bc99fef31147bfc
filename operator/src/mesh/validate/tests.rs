use serde_json::json;

use super::*;

fn try_validate(installation: &str, fields: Value) -> Result<ValidatedSpec, Vec<Problem>> {
    let mut spec = Map::from_iter([("version".to_owned(), json!("1.31.2"))]);
    let Value::Object(fields) = fields else { panic!("{fields}") };
    spec.extend(fields);
    let spec: MeshInstallationSpec = serde_json::from_value(Value::Object(spec)).unwrap();
    let owner = Owner { installation: installation.into(), uid: "u-1".into(), release: semver::Version::new(1, 31, 2) };
    let platforms = crate::platform::Platforms::bundled().unwrap();
    let platform = platforms.get(crate::platform::GENERIC).unwrap();
    validate(&spec, owner, &Profile::get(spec.profile).unwrap(), platform)
}

fn valid(fields: Value) -> ValidatedSpec {
    try_validate("mesh", fields).unwrap()
}

/// The fields of the reported problems.
fn rejected_fields(fields: Value) -> Vec<String> {
    try_validate("mesh", fields).unwrap_err().into_iter().map(|problem| problem.field).collect()
}

#[test]
fn rejects_installation_named_like_a_release() {
    let gateways = || json!({"gateways": [{"name": "edge"}]});
    assert!(try_validate("mesh", gateways()).is_ok());
    for name in ["edge", "istiod", "istio-base", "istio-cni", "ztunnel"] {
        let problems = try_validate(name, gateways()).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].field, "metadata.name");
        assert!(problems[0].message.contains(name), "{problems:?}");
    }
}

#[test]
fn rejects_injection_and_reserved_namespace_labels() {
    valid(json!({"namespaceLabels": {"pod-security.kubernetes.io/enforce": "baseline"}}));
    for key in ["istio-injection", "istio.io/rev", "meshwright.dev/component", "kubernetes.io/metadata.name"] {
        let field = format!("spec.namespaceLabels[{key}]");
        assert_eq!(rejected_fields(json!({"namespaceLabels": {key: "x"}})), [field]);
    }
}

#[test]
fn release_name_contains_revision() {
    let validated = valid(json!({"revision": "canary", "tags": [{"name": "prod"}]}));
    assert!(validated.releases.iter().any(|release| release.name == "istiod-canary"));
    assert!(
        ["canary", "prod"].iter().all(|name| validated.has_revision_name(name))
            && !validated.has_revision_name("default")
    );
    assert!(valid(json!({"gateways": [{"name": "istiod-canary"}]})).has_revision_name("default"));
    let clash = json!({"revision": "canary", "gateways": [{"name": "istiod-canary"}]});
    assert_eq!(rejected_fields(clash), ["spec.gateways[istiod-canary].name"]);
}

#[test]
fn rejects_names_that_yaml_misreads() {
    assert_eq!(
        rejected_fields(json!({"revision": "1e3", "tags": [{"name": "true"}]})),
        ["spec.revision", "spec.tags[true].name"]
    );
}

#[test]
fn rejects_owned_keys_in_every_chart() {
    valid(json!({"values": {"base": {"base": {"excludedCRDs": []}}, "istiod": {"traceSampling": 5}}}));
    assert_eq!(
        rejected_fields(json!({"values": {"base": {"defaultRevision": "x"}}})),
        ["spec.values.base.defaultRevision"]
    );
    assert_eq!(
        rejected_fields(json!({"controlPlane": {"replicas": 3}, "values": {"istiod": {"replicaCount": 2}}})),
        ["spec.values.istiod.replicaCount"]
    );
    valid(json!({"gateways": [{"name": "edge", "values": {"minReadySeconds": 5}}]}));
    let kind = json!({"gateways": [{"name": "edge", "values": {"kind": "DaemonSet"}}]});
    assert_eq!(rejected_fields(kind), ["spec.gateways[edge].values.kind"]);
}

#[test]
fn rejects_environment_variable_with_two_sources() {
    let env = |name: &str| json!([{"name": name, "value": "1"}]);
    valid(json!({
        "controlPlane": {"env": env("A")},
        "proxy": {"nativeSidecar": true},
        "values": {"istiod": {"env": {"B": "2"}, "envVarFrom": [{"name": "C"}]}},
    }));
    let twice = json!({"controlPlane": {"env": env("A")}, "values": {"istiod": {"env": {"A": "2"}}}});
    assert_eq!(rejected_fields(twice), ["spec.values.istiod.env.A"]);
    let legacy = json!({"controlPlane": {"env": env("A")}, "values": {"istiod": {"pilot": {"env": {"A": "2"}}}}});
    assert_eq!(rejected_fields(legacy), ["spec.values.istiod.pilot.env.A"]);
    let listed = json!({"controlPlane": {"env": env("A")}, "values": {"istiod": {"envVarFrom": [{"name": "A"}]}}});
    assert_eq!(rejected_fields(listed), ["spec.values.istiod.envVarFrom[A]"]);
    let native = json!({"controlPlane": {"env": env("ENABLE_NATIVE_SIDECARS")}, "proxy": {"nativeSidecar": false}});
    assert_eq!(rejected_fields(native), ["spec.controlPlane.env[ENABLE_NATIVE_SIDECARS]"]);
}

#[test]
fn rejects_duplicate_gateway_names() {
    valid(json!({"gateways": [{"name": "a"}, {"name": "b"}]}));
    assert_eq!(rejected_fields(json!({"gateways": [{"name": "a"}, {"name": "a"}]})), ["spec.gateways[a].name"]);
    for name in RELEASE_NAMES {
        assert_eq!(rejected_fields(json!({"gateways": [{"name": name}]})), [format!("spec.gateways[{name}].name")]);
    }
}

#[test]
fn limits_length_of_gateway_name() {
    let named = |length: usize| json!({"gateways": [{"name": "n".repeat(length)}]});
    valid(named(MAX_GATEWAY_NAME_LENGTH));
    assert_eq!(rejected_fields(named(MAX_GATEWAY_NAME_LENGTH + 1)).len(), 1);
}

#[test]
fn reports_all_problems_at_once() {
    let problems = rejected_fields(json!({
        "namespaceLabels": {"istio-injection": "enabled"},
        "values": {"istiod": {"revision": "x"}},
        "gateways": [{"name": "istiod"}],
    }));
    assert_eq!(
        problems,
        ["spec.namespaceLabels[istio-injection]", "spec.values.istiod.revision", "spec.gateways[istiod].name"]
    );
}

#[test]
fn resolves_charts_in_order_and_namespaces() {
    let spec = json!({
        "namespace": "mesh-system",
        "namespaceLabels": {"a": "b"},
        "gateways": [{"name": "z"}, {"name": "a", "namespace": "edges"}],
    });
    let validated = valid(spec);
    let releases: Vec<_> = validated.releases.iter().map(|r| (r.name.as_str(), r.namespace.as_str())).collect();
    assert_eq!(
        releases,
        [("istio-base", "mesh-system"), ("istiod", "mesh-system"), ("a", "edges"), ("z", "mesh-system")]
    );
    let with = |labels| MeshNamespace { component: Component::Namespaces, labels };
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let namespaces = [("edges".to_owned(), with(BTreeMap::new())), ("mesh-system".to_owned(), with(labels))];
    assert_eq!(validated.namespaces, BTreeMap::from(namespaces));
}

#[test]
fn ignores_order_of_gateways() {
    let listed = |names: [&str; 2]| valid(json!({"gateways": names.map(|name| json!({"name": name}))}));
    assert_eq!(listed(["a", "b"]), listed(["b", "a"]));
}
