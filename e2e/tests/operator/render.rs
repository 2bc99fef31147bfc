//! `meshwright render` prints the same objects without a cluster as the operator applies.

use std::path::Path;

use kube::ResourceExt as _;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION};
use meshwright_e2e::{LabOptions, TestResult, run};
use serde_json::{Value, json};

use crate::cli::{file, meshwright};

const HASH: &str = "meshwright.dev/desired-hash";
/// The commands work without a cluster.
const NO_KUBECONFIG: &str = "/nowhere/kubeconfig";

fn spec() -> Value {
    let ports = json!([{"name": "status-port", "port": 15021}, {"name": "http2", "port": 80, "nodePort": 30401}]);
    let gateway = json!({"name": "ingress", "namespace": "edge", "service": {"type": "NodePort", "ports": ports}});
    json!({
        "version": VERSION, "profile": "demo", "gateways": [gateway], "meshConfig": {"enableTracing": true},
        // Offline rendering needs the range to assign the status port's node port.
        "nodePorts": {"range": "30400-30449"},
    })
}

async fn render(spec: &Value, metadata: &Value, kubernetes: &str) -> TestResult<Vec<Value>> {
    let (_dir, path) = file(NAME, spec, metadata)?;
    let args = ["render", "-f", &path, "--kubernetes", kubernetes, "-o", "json"];
    let first = meshwright(Path::new(NO_KUBECONFIG), &args).await?;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let second = meshwright(Path::new(NO_KUBECONFIG), &args).await?;
    assert_eq!(first.stdout, second.stdout, "two runs give the same bytes");
    let list: Value = serde_json::from_str(&first.stdout)?;
    assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("List"), Some("v1")));
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

async fn live(client: &Client, object: &Value) -> TestResult<Value> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let api_version = text("/apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text("/kind")));
    let api: Api<DynamicObject> = match object.pointer("/metadata/namespace").and_then(Value::as_str) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok(serde_json::to_value(api.get(&text("/metadata/name")).await?)?)
}

/// Collects paths at which the live object differs from the rendered one.
fn collect_differences(rendered: &Value, live: &Value, path: &str, found: &mut Vec<String>) {
    match (rendered, live) {
        (Value::Object(fields), _) => {
            for (name, value) in fields {
                // The API server treats null and empty values alike.
                let empty = value.is_null() || *value == json!({}) || *value == json!([]) || *value == json!("");
                match live.get(name) {
                    Some(live) => collect_differences(value, live, &format!("{path}/{name}"), found),
                    None if empty => {}
                    None => found.push(format!("{path}/{name} is missing")),
                }
            }
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            for (index, (item, other)) in items.iter().zip(others).enumerate() {
                collect_differences(item, other, &format!("{path}/{index}"), found);
            }
        }
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
        (one, other) if one == other => {}
        (one, other) => found.push(format!("{path}: {one} is rendered, {other} is live")),
    }
}

#[test]
fn offline_rendering_matches_applied_objects() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let client = lab.client();
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, spec()).await?;
        let ready = mesh.wait_ready(NAME).await?;
        let kubernetes = client.apiserver_version().await?.git_version;

        let rendered = render(&spec(), &json!({}), &kubernetes).await?;
        assert!(rendered.len() > 35, "{}", rendered.len());
        for object in &rendered {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            let mut found = Vec::new();
            collect_differences(object, &live(&client, object).await?, "", &mut found);
            // istiod changes failurePolicy, and the API server normalises quantities. The hashes below cover both.
            found.retain(|difference| !difference.contains("failurePolicy") && !difference.contains("/resources/"));
            assert_eq!(found, [""; 0], "{name}");
            let annotations = object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
            assert!(!annotations.contains_key(HASH), "{name}");
            assert!(!annotations.contains_key("meshwright.dev/installation-uid"), "{name}");
        }

        // With the UID, the hashes match the operator's, so every byte is equal.
        let exact = render(&spec(), &json!({"uid": ready.uid()}), &kubernetes).await?;
        assert_eq!(exact.len(), rendered.len());
        for object in &exact {
            let live = live(&client, object).await?;
            let hash = |object: &Value| object["metadata"]["annotations"][HASH].clone();
            assert_eq!(hash(object), hash(&live), "{} {}", object["kind"], object["metadata"]["name"]);
            assert!(hash(object).is_string());
        }
        Ok(())
    });
}

#[test]
fn render_rejects_what_api_server_rejects() {
    run(LabOptions::default(), async |lab| {
        lab.apply_dirs([meshwright_e2e::mesh::config_dir().join("crd")]).await?;
        let mesh = Mesh::connect(lab.client());
        let node_port = json!({"type": "ClusterIP", "ports": [{"name": "a", "port": 80, "nodePort": 30401}]});
        for (change, word) in [
            (json!({"profil": "demo"}), "profil"),
            (json!({"profile": "tiny"}), "profile"),
            (json!({"version": "v1.31.2"}), "leading v"),
            (json!({"gateways": [{"name": "a"}, {"name": "a"}]}), "gateways[1]"),
            (json!({"gateways": [{"name": "a", "service": node_port}]}), "requires service.type NodePort"),
            (json!({"proxy": {"logLevel": 3}}), "proxy.logLevel"),
        ] {
            let mut spec = json!({"version": VERSION});
            for (key, value) in change.as_object().into_iter().flatten() {
                spec[key] = value.clone();
            }
            let server_result = mesh.apply(NAME, spec.clone()).await;
            assert!(server_result.is_err(), "{change}");
            let (_dir, path) = file(NAME, &spec, &json!({}))?;
            let rejected = meshwright(Path::new(NO_KUBECONFIG), &["render", "-f", &path]).await?;
            assert_eq!((rejected.code, rejected.stdout.as_str()), (Some(1), ""));
            assert!(rejected.stderr.contains(word), "{change}: {}", rejected.stderr);
        }
        Ok(())
    });
}
