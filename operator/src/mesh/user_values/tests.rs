use super::*;

fn spec(fields: Value) -> MeshInstallationSpec {
    let mut all = json!({"version": "1.31.2"});
    merge(&mut all, fields);
    serde_json::from_value(all).unwrap()
}

/// The accepted spec, or the fields of the problems.
fn try_accept(fields: Value) -> Result<MeshInstallationSpec, Vec<String>> {
    let spec = spec(fields);
    let platforms = crate::platform::Platforms::bundled().unwrap();
    let platform = platforms.get(crate::platform::GENERIC).unwrap();
    let profile = Profile::get(spec.profile).unwrap();
    let mut problems = Vec::new();
    let accepted = accept(&spec, &Version::new(1, 31, 2), &profile, platform, &mut problems);
    if problems.is_empty() { Ok(accepted) } else { Err(problems.into_iter().map(|problem| problem.field).collect()) }
}

/// The values of a chart after acceptance.
#[allow(clippy::needless_pass_by_value, reason = "tests read better without a reference to each literal")]
fn accepted(chart: &str, values: Value, more: Value) -> Value {
    let mut fields = json!({"values": {chart: values}});
    merge(&mut fields, more);
    let spec = json!(try_accept(fields).unwrap());
    spec.pointer(&format!("/values/{chart}")).cloned().unwrap_or_else(|| json!({}))
}

fn refused(fields: Value) -> Vec<String> {
    try_accept(fields).unwrap_err()
}

fn gateway(fields: Value) -> Value {
    let mut gateway = json!({"name": "edge"});
    merge(&mut gateway, fields);
    json!({"gateways": [gateway]})
}

#[test]
fn legacy_scope_wins_over_top_level() {
    let values = json!({
        "env": {"A": "top", "B": "top"}, "cni": {"enabled": true},
        "pilot": {"env": {"A": "pilot"}, "image": "x/y", "resources": null, "pilot": {"ignored": true}},
    });
    let lifted = json!({
        "env": {"A": "pilot", "B": "top"}, "cni": {"enabled": true}, "image": "x/y", "resources": null,
    });
    assert_eq!(accepted("istiod", values, json!({})), lifted);
    let cni = accepted("cni", json!({"chained": true, "cni": {"chained": false}}), json!({}));
    assert_eq!(cni, json!({"chained": false}));
    assert_eq!(accepted("istiod", json!({"pilot": null, "image": "x"}), json!({})), json!({"image": "x"}));
    assert_eq!(accepted("ztunnel", json!({"ztunnel": {"a": 1}}), json!({})), json!({"ztunnel": {"a": 1}}));
}

#[test]
fn removes_keys_that_equal_own_values() {
    let ambient = json!({"profile": "ambient"});
    let equal = json!({
        "profile": "ambient", "revision": "", "revisionTags": [], "configMap": true, "trustedZtunnelName": "ztunnel",
        "global": {"istioNamespace": "istio-system", "tag": "1.31.2", "externalIstiod": false, "platform": ""},
        "istiodRemote": {"enabled": false, "injectionURL": ""},
        "pilot": {"env": {"PILOT_ENABLE_AMBIENT": true}, "taint": {"namespace": "istio-system"}},
    });
    assert_eq!(accepted("istiod", equal, ambient.clone()), json!({"env": {}}));
    assert_eq!(accepted("base", json!({"defaultRevision": "default", "profile": "default"}), json!({})), json!({}));
    let revision = json!({"revision": "canary", "tags": [{"name": "default"}]});
    assert_eq!(accepted("base", json!({"defaultRevision": "canary"}), revision.clone()), json!({}));
    assert_eq!(accepted("istiod", json!({"revision": "canary", "revisionTags": ["default"]}), revision), json!({}));
    assert_eq!(accepted("cni", json!({"profile": "ambient", "ambient": {"enabled": true}}), ambient), json!({}));
    let ztunnel = json!({"resourceName": "ztunnel", "istioNamespace": "istio-system", "xdsAddress": ""});
    assert_eq!(accepted("ztunnel", ztunnel, json!({})), json!({}));
}

