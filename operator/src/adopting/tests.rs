//! Proposals for existing meshes.

use serde_json::json;

use super::*;
use crate::mesh::kind::Kind;

fn object(kind: &str, api_version: &str, name: &str, content: &Value) -> (ObjectKey, Value) {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    crate::mesh::merge::merge(&mut object, content.clone());
    let kind = Kind::of(api_version, kind).unwrap();
    (ObjectKey { kind, namespace: Some("istio-system".into()), name: name.into() }, object)
}

fn istiod(name: &str, rev: &str) -> (ObjectKey, Value) {
    let labels = json!({"app": "istiod", "istio.io/rev": rev, "app.kubernetes.io/version": "1.31.2"});
    object("Deployment", "apps/v1", name, &json!({"metadata": {"labels": labels}}))
}

fn given(values: &Value) -> (ObjectKey, Value) {
    object("ConfigMap", "v1", "values", &json!({"data": {"original-values": values.to_string()}}))
}

fn proposed(objects: &[(ObjectKey, Value)]) -> Proposal {
    let objects = objects.iter().cloned().collect();
    propose(&find_mesh(&objects, &MeshSelector::default()).unwrap(), &objects, Adoption::Adopt)
}

#[test]
fn moves_chart_values_to_spec_fields() {
    let values = json!({
        "profile": "demo", "global": {"hub": "registry.example.com/istio", "tag": "1.31.2", "logAsJson": true},
        "meshConfig": {"trustDomain": "a"}, "pilot": {"env": {"A": "true", "B": 50}, "autoscaleMin": 2}, "revision": "",
    });
    let Proposal { spec, notes } = proposed(&[istiod("istiod", "default"), given(&values)]);
    let expected = json!({
        "version": "1.31.2", "adoption": "Adopt", "profile": "demo",
        "images": {"registry": "registry.example.com/istio"}, "meshConfig": {"trustDomain": "a"},
        "controlPlane": {"env": [{"name": "A", "value": "true"}], "autoscaling": {"minReplicas": 2, "maxReplicas": 5, "targetCPUUtilizationPercentage": 80}},
        "values": {"istiod": {"global": {"logAsJson": true}, "env": {"B": 50}}},
    });
    assert_eq!((spec, notes), (expected, vec![]));
}

#[test]
fn omits_values_owned_by_operator_with_note() {
    let values = json!({"autoscaleEnabled": false, "replicaCount": 3, "istiodRemote": {"enabled": true}});
    let Proposal { spec, notes } = proposed(&[istiod("istiod", "default"), given(&values)]);
    assert_eq!(spec["controlPlane"], json!({"replicas": 3}));
    assert!(notes[0].contains("istiodRemote") && notes[0].contains("local control plane"), "{notes:?}");
    assert!(get(&spec, "values").is_none());
}

#[test]
fn notes_unknown_chart_values() {
    assert!(proposed(&[istiod("istiod", "default")]).notes[0].contains("are unknown"));
}

