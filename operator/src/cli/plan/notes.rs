//! Notes of a plan. Pure.

use meshwright_api::MeshInstallation;
use semver::Version;

use crate::catalog::ReleaseFacts;
use crate::catalog::facts::Minor;
use crate::controller::ResolvedRevision;
use crate::mesh::revision::RevisionRecord;
use crate::nodeports::{PortKey, RangeDiscovery, UsedPort};

/// The previous control plane, if the operator keeps it for pods that still use it.
pub(super) fn retiring_revision(current: Option<&MeshInstallation>, resolved: &ResolvedRevision) -> Option<String> {
    let revision = current?.status.as_ref()?.version.retiring.as_ref()?;
    let retire_after = resolved.inputs.spec.upgrade.retirement();
    let control_plane = format!("revision {revision}, the previous control plane,");
    Some(format!("{control_plane} is deleted when no pod has used it for {retire_after:#}"))
}

/// Known changes in behavior between two releases.
pub(super) fn hazards(from: &Version, to: &Version) -> Vec<String> {
    // The bundled data was already validated when the release was resolved.
    let Ok(facts) = ReleaseFacts::bundled() else { return Vec::new() };
    let known_hazards = facts.hazards(Minor::of(from), Minor::of(to));
    known_hazards.map(|(minor, hazard)| format!("Istio {minor}: {hazard}")).collect()
}

/// New node ports that the operator could allocate differently.
pub(super) fn node_ports(
    resolved: &ResolvedRevision,
    last: Option<&RevisionRecord>,
    used_ports: &Result<Vec<UsedPort>, String>,
    range: &RangeDiscovery,
) -> Option<String> {
    let is_allocated =
        |key: &PortKey, port: u16| used_ports.iter().flatten().any(|used| used.key == *key && used.port == port);
    let recorded = |key: &PortKey| last.and_then(|last| last.inputs.node_ports.get(key)).map(|(port, _)| port);
    let pins = resolved.validated.node_ports.iter();
    let new: Vec<String> = pins
        .filter(|(key, port, _)| recorded(key) != Some(*port) && !is_allocated(key, *port))
        .map(|(key, port, _)| format!("{port} for {key}"))
        .collect();
    let reason = match (used_ports, range) {
        (Err(reason), _) => format!("the node ports of Services can't be listed: {reason}"),
        (_, RangeDiscovery::Unknown(reason)) => format!("the API server's node port range is unknown: {reason}"),
        (Ok(_), RangeDiscovery::Known(_)) => return None,
    };
    (!new.is_empty()).then(|| format!("the operator may allocate other node ports than {}: {reason}", new.join(", ")))
}

/// Charts that differ from those with which the same release was installed.
pub(super) fn other_charts(resolved: &ResolvedRevision, last: Option<&RevisionRecord>) -> Option<String> {
    let (now, installed) = (&resolved.inputs, &last?.inputs);
    let differ =
        |chart: &&String| installed.charts.get(*chart).is_some_and(|digest| now.charts.get(*chart) != Some(digest));
    let others: Vec<String> = now.charts.keys().filter(differ).cloned().collect();
    (now.version == installed.version && !others.is_empty()).then(|| {
        format!(
            "the charts {} of Istio {} in this catalog differ from the installed ones; use the operator's catalog",
            others.join(", "),
            now.version
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::object::Owner;
    use crate::mesh::revision::ResolvedInputs;
    use crate::mesh::validated::ValidatedSpec;
    use crate::nodeports::Pins;

    pub(in super::super) fn installation(name: &str, status: &Value) -> MeshInstallation {
        let object = json!({"apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
            "metadata": {"name": name, "uid": name}, "spec": {"version": "1.31.2"}, "status": status});
        serde_json::from_value(object).unwrap()
    }

    fn pins(port: u16) -> Pins {
        let pin =
            json!([{"namespace": "edge", "service": "gw", "portName": "http2", "port": port, "from": "assigned"}]);
        serde_json::from_value(pin).unwrap()
    }

    fn inputs(port: u16, digest: &str) -> ResolvedInputs {
        let spec = installation("mesh", &json!({})).spec;
        let charts = [("istiod".to_owned(), digest.to_owned())].into();
        let sample = RevisionRecord::sample(1, spec, Version::new(1, 31, 2)).inputs;
        ResolvedInputs { charts, node_ports: pins(port), ..sample }
    }

    pub(in super::super) fn resolved(port: u16, digest: &str) -> ResolvedRevision {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: Version::new(1, 31, 2) };
        ResolvedRevision {
            inputs: inputs(port, digest),
            validated: ValidatedSpec::empty(owner).with_node_ports(pins(port)),
            desired: Vec::new(),
            external: Vec::new(),
            problems: Vec::new(),
            unknown_keys: Vec::new(),
        }
    }

    pub(in super::super) fn record(uid: &str, port: u16) -> RevisionRecord {
        let inputs = inputs(port, "sha256:1");
        let sample = RevisionRecord::sample(1, inputs.spec.clone(), inputs.version.clone());
        RevisionRecord { name: "r".into(), inputs, uid: uid.into(), ..sample }
    }

    #[test]
    fn notes_only_new_uncertain_node_ports() {
        let detected = RangeDiscovery::Known("30400-30449".parse().unwrap());
        let unknown = RangeDiscovery::Unknown("not detected".into());
        let (resolved, last) = (resolved(30401, "sha256:1"), record("u", 30401));
        assert_eq!(node_ports(&resolved, Some(&last), &Ok(Vec::new()), &unknown), None, "recorded");
        let note = node_ports(&resolved, None, &Ok(Vec::new()), &unknown).unwrap();
        assert!(note.contains("30401 for edge/gw/http2") && note.contains("not detected"), "{note}");
        assert_eq!(node_ports(&resolved, None, &Ok(Vec::new()), &detected), None, "same allocation as the operator's");
        let hidden = node_ports(&resolved, None, &Err("not allowed".into()), &detected).unwrap();
        assert!(hidden.contains("not allowed"), "{hidden}");
        let key = PortKey { namespace: "edge".into(), service: "gw".into(), port_name: "http2".into() };
        let used_ports = UsedPort { port: 30401, key, own: true };
        assert_eq!(node_ports(&resolved, None, &Ok(vec![used_ports]), &unknown), None, "allocated to its Service");
    }

    #[test]
    fn notes_changed_charts_of_same_release() {
        let last = record("u", 1);
        assert_eq!(other_charts(&resolved(1, "sha256:1"), Some(&last)), None);
        assert!(other_charts(&resolved(1, "sha256:2"), Some(&last)).unwrap().contains("istiod of Istio 1.31.2"));
        let mut upgraded = resolved(1, "sha256:2");
        upgraded.inputs.version = Version::new(1, 31, 3);
        assert_eq!(other_charts(&upgraded, Some(&last)), None);
    }
}
