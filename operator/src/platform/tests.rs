//! Tests of the embedded platform files, and of the detection with the clusters in `fixtures`.

mod effect;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meshwright_api::PlatformName;
use serde::Deserialize;

use super::*;

/// A cluster and the platform that must be detected.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClusterFixture {
    expect: String,
    evidence: Option<Vec<String>>,
    server_version: String,
    #[serde(default)]
    api_groups: BTreeSet<String>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    name: String,
    #[serde(default, rename = "providerID")]
    provider_id: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl ClusterFixture {
    fn facts(self) -> ClusterFacts {
        let nodes = self.nodes.into_iter();
        ClusterFacts {
            nodes: nodes.map(|n| NodeFacts { name: n.name, labels: n.labels, provider_id: n.provider_id }).collect(),
            server_version: self.server_version,
            api_groups: self.api_groups,
        }
    }
}

fn fixtures() -> BTreeMap<String, ClusterFixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/platform/fixtures");
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let fixture = crate::catalog::parse_yaml(&std::fs::read_to_string(&path).unwrap());
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name.clone(), fixture.unwrap_or_else(|error| panic!("{name}: {error}")))
        })
        .collect()
}

fn platforms() -> Platforms {
    Platforms::bundled().unwrap()
}

#[test]
fn detects_platforms_of_fixtures() {
    let platforms = platforms();
    for (name, fixture) in fixtures() {
        let (expected, evidence) = (fixture.expect.clone(), fixture.evidence.clone());
        let nodes = fixture.nodes.len();
        let detected = detect(&platforms, &fixture.facts());
        assert_eq!(detected.name, expected, "{name}: {:?}", detected.evidence);
        if let Some(evidence) = evidence {
            assert_eq!(detected.evidence, evidence, "{name}");
        }
        assert_eq!(detected.provisional, nodes == 0, "{name}");
    }
}

#[test]
fn detects_platform_without_node_access() {
    let cluster = ClusterFacts { server_version: "v1.33.5+k3s1".into(), ..ClusterFacts::default() };
    let detected = detect(&platforms(), &cluster);
    assert!(detected.provisional);
    let detected = detected.without_node_access();
    assert_eq!((detected.name.as_str(), detected.provisional), ("k3s", false));
    assert!(
        detected.evidence.iter().any(|text| text.contains("no permission to list nodes")),
        "{:?}",
        detected.evidence
    );
}

#[test]
fn all_platforms_have_fixtures() {
    let expected: BTreeSet<String> = fixtures().into_values().map(|fixture| fixture.expect).collect();
    let known: BTreeSet<String> = platforms().iter().map(|platform| platform.name().to_owned()).collect();
    assert_eq!(expected, known);
    assert!(known.len() >= 13);
}

#[test]
fn result_is_independent_of_node_order() {
    let platforms = platforms();
    for (name, fixture) in fixtures() {
        let cluster = fixture.facts();
        let detected = detect(&platforms, &cluster);
        let mut twice = cluster.clone();
        twice.nodes.extend(cluster.nodes.iter().rev().cloned());
        twice.nodes.reverse();
        assert_eq!(detect(&platforms, &twice), detected, "{name}");
    }
}

#[test]
fn schema_lists_all_platforms() {
    let known: Vec<String> = platforms().iter().map(|platform| platform.name().to_owned()).collect();
    assert_eq!(known, PlatformName::KNOWN);
}

#[test]
fn all_facts_have_sources() {
    for platform in platforms().iter() {
        assert!(!platform.description().is_empty());
        for source in platform.sources() {
            assert!(source == "inferred" || source.split_whitespace().count() > 1, "{}: {source}", platform.name());
        }
    }
}

#[test]
fn files_contain_documented_facts() {
    let platforms = platforms();
    let get = |name: &str| platforms.get(name).unwrap();
    assert_eq!(get("vmware-pks").node_port_range(), Some(NodePortRange { first: 30400, last: 30449 }));
    let by_node_port: Vec<&str> = platforms
        .iter()
        .filter(|p| p.gateway_service_type() == Some(ServiceType::NodePort))
        .map(Platform::name)
        .collect();
    assert_eq!(by_node_port, ["minikube", "tkgi", "vmware-pks"]);
    let known_to_charts: Vec<&str> = platforms.iter().filter_map(Platform::chart_platform).collect();
    assert_eq!(known_to_charts, ["gke", "k3d", "k3s", "microk8s", "minikube", "openshift"]);
    assert_eq!(get("openshift").node_namespace(), Some("kube-system"));
    assert_eq!(get("openshift").components(), BTreeSet::from([ChartName::Cni]));
    assert_eq!(get("aks").webhook_labels()["admissions.enforcer/disabled"], "true");
    assert!(get("gke").notes().any(|note| note.contains("15017")));
    assert!(get("gke").requires().any(|need| need.contains("ResourceQuota")));
    for name in ["vmware-pks", "tkgi"] {
        assert!(get(name).forbids().iter().any(|what| what.contains("privileged")), "{name}");
    }
    assert_eq!(get(GENERIC).forbids(), [""; 0]);
    assert!(get("minikube").values(ChartName::Istiod).any(|v| v.pointer("/resources/requests/cpu").is_some()));
}

fn parse(name: &str, text: &str) -> Result<Platform, LoadPlatformError> {
    Platform::parse(name, text)
}

const VALID: &str = "description: x\ndetection: {serverVersions: [{value: +x, source: a book}]}\n";

#[test]
fn rejects_unknown_and_invalid_fields() {
    assert!(parse("x", VALID).is_ok());
    let invalid = [
        "hostPath: {value: Allowed, source: s}",
        "hostPaths: {value: Perhaps, source: s}",
        "hostPaths: {value: Allowed}",
        "gatewayServiceType: {value: Nodeport, source: s}",
        "nodePortRange: {value: 30449-30400, source: s}",
        "nodePortRange: {value: 0-100, source: s}",
        "nodePortRange: {value: 30000-70000, source: s}",
        "components: {value: [grafana], source: s}",
        "charts: {values: [{value: {kiali: {}}, source: s}]}",
    ];
    for line in invalid {
        let result = parse("x", &format!("{VALID}{line}\n"));
        assert!(matches!(result, Err(LoadPlatformError::Yaml { .. })), "{line}");
    }
    for pattern in ["^($", "^node", "node$"] {
        let text = format!("description: x\ndetection: {{nodeNames: [{{value: '{pattern}', source: s}}]}}\n");
        assert!(matches!(parse("x", &text), Err(LoadPlatformError::Yaml { .. })), "{pattern}");
    }
}

#[test]
fn rejects_missing_or_unexpected_detection_rules() {
    assert!(matches!(parse("x", "description: x\n"), Err(LoadPlatformError::Evidence(_))));
    assert!(matches!(parse(GENERIC, VALID), Err(LoadPlatformError::Evidence(_))));
}

#[test]
fn rejects_facts_without_source() {
    let text = format!("{VALID}notes: [{{value: x, source: ' '}}]\n");
    assert!(matches!(parse("x", &text), Err(LoadPlatformError::Unsourced(_))));
}
