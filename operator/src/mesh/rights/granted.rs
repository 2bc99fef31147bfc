//! What the roles of Istio's charts and of the add-ons are for: who acts by them, and what he can't do otherwise.

/// A role of the charts', by how its title in the document begins.
struct Purpose {
    title: &'static str,
    what_for: &'static str,
    without: &'static str,
}

/// Of a role that is not among those below.
pub(super) const UNKNOWN: &str = "A role that came with a release; what it is for, its chart says.";

/// The more exact title comes first.
const PURPOSES: [Purpose; 11] = [
    Purpose {
        title: "ClusterRole `istio-cni-ambient",
        what_for: "the node agent notes in a pod's status that its traffic is redirected, and asks of its own DaemonSet \
                   whether it is being replaced or removed",
        without: "pods are not taken into an ambient mesh",
    },
    Purpose {
        title: "ClusterRole `istio-cni-repair",
        what_for: "the node agent looks for pods that started before it and have no redirection, puts it there and tells of it",
        without: "such pods don't start until somebody deletes them",
    },
    Purpose {
        title: "ClusterRole `istio-cni",
        what_for: "the node agent reads pods and namespaces to know whose traffic is to be redirected; on OpenShift its own \
                   pods may be privileged",
        without: "no pod's traffic is redirected",
    },
    Purpose {
        title: "ClusterRole `istio-reader-clusterrole",
        what_for: "a control plane in another cluster, which has a token of `istio-reader-service-account`, finds the services \
                   here",
        without: "a mesh of several clusters doesn't see this one; in a mesh of one, nothing is missed",
    },
    Purpose {
        title: "ClusterRole `istiod-clusterrole",
        what_for: "istiod reads what it makes the proxies' configuration from, has tokens and rights reviewed, fills in its \
                   webhooks' certificates, and writes status",
        without: "istiod does not become ready",
    },
    Purpose {
        title: "ClusterRole `istiod-gateway-controller",
        what_for: "istiod makes what each Gateway of the Gateway API consists of",
        without: "such Gateways get no proxy; those of `spec.gateways` are not concerned",
    },
    Purpose {
        title: "ClusterRole `kiali",
        what_for: "Kiali shows the mesh: its namespaces, workloads, services and Istio's configuration, of which it changes \
                   nothing",
        without: "Kiali shows nothing",
    },
    Purpose {
        title: "ClusterRole `prometheus",
        what_for: "Prometheus finds the pods whose metrics it collects",
        without: "Prometheus has no metrics of the mesh",
    },
    Purpose {
        title: "ClusterRole `ztunnel",
        what_for: "on OpenShift ztunnel's pods may be privileged",
        without: "on OpenShift ztunnel's pods are refused",
    },
    Purpose {
        title: "Role `istiod",
        what_for: "istiod keeps its CA in a Secret, leads by a lease, and tries its validating webhook with a Gateway in a dry \
                   run",
        without: "istiod does not become ready",
    },
    Purpose {
        title: "Role of each gateway",
        what_for: "istiod gives the certificates that listeners name only to a gateway whose account may read Secrets there",
        without: "listeners with a certificate from a Secret don't answer",
    },
];

/// What a role is for, as the document says it.
pub(super) fn told(title: &str) -> String {
    PURPOSES.iter().find(|purpose| title.starts_with(purpose.title)).map_or_else(
        || UNKNOWN.to_owned(),
        |purpose| format!("What for: {}. Without it: {}.", purpose.what_for, purpose.without),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_exact_title_is_the_one_that_counts() {
        let told = |title: &str| told(&format!("ClusterRole `{title}`"));
        assert!(told("istio-cni-ambient").contains("ambient mesh"));
        assert!(told("istio-cni").contains("no pod's traffic is redirected"));
        assert!(told("istiod-gateway-controller-istio-system").contains("Gateway API"));
        assert_eq!(told("istio-of-tomorrow"), UNKNOWN);
        assert!(PURPOSES.iter().all(|purpose| !purpose.what_for.is_empty() && !purpose.without.is_empty()));
    }
}
