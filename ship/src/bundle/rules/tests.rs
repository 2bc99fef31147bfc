//! Each rule is shown the bundle that it refuses: ours, with one thing wrong.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::tests::published;
use super::super::{Bundle, CSV};
use super::{Origin, Severity, all, judge};

/// The one that our bundle breaks: Istio's CRDs are the operator's to apply, since releases change them.
const ACCEPTED: &str = "no-rights-to-crds";

fn csv(bundle: &mut Bundle) -> &mut Value {
    bundle.manifests.values_mut().find(|object| object["kind"] == CSV).unwrap()
}

fn set(bundle: &mut Bundle, pointer: &str, value: Value) {
    put(csv(bundle), pointer, value);
}

fn put(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
}

fn unset(bundle: &mut Bundle, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    csv(bundle).pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
}

fn annotate(bundle: &mut Bundle, name: &str, value: Value) {
    csv(bundle)["metadata"]["annotations"][name] = value;
}

fn announce(bundle: &mut Bundle, name: &str, value: &str) {
    bundle.annotations[name] = json!(value);
}

fn add(bundle: &mut Bundle, object: Value) {
    bundle.manifests.insert("manifests/another.yaml".into(), object);
}

fn allow(bundle: &mut Bundle, group: &str, resource: &str, verb: &str) {
    let rule = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
    let rules = csv(bundle).pointer_mut("/spec/install/spec/clusterPermissions/0/rules").unwrap();
    rules.as_array_mut().unwrap().push(rule);
}

fn crd(bundle: &Bundle) -> Value {
    bundle.of_kind("CustomResourceDefinition").next().unwrap().clone()
}

/// Makes a test of each, and the list of the rules that have one.
macro_rules! refused {
    ($($test:ident: $rule:literal, $wrong:expr;)*) => {
        $(#[test]
        fn $test() {
            let mut bundle = published();
            let wrong: fn(&mut Bundle) = $wrong;
            wrong(&mut bundle);
            assert!(judge(&bundle).iter().any(|finding| finding.rule.name == $rule), "{} says nothing", $rule);
        })*
        const WITH_TEST: &[&str] = &[$($rule),*];
    };
}

