//! Chart values that users can't set because the operator owns them, each with the field to use instead.

use serde_json::Value;

use super::merge::get;
use super::problem::Problem;
use crate::catalog::ChartName;

/// A dotted path in a chart's values, and the alternative or the reason.
type OwnedKey = (&'static str, &'static str);

/// No field determines it: it would have to follow each upgrade.
const COMPATIBILITY: &str = "set the variables that files/profile-compatibility-version-*.yaml of the istiod chart lists for \
                             that version in spec.controlPlane.env";

/// Keys that the operator owns in every chart. Keys with a leading underscore are internal to the charts.
const EVERYWHERE: &[OwnedKey] = &[
    ("profile", "use spec.profile"),
    ("global.profile", "use spec.profile"),
    ("platform", "use spec.platform"),
    ("global.platform", "use spec.platform"),
    ("revision", "use spec.revision"),
    ("global.istioNamespace", "use spec.namespace"),
    ("global.hub", "use spec.images.registry"),
    ("hub", "use spec.images.registry"),
    ("global.tag", "spec.version determines the tag"),
    ("tag", "spec.version determines the tag"),
    ("global.resourceScope", "the operator always applies the whole chart"),
    ("compatibilityVersion", COMPATIBILITY),
    ("global.compatibilityVersion", COMPATIBILITY),
    ("defaults", "set its keys at the top level"),
    ("_internal_defaults_do_not_set", "set its keys at the top level"),
    ("_original", "it is internal to the chart"),
];

const BASE: &[OwnedKey] = &[
    ("defaultRevision", "remove it, or add the tag default to spec.tags if spec.revision is set"),
    ("base.validationCABundle", "istiod sets it"),
    ("base.validationURL", "the webhook is istiod's Service"),
];

const ISTIOD: &[OwnedKey] = &[
    ("revisionTags", "use spec.tags"),
    ("autoscaleEnabled", "use spec.controlPlane.replicas or spec.controlPlane.autoscaling"),
    ("autoscaleMin", "use spec.controlPlane.autoscaling.minReplicas"),
    ("autoscaleMax", "use spec.controlPlane.autoscaling.maxReplicas"),
    ("replicaCount", "use spec.controlPlane.replicas"),
    ("istiodRemote", "only a local control plane is supported"),
    ("global.externalIstiod", "only a local control plane is supported"),
    ("global.configCluster", "only a local control plane is supported"),
    ("global.omitSidecarInjectorConfigMap", "istiod can't inject without it"),
    ("global.operatorManageWebhooks", "the webhooks are part of the installation"),
    ("configMap", "istiod needs its configuration"),
    ("trustedZtunnelNamespace", "use spec.ztunnel.namespace"),
    ("trustedZtunnelName", "the name of ztunnel is fixed"),
    ("taint.namespace", "use spec.cni.namespace"),
];

const CNI: &[OwnedKey] = &[("ambient.enabled", "use spec.ztunnel.mode")];

const ZTUNNEL: &[OwnedKey] = &[
    ("resourceName", "the name of ztunnel is fixed"),
    ("istioNamespace", "use spec.namespace"),
    ("xdsAddress", "only a local control plane is supported"),
    ("resourceScope", "the operator always applies the whole chart"),
];

const GATEWAY: &[OwnedKey] = &[
    ("name", "use the gateway's name"),
    ("kind", "gateways are Deployments"),
    ("networkGateway", "use the gateway's direction and network"),
    ("networkGatewayPorts", "use the gateway's service.ports"),
    ("replicaCount", "use the gateway's replicas"),
    ("autoscaling.enabled", "use the gateway's replicas or autoscaling"),
    ("service.type", "use the gateway's service.type"),
    ("service.ports", "use the gateway's service.ports"),
    ("service.clusterIP", "the API server chooses it"),
    ("service.healthCheckNodePort", "the API server chooses it"),
    ("service.loadBalancerClass", "use the gateway's service.loadBalancerClass"),
    ("service.loadBalancerSourceRanges", "use the gateway's service.loadBalancerSourceRanges"),
    ("service.externalTrafficPolicy", "use the gateway's service.externalTrafficPolicy"),
    ("service.allocateLoadBalancerNodePorts", "use the gateway's service.allocateLoadBalancerNodePorts"),
];

