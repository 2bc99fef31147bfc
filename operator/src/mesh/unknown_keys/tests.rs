use std::sync::Arc;

use meshwright_chart::Chart;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::catalog::ChartName;

const GATEWAY: &str = "service: {type: LoadBalancer, ports: [], annotations: {}}\nlabels: {a: b}\nglobal: {x: 1}\n";
const ISTIOD: &str = "env: {}\nresources: {requests: {cpu: 1}}\nglobal: {proxy: {image: x}, hub: y}\nmeshConfig: {}\n";

fn chart(name: &str, values: &str) -> Arc<Chart> {
    let template = "{{ range $k, $v := .Values.labels }}{{ end }}{{ toYaml .Values.resources }}";
    let files = [
        ("Chart.yaml", format!("name: {name}\nversion: 1.0.0\n")),
        ("values.yaml", values.to_owned()),
        ("templates/a.yaml", template.to_owned()),
    ];
    Arc::new(Chart::from_files(files.map(|(name, text)| (name.to_owned(), text.into_bytes())).into()).unwrap())
}

fn warnings(fields: Value) -> Vec<String> {
    let mut all = json!({"version": "1.31.2"});
    crate::mesh::merge::merge(&mut all, fields);
    let spec: MeshInstallationSpec = serde_json::from_value(all).unwrap();
    let charts = [(ChartName::Gateway, chart("gateway", GATEWAY)), (ChartName::Istiod, chart("istiod", ISTIOD))].into();
    unknown_keys(&spec, &Version::new(1, 31, 2), &charts).iter().map(ToString::to_string).collect()
}

#[test]
fn known_keys_are_no_warning() {
    let fields = json!({
        "meshConfig": {"accessLogFile": "", "defaultConfig": {"proxyMetadata": {"A": "b"}},
            "extensionProviders": [{"name": "a", "zipkin": {"service": "z", "port": 9411}}]},
        "values": {"istiod": {
            "env": {"ANY": "1"}, "resources": {"limits": {"cpu": 1}}, "cni": {"enabled": true}, "enabled": true,
            "global": {"hub": "x", "proxy": {"image": "a", "privileged": true, "status_port": 1, "statusPort": 2}},
            "meshConfig": {"trustDomain": "x"}, "pilot": {"env": {"A": "b"}, "traceSampling": 5},
        }},
        "gateways": [{"name": "edge", "values": {"labels": {"x": "y"}, "service": {"annotations": {"a": "b"}},
            "global": {"hub": "x", "labels": {"from": "top level"}}}}],
    });
    assert_eq!(
        warnings(fields),
        ["spec.values.istiod.global.proxy.status_port: unknown key, it has no effect; did you mean statusPort?"]
    );
}

#[test]
fn names_field_of_spec_for_key_of_other_charts() {
    let ports = json!({"service": {"nodePorts": {"http": 30080}}});
    assert_eq!(
        warnings(json!({"gateways": [{"name": "edge", "values": ports}]})),
        ["spec.gateways[edge].values.service.nodePorts: unknown key, it has no effect; use the gateway's \
          service.ports[].nodePort"]
    );
}

#[test]
fn suggests_nearest_key_at_path_of_user() {
    let found = warnings(json!({
        "meshConfig": {"accesLogFile": "x", "extensionProviders": [{"name": "a", "zipkn": {}}]},
        "values": {"istiod": {"pilot": {"resorces": {}}, "privileged": true, "image": {}, "zzzzzz": null}},
    }));
    let expected = [
        "spec.meshConfig.accesLogFile: unknown key, it has no effect; did you mean accessLogFile?",
        "spec.meshConfig.extensionProviders[0].zipkn: unknown key, it has no effect; did you mean zipkin?",
        "spec.values.istiod.pilot.resorces: unknown key, it has no effect; did you mean resources?",
        "spec.values.istiod.privileged: unknown key, it has no effect; check its spelling, or remove it",
        "spec.values.istiod.zzzzzz: unknown key, it has no effect; check its spelling, or remove it",
    ];
    assert_eq!(found, expected);
}

#[test]
fn finds_key_at_another_level() {
    let found = warnings(json!({"gateways": [{"name": "edge", "values": {"service": {"global": 1}}}]}));
    assert!(found[0].ends_with("did you mean global, from the top of the chart's values?"), "{found:?}");
}

#[test]
fn long_lists_are_abbreviated() {
    let problems: Vec<Problem> = (0..13).map(|n| Problem::new(format!("spec.{n}"), "x")).collect();
    let listed = abbreviated(&problems);
    assert_eq!((listed.len(), listed[0].as_str()), (11, "spec.0: x"));
    assert!(listed[10].starts_with("spec: 3 more unknown keys"), "{listed:?}");
    assert_eq!(abbreviated(&problems[..10]).len(), 10);
}

proptest! {
    #[test]
    fn distance_counts_edits(text in "[a-c]{0,6}", other in "[a-c]{0,6}") {
        prop_assert_eq!(distance(&text, &text), 0);
        prop_assert_eq!(distance(&text, &other), distance(&other, &text));
        prop_assert_eq!(distance(&text, &format!("{text}z")), 1);
        prop_assert!(distance(&text, &other) <= text.len().max(other.len()));
    }
}
