//! Warnings about pods that can't be created: applications in namespaces with a strict Pod Security level, and cni and
//! ztunnel on platforms that forbid privileged pods.
//!
//! An injected pod gets the container istio-init, which needs the capabilities `NET_ADMIN` and `NET_RAW`; the levels
//! `baseline` and `restricted` forbid those. The pod is then never created, and only its `ReplicaSet` reports it, so
//! Meshwright warns in advance. With the CNI plugin there is no such container. The mesh's own pods need no check: if
//! they are forbidden, their Deployment reports it and the mesh isn't Ready.

use std::collections::BTreeMap;

use meshwright_api::PlatformPermission;
use serde_json::Value;

use super::merge::get;
use super::object::ENFORCE_LABEL;
use super::revisions::{DEFAULT, INJECTION_LABEL, REVISION_LABEL};
use super::text::abbreviate;
use super::validated::ValidatedSpec;
use crate::catalog::ChartName;

/// Pod Security levels that forbid istio-init.
pub const BLOCKING_LEVELS: [&str; 2] = ["baseline", "restricted"];

/// The metadata of a Namespace that determines injection and Pod Security.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceLabels {
    /// Name of the Namespace.
    pub name: String,
    /// All labels of the Namespace.
    pub labels: BTreeMap<String, String>,
}

impl NamespaceLabels {
    /// The Pod Security level, if it forbids istio-init.
    fn blocking_level(&self) -> Option<&str> {
        self.labels.get(ENFORCE_LABEL).map(String::as_str).filter(|level| BLOCKING_LEVELS.contains(level))
    }

    /// Whether pods in this namespace get a sidecar from this mesh.
    fn is_injected(&self, mesh: &ValidatedSpec, by_default: bool) -> bool {
        let label = |key: &str| self.labels.get(key).map(String::as_str);
        let is_default = mesh.has_revision_name(DEFAULT);
        match (label(INJECTION_LABEL), label(REVISION_LABEL)) {
            (Some(value), _) => value == "enabled" && is_default,
            (None, Some(name)) => mesh.has_revision_name(name),
            (None, None) => by_default && is_default && !matches!(self.name.as_str(), "kube-system" | "kube-public"),
        }
    }
}

/// Warnings about pods that can't be created, each with a remedy. `namespaces` are those with the label
/// [`ENFORCE_LABEL`].
#[must_use]
pub fn warnings(validated: &ValidatedSpec, namespaces: &[NamespaceLabels]) -> Vec<String> {
    forbidden_components(validated).chain(applications(validated, namespaces)).collect()
}

/// The enabled ones of cni and ztunnel, if the platform forbids privileged pods.
fn forbidden_components(validated: &ValidatedSpec) -> impl Iterator<Item = String> + '_ {
    let forbidden = validated.platform.privileged_pods == Some(PlatformPermission::Forbidden);
    let charts = validated.releases.iter().map(|release| release.chart);
    charts.filter(move |chart| forbidden && matches!(chart, ChartName::Cni | ChartName::Ztunnel)).map(|chart| {
        format!(
            "{chart} requires privileged pods, which {} forbids by default; if its pods are rejected, allow privileged pods \
             in the cluster or set spec.{chart}.mode to Disabled",
            validated.platform.name.as_deref().unwrap_or("the platform")
        )
    })
}

/// The namespaces in which injected pods can't be created.
fn applications(validated: &ValidatedSpec, namespaces: &[NamespaceLabels]) -> Option<String> {
    if validated.has_cni() {
        return None;
    }
    let by_default = injects_by_default(validated);
    let blocked: BTreeMap<&str, &str> = namespaces
        .iter()
        .filter(|namespace| namespace.is_injected(validated, by_default))
        .filter_map(|namespace| Some((namespace.name.as_str(), namespace.blocking_level()?)))
        .collect();
    if blocked.is_empty() {
        return None;
    }
    let blocked: Vec<String> = blocked.iter().map(|(name, level)| format!("{name} ({level})")).collect();
    Some(format!(
        "Pod Security blocks injected pods in namespaces {}: the label {ENFORCE_LABEL} forbids NET_ADMIN and NET_RAW, which \
         istio-init requires; set the label to privileged, or set spec.cni.mode to Enabled, which replaces istio-init",
        abbreviate(&blocked)
    ))
}

