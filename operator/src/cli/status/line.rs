//! The state of one installation on one line, for logs and pipes. Pure.

use kube::ResourceExt as _;
use meshwright_api::conditions::{ConditionType, get};
use meshwright_api::{MeshInstallation, Phase};

use super::text::clean;
use super::{is_current, observed};

/// Everything about an installation that is worth a new line when it changes.
pub(super) fn line(mesh: &MeshInstallation) -> String {
    let name = mesh.name_any();
    let Some(status) = observed(mesh) else { return format!("{name}: not seen yet") };
    let ready = get(&status.conditions, ConditionType::Ready);
    let mut parts = vec![
        status.phase.map_or("not seen yet", Phase::as_str).to_owned(),
        ready.map_or_else(|| "Ready=-".to_owned(), |ready| format!("Ready={}/{}", ready.status, clean(&ready.reason))),
    ];
    parts.extend(status.components.iter().map(|c| format!("{} {}/{}", clean(&c.name), c.ready, c.desired)));
    let held: Vec<String> =
        status.node_ports.iter().map(|one| format!("{}->{}", clean(&one.port_name), one.port)).collect();
    if !held.is_empty() {
        parts.push(format!("node ports {}", held.join(" ")));
    }
    if !is_current(mesh) {
        parts.push("spec changed since".to_owned());
    }
    let message = ready.map(|ready| clean(&ready.message)).unwrap_or_default();
    format!("{name}: {}: {message}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::picture::samples;
    use super::*;

    #[test]
    fn a_line_has_phase_components_and_node_ports() {
        assert_eq!(
            line(&samples::ready()),
            "demo: Ready, Ready=True/Healthy, base 14/14, istiod 1/1, istio-ingressgateway 1/1, \
             node ports http2->30401 https->30402: Istio 1.31.2 is ready"
        );
        assert_eq!(
            line(&samples::installing()),
            "demo: Installing, Ready=Unknown/WaitingForRollout, istiod 0/1: istiod: 0 of 1 pods are ready"
        );
    }

    #[test]
    fn a_line_says_when_nobody_has_looked_or_the_spec_has_changed() {
        let mut mesh = samples::ready();
        mesh.metadata.generation = Some(2);
        assert!(line(&mesh).contains("spec changed since"));
        mesh.status = None;
        assert_eq!(line(&mesh), "demo: not seen yet");
    }
}
