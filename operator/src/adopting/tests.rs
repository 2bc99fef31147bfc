//! What is proposed for meshes as they are found.

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
    propose(&find(&objects, &Choice::default()).unwrap(), &objects, Adoption::Adopt)
}

#[test]
fn what_the_chart_was_given_comes_to_its_place_in_the_spec_and_the_rest_stays_values() {
    let values = json!({
        "profile": "demo", "global": {"hub": "registry.example.com/istio", "tag": "1.31.2", "logAsJson": true},
        "meshConfig": {"trustDomain": "a"}, "pilot": {"env": {"A": "true", "B": 50}, "autoscaleMin": 2}, "revision": "",
    });
    let Proposal { spec, notes } = proposed(&[istiod("istiod", "default"), given(&values)]);
    let expected = json!({
        "version": "1.31.2", "adoption": "Adopt", "profile": "demo",
        "images": {"registry": "registry.example.com/istio"}, "meshConfig": {"trustDomain": "a"},
        "controlPlane": {"env": [{"name": "A", "value": "true"}], "autoscaling": {"min": 2, "max": 5, "targetCPU": 80}},
        "values": {"istiod": {"global": {"logAsJson": true}, "env": {"B": 50}}},
    });
    assert_eq!((spec, notes), (expected, vec![]));
}

#[test]
fn what_the_operator_owns_and_nothing_in_the_spec_says_is_left_out_and_told() {
    let values = json!({"autoscaleEnabled": false, "replicaCount": 3, "istiodRemote": {"enabled": true}});
    let Proposal { spec, notes } = proposed(&[istiod("istiod", "default"), given(&values)]);
    assert_eq!(spec["controlPlane"], json!({"replicas": 3}));
    assert!(notes[0].contains("istiodRemote") && notes[0].contains("local control plane"), "{notes:?}");
    assert!(get(&spec, "values").is_none());
}

#[test]
fn without_the_charts_own_words_that_is_told() {
    assert!(proposed(&[istiod("istiod", "default")]).notes[0].contains("can't be seen"));
}

#[test]
fn a_gateway_is_read_off_its_objects_as_far_as_it_is_not_the_charts_own() {
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
        "autoscaling": {"min": 2, "max": 4, "targetCPU": 70}, "resources": {"requests": {"cpu": "1"}},
        "values": {"terminationGracePeriodSeconds": 60, "env": {"X": "1"}, "labels": {"team": "a"}},
    }]);
    assert_eq!(found.spec["gateways"], expected);
}

