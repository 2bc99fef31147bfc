//! The purpose of each role in Istio's charts and the add-ons, and what fails without it.

/// A role in a chart, found by the beginning of its title in the document.
struct RolePurpose {
    title: &'static str,
    purpose: &'static str,
    without: &'static str,
}

/// Text for a role that is not in [`ROLE_PURPOSES`].
pub(super) const UNKNOWN: &str = "A role of a newer release; see its chart for the purpose.";

/// A longer title precedes its prefix.
const ROLE_PURPOSES: [RolePurpose; 11] = [
    RolePurpose {
        title: "ClusterRole `istio-cni-ambient",
        purpose: "istio-cni sets a condition of pods whose traffic is redirected, and reads its own DaemonSet to see \
                  whether it is being upgraded or deleted",
        without: "pods do not join an ambient mesh",
    },
    RolePurpose {
        title: "ClusterRole `istio-cni-repair",
        purpose: "istio-cni finds pods that started before it without traffic redirection, repairs them and reports it",
        without: "such pods don't start until they are deleted",
    },
    RolePurpose {
        title: "ClusterRole `istio-cni",
        purpose: "istio-cni reads pods and namespaces to select the pods whose traffic it redirects; on OpenShift it allows \
                  its own pods to be privileged",
        without: "no pod's traffic is redirected",
    },
    RolePurpose {
        title: "ClusterRole `istio-reader-clusterrole",
        purpose: "a control plane in another cluster, with a token of `istio-reader-service-account`, discovers the services \
                  of this cluster",
        without: "a multi-cluster mesh does not include this cluster; a single-cluster mesh is not affected",
    },
    RolePurpose {
        title: "ClusterRole `istiod-clusterrole",
        purpose: "istiod reads the resources that proxy configuration is generated from, reviews tokens and access, sets the \
                  caBundle of its webhooks, and writes status",
        without: "istiod does not become ready",
    },
    RolePurpose {
        title: "ClusterRole `istiod-gateway-controller",
        purpose: "istiod creates the resources of each Gateway of the Gateway API",
        without: "such Gateways get no proxy; gateways of `spec.gateways` are not affected",
    },
    RolePurpose {
        title: "ClusterRole `kiali",
        purpose: "Kiali shows the mesh: namespaces, workloads, services and Istio's configuration, read-only",
        without: "Kiali shows nothing",
    },
    RolePurpose {
        title: "ClusterRole `prometheus",
        purpose: "Prometheus discovers the pods that it scrapes",
        without: "Prometheus has no metrics of the mesh",
    },
    RolePurpose {
        title: "ClusterRole `ztunnel",
        purpose: "on OpenShift, ztunnel's pods may be privileged",
        without: "on OpenShift, ztunnel's pods are rejected",
    },
    RolePurpose {
        title: "Role `istiod",
        purpose: "istiod stores its CA in a Secret, elects a leader, and tests its validating webhook with a Gateway in a dry \
                  run",
        without: "istiod does not become ready",
    },
    RolePurpose {
        title: "Role of each gateway",
        purpose: "istiod sends certificates of listeners only to a gateway whose ServiceAccount may read Secrets in its \
                  namespace",
        without: "listeners with a certificate from a Secret do not work",
    },
];

/// The document's text about a role.
pub(super) fn describe(title: &str) -> String {
    ROLE_PURPOSES.iter().find(|purpose| title.starts_with(purpose.title)).map_or_else(
        || UNKNOWN.to_owned(),
        |purpose| format!("Purpose: {}. Without it: {}.", purpose.purpose, purpose.without),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_longer_title() {
        let describe = |title: &str| describe(&format!("ClusterRole `{title}`"));
        assert!(describe("istio-cni-ambient").contains("ambient mesh"));
        assert!(describe("istio-cni").contains("no pod's traffic is redirected"));
        assert!(describe("istiod-gateway-controller-istio-system").contains("Gateway API"));
        assert_eq!(describe("istio-of-tomorrow"), UNKNOWN);
        assert!(ROLE_PURPOSES.iter().all(|purpose| !purpose.purpose.is_empty() && !purpose.without.is_empty()));
    }
}
