//! Tests each rule with a bundle that violates it: the generated bundle with one defect.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::tests::published;
use super::super::{Bundle, CSV};
use super::{RuleOrigin, Severity, all_rules, validate};

/// The only rule that the bundle violates: the operator must apply Istio's CRDs, which differ between releases.
const ACCEPTED: &str = "no-crd-permissions";

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

/// Generates a test per line, and the list of the rules with a test.
macro_rules! violations {
    ($($test:ident: $rule:literal, $wrong:expr;)*) => {
        $(#[test]
        fn $test() {
            let mut bundle = published();
            let break_rule: fn(&mut Bundle) = $wrong;
            break_rule(&mut bundle);
            assert!(validate(&bundle).iter().any(|violation| violation.rule.name == $rule), "{} reports nothing", $rule);
        })*
        const WITH_TEST: &[&str] = &[$($rule),*];
    };
}

violations! {
    rejects_csv_without_deployments: "csv-fields", |it| set(it, "/spec/install/spec/deployments", json!([]));
    rejects_csv_without_display_name: "csv-fields", |it| set(it, "/spec/displayName", json!(""));
    rejects_name_that_is_not_label: "csv-name", |it| set(it, "/metadata/name", json!("meshwright.v0.1.0_b"));
    rejects_too_long_name: "csv-name", |it| set(it, "/metadata/name", json!("m".repeat(64)));
    rejects_name_without_version: "csv-name-has-version", |it| set(it, "/metadata/name", json!("meshwright.v9.9.9"));
    rejects_csv_that_replaces_itself: "csv-replaces", |it| {
        let own = it.csv()["metadata"]["name"].clone();
        set(it, "/spec/replaces", own);
    };
    rejects_version_that_is_not_semantic: "csv-version", |it| set(it, "/spec/version", json!("0.1"));
    rejects_version_of_zeros: "csv-version", |it| set(it, "/spec/version", json!("0.0.0"));
    rejects_missing_install_mode: "install-modes", |it| set(it, "/spec/installModes", json!([]));
    rejects_duplicate_install_mode: "install-modes", |it| set(it, "/spec/installModes/0/type", json!("AllNamespaces"));
    rejects_kubernetes_version_without_patch: "min-kube-version", |it| set(it, "/spec/minKubeVersion", json!("1.33"));
    rejects_examples_that_are_not_json: "examples-are-json", |it| annotate(it, "alm-examples", json!("[{]"));
    rejects_example_of_unowned_kind: "examples-have-owned-kinds", |it| {
        annotate(it, "alm-examples", json!(r#"[{"apiVersion": "meshwright.dev/v1", "kind": "MeshInstallation"}]"#));
    };
    rejects_missing_example: "owned-kinds-have-examples", |it| annotate(it, "alm-examples", json!("[]"));
    rejects_annotation_in_another_case: "annotation-case", |it| annotate(it, "olm.skiprange", json!("<1.0.0"));
    rejects_properties_in_annotation: "no-properties-annotation", |it| annotate(it, "olm.properties", json!("[]"));

    rejects_too_short_display_name: "display-name", |it| set(it, "/spec/displayName", json!("MW"));
    rejects_too_short_description: "description", |it| set(it, "/spec/description", json!("A mesh"));
    rejects_too_long_summary: "summary", |it| annotate(it, "description", json!("a".repeat(136)));
    rejects_unknown_capability_level: "capabilities", |it| annotate(it, "capabilities", json!("seamless upgrades"));
    rejects_unknown_category: "categories", |it| annotate(it, "categories", json!("Networking, Meshes"));
    rejects_empty_keyword: "keywords", |it| set(it, "/spec/keywords", json!(["mesh", ""]));
    rejects_date_without_time: "created-at", |it| annotate(it, "createdAt", json!("2026-11-21"));
    rejects_repository_that_is_not_url: "repository", |it| annotate(it, "repository", json!("git@host:meshwright"));
    rejects_missing_support: "support", |it| annotate(it, "support", json!(""));
    rejects_provider_without_name: "provider", |it| unset(it, "/spec/provider/name");
    rejects_maintainer_without_address: "maintainers", |it| set(it, "/spec/maintainers/0/email", json!("no-address"));
    rejects_missing_maintainer: "maintainers", |it| set(it, "/spec/maintainers", json!([]));
    rejects_link_without_url: "links", |it| set(it, "/spec/links/0/url", json!("docs/README.md"));
    rejects_two_icons: "icon", |it| {
        let icon = it.csv()["spec"]["icon"][0].clone();
        set(it, "/spec/icon", json!([icon.clone(), icon]));
    };
    rejects_icon_that_is_not_in_base64: "icon", |it| set(it, "/spec/icon/0/base64data", json!("<svg/>"));
    rejects_icon_of_unknown_type: "icon", |it| set(it, "/spec/icon/0/mediatype", json!("image/webp"));
    // <svg width="800" height="40"/>
    rejects_icon_that_is_too_wide: "icon-size", |it| {
        set(it, "/spec/icon/0/base64data", json!("PHN2ZyB3aWR0aD0iODAwIiBoZWlnaHQ9IjQwIi8+"));
    };
    rejects_image_without_registry: "container-image", |it| annotate(it, "containerImage", json!("meshwright:0.1.0"));
    rejects_image_that_does_not_run: "container-image", |it| annotate(it, "containerImage", json!("host.test/other:1"));
    rejects_running_image_not_listed: "related-images", |it| set(it, "/spec/relatedImages", json!([]));
    rejects_related_image_without_name: "related-images", |it| {
        csv(it)["spec"]["relatedImages"].as_array_mut().unwrap().push(json!({"name": "none", "image": ""}));
    };
    rejects_package_of_another_name: "operator-name", |it| announce(it, super::super::PACKAGE, "mesh-wright");
    rejects_openshift_older_than_min_kube_version: "openshift-versions", |it| {
        announce(it, "com.redhat.openshift.versions", "v4.17-v4.19");
    };
    rejects_missing_openshift_version: "openshift-versions", |it| announce(it, "com.redhat.openshift.versions", "");
    rejects_placeholder: "no-placeholders", |it| set(it, "/spec/maintainers/0/email", json!("team@mesh.example"));

    rejects_two_csvs: "one-csv", |it| {
        let csv = it.csv().clone();
        add(it, csv);
    };
    rejects_manifest_in_folder: "flat-manifests", |it| {
        it.manifests.insert("manifests/deep/a.yaml".into(), json!({}));
    };
    rejects_manifest_without_name: "objects-are-named", |it| add(it, json!({"apiVersion": "v1", "kind": "ConfigMap"}));
    rejects_deployment_beside_csv: "kinds-are-supported", |it| add(it, json!({"apiVersion": "apps/v1", "kind": "Deployment"}));
    rejects_network_policy: "no-network-policy", |it| add(it, json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}));
    rejects_missing_owned_crd: "owned-crds-exist", |it| it.manifests.retain(|_, object| object["kind"] != "CustomResourceDefinition");
    rejects_unowned_crd: "crds-are-owned", |it| set(it, "/spec/customresourcedefinitions/owned", json!([]));
    rejects_duplicate_crd: "crds-are-unique", |it| {
        let crd = crd(it);
        add(it, crd);
    };
    rejects_object_of_removed_api: "no-removed-apis", |it| {
        add(it, json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget"}));
    };
    rejects_service_account_of_deployment: "no-duplicate-service-account", |it| {
        add(it, json!({"kind": "ServiceAccount", "metadata": {"name": "meshwright"}}));
    };
    rejects_budget_that_blocks_drains: "disruption-budget", |it| {
        add(it, json!({"kind": "PodDisruptionBudget", "spec": {"maxUnavailable": 0}}));
    };
    rejects_budget_that_requires_all_pods: "disruption-budget", |it| {
        add(it, json!({"kind": "PodDisruptionBudget", "spec": {"minAvailable": "100%"}}));
    };
    rejects_global_default_priority_class: "priority-class", |it| add(it, json!({"kind": "PriorityClass", "globalDefault": true}));
    rejects_bundle_over_one_mebibyte: "size", |it| it.size = (1 << 20) + 1;
    rejects_bundle_of_other_media_type: "media-type", |it| announce(it, "operators.operatorframework.io.bundle.mediatype.v1", "plain");
    rejects_manifests_in_other_directory: "directories", |it| announce(it, "operators.operatorframework.io.bundle.manifests.v1", "objects/");
    rejects_default_that_is_not_channel: "channels", |it| announce(it, "operators.operatorframework.io.bundle.channel.default.v1", "stable");
    rejects_missing_channel: "channels", |it| announce(it, "operators.operatorframework.io.bundle.channels.v1", "");
    rejects_unusual_channel_name: "channel-names", |it| announce(it, "operators.operatorframework.io.bundle.channels.v1", "candidate,alpha");

    rejects_container_without_requests: "containers-request-resources", |it| {
        set(it, "/spec/install/spec/deployments/0/spec/template/spec/containers/0/resources", json!({}));
    };
    rejects_permission_to_change_default_scc: "no-default-scc-permissions", |it| allow(it, "security.openshift.io", "securitycontextconstraints", "patch");
    rejects_permission_for_pod_security_policies: "no-removed-api-permissions", |it| allow(it, "policy", "podsecuritypolicies", "use");
    rejects_permissions_for_unused_service_account: "permissions-match-service-account", |it| {
        set(it, "/spec/install/spec/permissions/0/serviceAccountName", json!("default"));
    };
    rejects_permission_to_escalate: "no-privilege-escalation", |it| allow(it, "rbac.authorization.k8s.io", "clusterroles", "escalate");
    rejects_permission_for_everything: "no-privilege-escalation", |it| allow(it, "*", "*", "*");
    rejects_writable_root_file_system: "pods-are-restricted", |it| {
        let context = "/spec/install/spec/deployments/0/spec/template/spec/containers/0/securityContext";
        set(it, &format!("{context}/readOnlyRootFilesystem"), json!(false));
    };
    rejects_pod_that_may_run_as_root: "pods-are-restricted", |it| {
        unset(it, "/spec/install/spec/deployments/0/spec/template/spec/securityContext/runAsNonRoot");
    };

    rejects_own_namespace_install_mode: "all-namespaces-only", |it| set(it, "/spec/installModes/0/supported", json!(true));
    rejects_dependencies_file: "no-dependencies", |it| {
        it.others.insert("metadata/dependencies.yaml".into(), "dependencies: []".into());
    };
    rejects_dependency_property: "no-dependencies", |it| {
        it.others.insert("metadata/properties.yaml".into(), "properties: [{type: olm.gvk.required}]".into());
    };
    rejects_required_crd: "no-dependencies", |it| set(it, "/spec/customresourcedefinitions/required", json!([{}]));
    rejects_webhook: "no-webhooks", |it| set(it, "/spec/webhookdefinitions", json!([{}]));
    rejects_api_service: "no-api-services", |it| set(it, "/spec/apiservicedefinitions", json!({"owned": [{}]}));
    rejects_permission_for_operator_conditions: "no-operator-conditions", |it| allow(it, "operators.coreos.com", "operatorconditions", "update");
    rejects_duplicate_deployment_name: "deployments", |it| {
        let deployment = it.deployments()[0].clone();
        set(it, "/spec/install/spec/deployments", json!([deployment.clone(), deployment]));
    };
    rejects_missing_package: "package", |it| announce(it, super::super::PACKAGE, "");

    rejects_crd_without_description: "crds-are-described", |it| set(it, "/spec/customresourcedefinitions/owned/0/description", json!(""));
    rejects_crd_without_resources: "crds-have-resources", |it| set(it, "/spec/customresourcedefinitions/owned/0/resources", json!([]));
    rejects_crd_without_schema: "crds-have-schemas", |it| {
        for object in it.manifests.values_mut().filter(|object| object["kind"] == "CustomResourceDefinition") {
            put(object, "/spec/versions/0/schema", json!({}));
        }
    };
    rejects_example_without_spec: "examples-have-specs", |it| {
        annotate(it, "alm-examples", json!(r#"[{"kind": "MeshInstallation", "spec": {}}]"#));
    };
    rejects_spec_field_without_descriptor: "spec-is-described", |it| {
        set(it, "/spec/customresourcedefinitions/owned/0/specDescriptors", json!([{"path": "version"}]));
    };
    rejects_status_field_without_descriptor: "status-is-described", |it| {
        set(it, "/spec/customresourcedefinitions/owned/0/statusDescriptors", json!([{"path": "phase"}]));
    };
    rejects_descriptor_of_unknown_field: "descriptors-match-fields", |it| {
        set(it, "/spec/customresourcedefinitions/owned/0/specDescriptors/0/path", json!("versions"));
    };
    rejects_duplicate_descriptor: "descriptors-are-unique", |it| {
        set(it, "/spec/customresourcedefinitions/owned/0/specDescriptors/0/path", json!("profile"));
    };
}

#[test]
fn bundle_violates_only_the_accepted_rule() {
    let violations = validate(&published());
    let messages: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert_eq!(messages, [format!("warning: the operator may create CRDs ({ACCEPTED})")]);
}

#[test]
fn operator_without_crd_permissions_violates_no_rule() {
    let mut bundle = published();
    let rules = csv(&mut bundle).pointer_mut("/spec/install/spec/clusterPermissions/0/rules").unwrap();
    rules.as_array_mut().unwrap().retain(|rule| rule["apiGroups"] != json!(["apiextensions.k8s.io"]));
    assert!(validate(&bundle).is_empty());
}

#[test]
fn rules_have_tests_and_unique_names() {
    let names: Vec<&str> = all_rules().map(|rule| rule.name).collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len());
    let tested: BTreeSet<&str> = WITH_TEST.iter().copied().chain([ACCEPTED]).collect();
    assert_eq!(unique, tested);
}

#[test]
fn violation_names_the_rule() {
    let mut bundle = published();
    set(&mut bundle, "/spec/webhookdefinitions", json!([{}]));
    let violation = validate(&bundle).into_iter().find(|violation| violation.rule.severity == Severity::Error).unwrap();
    assert_eq!(violation.to_string(), "error: the bundle has a webhook (no-webhooks)");
}

#[test]
fn document_lists_rules_by_origin() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/olm.md")).unwrap();
    let origins = [
        (RuleOrigin::Framework, "Operator Framework: validators and scorecard"),
        (RuleOrigin::Registry, "`opm`, which builds catalogs"),
        (RuleOrigin::Community, "community pipeline and required fields"),
        (RuleOrigin::OlmV1, "OLM v1"),
        (RuleOrigin::Own, "Meshwright"),
    ];
    let rows: Vec<String> = origins
        .iter()
        .map(|(origin, name)| {
            let rules: Vec<String> =
                all_rules().filter(|rule| rule.origin == *origin).map(|rule| format!("`{}`", rule.name)).collect();
            format!("| {name} | {} |", rules.join(", "))
        })
        .collect();
    let table: Vec<&str> = document.lines().skip_while(|line| *line != "| origin | rules |").skip(2).collect();
    assert_eq!(table, rows, "docs/olm.md must have:\n{}", rows.join("\n"));
}