#[test]
fn refuses_contradictions_at_path_of_user() {
    let istiod = |values: Value| refused(json!({"values": {"istiod": values}}));
    assert_eq!(istiod(json!({"profile": "ambient"})), ["spec.values.istiod.profile"]);
    assert_eq!(istiod(json!({"pilot": {"tag": "1.30.0"}})), ["spec.values.istiod.pilot.tag"]);
    assert_eq!(istiod(json!({"istiodRemote": {"enabled": true}})), ["spec.values.istiod.istiodRemote"]);
    assert_eq!(istiod(json!({"global": {"istioNamespace": "x"}})), ["spec.values.istiod.global.istioNamespace"]);
    let named = json!({"revision": "canary", "values": {"base": {"defaultRevision": "default"}}});
    assert_eq!(refused(named), ["spec.values.base.defaultRevision"]);
    for (values, path) in [
        (json!({"kind": "DaemonSet"}), "kind"),
        (json!({"name": "other"}), "name"),
        (json!({"networkGateway": "n"}), "networkGateway"),
        (json!({"service": {"clusterIP": "10.0.0.1"}}), "service.clusterIP"),
        (json!({"service": {"ports": [{"name": "a", "port": 80, "targetPort": "web"}]}}), "service.ports"),
    ] {
        assert_eq!(refused(gateway(json!({"values": values}))), [format!("spec.gateways[edge].values.{path}")]);
    }
}

#[test]
fn unset_fields_leave_values_to_user() {
    let replicas = json!({"pilot": {"autoscaleEnabled": false, "replicaCount": 3}, "global": {"hub": "r/i"}});
    let lifted = json!({"autoscaleEnabled": false, "replicaCount": 3, "global": {"hub": "r/i"}});
    assert_eq!(accepted("istiod", replicas.clone(), json!({})), lifted);
    let fields =
        json!({"controlPlane": {"replicas": 2}, "images": {"registry": "own"}, "values": {"istiod": replicas}});
    assert_eq!(refused(fields), ["spec.values.istiod.global.hub", "spec.values.istiod.pilot.replicaCount"]);
    let equal = json!({"controlPlane": {"replicas": 3}});
    assert_eq!(accepted("istiod", json!({"autoscaleEnabled": false, "replicaCount": 3}), equal), json!({}));
    let values = json!({"values": {"autoscaling": {"enabled": false}, "replicaCount": 2}});
    assert!(try_accept(gateway(values.clone())).is_ok());
    let mut both = json!({"replicas": 1});
    merge(&mut both, values);
    assert_eq!(refused(gateway(both)), ["spec.gateways[edge].values.replicaCount"]);
}

#[test]
fn service_of_values_becomes_service_of_gateway() {
    let accepted = try_accept(gateway(json!({"values": {"name": "edge", "service": {"type": "NodePort"}}}))).unwrap();
    let [edge] = &accepted.gateways[..] else { panic!("{accepted:?}") };
    assert_eq!(edge.service.type_, Some(meshwright_api::ServiceType::NodePort));
    assert!(edge.values.is_empty());
    let equal = json!({"service": {"type": "NodePort"}, "values": {"service": {"type": "NodePort"}}});
    assert!(try_accept(gateway(equal)).unwrap().gateways[0].values.is_empty());
    let other = json!({"service": {"type": "NodePort"}, "values": {"service": {"type": "ClusterIP"}}});
    assert_eq!(refused(gateway(other)), ["spec.gateways[edge].values.service.type"]);
}

#[test]
fn spec_without_owned_keys_stays_as_it_is() {
    let fields = json!({
        "meshConfig": {"enableTracing": true}, "values": {"istiod": {"traceSampling": 5}, "base": {"base": {"a": 1}}},
        "gateways": [{"name": "edge", "values": {"labels": {"a": "b"}, "service": {"annotations": {"c": "d"}}}}],
    });
    assert_eq!(try_accept(fields.clone()).unwrap(), spec(fields));
}

#[test]
fn written_path_has_legacy_scope_if_user_wrote_it() {
    let values = json!({"env": {"A": "1"}, "pilot": {"env": {"B.C": "2"}}});
    let path = |path: &[&str]| written_path(ValuesScope::Istiod, values.as_object().unwrap(), path);
    assert_eq!((path(&["env", "A"]), path(&["env", "B.C"])), ("env.A".into(), "pilot.env.B.C".into()));
}