fn injects_by_default(validated: &ValidatedSpec) -> bool {
    let path = "sidecarInjectorWebhook.enableNamespacesByDefault";
    validated.releases.iter().any(|release| get(&release.values, path) == Some(&Value::Bool(true)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::object::{Component, Owner};
    use crate::mesh::validated::ChartRelease;

    fn with(values: Value) -> ValidatedSpec {
        let release = ChartRelease {
            chart: ChartName::Istiod,
            name: "istiod".into(),
            namespace: "istio-system".into(),
            component: Component::Istiod,
            values,
        };
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        ValidatedSpec { releases: vec![release], ..ValidatedSpec::empty(owner) }
    }

    fn namespace(name: &str, labels: &[(&str, &str)]) -> NamespaceLabels {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        NamespaceLabels { name: name.to_owned(), labels }
    }

    #[test]
    fn warns_of_injected_namespace_that_forbids_init_container() {
        let shop = namespace("shop", &[(ENFORCE_LABEL, "baseline"), ("istio-injection", "enabled")]);
        let pay = namespace("pay", &[(ENFORCE_LABEL, "restricted"), ("istio.io/rev", "default")]);
        let found = warnings(&with(json!({})), &[shop, pay]);
        assert_eq!(found.len(), 1);
        for word in ["pay (restricted), shop (baseline)", "NET_ADMIN", "set the label to privileged", "spec.cni.mode"] {
            assert!(found[0].contains(word), "{word}: {found:?}");
        }
    }

    #[test]
    fn ignores_namespaces_without_injection_or_enforcement() {
        let others = [
            namespace("plain", &[(ENFORCE_LABEL, "restricted")]),
            namespace("off", &[(ENFORCE_LABEL, "baseline"), ("istio-injection", "disabled")]),
            namespace("foreign", &[(ENFORCE_LABEL, "baseline"), ("istio.io/rev", "canary")]),
            namespace("open", &[(ENFORCE_LABEL, "privileged"), ("istio-injection", "enabled")]),
        ];
        assert_eq!(warnings(&with(json!({})), &others), [""; 0]);
    }

    #[test]
    fn injection_by_default_includes_unlabelled_namespaces() {
        let values = json!({"sidecarInjectorWebhook": {"enableNamespacesByDefault": true}});
        let plain = namespace("plain", &[(ENFORCE_LABEL, "restricted")]);
        let own = namespace("kube-system", &[(ENFORCE_LABEL, "restricted")]);
        let found = warnings(&with(values), &[plain, own]);
        assert!(found[0].contains("plain (restricted):"), "{found:?}");
    }

    #[test]
    fn no_warning_with_cni_plugin() {
        let shop = namespace("shop", &[(ENFORCE_LABEL, "baseline"), ("istio-injection", "enabled")]);
        assert_eq!(warnings(&with(json!({"cni": {"enabled": true}})), &[shop]), [""; 0]);
    }

    #[test]
    fn warns_of_privileged_pods_on_restrictive_platform() {
        let mut validated = with(json!({}));
        let release =
            ChartRelease { chart: ChartName::Ztunnel, name: "ztunnel".into(), ..validated.releases[0].clone() };
        validated.releases.push(release);
        assert_eq!(warnings(&validated, &[]), [""; 0]);
        validated.platform.name = Some("tkgi".into());
        validated.platform.privileged_pods = Some(PlatformPermission::Forbidden);
        let found = warnings(&validated, &[]);
        assert!(
            found.len() == 1 && found[0].contains("ztunnel requires privileged pods, which tkgi forbids"),
            "{found:?}"
        );
        assert!(found[0].contains("spec.ztunnel.mode"), "{found:?}");
    }

    #[test]
    fn abbreviates_many_namespaces() {
        let many: Vec<NamespaceLabels> = (0..12)
            .map(|n| namespace(&format!("n{n:02}"), &[(ENFORCE_LABEL, "baseline"), ("istio-injection", "enabled")]))
            .collect();
        let found = warnings(&with(json!({})), &many);
        assert!(found[0].contains("n04 (baseline) and 7 more:"), "{found:?}");
    }
}