#[test]
fn reads_non_default_gateway_values() {
    let template = json!({
        "metadata": {
            "labels": {"app": "edge", "istio": "edge", "team": "a", "helm.sh/chart": "gateway-1.31.2"},
            "annotations": {"inject.istio.io/templates": "gateway", "prometheus.io/port": "15020"},
        },
        "spec": {"containers": [{"name": "istio-proxy", "resources": {"requests": {"cpu": "1"}},
            "env": [{"name": "X", "value": "1"}]}], "terminationGracePeriodSeconds": 60},
    });
    let fields = json!({"f:metadata": {"f:labels": {"f:helm.sh/chart": {}}, "f:annotations": {"f:lb/kind": {}}}});
    let managed = json!([{"manager": "helm", "operation": "Update", "apiVersion": "v1", "time": "2026-11-21T10:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": fields}]);
    let service = json!({
        "metadata": {"annotations": {"lb/kind": "internal", "cloud/status": "x"}, "managedFields": managed},
        "spec": {"type": "NodePort", "externalTrafficPolicy": "Local",
            "ports": [{"name": "http2", "port": 80, "targetPort": 8080, "protocol": "TCP", "nodePort": 30401}]},
    });
    let scaler = json!({"spec": {"minReplicas": 2, "maxReplicas": 4, "metrics": [
        {"resource": {"name": "cpu", "target": {"averageUtilization": 70}}}]}});
    let found = proposed(&[
        istiod("istiod", "default"),
        object("Deployment", "apps/v1", "edge", &json!({"spec": {"template": template}})),
        object("Service", "v1", "edge", &service),
        object("HorizontalPodAutoscaler", "autoscaling/v2", "edge", &scaler),
    ]);
    let expected = json!([{
        "name": "edge",
        "service": {
            "type": "NodePort", "ports": [{"name": "http2", "port": 80, "targetPort": 8080, "nodePort": 30401}],
            "annotations": {"lb/kind": "internal"}, "externalTrafficPolicy": "Local",
        },
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetCPUUtilizationPercentage": 70}, "resources": {"requests": {"cpu": "1"}},
        "values": {"terminationGracePeriodSeconds": 60, "env": {"X": "1"}, "labels": {"team": "a"}},
    }]);
    assert_eq!(found.spec["gateways"], expected);
}

#[test]
fn finds_node_components_and_tags() {
    let node_component = |name: &str, namespace: &str| {
        let pods = json!({"spec": {"containers": [{"name": "x", "resources": {"requests": {"cpu": "100m"}}}]}});
        let (key, value) = object("DaemonSet", "apps/v1", name, &json!({"spec": {"template": pods}}));
        (ObjectKey { namespace: Some(namespace.into()), ..key }, value)
    };
    let tag = json!({"metadata": {"labels": {"istio.io/rev": "default", "istio.io/tag": "prod"}}});
    let proxy = json!({
        "metadata": {"labels": {"gateway.networking.k8s.io/gateway-name": "g"}},
        "spec": {"template": {"spec": {"containers": [{"name": "istio-proxy"}]}}},
    });
    let webhooks = object("MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1", "t", &tag);
    let found = proposed(&[
        istiod("istiod", "default"),
        node_component("istio-cni-node", "kube-system"),
        node_component("ztunnel", "istio-system"),
        webhooks,
        object("Deployment", "apps/v1", "g-istio", &proxy),
        given(
            &json!({"env": {"PILOT_ENABLE_AMBIENT": "true"}, "cni": {"enabled": true}, "trustedZtunnelNamespace": "x"}),
        ),
    ]);
    let resources = json!({"requests": {"cpu": "100m"}});
    let expected = json!({
        "version": "1.31.2", "adoption": "Adopt", "tags": [{"name": "prod"}],
        "cni": {"mode": "Enabled", "namespace": "kube-system", "resources": resources},
        "ztunnel": {"mode": "Enabled", "resources": resources},
    });
    assert_eq!(found.spec, expected);
}

#[test]
fn patches_non_default_release_name() {
    let of = |release: &str| {
        let (key, mut istiod) = istiod("istiod", "default");
        istiod["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/instance"] = release.into();
        proposed(&[(key, istiod)]).spec["patches"].clone()
    };
    assert_eq!(of("istiod"), Value::Null);
    let expected = json!([{
        "target": {"kind": "Deployment", "name": "istiod"},
        "patch": [{"op": "replace", "path": "/spec/template/metadata/labels/app.kubernetes.io~1instance",
            "value": "default-istiod"}],
    }]);
    assert_eq!(of("default-istiod"), expected);
}

