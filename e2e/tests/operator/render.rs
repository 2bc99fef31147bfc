//! `meshwright render` prints, without a cluster, what the operator applies with one.

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
/// No cluster is asked, so there may be none.
const NO_CLUSTER: &str = "/nowhere/kubeconfig";

fn spec() -> Value {
    let ports = json!([{"name": "status-port", "port": 15021}, {"name": "http2", "port": 80, "nodePort": 30401}]);
    let gateway = json!({"name": "ingress", "namespace": "edge", "service": {"type": "NodePort", "ports": ports}});
    json!({
        "version": VERSION, "profile": "demo", "gateways": [gateway], "meshConfig": {"enableTracing": true},
        // Offline nobody knows the server's range, from which the status port gets its node port.
        "nodePorts": {"range": "30400-30449"},
    })
}

async fn render(spec: &Value, metadata: &Value, kubernetes: &str) -> TestResult<Vec<Value>> {
    let (_dir, path) = file(NAME, spec, metadata)?;
    let args = ["render", "-f", &path, "--kubernetes", kubernetes, "-o", "json"];
    let first = meshwright(Path::new(NO_CLUSTER), &args).await?;
    assert_eq!(first.code, Some(0), "{}", first.err);
    let second = meshwright(Path::new(NO_CLUSTER), &args).await?;
    assert_eq!(first.out, second.out, "two runs give the same bytes");
    let list: Value = serde_json::from_str(&first.out)?;
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

/// Paths at which the live object lacks what was rendered, or has something else.
fn differences(rendered: &Value, live: &Value, path: &str, found: &mut Vec<String>) {
    match (rendered, live) {
        (Value::Object(fields), _) => {
            for (name, value) in fields {
                // Nothing and an empty table, list or text are the same to the API server.
                let empty = value.is_null() || *value == json!({}) || *value == json!([]) || *value == json!("");
                match live.get(name) {
                    Some(live) => differences(value, live, &format!("{path}/{name}"), found),
                    None if empty => {}
                    None => found.push(format!("{path}/{name} is not there")),
                }
            }
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            for (index, (item, other)) in items.iter().zip(others).enumerate() {
                differences(item, other, &format!("{path}/{index}"), found);
            }
        }
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
        (one, other) if one == other => {}
        (one, other) => found.push(format!("{path}: {one} is rendered, {other} is live")),
    }
}

#[test]
fn what_is_rendered_offline_is_what_the_operator_applied() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let client = lab.client();
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, spec()).await?;
        let ready = mesh.wait_ready(NAME).await?;
        let kubernetes = client.apiserver_version().await?.git_version;

        let rendered = render(&spec(), &json!({}), &kubernetes).await?;
        assert!(rendered.len() > 35, "{}", rendered.len());
        for object in &rendered {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            let mut found = Vec::new();
            differences(object, &live(&client, object).await?, "", &mut found);
            // istiod raises the one itself once it can answer; quantities come back in another form. The hashes below
            // cover both.
            found.retain(|difference| !difference.contains("failurePolicy") && !difference.contains("/resources/"));
            assert_eq!(found, [""; 0], "{name}");
            let marks = object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
            assert!(!marks.contains_key(HASH) && !marks.contains_key("meshwright.dev/installation-uid"), "{name}");
        }

        // With the UID the operator's own hashes come out: every byte is the same.
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
fn what_the_api_server_refuses_render_refuses_in_like_words() {
    run(LabOptions::default(), async |lab| {
        lab.apply_dirs([meshwright_e2e::mesh::config().join("crd")]).await?;
        let mesh = Mesh::of(lab.client());
        let node_port = json!({"type": "ClusterIP", "ports": [{"name": "a", "port": 80, "nodePort": 30401}]});
        for (change, word) in [
            (json!({"profil": "demo"}), "profil"),
            (json!({"profile": "tiny"}), "profile"),
            (json!({"version": "v1.31.2"}), "without a leading v"),
            (json!({"gateways": [{"name": "a"}, {"name": "a"}]}), "gateways[1]"),
            (json!({"gateways": [{"name": "a", "service": node_port}]}), "needs a service of type NodePort"),
            (json!({"proxy": {"logLevel": 3}}), "proxy.logLevel"),
        ] {
            let mut spec = json!({"version": VERSION});
            for (key, value) in change.as_object().into_iter().flatten() {
                spec[key] = value.clone();
            }
            let by_server = mesh.apply(NAME, spec.clone()).await;
            assert!(by_server.is_err(), "{change}");
            let (_dir, path) = file(NAME, &spec, &json!({}))?;
            let refused = meshwright(Path::new(NO_CLUSTER), &["render", "-f", &path]).await?;
            assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
            assert!(refused.err.contains(word), "{change}: {}", refused.err);
        }
        Ok(())
    });
}
