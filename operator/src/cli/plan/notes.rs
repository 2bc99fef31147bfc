//! What is worth a word beside a plan. Pure.

use meshwright_api::MeshInstallation;
use semver::Version;

use crate::catalog::Facts;
use crate::catalog::facts::Minor;
use crate::controller::Accepted;
use crate::mesh::revision::Record;
use crate::nodeports::{Discovery, Held, Slot};

/// The control plane that ran before, where the operator keeps it for those who use it.
pub(super) fn kept(present: Option<&MeshInstallation>, accepted: &Accepted) -> Option<String> {
    let revision = present?.status.as_ref()?.version.retiring.as_ref()?;
    let unused = accepted.inputs.spec.upgrade.retirement();
    Some(format!("revision {revision}, which ran before, goes when no pod has used it for {unused:#}"))
}

/// What is known to go differently between the two releases.
pub(super) fn hazards(from: &Version, to: &Version) -> Vec<String> {
    // The check of the release has read the same facts.
    let Ok(facts) = Facts::bundled() else { return Vec::new() };
    let told = facts.hazards(Minor::of(from), Minor::of(to));
    told.map(|(minor, hazard)| format!("Istio {minor}: {hazard}")).collect()
}

/// What to know of node ports that are neither remembered nor held by their Services yet.
pub(super) fn node_ports(
    accepted: &Accepted,
    last: Option<&Record>,
    held: &Result<Vec<Held>, String>,
    range: &Discovery,
) -> Option<String> {
    let holds = |slot: &Slot, port: u16| held.iter().flatten().any(|held| held.slot == *slot && held.port == port);
    let known = |slot: &Slot| last.and_then(|last| last.inputs.node_ports.get(slot)).map(|(port, _)| port);
    let pins = accepted.validated.node_ports.iter();
    let new: Vec<String> = pins
        .filter(|(slot, port, _)| known(slot) != Some(*port) && !holds(slot, *port))
        .map(|(slot, port, _)| format!("{port} for {slot}"))
        .collect();
    let why = match (held, range) {
        (Err(why), _) => format!("which ones others hold can't be seen: {why}"),
        (_, Discovery::Unknown(why)) => format!("the API server's range is not known: {why}"),
        (Ok(_), Discovery::Told(_)) => return None,
    };
    (!new.is_empty()).then(|| format!("new node ports ({}) may come out otherwise: {why}", new.join(", ")))
}

/// Where the mesh was made with other charts of the same release.
pub(super) fn other_charts(accepted: &Accepted, last: Option<&Record>) -> Option<String> {
    let (now, before) = (&accepted.inputs, &last?.inputs);
    let differ =
        |chart: &&String| before.charts.get(*chart).is_some_and(|digest| now.charts.get(*chart) != Some(digest));
    let others: Vec<String> = now.charts.keys().filter(differ).cloned().collect();
    (now.version == before.version && !others.is_empty()).then(|| {
        format!(
            "in this catalog {} of release {} differ from those that the mesh was made with: give the operator's catalog",
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
    use crate::mesh::revision::{ResolvedInputs, Verdict};
    use crate::mesh::validated::Validated;
    use crate::nodeports::Pins;
    use crate::platform::Detected;

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
        ResolvedInputs {
            spec: installation("mesh", &json!({})).spec,
            version: Version::new(1, 31, 2),
            charts: [("istiod".to_owned(), digest.to_owned())].into(),
            kubernetes: "v1.33.0".into(),
            revision: None,
            platform: Detected::default(),
            node_ports: pins(port),
        }
    }

    fn accepted(port: u16, digest: &str) -> Accepted {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: Version::new(1, 31, 2) };
        Accepted {
            inputs: inputs(port, digest),
            validated: Validated::bare(owner).pin(pins(port)),
            desired: Vec::new(),
            preinstalled: Vec::new(),
        }
    }

    pub(in super::super) fn record(uid: &str, port: u16) -> Record {
        let inputs = inputs(port, "sha256:1");
        Record { name: "r".into(), number: 1, inputs, verdict: Verdict::Proved, failure: None, uid: uid.into() }
    }

    #[test]
    fn only_node_ports_that_are_new_and_uncertain_are_worth_a_word() {
        let told = Discovery::Told("30400-30449".parse().unwrap());
        let unknown = Discovery::Unknown("not asked".into());
        let (accepted, last) = (accepted(30401, "sha256:1"), record("u", 30401));
        assert_eq!(node_ports(&accepted, Some(&last), &Ok(Vec::new()), &unknown), None, "remembered");
        let note = node_ports(&accepted, None, &Ok(Vec::new()), &unknown).unwrap();
        assert!(note.contains("30401 for edge/gw/http2") && note.contains("not asked"), "{note}");
        assert_eq!(node_ports(&accepted, None, &Ok(Vec::new()), &told), None, "as the operator will choose");
        let hidden = node_ports(&accepted, None, &Err("you may not".into()), &told).unwrap();
        assert!(hidden.contains("you may not"), "{hidden}");
        let slot = Slot { namespace: "edge".into(), service: "gw".into(), port_name: "http2".into() };
        let held = Held { port: 30401, slot, ours: true };
        assert_eq!(node_ports(&accepted, None, &Ok(vec![held]), &unknown), None, "its Service holds it");
    }

    #[test]
    fn charts_that_differ_from_those_of_the_same_release_are_told() {
        let last = record("u", 1);
        assert_eq!(other_charts(&accepted(1, "sha256:1"), Some(&last)), None);
        assert!(other_charts(&accepted(1, "sha256:2"), Some(&last)).unwrap().contains("istiod of release 1.31.2"));
        let mut moved = accepted(1, "sha256:2");
        moved.inputs.version = Version::new(1, 31, 3);
        assert_eq!(other_charts(&moved, Some(&last)), None);
    }
}
