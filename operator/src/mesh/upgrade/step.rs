//! The steps of an upgrade, their order, and which object moves in which.

use std::collections::BTreeSet;
use std::fmt;

use meshwright_api::{UpgradeDirection, UpgradeStep};

use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, Desired};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Which.
    pub name: UpgradeStep,
    /// The gateway that it is about, in the step [`UpgradeStep::Gateway`].
    pub gateway: Option<String>,
}

impl Step {
    const fn plain(name: UpgradeStep) -> Self {
        Self { name, gateway: None }
    }
}

impl From<UpgradeStep> for Step {
    fn from(name: UpgradeStep) -> Self {
        Self::plain(name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.gateway {
            Some(gateway) => write!(f, "{} {gateway}", self.name.as_str()),
            None => f.write_str(self.name.as_str()),
        }
    }
}

/// All steps in their order, but the clean-up, which is what any settled mesh gets.
///
/// Forward, istiod goes before its configuration: a new injection template can name what an old istiod doesn't know, which
/// then refuses every pod. So on the way back the configuration goes first, and with it the tags: where there are two
/// control planes, the one that they go back to never went.
#[must_use]
pub fn order(direction: UpgradeDirection, gateways: &BTreeSet<&str>) -> Vec<Step> {
    let middle = match direction {
        UpgradeDirection::Forward => {
            [UpgradeStep::ControlPlane, UpgradeStep::Configuration, UpgradeStep::Injection, UpgradeStep::Tags]
        }
        UpgradeDirection::Back => {
            [UpgradeStep::Configuration, UpgradeStep::Tags, UpgradeStep::ControlPlane, UpgradeStep::Injection]
        }
    };
    [UpgradeStep::Definitions, UpgradeStep::Rights]
        .into_iter()
        .chain(middle)
        .chain([UpgradeStep::Cni, UpgradeStep::Ztunnel])
        .map(Step::plain)
        .chain(gateways.iter().map(|name| Step { name: UpgradeStep::Gateway, gateway: Some((*name).to_owned()) }))
        .collect()
}

/// The step in which an object moves. `is_new`: nothing that ran had it; a pod that mounts a new ConfigMap waits for it.
#[must_use]
pub fn step_of(desired: &Desired, is_new: bool) -> Step {
    let kind = desired.key.kind;
    let step = match (&desired.component, kind) {
        (_, Kind::Namespace | Kind::CustomResourceDefinition) => UpgradeStep::Definitions,
        // After all steps, so that none of them waits for an add-on.
        (Component::AddOn(_), _) => UpgradeStep::CleanUp,
        (Component::Gateway(name), _) => {
            return Step { name: UpgradeStep::Gateway, gateway: Some(name.clone()) };
        }
        (
            _,
            Kind::ServiceAccount
            | Kind::ClusterRole
            | Kind::ClusterRoleBinding
            | Kind::Role
            | Kind::RoleBinding
            | Kind::ResourceQuota,
        ) => UpgradeStep::Rights,
        (Component::Tag(_), _) => UpgradeStep::Tags,
        (Component::Cni, _) => UpgradeStep::Cni,
        (Component::Ztunnel, _) => UpgradeStep::Ztunnel,
        (_, Kind::ConfigMap) if is_new => UpgradeStep::Rights,
        (
            _,
            Kind::ConfigMap
            | Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::ValidatingWebhookConfiguration
            | Kind::MutatingWebhookConfiguration,
        ) => UpgradeStep::Configuration,
        _ => UpgradeStep::ControlPlane,
    };
    Step::plain(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::object::Owner;

    fn names(direction: UpgradeDirection) -> Vec<String> {
        order(direction, &BTreeSet::from(["west", "east"])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_step_waits_for_an_add_on() {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        for (api_version, kind) in
            [("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("rbac.authorization.k8s.io/v1", "ClusterRole")]
        {
            let object = serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "kiali"}});
            let desired = Desired::admit(object, &Component::AddOn("kiali".into()), &owner, "x").unwrap();
            assert_eq!(step_of(&desired, true), UpgradeStep::CleanUp.into());
        }
        assert!(!order(UpgradeDirection::Forward, &BTreeSet::new()).contains(&UpgradeStep::CleanUp.into()));
    }

    #[test]
    fn istiod_goes_before_its_configuration_and_on_the_way_back_after_it() {
        let at = |names: &[String], name: &str| names.iter().position(|n| n == name).unwrap();
        let forward = names(UpgradeDirection::Forward);
        assert!(at(&forward, "ControlPlane") < at(&forward, "Configuration"));
        assert!(at(&forward, "Injection") < at(&forward, "Tags"));
        let back = names(UpgradeDirection::Back);
        assert!(at(&back, "Configuration") < at(&back, "ControlPlane"));
        for names in [forward, back] {
            assert_eq!(names[..2], ["Definitions", "Rights"]);
            assert_eq!(names[6..], ["Cni", "Ztunnel", "Gateway east", "Gateway west"]);
        }
    }
}
