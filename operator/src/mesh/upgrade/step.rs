//! The steps of an upgrade, their order, and the step of each object.

use std::collections::BTreeSet;
use std::fmt;

use meshwright_api::{UpgradeDirection, UpgradeStep};

use super::configuration_order::ConfigurationOrder;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject};

/// A step of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RolloutStep {
    /// Name of the step.
    pub name: UpgradeStep,
    /// Name of the gateway, for [`UpgradeStep::Gateway`].
    pub gateway: Option<String>,
}

impl RolloutStep {
    const fn plain(name: UpgradeStep) -> Self {
        Self { name, gateway: None }
    }
}

impl From<UpgradeStep> for RolloutStep {
    fn from(name: UpgradeStep) -> Self {
        Self::plain(name)
    }
}

impl fmt::Display for RolloutStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.gateway {
            Some(gateway) => write!(f, "{} {gateway}", self.name.as_str()),
            None => f.write_str(self.name.as_str()),
        }
    }
}

/// All steps in order, without the clean-up, which every reconcile of a deployed revision does.
///
/// [`ConfigurationOrder`] says whether istiod or its configuration is updated first. A rollback moves the tags with the
/// configuration: if a canary is rolled back, the previous control plane is still running.
#[must_use]
pub fn order(
    direction: UpgradeDirection,
    configuration: ConfigurationOrder,
    gateways: &BTreeSet<&str>,
) -> Vec<RolloutStep> {
    let middle = match (direction, configuration) {
        (UpgradeDirection::Rollback, _) => {
            [UpgradeStep::Configuration, UpgradeStep::Tags, UpgradeStep::ControlPlane, UpgradeStep::InjectionCheck]
        }
        (UpgradeDirection::Forward, ConfigurationOrder::BeforeControlPlane) => {
            [UpgradeStep::Configuration, UpgradeStep::ControlPlane, UpgradeStep::InjectionCheck, UpgradeStep::Tags]
        }
        (UpgradeDirection::Forward, ConfigurationOrder::AfterControlPlane) => {
            [UpgradeStep::ControlPlane, UpgradeStep::Configuration, UpgradeStep::InjectionCheck, UpgradeStep::Tags]
        }
    };
    [UpgradeStep::Crds, UpgradeStep::Rbac]
        .into_iter()
        .chain(middle)
        .chain([UpgradeStep::Cni, UpgradeStep::Ztunnel])
        .map(RolloutStep::plain)
        .chain(
            gateways.iter().map(|name| RolloutStep { name: UpgradeStep::Gateway, gateway: Some((*name).to_owned()) }),
        )
        .collect()
}

/// The step that applies an object. `is_new`: no source revision has it. A new ConfigMap is applied early, since pods
/// may mount it.
#[must_use]
pub fn step_of(desired: &DesiredObject, is_new: bool) -> RolloutStep {
    let kind = desired.key.kind;
    let step = match (&desired.component, kind) {
        (_, Kind::Namespace | Kind::CustomResourceDefinition) => UpgradeStep::Crds,
        // After all steps, so that none waits for an add-on.
        (Component::AddOn(_), _) => UpgradeStep::CleanUp,
        (Component::Gateway(name), _) => {
            return RolloutStep { name: UpgradeStep::Gateway, gateway: Some(name.clone()) };
        }
        (
            _,
            Kind::ServiceAccount
            | Kind::ClusterRole
            | Kind::ClusterRoleBinding
            | Kind::Role
            | Kind::RoleBinding
            | Kind::ResourceQuota,
        ) => UpgradeStep::Rbac,
        (Component::Tag(_), _) => UpgradeStep::Tags,
        (Component::Cni, _) => UpgradeStep::Cni,
        (Component::Ztunnel, _) => UpgradeStep::Ztunnel,
        (_, Kind::ConfigMap) if is_new => UpgradeStep::Rbac,
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
    RolloutStep::plain(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::object::Owner;

    fn names(direction: UpgradeDirection, same_release: bool) -> Vec<String> {
        let configuration = ConfigurationOrder::new(direction, same_release, false);
        order(direction, configuration, &BTreeSet::from(["west", "east"])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_step_waits_for_add_on() {
        let owner = Owner { installation: "mesh".into(), uid: "u".into(), release: semver::Version::new(1, 31, 2) };
        for (api_version, kind) in
            [("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("rbac.authorization.k8s.io/v1", "ClusterRole")]
        {
            let object = serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "kiali"}});
            let desired = DesiredObject::from_rendered(object, &Component::AddOn("kiali".into()), &owner, "x").unwrap();
            assert_eq!(step_of(&desired, true), UpgradeStep::CleanUp.into());
        }
        assert!(
            !order(UpgradeDirection::Forward, ConfigurationOrder::AfterControlPlane, &BTreeSet::new())
                .contains(&UpgradeStep::CleanUp.into())
        );
    }

    #[test]
    fn rollback_updates_configuration_before_istiod() {
        let at = |names: &[String], name: &str| names.iter().position(|n| n == name).unwrap();
        let forward = names(UpgradeDirection::Forward, false);
        assert!(at(&forward, "ControlPlane") < at(&forward, "Configuration"));
        assert!(at(&forward, "InjectionCheck") < at(&forward, "Tags"));
        let rollback = names(UpgradeDirection::Rollback, false);
        assert!(at(&rollback, "Configuration") < at(&rollback, "ControlPlane"));
        let same_release = names(UpgradeDirection::Forward, true);
        assert!(at(&same_release, "Configuration") < at(&same_release, "ControlPlane"));
        assert!(at(&same_release, "InjectionCheck") < at(&same_release, "Tags"));
        for names in [forward, rollback, same_release] {
            assert_eq!(names[..2], ["CRDs", "RBAC"]);
            assert_eq!(names[6..], ["CNI", "Ztunnel", "Gateway east", "Gateway west"]);
        }
    }
}
