//! What the API server itself says of the API: to `kubectl explain`, and to those who write something wrong.

use meshwright_e2e::mesh::{Mesh, NAME, config, small};
use meshwright_e2e::{Lab, LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

/// The API server with our CRD, and no operator.
async fn served(lab: &Lab) -> TestResult<Mesh> {
    lab.apply_dirs([config().join("crd")]).await?;
    Ok(Mesh::of(lab.client()))
}

/// The schema of MeshInstallation as `kubectl explain` reads it.
async fn published(lab: &Lab) -> TestResult<Value> {
    let client = lab.client();
    let schema = wait::until(wait::PATIENCE, "the schema to be published", async || {
        let request = http::Request::get("/openapi/v3/apis/meshwright.dev/v1alpha1").body(Vec::new());
        let document: Value = client.request(request.map_err(|e| e.to_string())?).await.map_err(|e| e.to_string())?;
        let schema = document["components"]["schemas"]["dev.meshwright.v1alpha1.MeshInstallation"].clone();
        if schema.is_object() { Ok(schema) } else { Err("it is not there".to_owned()) }
    });
    Ok(schema.await?)
}

/// Kubernetes' own types; `kubectl explain pod.spec` describes what is in them.
const KUBERNETES: [&str; 4] = ["affinity", "tolerations", "neverInjectSelector", "alwaysInjectSelector"];

/// Fields without a description, and how many there are at all.
fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) -> usize {
    let inner = schema["items"]["properties"].as_object();
    let mut count = 0;
    for (name, field) in schema["properties"].as_object().or(inner).into_iter().flatten() {
        let path = format!("{path}.{name}");
        count += 1;
        if field["description"].as_str().is_none_or(str::is_empty) {
            found.push(path.clone());
        }
        if !KUBERNETES.contains(&name.as_str()) {
            count += undescribed(&path, field, found);
        }
    }
    count
}

#[test]
fn kubectl_explain_says_of_every_field_what_it_does() {
    run(LabOptions::default(), async |lab| {
        served(lab).await?;
        let schema = published(lab).await?;
        assert!(schema["description"].as_str().is_some_and(|text| text.contains("which Istio mesh the cluster has")));
        for part in ["spec", "status"] {
            let mut missing = Vec::new();
            let count = undescribed(part, &schema["properties"][part], &mut missing);
            assert_eq!(missing, Vec::<String>::new());
            assert!(count > 20, "{part} has only {count} fields");
        }
        Ok(())
    });
}

#[test]
fn the_api_server_names_the_field_and_what_would_be_right() {
    run(LabOptions::default(), async |lab| {
        let mesh = served(lab).await?;
        published(lab).await?;
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
            ("images", json!({"pullSecrets": ["a: b"]}), vec!["spec.images.pullSecrets", "names of Secrets"]),
            ("gateways", edge(json!({"loadBalancerClass": "a b"})), vec!["loadBalancerClass", "internal-vip"]),
            ("controlPlane", json!({"replicas": "two"}), vec!["spec.controlPlane.replicas", "expected numeric"]),
        ];
        for (field, value, words) in cases {
            let mut spec = small();
            spec[field] = value;
            let Err(error) = mesh.apply(NAME, spec.clone()).await else {
                return Err(format!("{spec} was accepted").into());
            };
            let error = error.to_string();
            for word in words {
                assert!(error.contains(word), "{word:?} is missing in: {error}");
            }
        }
        mesh.apply(NAME, small()).await?;
        Ok(())
    });
}