refused! {
    a_csv_without_deployments: "csv-fields", |it| set(it, "/spec/install/spec/deployments", json!([]));
    a_csv_without_a_display_name: "csv-fields", |it| set(it, "/spec/displayName", json!(""));
    a_name_that_is_no_label: "csv-name", |it| set(it, "/metadata/name", json!("meshwright.v0.1.0_b"));
    a_name_that_is_too_long: "csv-name", |it| set(it, "/metadata/name", json!("m".repeat(64)));
    a_name_without_its_version: "csv-name-has-version", |it| set(it, "/metadata/name", json!("meshwright.v9.9.9"));
    a_csv_that_replaces_itself: "csv-replaces", |it| {
        let own = it.csv()["metadata"]["name"].clone();
        set(it, "/spec/replaces", own);
    };
    a_version_that_is_not_semantic: "csv-version", |it| set(it, "/spec/version", json!("0.1"));
    a_version_of_zeros: "csv-version", |it| set(it, "/spec/version", json!("0.0.0"));
    no_install_mode: "install-modes", |it| set(it, "/spec/installModes", json!([]));
    an_install_mode_that_is_there_twice: "install-modes", |it| set(it, "/spec/installModes/0/type", json!("AllNamespaces"));
    a_kubernetes_version_without_patch: "min-kube-version", |it| set(it, "/spec/minKubeVersion", json!("1.33"));
    examples_that_are_no_json: "examples-are-json", |it| annotate(it, "alm-examples", json!("[{]"));
    an_example_of_a_strange_kind: "examples-are-of-owned-kinds", |it| {
        annotate(it, "alm-examples", json!(r#"[{"apiVersion": "meshwright.dev/v1", "kind": "MeshInstallation"}]"#));
    };
    no_example_at_all: "owned-kinds-have-examples", |it| annotate(it, "alm-examples", json!("[]"));
    an_annotation_in_another_case: "annotation-case", |it| annotate(it, "olm.skiprange", json!("<1.0.0"));
    properties_in_an_annotation: "no-properties-annotation", |it| annotate(it, "olm.properties", json!("[]"));

    a_display_name_of_two_letters: "display-name", |it| set(it, "/spec/displayName", json!("MW"));
    a_description_of_a_word: "description", |it| set(it, "/spec/description", json!("A mesh"));
    a_summary_that_no_tile_shows_whole: "summary", |it| annotate(it, "description", json!("a".repeat(136)));
    an_unknown_capability_level: "capabilities", |it| annotate(it, "capabilities", json!("seamless upgrades"));
    an_unknown_category: "categories", |it| annotate(it, "categories", json!("Networking, Meshes"));
    an_empty_keyword: "keywords", |it| set(it, "/spec/keywords", json!(["mesh", ""]));
    a_date_without_a_time: "created-at", |it| annotate(it, "createdAt", json!("2026-11-21"));
    a_repository_that_is_no_page: "repository", |it| annotate(it, "repository", json!("git@host:meshwright"));
    support_by_nobody: "support", |it| annotate(it, "support", json!(""));
    a_provider_without_a_name: "provider", |it| unset(it, "/spec/provider/name");
    a_maintainer_without_an_address: "maintainers", |it| set(it, "/spec/maintainers/0/email", json!("nobody"));
    no_maintainer: "maintainers", |it| set(it, "/spec/maintainers", json!([]));
    a_link_to_nowhere: "links", |it| set(it, "/spec/links/0/url", json!("docs/README.md"));
    two_icons: "icon", |it| {
        let icon = it.csv()["spec"]["icon"][0].clone();
        set(it, "/spec/icon", json!([icon.clone(), icon]));
    };
    an_icon_that_is_not_in_base64: "icon", |it| set(it, "/spec/icon/0/base64data", json!("<svg/>"));
    an_icon_of_an_unknown_type: "icon", |it| set(it, "/spec/icon/0/mediatype", json!("image/webp"));
    // <svg width="800" height="40"/>
    an_icon_that_is_too_wide: "icon-size", |it| {
        set(it, "/spec/icon/0/base64data", json!("PHN2ZyB3aWR0aD0iODAwIiBoZWlnaHQ9IjQwIi8+"));
    };
    an_image_without_a_registry: "container-image", |it| annotate(it, "containerImage", json!("meshwright:0.1.0"));
    an_image_that_does_not_run: "container-image", |it| annotate(it, "containerImage", json!("host.test/other:1"));
    an_image_that_runs_and_is_not_named: "related-images", |it| set(it, "/spec/relatedImages", json!([]));
    a_related_image_without_a_name: "related-images", |it| {
        csv(it)["spec"]["relatedImages"].as_array_mut().unwrap().push(json!({"name": "none", "image": ""}));
    };
    a_package_of_another_name: "operator-name", |it| announce(it, super::super::PACKAGE, "mesh-wright");
    an_openshift_older_than_its_kubernetes: "openshift-versions", |it| {
        announce(it, "com.redhat.openshift.versions", "v4.17-v4.19");
    };
    no_openshift_version: "openshift-versions", |it| announce(it, "com.redhat.openshift.versions", "");
    a_placeholder: "no-placeholders", |it| set(it, "/spec/maintainers/0/email", json!("somebody@mesh.example"));

    two_csvs: "one-csv", |it| {
        let csv = it.csv().clone();
        add(it, csv);
    };
    a_manifest_in_a_folder: "flat-manifests", |it| {
        it.manifests.insert("manifests/deep/a.yaml".into(), json!({}));
    };
    a_manifest_without_a_name: "objects-are-named", |it| add(it, json!({"apiVersion": "v1", "kind": "ConfigMap"}));
    a_deployment_beside_the_csv: "kinds-are-supported", |it| add(it, json!({"apiVersion": "apps/v1", "kind": "Deployment"}));
    a_network_policy: "no-network-policy", |it| add(it, json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}));
    an_owned_crd_that_is_not_there: "owned-crds-are-there", |it| it.manifests.retain(|_, object| object["kind"] != "CustomResourceDefinition");
    a_crd_that_nobody_owns: "crds-are-owned", |it| set(it, "/spec/customresourcedefinitions/owned", json!([]));
    a_crd_that_is_there_twice: "crds-are-unique", |it| {
        let crd = crd(it);
        add(it, crd);
    };
    an_object_of_an_api_that_is_no_more: "no-removed-apis", |it| {
        add(it, json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget"}));
    };
    the_account_that_olm_makes: "no-service-account-twice", |it| {
        add(it, json!({"kind": "ServiceAccount", "metadata": {"name": "meshwright"}}));
    };
    a_budget_that_lets_no_node_be_drained: "disruption-budget", |it| {
        add(it, json!({"kind": "PodDisruptionBudget", "spec": {"maxUnavailable": 0}}));
    };
    a_budget_that_wants_all_pods: "disruption-budget", |it| {
        add(it, json!({"kind": "PodDisruptionBudget", "spec": {"minAvailable": "100%"}}));
    };
    a_priority_class_for_all_pods: "priority-class", |it| add(it, json!({"kind": "PriorityClass", "globalDefault": true}));
    a_bundle_of_more_than_a_mebibyte: "size", |it| it.size = (1 << 20) + 1;
    a_bundle_of_another_format: "media-type", |it| announce(it, "operators.operatorframework.io.bundle.mediatype.v1", "plain");
    manifests_in_another_folder: "folders", |it| announce(it, "operators.operatorframework.io.bundle.manifests.v1", "objects/");
    a_default_that_is_no_channel: "channels", |it| announce(it, "operators.operatorframework.io.bundle.channel.default.v1", "stable");
    no_channel: "channels", |it| announce(it, "operators.operatorframework.io.bundle.channels.v1", "");
    a_channel_of_a_strange_name: "channel-names", |it| announce(it, "operators.operatorframework.io.bundle.channels.v1", "candidate,alpha");

    a_container_without_requests: "containers-request-resources", |it| {
        set(it, "/spec/install/spec/deployments/0/spec/template/spec/containers/0/resources", json!({}));
    };
    a_right_to_change_a_default_scc: "no-rights-to-default-sccs", |it| allow(it, "security.openshift.io", "securitycontextconstraints", "patch");
    a_right_to_pod_security_policies: "no-rights-to-removed-apis", |it| allow(it, "policy", "podsecuritypolicies", "use");
    a_right_for_an_account_without_pods: "rights-are-of-the-deployments-account", |it| {
        set(it, "/spec/install/spec/permissions/0/serviceAccountName", json!("default"));
    };
    a_right_to_escalate: "no-way-to-more-rights", |it| allow(it, "rbac.authorization.k8s.io", "clusterroles", "escalate");
    a_right_to_everything: "no-way-to-more-rights", |it| allow(it, "*", "*", "*");
    a_root_file_system_that_can_be_written: "pods-are-restricted", |it| {
        let context = "/spec/install/spec/deployments/0/spec/template/spec/containers/0/securityContext";
        set(it, &format!("{context}/readOnlyRootFilesystem"), json!(false));
    };
    a_pod_that_may_run_as_root: "pods-are-restricted", |it| {
        unset(it, "/spec/install/spec/deployments/0/spec/template/spec/securityContext/runAsNonRoot");
    };

    a_mode_that_is_confined_to_a_namespace: "all-namespaces-only", |it| set(it, "/spec/installModes/0/supported", json!(true));
    a_file_of_dependencies: "no-dependencies", |it| {
        it.others.insert("metadata/dependencies.yaml".into(), "dependencies: []".into());
    };
    a_property_that_is_a_dependency: "no-dependencies", |it| {
        it.others.insert("metadata/properties.yaml".into(), "properties: [{type: olm.gvk.required}]".into());
    };
    a_crd_that_is_required: "no-dependencies", |it| set(it, "/spec/customresourcedefinitions/required", json!([{}]));
    a_webhook: "no-webhooks", |it| set(it, "/spec/webhookdefinitions", json!([{}]));
    an_api_service: "no-api-services", |it| set(it, "/spec/apiservicedefinitions", json!({"owned": [{}]}));
    a_right_to_operator_conditions: "no-operator-conditions", |it| allow(it, "operators.coreos.com", "operatorconditions", "update");
    two_deployments_of_one_name: "deployments", |it| {
        let deployment = it.deployments()[0].clone();
        set(it, "/spec/install/spec/deployments", json!([deployment.clone(), deployment]));
    };
    no_package: "package", |it| announce(it, super::super::PACKAGE, "");

    a_crd_without_a_description: "crds-are-described", |it| set(it, "/spec/customresourcedefinitions/owned/0/description", json!(""));
    a_crd_without_resources: "crds-have-resources", |it| set(it, "/spec/customresourcedefinitions/owned/0/resources", json!([]));
    a_crd_without_a_schema: "crds-have-schemas", |it| {
        for object in it.manifests.values_mut().filter(|object| object["kind"] == "CustomResourceDefinition") {
            put(object, "/spec/versions/0/schema", json!({}));
        }
    };
    an_example_without_a_spec: "examples-have-specs", |it| {
        annotate(it, "alm-examples", json!(r#"[{"kind": "MeshInstallation", "spec": {}}]"#));
    };
    a_field_of_the_spec_that_is_not_shown: "spec-is-described", |it| {
        set(it, "/spec/customresourcedefinitions/owned/0/specDescriptors", json!([{"path": "version"}]));
    };
    a_field_of_the_status_that_is_not_shown: "status-is-described", |it| {
        set(it, "/spec/customresourcedefinitions/owned/0/statusDescriptors", json!([{"path": "phase"}]));
    };
    a_descriptor_of_no_field: "descriptors-are-of-fields", |it| {
        set(it, "/spec/customresourcedefinitions/owned/0/specDescriptors/0/path", json!("versions"));
    };
    two_descriptors_of_one_field: "descriptors-are-unique", |it| {
        set(it, "/spec/customresourcedefinitions/owned/0/specDescriptors/0/path", json!("profile"));
    };
}

#[test]
fn our_bundle_keeps_every_rule_but_one_that_reviewers_are_told_of() {
    let findings = judge(&published());
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(told, [format!("warning: the operator may create CRDs ({ACCEPTED})")]);
}

#[test]
fn an_operator_without_the_right_to_crds_would_not_be_told_of() {
    let mut bundle = published();
    let rules = csv(&mut bundle).pointer_mut("/spec/install/spec/clusterPermissions/0/rules").unwrap();
    rules.as_array_mut().unwrap().retain(|rule| rule["apiGroups"] != json!(["apiextensions.k8s.io"]));
    assert!(judge(&bundle).is_empty());
}

#[test]
fn every_rule_has_a_test_and_a_name_of_its_own() {
    let names: Vec<&str> = all().map(|rule| rule.name).collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len());
    let tested: BTreeSet<&str> = WITH_TEST.iter().copied().chain([ACCEPTED]).collect();
    assert_eq!(unique, tested);
}

#[test]
fn a_bundle_with_an_error_says_which_rule_it_breaks() {
    let mut bundle = published();
    set(&mut bundle, "/spec/webhookdefinitions", json!([{}]));
    let finding = judge(&bundle).into_iter().find(|finding| finding.rule.severity == Severity::Error).unwrap();
    assert_eq!(finding.to_string(), "error: there is a webhook (no-webhooks)");
}

#[test]
fn the_document_lists_the_rules_by_whose_they_are() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/olm.md")).unwrap();
    let whose = [
        (Origin::Framework, "the Operator Framework's validators and scorecard"),
        (Origin::Registry, "the builder of catalogs (`opm`)"),
        (Origin::Community, "the community's pipeline and its required fields"),
        (Origin::OlmV1, "OLM v1"),
        (Origin::Own, "our own"),
    ];
    let rows: Vec<String> = whose
        .iter()
        .map(|(origin, name)| {
            let rules: Vec<String> =
                all().filter(|rule| rule.origin == *origin).map(|rule| format!("`{}`", rule.name)).collect();
            format!("| {name} | {} |", rules.join(", "))
        })
        .collect();
    let table: Vec<&str> = document.lines().skip_while(|line| *line != "| whose | rules |").skip(2).collect();
    assert_eq!(table, rows, "docs/olm.md is to have:\n{}", rows.join("\n"));
}
