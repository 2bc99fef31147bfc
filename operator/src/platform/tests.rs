//! The files that come with the program, and clusters as they are seen, one in each file of `fixtures`.

mod effect;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meshwright_api::PlatformName;
use serde::Deserialize;

use super::*;

/// A cluster, and what it must be taken for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fixture {
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

impl Fixture {
    fn observed(self) -> Observed {
        let nodes = self.nodes.into_iter();
        Observed {
            nodes: nodes.map(|n| NodeFacts { name: n.name, labels: n.labels, provider_id: n.provider_id }).collect(),
            server_version: self.server_version,
            api_groups: self.api_groups,
        }
    }
}

fn fixtures() -> BTreeMap<String, Fixture> {
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
fn every_cluster_is_taken_for_what_it_is() {
    let platforms = platforms();
    for (name, fixture) in fixtures() {
        let (expected, evidence) = (fixture.expect.clone(), fixture.evidence.clone());
        let nodes = fixture.nodes.len();
        let detected = detect(&platforms, &fixture.observed());
        assert_eq!(detected.name, expected, "{name}: {:?}", detected.evidence);
        if let Some(evidence) = evidence {
            assert_eq!(detected.evidence, evidence, "{name}");
        }
        assert_eq!(detected.provisional, nodes == 0, "{name}");
    }
}

#[test]
fn where_nodes_may_not_be_listed_the_server_alone_decides_and_the_evidence_says_so() {
    let observed = Observed { server_version: "v1.33.5+k3s1".into(), ..Observed::default() };
    let detected = detect(&platforms(), &observed);
    assert!(detected.provisional);
    let detected = detected.without_nodes();
    assert_eq!((detected.name.as_str(), detected.provisional), ("k3s", false));
    assert!(detected.evidence.iter().any(|text| text.contains("may not be listed")), "{:?}", detected.evidence);
}

#[test]
fn every_platform_has_a_cluster_that_is_taken_for_it() {
    let shown: BTreeSet<String> = fixtures().into_values().map(|fixture| fixture.expect).collect();
    let known: BTreeSet<String> = platforms().iter().map(|platform| platform.name().to_owned()).collect();
    assert_eq!(shown, known);
    assert!(known.len() >= 13);
}

#[test]
fn the_order_of_nodes_and_how_many_there_are_change_nothing() {
    let platforms = platforms();
    for (name, fixture) in fixtures() {
        let observed = fixture.observed();
        let detected = detect(&platforms, &observed);
        let mut twice = observed.clone();
        twice.nodes.extend(observed.nodes.iter().rev().cloned());
        twice.nodes.reverse();
        assert_eq!(detect(&platforms, &twice), detected, "{name}");
    }
}

#[test]
fn the_schema_of_the_resource_offers_exactly_the_platforms_that_are_known() {
    let known: Vec<String> = platforms().iter().map(|platform| platform.name().to_owned()).collect();
    assert_eq!(known, PlatformName::KNOWN);
}

#[test]
fn every_fact_says_where_it_is_from() {
    for platform in platforms().iter() {
        assert!(!platform.description().is_empty());
        for source in platform.sources() {
            assert!(source == "inferred" || source.split_whitespace().count() > 1, "{}: {source}", platform.name());
        }
    }
}

#[test]
fn what_people_rely_on_is_in_the_files() {
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

const SOUND: &str = "description: x\ndetection: {serverVersions: [{value: +x, source: a book}]}\n";

#[test]
fn a_file_is_refused_when_it_says_something_unknown_or_impossible() {
    assert!(parse("x", SOUND).is_ok());
    let faulty = [
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
    for line in faulty {
        let result = parse("x", &format!("{SOUND}{line}\n"));
        assert!(matches!(result, Err(LoadPlatformError::Yaml { .. })), "{line}");
    }
    for pattern in ["^($", "^node", "node$"] {
        let text = format!("description: x\ndetection: {{nodeNames: [{{value: '{pattern}', source: s}}]}}\n");
        assert!(matches!(parse("x", &text), Err(LoadPlatformError::Yaml { .. })), "{pattern}");
    }
}

#[test]
fn a_platform_that_nothing_shows_is_refused_and_so_is_evidence_for_the_one_without_any() {
    assert!(matches!(parse("x", "description: x\n"), Err(LoadPlatformError::Evidence(_))));
    assert!(matches!(parse(GENERIC, SOUND), Err(LoadPlatformError::Evidence(_))));
}

#[test]
fn a_fact_without_a_source_is_refused() {
    let text = format!("{SOUND}notes: [{{value: x, source: ' '}}]\n");
    assert!(matches!(parse("x", &text), Err(LoadPlatformError::Unsourced(_))));
}
