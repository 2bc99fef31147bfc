//! The samples that people copy.

use std::{fs, path::Path};

use serde_json::Value;

use super::{complaints, yaml};
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

/// Where `kept` lacks something of `written`; the types drop fields that they don't know.
fn lost(path: &str, written: &Value, kept: &Value) -> Option<String> {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => written.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            kept.get(key).map_or_else(|| Some(path.clone()), |kept| lost(&path, value, kept))
        }),
        (Value::Array(written), Value::Array(kept)) if written.len() == kept.len() => {
            written.iter().zip(kept).find_map(|(written, kept)| lost(&format!("{path}[]"), written, kept))
        }
        _ => (written != kept).then(|| path.to_owned()),
    }
}

#[test]
fn every_sample_is_valid_and_has_no_unknown_field() {
    let samples = samples();
    assert!(samples.len() >= 3);
    for (path, value) in samples {
        let parsed: MeshInstallation = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(complaints(&parsed, None), Vec::<String>::new(), "{path}");
        assert_eq!(lost("", &value, &serde_json::to_value(&parsed).unwrap()), None, "{path}");
    }
}

#[test]
fn the_demo_has_the_ports_that_its_description_promises() {
    let spec = sample("demo.yaml").spec;
    assert_eq!(spec.profile, Profile::Demo);
    let gateway = &spec.gateways[0];
    assert_eq!(gateway.service_type(), ServiceType::NodePort);
    assert_eq!(spec.gateway_namespace(gateway), "istio-system");
    let ports: Vec<_> = gateway.service.ports.iter().map(|port| (port.port, port.node_port)).collect();
    assert_eq!(ports, [(15021, None), (80, Some(30401)), (443, Some(30402)), (31400, Some(30403))]);
}

#[test]
fn node_ports_of_the_samples_are_inside_the_range_they_are_meant_for() {
    for name in ["demo.yaml", "vmware-pks.yaml"] {
        let ports = sample(name).spec.gateways.into_iter().flat_map(|gateway| gateway.service.ports);
        for port in ports.filter_map(|port| port.node_port) {
            assert!((30400..=30449).contains(&port), "{name}: {port}");
        }
    }
}