#[test]
fn requires_selection_of_several_control_planes() {
    let mut ours = istiod("istiod-ours", "ours");
    ours.1["metadata"]["labels"]["meshwright.dev/installation"] = "mesh".into();
    let objects: LiveObjects = [istiod("istiod", "default"), istiod("istiod-next", "next"), ours].into();
    let found = |revision: Option<&str>| {
        let choice = MeshSelector { namespace: None, revision: revision.map(str::to_owned) };
        find_mesh(&objects, &choice).map(|found| found.istiod.0.name.clone())
    };
    assert!(matches!(found(None), Err(FindMeshError::Several(named)) if named.len() == 2));
    assert_eq!(found(Some("next")).as_deref(), Ok("istiod-next"));
    assert_eq!(found(Some("ours")), Err(FindMeshError::None));
}

#[test]
fn reports_resources_outside_of_proposal() {
    let other = |name: &str, rev: &str| {
        object("ConfigMap", "v1", name, &json!({"metadata": {"labels": {"istio.io/rev": rev}}}))
    };
    let objects: LiveObjects = [istiod("istiod", "default"), other("left", "default"), other("theirs", "next")].into();
    let found = find_mesh(&objects, &MeshSelector { namespace: None, revision: Some("default".into()) }).unwrap();
    let desired = [found.istiod.0.clone()].into();
    assert_eq!(
        not_adopted(&found, &objects, &desired).iter().map(|key| key.name.as_str()).collect::<Vec<_>>(),
        ["left"]
    );
}

/// A gateway as istioctl creates it, with its Service.
fn istioctl_gateway(name: &str, selector: &Value) -> [(ObjectKey, Value); 2] {
    let template = json!({
        "metadata": {"labels": {"sidecar.istio.io/inject": "false", "app.kubernetes.io/instance": "istio", "chart": "gateways"}},
        "spec": {
            "containers": [{"name": "istio-proxy", "env": [{"name": "CA_ADDR", "value": "istiod:15012"}]}],
            "affinity": {"nodeAffinity": {}}, "volumes": [{"name": "istio-envoy", "emptyDir": {}}],
        },
    });
    let ports = json!([{"name": "http2", "port": 80, "targetPort": 8080}]);
    [
        object(
            "Deployment",
            "apps/v1",
            name,
            &json!({"spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": template}}),
        ),
        object("Service", "v1", name, &json!({"spec": {"type": "LoadBalancer", "ports": ports}})),
    ]
}

#[test]
fn proposes_uninjected_gateway_only_with_overwrite() {
    let selector = json!({"app": "istio-ingressgateway", "istio": "ingressgateway"});
    let [gateway, service] = istioctl_gateway("istio-ingressgateway", &selector);
    let objects: LiveObjects = [istiod("istiod", "default"), gateway, service].into();
    let found = find_mesh(&objects, &MeshSelector::default()).unwrap();
    let kept = propose(&found, &objects, Adoption::Adopt);
    assert_eq!((kept.spec.get("gateways"), kept.spec.get("patches")), (None, None));
    assert!(kept.notes.iter().any(|note| note.contains("istio-ingressgateway") && note.contains("--overwrite")));
    let replaced = propose(&found, &objects, Adoption::Overwrite).spec;
    let service = json!({"type": "LoadBalancer", "ports": [{"name": "http2", "port": 80, "targetPort": 8080}]});
    let expected = json!([{"name": "istio-ingressgateway", "service": service, "replicas": 1}]);
    assert_eq!((&replaced["gateways"], &replaced["adoption"]), (&expected, &json!("Overwrite")));
}

#[test]
fn keeps_selector_labels_of_istioctl_gateway() {
    let proposal = |selector: &Value, adoption: Adoption| {
        let [gateway, service] = istioctl_gateway("istio-ingressgateway-internal", selector);
        let objects: LiveObjects = [istiod("istiod", "default"), gateway, service].into();
        propose(&find_mesh(&objects, &MeshSelector::default()).unwrap(), &objects, adoption)
    };
    let usual = json!({"app": "istio-ingressgateway", "istio": "ingressgateway"});
    assert_eq!(proposal(&usual, Adoption::Overwrite).spec["gateways"][0]["values"]["labels"], usual);
    let team = json!({"app": "istio-ingressgateway", "istio": "ingressgateway", "team": "a"});
    for unlike_the_charts in [team, json!({"istio": "ingressgateway"})] {
        for adoption in [Adoption::Adopt, Adoption::Overwrite] {
            let Proposal { spec, notes } = proposal(&unlike_the_charts, adoption);
            assert_eq!(spec.get("gateways"), None);
            let note = notes.iter().find(|note| note.contains("istio-ingressgateway-internal")).unwrap();
            assert!(note.contains("is immutable"), "{note}");
        }
    }
}

