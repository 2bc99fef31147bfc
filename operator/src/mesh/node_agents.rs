//! Which of cni and ztunnel an installation has, and where.

use meshwright_api::{ComponentMode, FreeForm, MeshInstallationSpec, NodeAgent};

use super::object::ENFORCE_LABEL;
use super::problem::Problem;
use crate::catalog::{ChartName, Profile};
use crate::platform::Platform;

/// The node agents of an installation: the namespace of each that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAgents {
    /// Namespace of the node agent.
    pub cni: Option<String>,
    /// Namespace of the node proxy; with it, the mesh is ambient.
    pub ztunnel: Option<String>,
}

impl NodeAgents {
    /// What spec, profile and platform lead to.
    #[must_use]
    pub fn of(spec: &MeshInstallationSpec, profile: &Profile, platform: &Platform) -> Self {
        let theirs = platform.components();
        let namespace = |agent: &NodeAgent, chart| {
            let on = match agent.mode {
                ComponentMode::Profile => profile.components().contains(&chart) || theirs.contains(&chart),
                ComponentMode::Enabled => true,
                ComponentMode::Disabled => false,
            };
            let usual = profile.node_namespace().or(platform.node_namespace()).unwrap_or(&spec.namespace);
            let wanted = agent.namespace.as_deref().unwrap_or(usual);
            on.then(|| wanted.to_owned())
        };
        Self { cni: namespace(&spec.cni, ChartName::Cni), ztunnel: namespace(&spec.ztunnel, ChartName::Ztunnel) }
    }

    /// Name in the spec, and namespace, of each that there is.
    pub fn present(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("cni", &self.cni), ("ztunnel", &self.ztunnel)]
            .into_iter()
            .filter_map(|(name, ns)| Some((name, ns.as_deref()?)))
    }
}

/// What of `spec.cni` and `spec.ztunnel` doesn't go together.
pub fn check(spec: &MeshInstallationSpec, profile: &Profile, platform: &Platform, problems: &mut Vec<Problem>) {
    let agents = NodeAgents::of(spec, profile, platform);
    let name = spec.profile.as_str();
    if profile.components().contains(&ChartName::Ztunnel) && agents.ztunnel.is_none() {
        let message = format!(
            "\"Disabled\" does not go with profile {name}, whose proxies are ztunnel's: leave it out, or choose another profile"
        );
        problems.push(Problem::new("spec.ztunnel.mode", message));
    } else if agents.ztunnel.is_some() && agents.cni.is_none() {
        let (field, message) = if spec.cni.mode == ComponentMode::Disabled {
            (
                "spec.cni.mode",
                "\"Disabled\" leaves ztunnel without traffic: cni redirects it there; set it to Enabled".into(),
            )
        } else {
            let message =
                format!("\"Enabled\" needs cni, which profile {name} does not have: set spec.cni.mode to Enabled");
            ("spec.ztunnel.mode", message)
        };
        problems.push(Problem::new(field, message));
    }
    without_effect("cni", &spec.cni, &spec.values.cni, agents.cni.is_none(), problems);
    without_effect("ztunnel", &spec.ztunnel, &spec.values.ztunnel, agents.ztunnel.is_none(), problems);
    if let Some(level) = spec.namespace_labels.get(ENFORCE_LABEL).filter(|level| *level != PRIVILEGED) {
        for (agent, _) in agents.present().filter(|(_, namespace)| *namespace == spec.namespace) {
            problems.push(Problem::new(
                format!("spec.namespaceLabels[{ENFORCE_LABEL}]"),
                format!(
                    "{level:?} refuses the pods of {agent}, which are privileged: set it to {PRIVILEGED}, or choose another \
                     namespace in spec.{agent}.namespace"
                ),
            ));
        }
    }
}

/// The level of Pod Security that lets everything pass.
pub const PRIVILEGED: &str = "privileged";