/// The chart whose values are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValuesScope {
    /// Values of `spec.values.base`.
    Base,
    /// Values of `spec.values.istiod`.
    Istiod,
    /// Values of `spec.values.cni`.
    Cni,
    /// Values of `spec.values.ztunnel`.
    Ztunnel,
    /// Values of a gateway in `spec.gateways`.
    Gateway,
}

impl ValuesScope {
    /// Chart whose values are checked.
    #[must_use]
    pub const fn chart(self) -> ChartName {
        match self {
            Self::Base => ChartName::Base,
            Self::Istiod => ChartName::Istiod,
            Self::Cni => ChartName::Cni,
            Self::Ztunnel => ChartName::Ztunnel,
            Self::Gateway => ChartName::Gateway,
        }
    }

    /// The key whose values the chart merges over the top level, as in earlier releases of Istio.
    #[must_use]
    pub const fn legacy_scope(self) -> Option<&'static str> {
        match self {
            Self::Istiod => Some("pilot"),
            Self::Cni => Some("cni"),
            Self::Base | Self::Ztunnel | Self::Gateway => None,
        }
    }
}

/// The keys of a chart that the operator owns, each with the alternative or the reason.
pub(super) fn keys_of(scope: ValuesScope) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = match scope {
        ValuesScope::Base => BASE,
        ValuesScope::Istiod => ISTIOD,
        ValuesScope::Cni => CNI,
        ValuesScope::Ztunnel => ZTUNNEL,
        ValuesScope::Gateway => GATEWAY,
    };
    EVERYWHERE.iter().chain(own).copied()
}

/// The problem of a key with another value than the operator's.
pub(super) fn refusal(field: String, value: &Value, instead: &str) -> Problem {
    Problem::new(field, format!("{value} can't be set: the operator owns this key; {instead}"))
}

/// A problem for each key of `values` that the operator owns. `field` is the path of the values in the resource.
#[must_use]
pub fn owned_keys(scope: ValuesScope, values: &Value, field: &str) -> Vec<Problem> {
    keys_of(scope)
        .filter_map(|(key, instead)| Some(refusal(format!("{field}.{key}"), get(values, key)?, instead)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_field_value_and_alternative() {
        let problems = owned_keys(ValuesScope::Istiod, &json!({"global": {"tag": "1.2"}}), "spec.values.istiod");
        assert_eq!(
            problems,
            [Problem::new(
                "spec.values.istiod.global.tag",
                "\"1.2\" can't be set: the operator owns this key; spec.version determines the tag"
            )]
        );
    }

    #[test]
    fn ownership_depends_on_chart() {
        assert_eq!(owned_keys(ValuesScope::Istiod, &json!({"name": "x"}), "f"), []);
        assert_eq!(owned_keys(ValuesScope::Gateway, &json!({"name": "x"}), "f").len(), 1);
    }

    #[test]
    fn accepts_external_ca_but_no_external_control_plane() {
        for accepted in [json!({"caAddress": "ca:443"}), json!({"global": {"caAddress": "ca:443"}})] {
            assert_eq!(owned_keys(ValuesScope::Ztunnel, &accepted, "f"), [], "{accepted}");
            assert_eq!(owned_keys(ValuesScope::Istiod, &accepted, "f"), [], "{accepted}");
        }
        assert_eq!(owned_keys(ValuesScope::Ztunnel, &json!({"xdsAddress": "istiod:15012"}), "f").len(), 1);
    }

    #[test]
    fn accepts_other_keys() {
        assert_eq!(
            owned_keys(ValuesScope::Istiod, &json!({"global": {"logAsJson": true}, "traceSampling": 5}), "f"),
            []
        );
    }
}
