//! Values that users can't set because the operator must own them, each with the field to use instead.

use serde_json::Value;

use super::merge::get;
use super::problem::Problem;

/// A dotted path in a chart's values, and what to do instead.
type Owned = (&'static str, &'static str);

/// Keys that change which installation this is, in any chart. What begins with an underscore is the charts' own.
const EVERYWHERE: &[Owned] = &[
    ("profile", "use spec.profile"),
    ("global.profile", "use spec.profile"),
    ("platform", "use spec.platform"),
    ("global.platform", "use spec.platform"),
    ("revision", "use spec.revision"),
    ("global.istioNamespace", "use spec.namespace"),
    ("global.hub", "use spec.images.registry"),
    ("hub", "use spec.images.registry"),
    ("global.tag", "the tag is that of spec.version"),
    ("tag", "the tag is that of spec.version"),
    ("global.resourceScope", "the operator always applies all of a chart"),
    ("compatibilityVersion", "set the environment variables that it stands for in spec.controlPlane.env"),
    ("global.compatibilityVersion", "set the environment variables that it stands for in spec.controlPlane.env"),
    ("defaults", "write the keys at the top"),
    ("_internal_defaults_do_not_set", "write the keys at the top"),
    ("_original", "it is the chart's own"),
];

const BASE: &[Owned] = &[
    ("defaultRevision", "use the tag default in spec.tags"),
    ("base.validationCABundle", "istiod fills it in"),
    ("base.validationURL", "the webhook is istiod's Service"),
];

const ISTIOD: &[Owned] = &[
    ("revisionTags", "use spec.tags"),
    ("autoscaleEnabled", "use spec.controlPlane.replicas or spec.controlPlane.autoscaling"),
    ("autoscaleMin", "use spec.controlPlane.autoscaling.min"),
    ("autoscaleMax", "use spec.controlPlane.autoscaling.max"),
    ("replicaCount", "use spec.controlPlane.replicas"),
    ("istiodRemote", "only a local control plane is supported"),
    ("global.externalIstiod", "only a local control plane is supported"),
    ("global.configCluster", "only a local control plane is supported"),
    ("global.omitSidecarInjectorConfigMap", "istiod can't inject without it"),
    ("global.operatorManageWebhooks", "the webhooks are part of the installation"),
    ("configMap", "istiod needs its configuration"),
    ("pilot", "write the keys at the top"),
    ("trustedZtunnelNamespace", "use spec.ztunnel.namespace"),
    ("trustedZtunnelName", "ztunnel has its usual name"),
    ("taint.namespace", "use spec.cni.namespace"),
];

const CNI: &[Owned] = &[("cni", "write the keys at the top"), ("ambient.enabled", "use spec.ztunnel.mode")];

const ZTUNNEL: &[Owned] = &[
    ("resourceName", "ztunnel has its usual name"),
    ("istioNamespace", "use spec.namespace"),
    ("caAddress", "only a local control plane is supported"),
    ("xdsAddress", "only a local control plane is supported"),
    ("resourceScope", "the operator always applies all of a chart"),
];

const GATEWAY: &[Owned] = &[
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

/// Which chart's values are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The base chart's.
    Base,
    /// The istiod chart's.
    Istiod,
    /// The cni chart's.
    Cni,
    /// The ztunnel chart's.
    Ztunnel,
    /// A gateway's.
    Gateway,
}

/// The keys of `values` that the operator owns. `field` is where the values stand in the resource.
#[must_use]
pub fn owned_keys(scope: Scope, values: &Value, field: &str) -> Vec<Problem> {
    let own = match scope {
        Scope::Base => BASE,
        Scope::Istiod => ISTIOD,
        Scope::Cni => CNI,
        Scope::Ztunnel => ZTUNNEL,
        Scope::Gateway => GATEWAY,
    };
    EVERYWHERE
        .iter()
        .chain(own)
        .filter_map(|(key, instead)| {
            let value = get(values, key)?;
            Some(Problem::new(
                format!("{field}.{key}"),
                format!("{value} can't be set: the operator owns this key; {instead}"),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_owned_key_is_refused_with_field_value_and_remedy() {
        let problems = owned_keys(Scope::Istiod, &json!({"global": {"tag": "1.2"}}), "spec.values.istiod");
        assert_eq!(
            problems,
            [Problem::new(
                "spec.values.istiod.global.tag",
                "\"1.2\" can't be set: the operator owns this key; the tag is that of spec.version"
            )]
        );
    }

    #[test]
    fn the_same_key_may_be_free_in_another_chart() {
        assert_eq!(owned_keys(Scope::Istiod, &json!({"name": "x"}), "f"), []);
        assert_eq!(owned_keys(Scope::Gateway, &json!({"name": "x"}), "f").len(), 1);
    }

    #[test]
    fn other_keys_are_the_users() {
        assert_eq!(owned_keys(Scope::Istiod, &json!({"global": {"logAsJson": true}, "traceSampling": 5}), "f"), []);
    }
}
