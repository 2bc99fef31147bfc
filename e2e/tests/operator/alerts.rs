//! Checks alerts, configuration and dashboards with promtool, without a cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use meshwright_e2e::mesh::{NAME, VERSION};
use meshwright_e2e::{Programs, TestResult};
use serde_json::{Value, json};

use crate::cli::{file, meshwright};

const ALERTS: &str = "bundled-manifests/addons/prometheus/files/alerts.yml";

/// Path of a file in the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn yaml(path: &str) -> TestResult<Value> {
    Ok(serde_saphyr::from_str(&std::fs::read_to_string(repository(path))?)?)
}

fn promtool(args: &[&str], file: &Path) -> TestResult {
    let output = Command::new(Programs::find()?.path("promtool")).args(args).arg(file).output()?;
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {args:?}: {}", String::from_utf8_lossy(&text));
    Ok(())
}

/// The rules of all groups.
fn rules(file: &Value) -> Vec<Value> {
    let groups = file["groups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
}

#[test]
fn every_alert_has_firing_and_quiet_tests() {
    promtool(&["check", "rules"], &repository(ALERTS)).unwrap();
    promtool(&["test", "rules"], &repository("e2e/lab/prometheus/alerts_test.yml")).unwrap();
    let tests = yaml("e2e/lab/prometheus/alerts_test.yml").unwrap();
    let cases: Vec<&Value> = tests["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().unwrap())
        .collect();
    for rule in rules(&yaml(ALERTS).unwrap()) {
        let of_alert = || cases.iter().filter(|case| case["alertname"] == rule["alert"]);
        let fires = |case: &&&Value| !case["exp_alerts"].as_array().unwrap().is_empty();
        assert!(of_alert().any(|case| fires(&case)), "{} has no test in which it fires", rule["alert"]);
        assert!(of_alert().any(|case| !fires(&case)), "{} has no test in which it doesn't fire", rule["alert"]);
    }
}

#[test]
fn every_alert_has_description_and_runbook() {
    let runbooks = std::fs::read_to_string(repository("docs/runbooks.md")).unwrap();
    let headings: BTreeSet<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut names = BTreeSet::new();
    for rule in rules(&yaml(ALERTS).unwrap()) {
        let name = rule["alert"].as_str().unwrap().to_owned();
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
        assert_eq!(rule["annotations"]["runbook"], format!("docs/runbooks.md#{}", name.to_lowercase()));
        names.insert(name);
    }
    assert_eq!(headings, names.iter().map(String::as_str).collect());
}

#[test]
fn prometheus_rules_match_addon_alerts() {
    let groups = |overlay: &str| {
        let path = format!("config/overlays/{overlay}/prometheus_rule.yaml");
        yaml(&path).unwrap()["spec"]["groups"].as_array().cloned().unwrap()
    };
    let together = [groups("service-monitor"), groups("mesh-monitor")].concat();
    assert_eq!(json!(together), yaml(ALERTS).unwrap()["groups"], "regenerate with: make generate");
}

#[tokio::test]
async fn monitors_select_istiod_and_proxies() {
    let objects = rendered(&json!({"version": VERSION, "revision": "blue"})).await.unwrap();
    let find = |kind: &str, name: &str| {
        objects
            .iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    let service = find("Service", "istiod-blue");
    let monitor = yaml("config/overlays/mesh-monitor/service_monitor.yaml").unwrap();
    let selector = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(selector.iter().all(|(key, value)| service["metadata"]["labels"][key] == *value), "{service}");
    let ports = service["spec"]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["name"] == monitor["spec"]["endpoints"][0]["port"]), "{ports:?}");
    let job = service["metadata"]["labels"][monitor["spec"]["jobLabel"].as_str().unwrap()].as_str().unwrap();
    let rules = std::fs::read_to_string(repository("config/overlays/mesh-monitor/prometheus_rule.yaml")).unwrap();
    assert!(rules.contains(&format!("job=\"{job}\"")), "{job}");

    // Labels and ports of injected proxies and gateways.
    let injected = find("ConfigMap", "istio-sidecar-injector-blue")["data"]["config"].as_str().unwrap();
    let proxies = yaml("config/overlays/mesh-monitor/pod_monitor.yaml").unwrap();
    let label = proxies["spec"]["selector"]["matchExpressions"][0]["key"].as_str().unwrap();
    let port = proxies["spec"]["podMetricsEndpoints"][0]["port"].as_str().unwrap();
    assert!(injected.contains(&format!("{label}:")) && injected.contains(&format!("name: {port}")));
}

/// Objects that the operator would apply.
async fn rendered(spec: &Value) -> TestResult<Vec<Value>> {
    let (_dir, path) = file(NAME, spec, &json!({}))?;
    let output = meshwright(Path::new("/nowhere/kubeconfig"), &["render", "-f", &path, "-o", "json"]).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let list: Value = serde_json::from_str(&output.stdout)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Data of an add-on's ConfigMap.
async fn configuration(name: &str) -> TestResult<Value> {
    configuration_with(name, &json!({"alertmanagers": ["alerts.example.com:9093"]})).await
}

/// Like [`configuration`] with values for Prometheus.
async fn configuration_with(name: &str, values: &Value) -> TestResult<Value> {
    let addons = json!([{"name": "prometheus", "values": values}, {"name": "grafana"}]);
    let objects = rendered(&json!({"version": VERSION, "addons": addons})).await?;
    let found = objects.iter().find(|item| item["kind"] == "ConfigMap" && item["metadata"]["name"] == name);
    Ok(found.map(|map| map["data"].clone()).ok_or_else(|| format!("no ConfigMap {name}"))?)
}

#[tokio::test]
async fn promtool_accepts_prometheus_configuration() {
    let data = configuration("prometheus").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("prometheus.yml");
    let config = data["prometheus.yml"].as_str().unwrap();
    std::fs::write(&here, config.replace("/etc/prometheus", &dir.path().to_string_lossy())).unwrap();
    std::fs::write(dir.path().join("alerts.yml"), data["alerts.yml"].as_str().unwrap()).unwrap();
    promtool(&["check", "config"], &here).unwrap();
}

#[tokio::test]
async fn alerts_link_to_configured_runbooks() {
    let runbooks = "https://git.example.com/meshwright/docs/runbooks.md";
    let data = configuration_with("prometheus", &json!({"alerts": {"runbooks": runbooks}})).await.unwrap();
    let linked = data["alerts.yml"].as_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("alerts.yml");
    std::fs::write(&here, linked).unwrap();
    promtool(&["check", "rules"], &here).unwrap();
    let linked = rules(&serde_saphyr::from_str(linked).unwrap());
    let plain = rules(&yaml(ALERTS).unwrap());
    assert_eq!(linked.len(), plain.len());
    for (linked, plain) in linked.iter().zip(&plain) {
        let part = plain["annotations"]["runbook"].as_str().unwrap().trim_start_matches("docs/runbooks.md");
        assert_eq!(linked["annotations"]["runbook_url"], format!("{runbooks}{part}"));
        assert_eq!(linked["annotations"]["runbook"], Value::Null);
    }
}

#[tokio::test]
async fn promtool_accepts_dashboard_queries() {
    let data = configuration("grafana").await.unwrap();
    let mut queries = Vec::new();
    for dashboard in ["mesh.json", "operator.json"] {
        let dashboard: Value = serde_json::from_str(data[dashboard].as_str().unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{}", panel["title"]);
            queries.extend(targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()));
        }
    }
    // Grafana replaces this variable.
    let rule = |(n, query): (usize, &String)| json!({"record": format!("query:{n}"), "expr": query.replace("$__rate_interval", "5m")});
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("queries.yml");
    std::fs::write(&here, json!({"groups": [{"name": "queries", "rules": rules}]}).to_string()).unwrap();
    promtool(&["check", "rules"], &here).unwrap();
}
