//! The components with a pod on every node, cni and ztunnel: whether an installation has them, and in which namespace.

use meshwright_api::{ComponentMode, FreeForm, MeshInstallationSpec, NodeComponent};

use super::object::ENFORCE_LABEL;
use super::problem::Problem;
use crate::catalog::{ChartName, Profile};
use crate::platform::Platform;

/// The namespaces of the node components that an installation has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeComponents {
    /// Namespace of the CNI plugin's DaemonSet.
    pub cni: Option<String>,
    /// Namespace of ztunnel's DaemonSet. A mesh with ztunnel is ambient.
    pub ztunnel: Option<String>,
}

impl NodeComponents {
    /// Resolves the modes and namespaces from spec, profile and platform.
    #[must_use]
    pub fn of(spec: &MeshInstallationSpec, profile: &Profile, platform: &Platform) -> Self {
        let required = platform.components();
        let namespace = |component: &NodeComponent, chart| {
            let on = match component.mode {
                ComponentMode::Profile => profile.components().contains(&chart) || required.contains(&chart),
                ComponentMode::Enabled => true,
                ComponentMode::Disabled => false,
            };
            let default = profile.node_namespace().or(platform.node_namespace()).unwrap_or(&spec.namespace);
            let wanted = component.namespace.as_deref().unwrap_or(default);
            on.then(|| wanted.to_owned())
        };
        Self { cni: namespace(&spec.cni, ChartName::Cni), ztunnel: namespace(&spec.ztunnel, ChartName::Ztunnel) }
    }

    /// Name in the spec and namespace of each enabled component.
    pub fn present(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("cni", &self.cni), ("ztunnel", &self.ztunnel)]
            .into_iter()
            .filter_map(|(name, ns)| Some((name, ns.as_deref()?)))
    }
}

/// Checks that `spec.cni`, `spec.ztunnel` and the profile are consistent.
pub fn check(spec: &MeshInstallationSpec, profile: &Profile, platform: &Platform, problems: &mut Vec<Problem>) {
    let components = NodeComponents::of(spec, profile, platform);
    let name = spec.profile.as_str();
    if profile.components().contains(&ChartName::Ztunnel) && components.ztunnel.is_none() {
        let message = format!(
            "\"Disabled\" conflicts with profile {name}, which requires ztunnel; remove the field, or choose another profile"
        );
        problems.push(Problem::new("spec.ztunnel.mode", message));
    } else if components.ztunnel.is_some() && components.cni.is_none() {
        let (field, message) = if spec.cni.mode == ComponentMode::Disabled {
            (
                "spec.cni.mode",
                "\"Disabled\" leaves ztunnel without traffic, which cni redirects; set it to Enabled".into(),
            )
        } else {
            let message =
                format!("\"Enabled\" requires cni, which profile {name} does not enable; set spec.cni.mode to Enabled");
            ("spec.ztunnel.mode", message)
        };
        problems.push(Problem::new(field, message));
    }
    reject_unused_settings("cni", &spec.cni, &spec.values.cni, components.cni.is_none(), problems);
    reject_unused_settings("ztunnel", &spec.ztunnel, &spec.values.ztunnel, components.ztunnel.is_none(), problems);
    if let Some(level) = spec.namespace_labels.get(ENFORCE_LABEL).filter(|level| *level != PRIVILEGED) {
        for (component, _) in components.present().filter(|(_, namespace)| *namespace == spec.namespace) {
            problems.push(Problem::new(
                format!("spec.namespaceLabels[{ENFORCE_LABEL}]"),
                format!(
                    "{level:?} forbids the pods of {component}, which are privileged; set it to {PRIVILEGED}, or set another \
                     namespace in spec.{component}.namespace"
                ),
            ));
        }
    }
}

/// The Pod Security level that allows all pods.
pub const PRIVILEGED: &str = "privileged";

