//! Tests of the committed CRD.

use std::{fs, path::Path};

use kube::core::cel::Validator;
use serde_json::{Value, json};

use super::{schema, yaml};
use crate::{MeshInstallationStatus, PlatformName, crd_yaml};

/// Calls `check` with a schema, all its subschemas and their paths.
fn each_schema(path: &str, schema: &Value, check: &mut dyn FnMut(&str, &Value)) {
    check(path, schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        each_schema(&format!("{path}.{name}"), child, check);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            each_schema(&format!("{path}{suffix}"), &schema[key], check);
        }
    }
}

#[test]
fn committed_crd_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/crd/meshinstallations.yaml");
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == crd_yaml().unwrap(), "config/crd/meshinstallations.yaml is out of date; run: make generate");
}

#[test]
fn names_and_scope_are_stable() {
    let crd = yaml(&crd_yaml().unwrap());
    assert_eq!(crd["metadata"]["name"], "meshinstallations.meshwright.dev");
    assert_eq!(crd["spec"]["scope"], "Cluster");
    assert_eq!(
        crd["spec"]["names"],
        json!({
            "kind": "MeshInstallation", "plural": "meshinstallations", "singular": "meshinstallation",
            "shortNames": ["mi"], "categories": ["mesh"],
        })
    );
    assert_eq!(crd["spec"]["versions"][0]["name"], "v1alpha1");
    assert_eq!(crd["spec"]["versions"][0]["subresources"], json!({ "status": {} }));
}

#[test]
fn has_expected_printer_columns() {
    let crd = yaml(&crd_yaml().unwrap());
    let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    let names: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Version", "Profile", "Phase", "Ready", "Message", "Platform", "Proxies", "Outdated", "Age"]);
    let wide = columns.iter().filter(|column| column["priority"].as_i64().is_some_and(|priority| priority > 0));
    assert!(wide.map(|column| &column["name"]).eq(["Platform", "Proxies", "Outdated"]));
}

#[test]
fn fits_into_last_applied_annotation() {
    assert!(crd_yaml().unwrap().len() < 200_000);
}

#[test]
fn new_objects_have_unobserved_generation() {
    let default = &schema()["properties"]["status"]["default"];
    assert_eq!(default, &json!({ "observedGeneration": -1 }));
    assert_eq!(serde_json::to_value(MeshInstallationStatus::default()).unwrap(), *default);
}

#[test]
fn no_field_is_nullable() {
    each_schema("", &schema(), &mut |path, schema| {
        assert!(schema.get("nullable").is_none(), "{path} is nullable");
    });
}

#[test]
fn integers_have_no_unsigned_format() {
    each_schema("", &schema(), &mut |path, schema| {
        let format = schema["format"].as_str().unwrap_or_default();
        assert!(!format.starts_with("uint"), "{path} has format {format}");
    });
}

#[test]
fn all_fields_have_descriptions() {
    let kubernetes = ["affinity", "tolerations", "neverInjectSelector", "alwaysInjectSelector"];
    each_schema("", &schema()["properties"]["spec"], &mut |path, schema| {
        let inside =
            kubernetes.iter().any(|name| path.contains(&format!("{name}.")) || path.contains(&format!("{name}[]")));
        let unnamed = path.ends_with("[]") || path.ends_with("{}");
        assert!(inside || unnamed || schema["description"].is_string(), "spec{path} has no description");
    });
}

#[test]
fn optional_enums_have_field_descriptions() {
    let service = &schema()["properties"]["spec"]["properties"]["gateways"]["items"]["properties"]["service"];
    let described = service["properties"]["type"]["description"].as_str().unwrap();
    assert!(described.contains("default for ingress"), "{described}");
    assert!(service.get("required").is_none());
}

#[test]
fn free_form_parts_preserve_unknown_fields() {
    let spec = &schema()["properties"]["spec"]["properties"];
    let parts = [
        &spec["meshConfig"],
        &spec["values"]["properties"]["base"],
        &spec["values"]["properties"]["istiod"],
        &spec["gateways"]["items"]["properties"]["values"],
        &spec["addons"]["items"]["properties"]["values"],
    ];
    for part in parts {
        assert_eq!(part["x-kubernetes-preserve-unknown-fields"], true);
    }
}

#[test]
fn patchable_lists_are_keyed_by_name() {
    let spec = &schema()["properties"]["spec"]["properties"];
    let gateway = &spec["gateways"]["items"]["properties"];
    let lists = [
        &spec["gateways"],
        &spec["addons"],
        &spec["controlPlane"]["properties"]["env"],
        &gateway["service"]["properties"]["ports"],
    ];
    for list in lists {
        assert_eq!(list["x-kubernetes-list-type"], "map");
        assert_eq!(list["x-kubernetes-list-map-keys"], json!(["name"]));
    }
}

#[test]
fn bounds_are_integers() {
    let crd = yaml(&crd_yaml().unwrap());
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let port =
        &spec["gateways"]["items"]["properties"]["service"]["properties"]["ports"]["items"]["properties"]["port"];
    assert_eq!((port["minimum"].as_i64(), port["maximum"].as_i64()), (Some(1), Some(65_535)));
}

#[test]
fn quantities_match_kubernetes() {
    let spec = &schema()["properties"]["spec"]["properties"];
    let quantity = &spec["controlPlane"]["properties"]["resources"]["properties"]["requests"]["additionalProperties"];
    assert_eq!(quantity["x-kubernetes-int-or-string"], true);
    // Uses the CEL engine, because the crate has no other regular expression engine.
    let rule = format!("self.matches({})", quantity["pattern"]);
    let matcher = json!({ "type": "string", "x-kubernetes-validations": [{ "rule": rule }] });
    let accepts = |text: &str| Validator::new().validate(&matcher, &json!(text), None).is_ok();
    for valid in ["1", "500m", "0.5", "2Gi", "128Mi", "1e3", "100k", "1.5Gi", "250u"] {
        assert!(accepts(valid), "{valid}");
    }
    for invalid in ["", "1x", "2GB", "-1", "1 Gi", "Gi", "1e", "1,5"] {
        assert!(!accepts(invalid), "{invalid}");
    }
}

#[test]
fn schema_lists_all_platforms() {
    let platform = &schema()["properties"]["spec"]["properties"]["platform"];
    let offered: Vec<_> = platform["enum"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(offered[0], "auto");
    assert_eq!(&offered[1..], PlatformName::KNOWN);
    assert!(PlatformName::KNOWN.contains(&"generic"));
    assert_eq!(platform["default"], "auto");
}