/// Settings of what isn't there do nothing, so they are a mistake.
fn without_effect(name: &str, agent: &NodeAgent, values: &FreeForm, absent: bool, problems: &mut Vec<Problem>) {
    let set = [
        (format!("spec.{name}.namespace"), agent.namespace.is_some()),
        (format!("spec.{name}.resources"), agent.resources != meshwright_api::Resources::default()),
        (format!("spec.values.{name}"), !values.is_empty()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| absent && *set) {
        let message =
            format!("does nothing: {name} is not installed; set spec.{name}.mode to Enabled, or leave this out");
        problems.push(Problem::new(field, message));
    }
}

/// Whether a namespace is made for these components alone, so that its Pod Security can follow their needs: neither
/// the mesh's other parts nor the cluster's own are there.
#[must_use]
pub fn is_their_own(namespace: &str, spec: &MeshInstallationSpec) -> bool {
    namespace != spec.namespace
        && !is_the_clusters(namespace)
        && spec.gateways.iter().all(|gateway| spec.gateway_namespace(gateway) != namespace)
}

/// Whether a namespace comes with every cluster, so that it needs neither making nor our marks.
#[must_use]
pub fn is_the_clusters(namespace: &str) -> bool {
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

    fn agents(rest: Value) -> (Option<String>, Option<String>) {
        let spec = spec(rest);
        let NodeAgents { cni, ztunnel } = NodeAgents::of(&spec, &Profile::get(spec.profile).unwrap(), &generic());
        (cni, ztunnel)
    }

    fn problems(rest: Value) -> Vec<String> {
        let spec = spec(rest);
        let mut problems = Vec::new();
        check(&spec, &Profile::get(spec.profile).unwrap(), &generic(), &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_profile_decides_unless_the_spec_does() {
        let system = || Some("istio-system".to_owned());
        assert_eq!(agents(json!({})), (None, None));
        assert_eq!(agents(json!({"cni": {"mode": "Enabled"}})), (system(), None));
        assert_eq!(agents(json!({"profile": "ambient"})), (system(), system()));
        assert_eq!(agents(json!({"profile": "openshift", "cni": {"mode": "Disabled"}})), (None, None));
    }

    #[test]
    fn the_namespace_is_the_specs_or_the_profiles_or_the_control_planes() {
        let of = |rest| agents(rest).0.unwrap();
        assert_eq!(of(json!({"profile": "openshift"})), "kube-system");
        assert_eq!(of(json!({"profile": "openshift", "cni": {"namespace": "nodes"}})), "nodes");
        assert_eq!(of(json!({"profile": "ambient", "namespace": "mesh"})), "mesh");
    }

    #[test]
    fn ztunnel_without_cni_is_refused_with_the_reason() {
        let said = problems(json!({"ztunnel": {"mode": "Enabled"}}));
        assert_eq!(
            said,
            [
                "spec.ztunnel.mode: \"Enabled\" needs cni, which profile default does not have: set spec.cni.mode to Enabled"
            ]
        );
        let said = problems(json!({"profile": "ambient", "cni": {"mode": "Disabled"}}));
        assert!(said.len() == 1 && said[0].starts_with("spec.cni.mode: \"Disabled\" leaves ztunnel"), "{said:?}");
        assert_eq!(problems(json!({"ztunnel": {"mode": "Enabled"}, "cni": {"mode": "Enabled"}})), [""; 0]);
        assert_eq!(problems(json!({"profile": "ambient"})), [""; 0]);
    }

    #[test]
    fn an_ambient_profile_without_ztunnel_is_refused() {
        let said = problems(json!({"profile": "openshift-ambient", "ztunnel": {"mode": "Disabled"}}));
        assert!(said.len() == 1 && said[0].contains("does not go with profile openshift-ambient"), "{said:?}");
    }

    #[test]
    fn settings_of_what_is_not_installed_are_refused() {
        let resources = json!({"requests": {"cpu": "1"}});
        let said = problems(json!({"cni": {"namespace": "nodes"}, "ztunnel": {"resources": resources},
            "values": {"cni": {"chained": false}, "ztunnel": {"logLevel": "debug"}}}));
        let fields: Vec<&str> =
            said.iter().filter_map(|text| text.split_once(": does nothing").map(|(f, _)| f)).collect();
        assert_eq!(fields, ["spec.cni.namespace", "spec.values.cni", "spec.ztunnel.resources", "spec.values.ztunnel"]);
        assert_eq!(problems(json!({"cni": {"mode": "Enabled", "namespace": "nodes"}})), [""; 0]);
    }

    #[test]
    fn a_control_plane_namespace_that_refuses_privileged_pods_has_no_place_for_them() {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        let said = problems(json!({"cni": {"mode": "Enabled"}, "namespaceLabels": labels}));
        assert!(said.len() == 1 && said[0].contains("\"baseline\" refuses the pods of cni"), "{said:?}");
        let elsewhere = json!({"cni": {"mode": "Enabled", "namespace": "nodes"}, "namespaceLabels": labels});
        assert_eq!(problems(elsewhere), [""; 0]);
        let labels = json!({"pod-security.kubernetes.io/enforce": "privileged"});
        assert_eq!(problems(json!({"profile": "ambient", "namespaceLabels": labels})), [""; 0]);
    }

    #[test]
    fn a_namespace_is_their_own_when_nobody_else_is_there() {
        let spec = spec(json!({"gateways": [{"name": "g", "namespace": "edge"}]}));
        assert!(is_their_own("nodes", &spec));
        for shared in ["istio-system", "edge", "kube-system", "default"] {
            assert!(!is_their_own(shared, &spec), "{shared}");
        }
    }
}
