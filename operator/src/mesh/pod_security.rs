//! What Pod Security of namespaces means for the mesh's applications, and the platform for the mesh's node agents.
//!
//! An injected pod gets the container istio-init, which needs the capabilities `NET_ADMIN` and `NET_RAW`; the levels
//! `baseline` and `restricted` refuse those. The pod is then never made, and only its `ReplicaSet` says so, so that
//! Meshwright tells it ahead. With the CNI plugin there is no such container. The mesh's own pods need no such look:
//! where they are refused, their Deployment says so and the mesh isn't Ready.

use std::collections::BTreeMap;

use meshwright_api::PlatformPermission;
use serde_json::Value;

use super::merge::get;
use super::object::ENFORCE_LABEL;
use super::revisions::{DEFAULT, INJECTION_LABEL, REVISION_LABEL};
use super::validated::Validated;
use super::words::few;
use crate::catalog::ChartName;

/// Levels of Pod Security that refuse istio-init.
pub const REFUSING: [&str; 2] = ["baseline", "restricted"];

/// A namespace, as far as it is judged here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceLabels {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl NamespaceLabels {
    /// The level of Pod Security, where it refuses istio-init.
    fn refusing(&self) -> Option<&str> {
        self.labels.get(ENFORCE_LABEL).map(String::as_str).filter(|level| REFUSING.contains(level))
    }

    /// Whether pods in it get a sidecar of this mesh.
    fn is_injected(&self, mesh: &Validated, by_default: bool) -> bool {
        let label = |key: &str| self.labels.get(key).map(String::as_str);
        let is_default = mesh.is_called(DEFAULT);
        match (label(INJECTION_LABEL), label(REVISION_LABEL)) {
            (Some(value), _) => value == "enabled" && is_default,
            (None, Some(name)) => mesh.is_called(name),
            (None, None) => by_default && is_default && !matches!(self.name.as_str(), "kube-system" | "kube-public"),
        }
    }
}

/// What keeps pods from being made, each with what to change. `namespaces` are those with the label [`ENFORCE_LABEL`].
#[must_use]
pub fn warnings(validated: &Validated, namespaces: &[NamespaceLabels]) -> Vec<String> {
    node_agents(validated).chain(applications(validated, namespaces)).collect()
}

/// The node agents that the platform forbids.
fn node_agents(validated: &Validated) -> impl Iterator<Item = String> + '_ {
    let forbidden = validated.platform.privileged_pods == Some(PlatformPermission::Forbidden);
    let agents = validated.releases.iter().map(|release| release.chart);
    agents.filter(move |chart| forbidden && matches!(chart, ChartName::Cni | ChartName::Ztunnel)).map(|chart| {
        format!(
            "{chart} needs privileged pods, which {} forbids unless whoever made the cluster allowed them; where its pods \
             are refused, allow them or set spec.{chart}.mode to Disabled",
            validated.platform.name.as_deref().unwrap_or("the platform")
        )
    })
}

/// The namespaces whose pods can't be injected.
fn applications(validated: &Validated, namespaces: &[NamespaceLabels]) -> Option<String> {
    if validated.has_cni() {
        return None;
    }
    let by_default = injects_by_default(validated);
    let refused: BTreeMap<&str, &str> = namespaces
        .iter()
        .filter(|namespace| namespace.is_injected(validated, by_default))
        .filter_map(|namespace| Some((namespace.name.as_str(), namespace.refusing()?)))
        .collect();
    if refused.is_empty() {
        return None;
    }
    let refused: Vec<String> = refused.iter().map(|(name, level)| format!("{name} ({level})")).collect();
    Some(format!(
        "pods can't be made in namespaces with injection whose label {ENFORCE_LABEL} refuses istio-init's NET_ADMIN and \
         NET_RAW: {}; set the label to privileged, or set spec.cni.mode to Enabled, with which pods need neither",
        few(&refused)
    ))
}