#[test]
fn node_agents_and_tags_are_found_and_what_a_gateway_of_the_gateway_api_has_is_istiods() {
    let agent = |name: &str, namespace: &str| {
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
        agent("istio-cni-node", "kube-system"),
        agent("ztunnel", "istio-system"),
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
fn pods_keep_the_name_of_a_release_that_is_not_the_usual_one() {
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
fn of_several_control_planes_one_has_to_be_named_and_an_installations_is_none_of_them() {
    let mut ours = istiod("istiod-ours", "ours");
    ours.1["metadata"]["labels"]["meshwright.dev/installation"] = "mesh".into();
    let objects: Objects = [istiod("istiod", "default"), istiod("istiod-next", "next"), ours].into();
    let found = |revision: Option<&str>| {
        let choice = Choice { namespace: None, revision: revision.map(str::to_owned) };
        find(&objects, &choice).map(|found| found.istiod.0.name.clone())
    };
    assert!(matches!(found(None), Err(FindMeshError::Several(named)) if named.len() == 2));
    assert_eq!(found(Some("next")).as_deref(), Ok("istiod-next"));
    assert_eq!(found(Some("ours")), Err(FindMeshError::None));
}

#[test]
fn what_nothing_in_the_proposal_stands_for_is_told_but_not_what_is_of_another_revision() {
    let other = |name: &str, rev: &str| {
        object("ConfigMap", "v1", name, &json!({"metadata": {"labels": {"istio.io/rev": rev}}}))
    };
    let objects: Objects = [istiod("istiod", "default"), other("left", "default"), other("theirs", "next")].into();
    let found = find(&objects, &Choice { namespace: None, revision: Some("default".into()) }).unwrap();
    let desired = [found.istiod.0.clone()].into();
    assert_eq!(left_out(&found, &objects, &desired).iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["left"]);
}

/// A gateway as istioctl makes it, with its Service.
fn istioctls_gateway(name: &str, selector: &Value) -> [(ObjectKey, Value); 2] {
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
fn a_gateway_that_is_not_injected_is_proposed_only_where_its_pods_may_be_replaced() {
    let selector = json!({"app": "istio-ingressgateway", "istio": "ingressgateway"});
    let [gateway, service] = istioctls_gateway("istio-ingressgateway", &selector);
    let objects: Objects = [istiod("istiod", "default"), gateway, service].into();
    let found = find(&objects, &Choice::default()).unwrap();
    let kept = propose(&found, &objects, Adoption::Adopt);
    assert_eq!((kept.spec.get("gateways"), kept.spec.get("patches")), (None, None));
    assert!(kept.notes.iter().any(|note| note.contains("istio-ingressgateway") && note.contains("--overwrite")));
    let replaced = propose(&found, &objects, Adoption::Overwrite).spec;
    let service = json!({"type": "LoadBalancer", "ports": [{"name": "http2", "port": 80, "targetPort": 8080}]});
    let expected = json!([{"name": "istio-ingressgateway", "service": service, "replicas": 1}]);
    assert_eq!((&replaced["gateways"], &replaced["adoption"]), (&expected, &json!("Overwrite")));
}

#[test]
fn a_gateway_of_istioctls_goes_on_selecting_its_pods_by_the_labels_that_it_has_and_is_left_where_no_chart_can() {
    let told = |selector: &Value, adoption: Adoption| {
        let [gateway, service] = istioctls_gateway("istio-ingressgateway-internal", selector);
        let objects: Objects = [istiod("istiod", "default"), gateway, service].into();
        propose(&find(&objects, &Choice::default()).unwrap(), &objects, adoption)
    };
    let usual = json!({"app": "istio-ingressgateway", "istio": "ingressgateway"});
    assert_eq!(told(&usual, Adoption::Overwrite).spec["gateways"][0]["values"]["labels"], usual);
    let team = json!({"app": "istio-ingressgateway", "istio": "ingressgateway", "team": "a"});
    for unlike_the_charts in [team, json!({"istio": "ingressgateway"})] {
        for adoption in [Adoption::Adopt, Adoption::Overwrite] {
            let Proposal { spec, notes } = told(&unlike_the_charts, adoption);
            assert_eq!(spec.get("gateways"), None);
            let note = notes.iter().find(|note| note.contains("istio-ingressgateway-internal")).unwrap();
            assert!(note.contains("no Deployment's selector can be changed"), "{note}");
        }
    }
}

fn webhook(kind: &str, name: &str, labels: &Value, entry: &Value) -> (ObjectKey, Value) {
    let content = json!({"metadata": {"labels": labels}, "webhooks": [entry]});
    object(kind, "admissionregistration.k8s.io/v1", name, &content)
}

#[test]
fn a_webhook_that_istioctl_switched_off_stays_so_until_a_patch_goes_and_what_answers_instead_is_named() {
    let never = json!({"matchLabels": {"istio.io/deactivated": "never-match"}});
    let off = json!({"namespaceSelector": never, "objectSelector": never});
    let told = |rev_of_default: &str, adoption: Adoption| {
        let default = json!({"istio.io/tag": "default", "istio.io/rev": rev_of_default});
        let without = json!({"matchExpressions": [{"key": "istio.io/rev", "operator": "DoesNotExist"}]});
        let kinds = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
        let objects: Objects = [
            istiod("istiod", "default"),
            given(&json!({})),
            webhook(kinds[0], "istio-sidecar-injector", &json!({"istio.io/rev": "default"}), &off),
            webhook(kinds[0], "istio-revision-tag-default", &default, &json!({"namespaceSelector": without})),
            webhook(kinds[1], "istiod-default-validator", &json!({}), &json!({"objectSelector": without})),
        ]
        .into();
        propose(&find(&objects, &Choice::default()).unwrap(), &objects, adoption)
    };
    let Proposal { spec, notes } = told("default", Adoption::Adopt);
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
    assert!(notes[0].contains("istio-revision-tag-default answers instead"), "{notes:?}");
    let how_many = |proposal: Proposal| proposal.spec["patches"].as_array().unwrap().len();
    assert_eq!(how_many(told("default", Adoption::Overwrite)), 1, "the injector is switched on");
    let another = told("canary", Adoption::Overwrite);
    assert!(another.notes[0].contains("of another revision"), "{:?}", another.notes);
    assert_eq!(how_many(another), 2, "only one may answer");
}

#[test]
fn a_gateway_that_asks_by_a_tag_is_of_the_control_plane_that_it_leads_to_and_goes_on_asking_so() {
    let tag = json!({"istio.io/rev": "b", "istio.io/tag": "prod"});
    let objects: Objects = [
        istiod("istiod", "default"),
        istiod("istiod-b", "b"),
        webhook("MutatingWebhookConfiguration", "istio-revision-tag-prod", &tag, &json!({})),
        object("Deployment", "apps/v1", "edge", &gateway_of("prod")),
    ]
    .into();
    let of = |revision: &str| {
        let choice = Choice { namespace: None, revision: Some(revision.into()) };
        propose(&find(&objects, &choice).unwrap(), &objects, Adoption::Adopt).spec
    };
    let patch = json!({
        "target": {"kind": "Deployment", "name": "edge", "namespace": "istio-system"},
        "patch": [{"op": "add", "path": "/spec/template/metadata/labels/istio.io~1rev", "value": "prod"}],
    });
    assert_eq!(of("b")["patches"], json!([patch]));
    assert_eq!(of("default").get("gateways"), None);
}

/// The pods of a gateway that ask for this revision or tag.
fn gateway_of(name: &str) -> Value {
    let labels = json!({"istio.io/rev": name});
    json!({"spec": {"template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "istio-proxy"}]}}}})
}

/// A node agent of a revision, with the image and the variables of its container.
fn agent(name: &str, rev: &str, image: &str, variables: &[&str]) -> (ObjectKey, Value) {
    let env: Vec<Value> = variables.iter().map(|name| json!({"name": name, "value": "true"})).collect();
    let pods = json!({"spec": {"containers": [{"name": "x", "image": image, "env": env}]}});
    let content = json!({"metadata": {"labels": {"istio.io/rev": rev}}, "spec": {"template": pods}});
    object("DaemonSet", "apps/v1", name, &content)
}

#[test]
fn node_agents_are_of_the_control_plane_that_they_name_or_of_any_where_that_is_gone() {
    let has_cni = |objects: &[(ObjectKey, Value)], revision: &str| {
        let objects = objects.iter().cloned().collect();
        let choice = Choice { namespace: None, revision: Some(revision.to_owned()) };
        find(&objects, &choice).unwrap().cni.is_some()
    };
    let both = [istiod("istiod", "default"), istiod("istiod-b", "b"), agent("istio-cni-node", "default", "x", &[])];
    assert!(has_cni(&both, "default") && !has_cni(&both, "b"));
    assert!(has_cni(&both[1..], "b"));
}

#[test]
fn what_the_ambient_profile_adds_is_taken_off_where_an_agents_chart_was_not_given_it() {
    let of = |suffix: &str, variables: &[&str]| {
        let image = format!("hub/ztunnel:1.31.2{suffix}");
        let given = given(&json!({"profile": "ambient"}));
        proposed(&[istiod("istiod", "default"), given, agent("ztunnel", "default", &image, variables)]).spec
    };
    assert_eq!(of("-distroless", &["ISTIO_META_ENABLE_HBONE"]).get("values"), None);
    let without = json!({"global": {"variant": ""}, "meshConfig": {"defaultConfig": {"proxyMetadata": null}}});
    assert_eq!(of("", &[])["values"]["ztunnel"], without);
}

#[test]
fn what_the_helm_releases_of_another_control_plane_and_its_gateways_made_is_not_this_ones() {
    let release = |(key, mut object): (ObjectKey, Value), name: &str| {
        object["metadata"]["annotations"]["meta.helm.sh/release-name"] = name.into();
        (key, object)
    };
    let account = |name: &str| object("ServiceAccount", "v1", name, &json!({}));
    let objects: Objects = [
        release(istiod("istiod", "default"), "istiod"),
        release(istiod("istiod-b", "b"), "b"),
        release(account("istiod-b"), "b"),
        release(object("Deployment", "apps/v1", "edge", &gateway_of("b")), "edge"),
        release(account("edge"), "edge"),
        release(account("istiod"), "istiod"),
    ]
    .into();
    let found = find(&objects, &Choice { namespace: None, revision: Some("default".into()) }).unwrap();
    let names: BTreeSet<&str> = of_mesh(&found, &objects).map(|(key, _)| key.name.as_str()).collect();
    assert_eq!(names, ["istiod"].into());
}