fn webhook(kind: &str, name: &str, labels: &Value, entry: &Value) -> (ObjectKey, Value) {
    let content = json!({"metadata": {"labels": labels}, "webhooks": [entry]});
    object(kind, "admissionregistration.k8s.io/v1", name, &content)
}

#[test]
fn keeps_webhook_deactivated_by_istioctl() {
    let never = json!({"matchLabels": {"istio.io/deactivated": "never-match"}});
    let off = json!({"namespaceSelector": never, "objectSelector": never});
    let proposal = |rev_of_default: &str, adoption: Adoption| {
        let default = json!({"istio.io/tag": "default", "istio.io/rev": rev_of_default});
        let without = json!({"matchExpressions": [{"key": "istio.io/rev", "operator": "DoesNotExist"}]});
        let kinds = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
        let objects: LiveObjects = [
            istiod("istiod", "default"),
            given(&json!({})),
            webhook(kinds[0], "istio-sidecar-injector", &json!({"istio.io/rev": "default"}), &off),
            webhook(kinds[0], "istio-revision-tag-default", &default, &json!({"namespaceSelector": without})),
            webhook(kinds[1], "istiod-default-validator", &json!({}), &json!({"objectSelector": without})),
        ]
        .into();
        propose(&find_mesh(&objects, &MeshSelector::default()).unwrap(), &objects, adoption)
    };
    let Proposal { spec, notes } = proposal("default", Adoption::Adopt);
    let paths = |patch: &Value| -> Vec<String> {
        let steps = patch["patch"].as_array().unwrap().iter();
        steps.map(|step| step["path"].as_str().unwrap().to_owned()).collect()
    };
    let patches = spec["patches"].as_array().unwrap();
    let of = |name: &str| patches.iter().find(|patch| patch["target"]["name"] == name).unwrap();
    let injector = of("istio-sidecar-injector");
    assert_eq!(paths(injector), ["/webhooks/0/namespaceSelector", "/webhooks/0/objectSelector"]);
    assert_eq!(injector["patch"][0]["value"], never);
    assert_eq!(paths(of("istiod-default-validator")), ["/webhooks/0/objectSelector"]);
    assert!(notes[0].contains("istio-revision-tag-default, created by istioctl, is active instead"), "{notes:?}");
    let how_many = |proposal: Proposal| proposal.spec["patches"].as_array().unwrap().len();
    assert_eq!(how_many(proposal("default", Adoption::Overwrite)), 1, "the injector is activated");
    let another = proposal("canary", Adoption::Overwrite);
    assert!(another.notes[0].contains("of another revision"), "{:?}", another.notes);
    assert_eq!(how_many(another), 2, "only one injector may be active");
}

#[test]
fn keeps_tag_label_of_gateway() {
    let tag = json!({"istio.io/rev": "b", "istio.io/tag": "prod"});
    let objects: LiveObjects = [
        istiod("istiod", "default"),
        istiod("istiod-b", "b"),
        webhook("MutatingWebhookConfiguration", "istio-revision-tag-prod", &tag, &json!({})),
        object("Deployment", "apps/v1", "edge", &gateway_of("prod")),
    ]
    .into();
    let of = |revision: &str| {
        let choice = MeshSelector { namespace: None, revision: Some(revision.into()) };
        propose(&find_mesh(&objects, &choice).unwrap(), &objects, Adoption::Adopt).spec
    };
    let patch = json!({
        "target": {"kind": "Deployment", "name": "edge", "namespace": "istio-system"},
        "patch": [{"op": "add", "path": "/spec/template/metadata/labels/istio.io~1rev", "value": "prod"}],
    });
    assert_eq!(of("b")["patches"], json!([patch]));
    assert_eq!(of("default").get("gateways"), None);
}