fn injects_by_default(validated: &Validated) -> bool {
    let path = "sidecarInjectorWebhook.enableNamespacesByDefault";
    validated.releases.iter().any(|release| get(&release.values, path) == Some(&Value::Bool(true)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::{Component, Owner};
    use crate::mesh::validated::ChartRelease;

    fn with(values: Value) -> Validated {
        let release = ChartRelease {
            chart: ChartName::Istiod,
            name: "istiod".into(),
            namespace: "istio-system".into(),
            component: Component::Istiod,
            values,
        };
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        Validated { releases: vec![release], ..Validated::bare(owner) }
    }

    fn namespace(name: &str, labels: &[(&str, &str)]) -> NamespaceLabels {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        NamespaceLabels { name: name.to_owned(), labels }
    }

    #[test]
    fn a_namespace_that_is_injected_and_refuses_istio_init_is_named_with_its_level_and_the_remedy() {
        let shop = namespace("shop", &[(ENFORCE_LABEL, "baseline"), ("istio-injection", "enabled")]);
        let pay = namespace("pay", &[(ENFORCE_LABEL, "restricted"), ("istio.io/rev", "default")]);
        let told = warnings(&with(json!({})), &[shop, pay]);
        assert_eq!(told.len(), 1);
        for word in ["pay (restricted), shop (baseline)", "NET_ADMIN", "set the label to privileged", "spec.cni.mode"] {
            assert!(told[0].contains(word), "{word}: {told:?}");
        }
    }

    #[test]
    fn what_is_not_injected_or_refuses_nothing_is_not_named() {
        let others = [
            namespace("plain", &[(ENFORCE_LABEL, "restricted")]),
            namespace("off", &[(ENFORCE_LABEL, "baseline"), ("istio-injection", "disabled")]),
            namespace("theirs", &[(ENFORCE_LABEL, "baseline"), ("istio.io/rev", "canary")]),
            namespace("open", &[(ENFORCE_LABEL, "privileged"), ("istio-injection", "enabled")]),
        ];
        assert_eq!(warnings(&with(json!({})), &others), [""; 0]);
    }

    #[test]
    fn where_injection_is_the_default_unlabelled_namespaces_count_and_the_clusters_own_do_not() {
        let values = json!({"sidecarInjectorWebhook": {"enableNamespacesByDefault": true}});
        let plain = namespace("plain", &[(ENFORCE_LABEL, "restricted")]);
        let own = namespace("kube-system", &[(ENFORCE_LABEL, "restricted")]);
        let told = warnings(&with(values), &[plain, own]);
        assert!(told[0].contains("plain (restricted);"), "{told:?}");
    }

    #[test]
    fn with_the_cni_plugin_nothing_is_refused() {
        let shop = namespace("shop", &[(ENFORCE_LABEL, "baseline"), ("istio-injection", "enabled")]);
        assert_eq!(warnings(&with(json!({"cni": {"enabled": true}})), &[shop]), [""; 0]);
    }

    #[test]
    fn a_node_agent_on_a_platform_that_forbids_privileged_pods_is_named_with_what_to_do() {
        let mut validated = with(json!({}));
        let agent = ChartRelease { chart: ChartName::Ztunnel, name: "ztunnel".into(), ..validated.releases[0].clone() };
        validated.releases.push(agent);
        assert_eq!(warnings(&validated, &[]), [""; 0]);
        validated.platform.name = Some("tkgi".into());
        validated.platform.privileged_pods = Some(PlatformPermission::Forbidden);
        let told = warnings(&validated, &[]);
        assert!(told.len() == 1 && told[0].contains("ztunnel needs privileged pods, which tkgi forbids"), "{told:?}");
        assert!(told[0].contains("spec.ztunnel.mode"), "{told:?}");
    }

    #[test]
    fn of_many_namespaces_a_few_are_named() {
        let many: Vec<NamespaceLabels> = (0..12)
            .map(|n| namespace(&format!("n{n:02}"), &[(ENFORCE_LABEL, "baseline"), ("istio-injection", "enabled")]))
            .collect();
        let told = warnings(&with(json!({})), &many);
        assert!(told[0].contains("n04 (baseline) and 7 more;"), "{told:?}");
    }
}
