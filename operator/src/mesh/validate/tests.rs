use serde_json::json;

use super::*;

fn attempt(installation: &str, fields: Value) -> Result<Validated, Vec<Problem>> {
    let mut spec = Map::from_iter([("version".to_owned(), json!("1.31.2"))]);
    let Value::Object(fields) = fields else { panic!("{fields}") };
    spec.extend(fields);
    let spec: MeshInstallationSpec = serde_json::from_value(Value::Object(spec)).unwrap();
    let owner = Owner { installation: installation.into(), uid: "u-1".into(), release: semver::Version::new(1, 31, 2) };
    let platforms = crate::platform::Platforms::bundled().unwrap();
    let platform = platforms.get(crate::platform::GENERIC).unwrap();
    validate(&spec, owner, &Profile::get(spec.profile).unwrap(), platform)
}

fn good(fields: Value) -> Validated {
    attempt("mesh", fields).unwrap()
}

/// The fields that are complained of.
fn bad(fields: Value) -> Vec<String> {
    attempt("mesh", fields).unwrap_err().into_iter().map(|problem| problem.field).collect()
}

#[test]
fn an_installation_is_not_called_like_one_of_its_releases() {
    let gateways = || json!({"gateways": [{"name": "edge"}]});
    assert!(attempt("mesh", gateways()).is_ok());
    for name in ["edge", "istiod", "istio-base", "istio-cni", "ztunnel"] {
        let problems = attempt(name, gateways()).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].field, "metadata.name");
        assert!(problems[0].message.contains(name), "{problems:?}");
    }
}

#[test]
fn labels_that_switch_injection_on_or_are_others_are_refused_on_the_control_planes_namespace() {
    good(json!({"namespaceLabels": {"pod-security.kubernetes.io/enforce": "baseline"}}));
    for key in ["istio-injection", "istio.io/rev", "meshwright.dev/component", "kubernetes.io/metadata.name"] {
        let field = format!("spec.namespaceLabels[{key}]");
        assert_eq!(bad(json!({"namespaceLabels": {key: "x"}})), [field]);
    }
}

#[test]
fn a_revision_is_in_the_name_of_its_release_and_no_gateway_is_called_like_its_istiod() {
    let validated = good(json!({"revision": "canary", "tags": [{"name": "prod"}]}));
    assert!(validated.releases.iter().any(|release| release.name == "istiod-canary"));
    assert!(["canary", "prod"].iter().all(|name| validated.is_called(name)) && !validated.is_called("default"));
    assert!(good(json!({"gateways": [{"name": "istiod-canary"}]})).is_called("default"));
    let clash = json!({"revision": "canary", "gateways": [{"name": "istiod-canary"}]});
    assert_eq!(bad(clash), ["spec.gateways[istiod-canary].name"]);
}

#[test]
fn names_that_charts_write_without_quotes_must_be_texts() {
    assert_eq!(bad(json!({"revision": "1e3", "tags": [{"name": "true"}]})), ["spec.revision", "spec.tags[true].name"]);
}

#[test]
fn keys_that_the_operator_owns_are_refused_in_every_chart() {
    good(json!({"values": {"base": {"base": {"excludedCRDs": []}}, "istiod": {"traceSampling": 5}}}));
    assert_eq!(bad(json!({"values": {"base": {"defaultRevision": "x"}}})), ["spec.values.base.defaultRevision"]);
    assert_eq!(bad(json!({"values": {"istiod": {"replicaCount": 2}}})), ["spec.values.istiod.replicaCount"]);
    good(json!({"gateways": [{"name": "edge", "values": {"minReadySeconds": 5}}]}));
    let kind = json!({"gateways": [{"name": "edge", "values": {"kind": "DaemonSet"}}]});
    assert_eq!(bad(kind), ["spec.gateways[edge].values.kind"]);
}

#[test]
fn a_variable_of_istiod_is_set_in_one_place() {
    let env = |name: &str| json!([{"name": name, "value": "1"}]);
    good(json!({
        "controlPlane": {"env": env("A")},
        "proxy": {"nativeSidecar": true},
        "values": {"istiod": {"env": {"B": "2"}, "envVarFrom": [{"name": "C"}]}},
    }));
    let twice = json!({"controlPlane": {"env": env("A")}, "values": {"istiod": {"env": {"A": "2"}}}});
    assert_eq!(bad(twice), ["spec.values.istiod.env.A"]);
    let listed = json!({"controlPlane": {"env": env("A")}, "values": {"istiod": {"envVarFrom": [{"name": "A"}]}}});
    assert_eq!(bad(listed), ["spec.values.istiod.envVarFrom[A]"]);
    let native = json!({"controlPlane": {"env": env("ENABLE_NATIVE_SIDECARS")}, "proxy": {"nativeSidecar": false}});
    assert_eq!(bad(native), ["spec.controlPlane.env[ENABLE_NATIVE_SIDECARS]"]);
}

#[test]
fn gateways_have_names_of_their_own() {
    good(json!({"gateways": [{"name": "a"}, {"name": "b"}]}));
    assert_eq!(bad(json!({"gateways": [{"name": "a"}, {"name": "a"}]})), ["spec.gateways[a].name"]);
    for name in RELEASE_NAMES {
        assert_eq!(bad(json!({"gateways": [{"name": name}]})), [format!("spec.gateways[{name}].name")]);
    }
}

#[test]
fn a_gateways_name_is_short_enough_to_be_a_release() {
    let named = |length: usize| json!({"gateways": [{"name": "n".repeat(length)}]});
    good(named(LONGEST_GATEWAY_NAME));
    assert_eq!(bad(named(LONGEST_GATEWAY_NAME + 1)).len(), 1);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let problems = bad(json!({
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
fn a_good_spec_is_charts_in_the_order_of_installation_and_the_namespaces_that_they_need() {
    let spec = json!({
        "namespace": "mesh-system",
        "namespaceLabels": {"a": "b"},
        "gateways": [{"name": "z"}, {"name": "a", "namespace": "edges"}],
    });
    let validated = good(spec);
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
fn the_order_in_which_gateways_are_listed_means_nothing() {
    let listed = |names: [&str; 2]| good(json!({"gateways": names.map(|name| json!({"name": name}))}));
    assert_eq!(listed(["a", "b"]), listed(["b", "a"]));
}