/// Settings of a component that isn't installed have no effect, so they are reported as a mistake.
fn reject_unused_settings(
    name: &str,
    component: &NodeComponent,
    values: &FreeForm,
    absent: bool,
    problems: &mut Vec<Problem>,
) {
    let set = [
        (format!("spec.{name}.namespace"), component.namespace.is_some()),
        (format!("spec.{name}.resources"), component.resources != meshwright_api::Resources::default()),
        (format!("spec.values.{name}"), !values.is_empty()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| absent && *set) {
        let message =
            format!("has no effect: {name} is not installed; set spec.{name}.mode to Enabled, or remove this field");
        problems.push(Problem::new(field, message));
    }
}

/// Whether a namespace is for these components alone, so that its Pod Security level can follow their needs: it
/// contains neither other components of the mesh nor of the cluster.
#[must_use]
pub fn is_dedicated(namespace: &str, spec: &MeshInstallationSpec) -> bool {
    namespace != spec.namespace
        && !is_cluster_namespace(namespace)
        && spec.gateways.iter().all(|gateway| spec.gateway_namespace(gateway) != namespace)
}

/// Whether a namespace exists in every cluster, so that the operator neither creates nor labels it.
#[must_use]
pub fn is_cluster_namespace(namespace: &str) -> bool {
    namespace == "default" || namespace.starts_with("kube-")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(rest: Value) -> MeshInstallationSpec {
        let mut spec = json!({"version": "1.31.2"});
        crate::mesh::merge::merge(&mut spec, rest);
        serde_json::from_value(spec).unwrap()
    }

    fn generic() -> Platform {
        crate::platform::Platforms::bundled().unwrap().get(crate::platform::GENERIC).unwrap().clone()
    }

    fn components(rest: Value) -> (Option<String>, Option<String>) {
        let spec = spec(rest);
        let NodeComponents { cni, ztunnel } =
            NodeComponents::of(&spec, &Profile::get(spec.profile).unwrap(), &generic());
        (cni, ztunnel)
    }

    fn problems(rest: Value) -> Vec<String> {
        let spec = spec(rest);
        let mut problems = Vec::new();
        check(&spec, &Profile::get(spec.profile).unwrap(), &generic(), &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mode_of_spec_overrides_profile() {
        let system = || Some("istio-system".to_owned());
        assert_eq!(components(json!({})), (None, None));
        assert_eq!(components(json!({"cni": {"mode": "Enabled"}})), (system(), None));
        assert_eq!(components(json!({"profile": "ambient"})), (system(), system()));
        assert_eq!(components(json!({"profile": "openshift", "cni": {"mode": "Disabled"}})), (None, None));
    }

    #[test]
    fn namespace_comes_from_spec_then_profile() {
        let of = |rest| components(rest).0.unwrap();
        assert_eq!(of(json!({"profile": "openshift"})), "kube-system");
        assert_eq!(of(json!({"profile": "openshift", "cni": {"namespace": "nodes"}})), "nodes");
        assert_eq!(of(json!({"profile": "ambient", "namespace": "mesh"})), "mesh");
    }

    #[test]
    fn rejects_ztunnel_without_cni() {
        let messages = problems(json!({"ztunnel": {"mode": "Enabled"}}));
        assert_eq!(
            messages,
            [
                "spec.ztunnel.mode: \"Enabled\" requires cni, which profile default does not enable; set spec.cni.mode to Enabled"
            ]
        );
        let messages = problems(json!({"profile": "ambient", "cni": {"mode": "Disabled"}}));
        assert!(
            messages.len() == 1 && messages[0].starts_with("spec.cni.mode: \"Disabled\" leaves ztunnel"),
            "{messages:?}"
        );
        assert_eq!(problems(json!({"ztunnel": {"mode": "Enabled"}, "cni": {"mode": "Enabled"}})), [""; 0]);
        assert_eq!(problems(json!({"profile": "ambient"})), [""; 0]);
    }

    #[test]
    fn rejects_ambient_profile_without_ztunnel() {
        let messages = problems(json!({"profile": "openshift-ambient", "ztunnel": {"mode": "Disabled"}}));
        assert!(
            messages.len() == 1 && messages[0].contains("conflicts with profile openshift-ambient"),
            "{messages:?}"
        );
    }

    #[test]
    fn rejects_settings_of_disabled_components() {
        let resources = json!({"requests": {"cpu": "1"}});
        let messages = problems(json!({"cni": {"namespace": "nodes"}, "ztunnel": {"resources": resources},
            "values": {"cni": {"chained": false}, "ztunnel": {"logLevel": "debug"}}}));
        let fields: Vec<&str> =
            messages.iter().filter_map(|text| text.split_once(": has no effect").map(|(f, _)| f)).collect();
        assert_eq!(fields, ["spec.cni.namespace", "spec.values.cni", "spec.ztunnel.resources", "spec.values.ztunnel"]);
        assert_eq!(problems(json!({"cni": {"mode": "Enabled", "namespace": "nodes"}})), [""; 0]);
    }

    #[test]
    fn rejects_privileged_pods_in_restricted_namespace() {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        let messages = problems(json!({"cni": {"mode": "Enabled"}, "namespaceLabels": labels}));
        assert!(messages.len() == 1 && messages[0].contains("\"baseline\" forbids the pods of cni"), "{messages:?}");
        let elsewhere = json!({"cni": {"mode": "Enabled", "namespace": "nodes"}, "namespaceLabels": labels});
        assert_eq!(problems(elsewhere), [""; 0]);
        let labels = json!({"pod-security.kubernetes.io/enforce": "privileged"});
        assert_eq!(problems(json!({"profile": "ambient", "namespaceLabels": labels})), [""; 0]);
    }

    #[test]
    fn namespace_is_dedicated_without_other_components() {
        let spec = spec(json!({"gateways": [{"name": "g", "namespace": "edge"}]}));
        assert!(is_dedicated("nodes", &spec));
        for shared in ["istio-system", "edge", "kube-system", "default"] {
            assert!(!is_dedicated(shared, &spec), "{shared}");
        }
    }
}
