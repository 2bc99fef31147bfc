//! Validation and documentation of the API by the API server, without an operator.

use meshwright_e2e::mesh::{Mesh, NAME, config_dir, demo_spec};
use meshwright_e2e::{Lab, LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

/// Installs the CRD without an operator.
async fn install_crd(lab: &Lab) -> TestResult<Mesh> {
    lab.apply_dirs([config_dir().join("crd")]).await?;
    Ok(Mesh::connect(lab.client()))
}

/// Waits for the schema of MeshInstallation that `kubectl explain` reads.
async fn published_schema(lab: &Lab) -> TestResult<Value> {
    let client = lab.client();
    let schema = wait::until(wait::TIMEOUT, "the schema to be published", async || {
        let request = http::Request::get("/openapi/v3/apis/meshwright.dev/v1alpha1").body(Vec::new());
        let document: Value = client.request(request.map_err(|e| e.to_string())?).await.map_err(|e| e.to_string())?;
        let schema = document["components"]["schemas"]["dev.meshwright.v1alpha1.MeshInstallation"].clone();
        if schema.is_object() { Ok(schema) } else { Err("not published yet".to_owned()) }
    });
    Ok(schema.await?)
}

/// Fields with Kubernetes types, whose subfields have no descriptions here.
const KUBERNETES: [&str; 4] = ["affinity", "tolerations", "neverInjectSelector", "alwaysInjectSelector"];

/// Collects fields without a description; returns the number of all fields.
fn collect_undescribed(path: &str, schema: &Value, found: &mut Vec<String>) -> usize {
    let inner = schema["items"]["properties"].as_object();
    let mut count = 0;
    for (name, field) in schema["properties"].as_object().or(inner).into_iter().flatten() {
        let path = format!("{path}.{name}");
        count += 1;
        if field["description"].as_str().is_none_or(str::is_empty) {
            found.push(path.clone());
        }
        if !KUBERNETES.contains(&name.as_str()) {
            count += collect_undescribed(&path, field, found);
        }
    }
    count
}

#[test]
fn every_field_has_description() {
    run(LabOptions::default(), async |lab| {
        install_crd(lab).await?;
        let schema = published_schema(lab).await?;
        assert!(
            schema["description"].as_str().is_some_and(|text| text.contains("describes an Istio mesh in the cluster"))
        );
        for part in ["spec", "status"] {
            let mut missing = Vec::new();
            let count = collect_undescribed(part, &schema["properties"][part], &mut missing);
            assert_eq!(missing, Vec::<String>::new());
            assert!(count > 20, "{part} has only {count} fields");
        }
        Ok(())
    });
}

#[test]
fn schema_errors_name_field_and_allowed_values() {
    run(LabOptions::default(), async |lab| {
        let mesh = install_crd(lab).await?;
        published_schema(lab).await?;
        let edge = |service: Value| json!([{"name": "edge", "service": service}]);
        let cases = [
            ("proxy", json!({"logLevl": "debug"}), vec!["spec.proxy.logLevl", "not declared in schema"]),
            (
                "gateways",
                json!([{"name": "edge", "port": 80}]),
                vec!["spec.gateways", "port", "not declared in schema"],
            ),
            ("proxy", json!({"logLevel": "loud"}), vec!["spec.proxy.logLevel", "loud", "warning", "debug"]),
            ("gateways", edge(json!({"type": "External"})), vec!["service.type", "External", "NodePort"]),
            ("deletion", json!({"crds": "Drop"}), vec!["spec.deletion.crds", "Drop", "Keep", "Delete"]),
            ("images", json!({"registry": "a\"b"}), vec!["spec.images.registry", "registry.example.com/istio"]),
            (
                "images",
                json!({"imagePullSecrets": [{"name": "a: b"}]}),
                vec!["spec.images.imagePullSecrets", "name of a Secret"],
            ),
            ("gateways", edge(json!({"loadBalancerClass": "a b"})), vec!["loadBalancerClass", "internal-vip"]),
            ("controlPlane", json!({"replicas": "two"}), vec!["spec.controlPlane.replicas", "expected numeric"]),
        ];
        for (field, value, words) in cases {
            let mut spec = demo_spec();
            spec[field] = value;
            let Err(error) = mesh.apply(NAME, spec.clone()).await else {
                return Err(format!("{spec} was accepted").into());
            };
            let error = error.to_string();
            for word in words {
                assert!(error.contains(word), "{word:?} is missing in: {error}");
            }
        }
        mesh.apply(NAME, demo_spec()).await?;
        Ok(())
    });
}
