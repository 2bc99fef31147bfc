//! Tests of the samples in `config/samples`.

use std::{fs, path::Path};

use serde_json::Value;

use super::{violations, yaml};
use crate::{MeshInstallation, Profile, ServiceType};

fn samples() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples");
    let mut samples: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.display().to_string(), yaml(&fs::read_to_string(&path).unwrap())))
        .collect();
    samples.sort_by(|a, b| a.0.cmp(&b.0));
    samples
}

fn sample(name: &str) -> MeshInstallation {
    let (_, value) = samples().into_iter().find(|(path, _)| path.ends_with(name)).unwrap();
    serde_json::from_value(value).unwrap()
}

/// Returns the path of the first field that differs. Deserialization drops unknown fields.
fn first_lost_field(path: &str, written: &Value, parsed: &Value) -> Option<String> {
    match (written, parsed) {
        (Value::Object(written), Value::Object(parsed)) => written.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            parsed.get(key).map_or_else(|| Some(path.clone()), |parsed| first_lost_field(&path, value, parsed))
        }),
        (Value::Array(written), Value::Array(parsed)) if written.len() == parsed.len() => written
            .iter()
            .zip(parsed)
            .find_map(|(written, parsed)| first_lost_field(&format!("{path}[]"), written, parsed)),
        _ => (written != parsed).then(|| path.to_owned()),
    }
}

#[test]
fn samples_are_valid_without_unknown_fields() {
    let samples = samples();
    assert!(samples.len() >= 3);
    for (path, value) in samples {
        let parsed: MeshInstallation = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(violations(&parsed, None), Vec::<String>::new(), "{path}");
        assert_eq!(first_lost_field("", &value, &serde_json::to_value(&parsed).unwrap()), None, "{path}");
    }
}

#[test]
fn demo_sample_has_documented_ports() {
    let spec = sample("demo.yaml").spec;
    assert_eq!(spec.profile, Profile::Demo);
    let gateway = &spec.gateways[0];
    assert_eq!(gateway.service_type(), ServiceType::NodePort);
    assert_eq!(spec.gateway_namespace(gateway), "istio-system");
    let ports: Vec<_> = gateway.service.ports.iter().map(|port| (port.port, port.node_port)).collect();
    assert_eq!(ports, [(15021, None), (80, Some(30401)), (443, Some(30402)), (31400, Some(30403))]);
}

#[test]
fn node_ports_of_samples_are_in_range() {
    for name in ["demo.yaml", "vmware-pks.yaml"] {
        let ports = sample(name).spec.gateways.into_iter().flat_map(|gateway| gateway.service.ports);
        for port in ports.filter_map(|port| port.node_port) {
            assert!((30400..=30449).contains(&port), "{name}: {port}");
        }
    }
}
