use super::*;

fn spec(fields: Value) -> MeshInstallationSpec {
    let mut all = json!({"version": "1.31.2"});
    merge(&mut all, fields);
    serde_json::from_value(all).unwrap()
}

const NO_NODE_COMPONENTS: NodeComponents = NodeComponents { cni: None, ztunnel: None };

/// Computes the values of a chart on the generic platform, optionally with the values of a profile.
fn with<T>(profile: Option<(&str, &Value)>, compute: impl FnOnce(Defaults<'_>) -> T) -> T {
    let platforms = crate::platform::Platforms::bundled().unwrap();
    let platform = platforms.get(crate::platform::GENERIC).unwrap();
    let (chart_profile, profile) = profile.unzip();
    compute(Defaults { chart: ChartName::Istiod, chart_profile, chart_platform: None, profile, platform })
}

fn of_istiod(fields: Value) -> Value {
    with(None, |defaults| istiod(&spec(fields), &NO_NODE_COMPONENTS, defaults))
}

fn of_gateway(fields: Value) -> Value {
    let mut edge = json!({"name": "edge"});
    merge(&mut edge, fields);
    let spec = spec(json!({"gateways": [edge]}));
    with(None, |defaults| gateway(&spec, &spec.gateways[0], defaults))
}

fn at(values: &Value, path: &str) -> Value {
    get(values, path).cloned().unwrap_or_default()
}

#[test]
fn unset_fields_set_no_values() {
    let namespace = json!({"global": {"istioNamespace": "istio-system"}});
    assert_eq!(of_istiod(json!({})), namespace);
    assert_eq!(with(None, |defaults| base(&spec(json!({})), defaults)), namespace);
    assert_eq!(of_gateway(json!({})), json!({"service": {"type": "LoadBalancer"}}));
}

#[test]
fn free_values_override_spec_and_profile() {
    let profile_values = json!({"traceSampling": 1, "replicaCount": 1, "env": {"A": "profile"}});
    let profile = Some(("demo", &profile_values));
    let wanted = spec(json!({
        "controlPlane": {"replicas": 2, "nodeSelector": {"a": "spec"}},
        "values": {"istiod": {"nodeSelector": {"a": "values"}, "traceSampling": null}},
    }));
    let values = with(profile, |defaults| istiod(&wanted, &NO_NODE_COMPONENTS, defaults));
    assert_eq!(at(&values, "profile"), "demo");
    assert_eq!(at(&values, "replicaCount"), 2);
    assert_eq!(at(&values, "env.A"), "profile");
    assert_eq!(at(&values, "nodeSelector.a"), "values");
    assert_eq!(get(&values, "traceSampling"), Some(&Value::Null), "a null deletes the chart's default");
    assert_eq!(at(&with(profile, |defaults| base(&wanted, defaults)), "profile"), "demo");
}

#[test]
fn replicas_and_autoscaling_exclude_each_other() {
    let fixed = of_istiod(json!({"controlPlane": {"replicas": 3}}));
    assert_eq!((at(&fixed, "autoscaleEnabled"), at(&fixed, "replicaCount")), (json!(false), json!(3)));
    let scaled = of_istiod(
        json!({"controlPlane": {"autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetCPUUtilizationPercentage": 60}}}),
    );
    assert_eq!((at(&scaled, "autoscaleEnabled"), at(&scaled, "replicaCount")), (json!(true), Value::Null));
    assert_eq!(at(&scaled, "cpu.targetAverageUtilization"), 60);
    let fixed = of_gateway(json!({"replicas": 0}));
    assert_eq!((at(&fixed, "autoscaling.enabled"), at(&fixed, "replicaCount")), (json!(false), json!(0)));
    let scaled =
        of_gateway(json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetCPUUtilizationPercentage": 60}}));
    assert_eq!(
        at(&scaled, "autoscaling"),
        json!({"enabled": true, "minReplicas": 2, "maxReplicas": 4, "targetCPUUtilizationPercentage": 60})
    );
}

#[test]
fn passes_variables_unchanged_through_chart() {
    let env = json!([{"name": "A.B", "value": "plain"}, {"name": "C", "value": "a\"b"}]);
    let values = of_istiod(json!({"controlPlane": {"env": env}, "proxy": {"nativeSidecar": false}}));
    assert_eq!(values["env"], json!({"A.B": "plain", "ENABLE_NATIVE_SIDECARS": "false"}));
    assert_eq!(values["envVarFrom"], json!([{"name": "C", "value": "a\"b"}]));
}

#[test]
fn appends_variables_to_list_of_user() {
    let values = of_istiod(json!({
        "controlPlane": {"env": [{"name": "C", "value": "a\nb"}]},
        "values": {"istiod": {"envVarFrom": [{"name": "D"}]}},
    }));
    assert_eq!(values["envVarFrom"], json!([{"name": "D"}, {"name": "C", "value": "a\nb"}]));
}

#[test]
fn removes_leading_zeros_from_quantities() {
    let amounts = [
        ("010", "10"),
        ("0100Mi", "100Mi"),
        ("0", "0"),
        ("00", "00"),
        ("0.5", "0.5"),
        (".5", ".5"),
        ("+5", "+5"),
        ("100m", "100m"),
        ("0m", "0m"),
    ];
    for (written, expected) in amounts {
        assert_eq!(without_leading_zeros(&Quantity(written.into())), Quantity(expected.into()), "{written}");
    }
    let values = of_istiod(json!({"controlPlane": {"resources": {"limits": {"cpu": "010"}}}}));
    assert_eq!(values["resources"], json!({"limits": {"cpu": "10"}}));
}

#[test]
fn joins_address_and_port_lists() {
    let proxy = json!({
        "includeIPRanges": ["10.0.0.0/8", "fd00::/8"], "excludeIPRanges": ["10.1.0.0/16"],
        "includeInboundPorts": ["*"], "excludeInboundPorts": ["1", "2"],
        "includeOutboundPorts": ["3"], "excludeOutboundPorts": ["4", "5"],
    });
    assert_eq!(
        at(&of_istiod(json!({"proxy": proxy})), "global.proxy"),
        json!({
            "includeIPRanges": "10.0.0.0/8,fd00::/8", "excludeIPRanges": "10.1.0.0/16",
            "includeInboundPorts": "*", "excludeInboundPorts": "1,2",
            "includeOutboundPorts": "3", "excludeOutboundPorts": "4,5",
        })
    );
}

#[test]
fn mesh_config_overrides_access_log() {
    let log = json!({"proxy": {"accessLog": {}}});
    assert_eq!(
        at(&of_istiod(log.clone()), "meshConfig"),
        json!({"accessLogFile": "/dev/stdout", "accessLogEncoding": "TEXT"})
    );
    let mut both = log;
    merge(&mut both, json!({"meshConfig": {"accessLogFile": "/dev/stderr"}}));
    assert_eq!(at(&of_istiod(both), "meshConfig.accessLogFile"), "/dev/stderr");
}

#[test]
fn sets_images_in_all_charts() {
    let images = json!({"images": {"registry": "r/i", "pullPolicy": "Always", "imagePullSecrets": [{"name": "key"}]}});
    let global = at(&of_istiod(images.clone()), "global");
    assert_eq!(
        global,
        json!({"istioNamespace": "istio-system", "hub": "r/i", "imagePullPolicy": "Always", "imagePullSecrets": ["key"]})
    );
    let of_base = with(None, |defaults| base(&spec(images.clone()), defaults));
    assert_eq!(at(&of_base, "global.imagePullSecrets"), json!(["key"]));
    let mut with_gateway = images;
    merge(&mut with_gateway, json!({"gateways": [{"name": "edge"}]}));
    let spec = spec(with_gateway);
    let values = with(None, |defaults| gateway(&spec, &spec.gateways[0], defaults));
    assert_eq!(values["imagePullPolicy"], "Always");
    assert_eq!(values["imagePullSecrets"], json!([{"name": "key"}]));
}

#[test]
fn sets_service_of_gateway() {
    let service = json!({
        "type": "LoadBalancer", "annotations": {"a": "b"}, "loadBalancerClass": "c",
        "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalTrafficPolicy": "Local",
        "allocateLoadBalancerNodePorts": false, "ports": [{"name": "web", "port": 80}],
    });
    let mut expected = service.clone();
    expected["ports"] = json!([{"name": "web", "port": 80, "targetPort": 80, "protocol": "TCP"}]);
    assert_eq!(of_gateway(json!({"service": service}))["service"], expected);
    assert_eq!(of_gateway(json!({"direction": "Egress"}))["service"], json!({"type": "ClusterIP"}));
}

#[test]
fn keeps_target_port_and_node_port() {
    let port = json!({"name": "web", "port": 80, "targetPort": 8080, "nodePort": 30401, "protocol": "UDP"});
    let values = of_gateway(json!({"service": {"type": "NodePort", "ports": [port]}}));
    assert_eq!(values["service"]["ports"], json!([port]));
}
