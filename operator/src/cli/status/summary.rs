//! The status of a MeshInstallation on one line, for logs and pipes. Pure.

use kube::ResourceExt as _;
use meshwright_api::conditions::{ConditionType, get};
use meshwright_api::{MeshInstallation, Phase};

use super::text::clean;
use super::{is_current, observed};

/// One line with the parts of the status that are worth a new line when they change.
pub(super) fn summary_line(mesh: &MeshInstallation) -> String {
    let name = mesh.name_any();
    let Some(status) = observed(mesh) else { return format!("{name}: not reconciled yet") };
    let ready = get(&status.conditions, ConditionType::Ready);
    let mut parts = vec![
        status.phase.map_or("not reconciled yet", Phase::as_str).to_owned(),
        ready.map_or_else(|| "Ready=-".to_owned(), |ready| format!("Ready={}/{}", ready.status, clean(&ready.reason))),
    ];
    parts.extend(status.components.iter().map(|c| format!("{} {}/{}", clean(&c.name), c.ready, c.desired)));
    let node_ports: Vec<String> =
        status.node_ports.iter().map(|one| format!("{}->{}", clean(&one.port_name), one.port)).collect();
    if !node_ports.is_empty() {
        parts.push(format!("node ports {}", node_ports.join(" ")));
    }
    if !is_current(mesh) {
        parts.push("spec changed".to_owned());
    }
    let message = ready.map(|ready| clean(&ready.message)).unwrap_or_default();
    format!("{name}: {}: {message}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::describe::samples;
    use super::*;

    #[test]
    fn shows_phase_components_and_node_ports() {
        assert_eq!(
            summary_line(&samples::ready()),
            "demo: Ready, Ready=True/Healthy, base 14/14, istiod 1/1, istio-ingressgateway 1/1, \
             node ports http2->30401 https->30402: Istio 1.31.2 is ready"
        );
        assert_eq!(
            summary_line(&samples::installing()),
            "demo: Installing, Ready=Unknown/WaitingForRollout, istiod 0/1: istiod: 0 of 1 pods are ready"
        );
    }

    #[test]
    fn shows_missing_and_outdated_status() {
        let mut mesh = samples::ready();
        mesh.metadata.generation = Some(2);
        assert!(summary_line(&mesh).contains("spec changed"));
        mesh.status = None;
        assert_eq!(summary_line(&mesh), "demo: not reconciled yet");
    }
}