#[test]
fn gateway_without_service_stays_without() {
    let Proposal { spec, notes } =
        proposed(&[istiod("istiod", "default"), object("Deployment", "apps/v1", "edge", &gateway_of("default"))]);
    assert_eq!(spec["gateways"][0]["service"], json!({"type": "None"}));
    assert!(notes.iter().any(|note| note.contains("gateway edge has no Service")), "{notes:?}");
    serde_json::from_value::<meshwright_api::MeshInstallationSpec>(spec).unwrap();
}

/// A gateway whose pods have this revision or tag.
fn gateway_of(name: &str) -> Value {
    let labels = json!({"istio.io/rev": name});
    json!({"spec": {"template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "istio-proxy"}]}}}})
}

/// A DaemonSet of a revision, with image and environment variables.
fn node_component(name: &str, rev: &str, image: &str, variables: &[&str]) -> (ObjectKey, Value) {
    let env: Vec<Value> = variables.iter().map(|name| json!({"name": name, "value": "true"})).collect();
    let pods = json!({"spec": {"containers": [{"name": "x", "image": image, "env": env}]}});
    let content = json!({"metadata": {"labels": {"istio.io/rev": rev}}, "spec": {"template": pods}});
    object("DaemonSet", "apps/v1", name, &content)
}

#[test]
fn assigns_node_components_by_revision() {
    let has_cni = |objects: &[(ObjectKey, Value)], revision: &str| {
        let objects = objects.iter().cloned().collect();
        let choice = MeshSelector { namespace: None, revision: Some(revision.to_owned()) };
        find_mesh(&objects, &choice).unwrap().cni.is_some()
    };
    let both =
        [istiod("istiod", "default"), istiod("istiod-b", "b"), node_component("istio-cni-node", "default", "x", &[])];
    assert!(has_cni(&both, "default") && !has_cni(&both, "b"));
    assert!(has_cni(&both[1..], "b"));
}

#[test]
fn unsets_ambient_profile_values_of_components() {
    let of = |suffix: &str, variables: &[&str]| {
        let image = format!("hub/ztunnel:1.31.2{suffix}");
        let given = given(&json!({"profile": "ambient"}));
        proposed(&[istiod("istiod", "default"), given, node_component("ztunnel", "default", &image, variables)]).spec
    };
    assert_eq!(of("-distroless", &["ISTIO_META_ENABLE_HBONE"]).get("values"), None);
    let without = json!({"global": {"variant": ""}, "meshConfig": {"defaultConfig": {"proxyMetadata": null}}});
    assert_eq!(of("", &[])["values"]["ztunnel"], without);
}

#[test]
fn excludes_helm_releases_of_other_control_planes() {
    let release = |(key, mut object): (ObjectKey, Value), name: &str| {
        object["metadata"]["annotations"]["meta.helm.sh/release-name"] = name.into();
        (key, object)
    };
    let account = |name: &str| object("ServiceAccount", "v1", name, &json!({}));
    let objects: LiveObjects = [
        release(istiod("istiod", "default"), "istiod"),
        release(istiod("istiod-b", "b"), "b"),
        release(account("istiod-b"), "b"),
        release(object("Deployment", "apps/v1", "edge", &gateway_of("b")), "edge"),
        release(account("edge"), "edge"),
        release(account("istiod"), "istiod"),
    ]
    .into();
    let found = find_mesh(&objects, &MeshSelector { namespace: None, revision: Some("default".into()) }).unwrap();
    let names: BTreeSet<&str> = mesh_objects(&found, &objects).map(|(key, _)| key.name.as_str()).collect();
    assert_eq!(names, ["istiod"].into());
}
