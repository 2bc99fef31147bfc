//! What the operator does with its own hands, and which right each deed takes.

use super::rule::{Rules, Target};
use crate::mesh::kind::Kind;
use crate::runtime::leader::LEASE_NAME;

/// How far a right reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The whole cluster.
    Cluster,
    /// The namespace of the control plane.
    Mesh,
    /// The namespace of the operator.
    Operator,
    /// Each namespace that is named, where the operator writes in no others.
    Named,
    /// The namespace in which Kubernetes has Events about what is in none, where the operator writes in no others.
    Events,
}

/// One right, what it is for, and what happens without it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) reach: Reach,
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    /// Only the object of this name.
    pub(super) name: Option<&'static str>,
    pub(super) verbs: &'static [&'static str],
    pub(super) why: &'static str,
    pub(super) without: &'static str,
}

const READ: &[&str] = &["get", "list", "watch"];
/// A server-side apply of an object that isn't there takes both create and patch.
const WRITE: &[&str] = &["create", "delete", "patch"];
const WRITE_BUT_KEEP: &[&str] = &["create", "patch"];

const NO_RESTART: &str =
    "with `Restart`, no workload is restarted, and `status.proxies.message` says so; with `Report`, nothing is missed";

/// Workloads that are restarted for their proxies' sake.
const fn restarted(resource: &'static str) -> Need {
    Need {
        reach: Reach::Cluster,
        group: "apps",
        resource,
        name: None,
        verbs: &["list", "patch"],
        why: "with `spec.proxy.update.mode: Restart`: restart workloads whose owners allow it by label, by two annotations on the pod template",
        without: NO_RESTART,
    }
}

/// All but the kinds that the mesh consists of.
const OTHERS: [Need; 21] = [
    Need {
        reach: Reach::Cluster,
        group: "meshwright.dev",
        resource: "meshinstallations",
        name: None,
        verbs: &["get", "list", "patch", "watch"],
        why: "know what is asked for; put the finalizer on and take it off",
        without: "nothing happens at all",
    },
    Need {
        reach: Reach::Cluster,
        group: "meshwright.dev",
        resource: "meshinstallations/status",
        name: None,
        verbs: &["patch"],
        why: "write status",
        without: "status stays as it was, and only the log says so",
    },
    Need {
        reach: Reach::Cluster,
        group: "",
        resource: "pods",
        name: None,
        verbs: &["list", "watch"],
        why: "know which proxies run: `status.proxies`, the metric, what to restart, and what needs the mesh before it is removed; of each pod the workload and the proxy's version are kept",
        without: "nothing is told of proxies or restarted for them; a deletion waits until the right is there, or `spec.deletion.whileInUse` is `Proceed`",
    },
    restarted("statefulsets"),
    restarted("deployments"),
    restarted("daemonsets"),
    Need {
        reach: Reach::Cluster,
        group: "policy",
        resource: "poddisruptionbudgets",
        name: None,
        verbs: &["list"],
        why: "restart no workload whose budget allows no disruption",
        without: NO_RESTART,
    },
    Need {
        reach: Reach::Cluster,
        group: "",
        resource: "namespaces",
        name: None,
        verbs: &["list"],
        why: "know in which namespaces workloads may be restarted for their proxies",
        without: NO_RESTART,
    },
    Need {
        reach: Reach::Cluster,
        group: "",
        resource: "nodes",
        name: None,
        verbs: &["list"],
        why: "find out which platform the cluster runs on; tell by which addresses the node ports of gateways are reached",
        without: "the platform is judged by the API server alone, or named by `spec.platform`; status has no addresses for gateways without a load balancer",
    },
    Need {
        reach: Reach::Cluster,
        group: "",
        resource: "pods",
        name: None,
        verbs: &["delete"],
        why: "replace a gateway pod that came up while no injector answered; gateways may be in any namespace",
        without: "such a pod stays, with an image that doesn't exist, until a person deletes it; status names it",
    },
    Need {
        reach: Reach::Cluster,
        group: "events.k8s.io",
        resource: "events",
        name: None,
        verbs: &["create", "patch"],
        why: "tell of every change of state",
        without: "there are no Events; all else works",
    },
    Need {
        reach: Reach::Cluster,
        group: "",
        resource: "events",
        name: None,
        verbs: &["list"],
        why: "say why the pods of a step of an upgrade don't come up; gateways may be in any namespace",
        without: "status has only what the pods themselves say",
    },
    Need {
        reach: Reach::Mesh,
        group: "",
        resource: "pods",
        name: None,
        verbs: &["create"],
        why: "prove injection by a dry run of a pod; none is ever made",
        without: "injection can't be proved, so the mesh never becomes Ready",
    },
    Need {
        reach: Reach::Mesh,
        group: "",
        resource: "secrets",
        name: Some("istio-ca-secret"),
        verbs: &["get"],
        why: "report, after a deletion, whether istiod's own CA was left behind; its metadata alone is asked for",
        without: "the report leaves it out",
    },
    Need {
        reach: Reach::Mesh,
        group: "",
        resource: "configmaps",
        name: None,
        verbs: WRITE,
        why: "apply, heal and remove the mesh's configuration",
        without: "the mesh is not installed",
    },
    Need {
        reach: Reach::Cluster,
        group: "",
        resource: "configmaps",
        name: Some("istio-cni-config"),
        verbs: WRITE,
        why: "apply, heal and remove the node agent's configuration, in whichever namespace that is",
        without: "cni is not installed outside the mesh's namespace; the condition Ready says so",
    },
    Need {
        reach: Reach::Operator,
        group: "",
        resource: "services",
        name: None,
        verbs: &["create", "delete"],
        why: "ask for a Service with an impossible node port: the refusal names the API server's range",
        without: "the platform's usual range is taken for it, or Kubernetes' own",
    },
    Need {
        reach: Reach::Operator,
        group: "coordination.k8s.io",
        resource: "leases",
        name: None,
        verbs: &["create"],
        why: "make the lease by which one replica leads (a create can't be limited to a name)",
        without: "no replica ever leads",
    },
    Need {
        reach: Reach::Operator,
        group: "coordination.k8s.io",
        resource: "leases",
        name: Some(LEASE_NAME),
        verbs: &["get", "list", "patch", "watch"],
        why: "hold that lease, give it back, and learn when it is free",
        without: "no replica ever leads",
    },
    Need {
        reach: Reach::Operator,
        group: "apps",
        resource: "controllerrevisions",
        name: None,
        verbs: &["create", "list", "patch"],
        why: "remember each accepted spec with the release that it meant, and whether it proved good",
        without: "nothing is applied: what can't be remembered can't be gone back to",
    },
    Need {
        reach: Reach::Operator,
        group: "apps",
        resource: "controllerrevisions",
        name: None,
        verbs: &["delete"],
        why: "forget the oldest of these, and all of an installation that was deleted",
        without: "a deletion does not end",
    },
];

/// Every right that the operator uses itself.
pub(super) fn needs() -> impl Iterator<Item = Need> {
    OTHERS.into_iter().chain(Kind::ALL.into_iter().flat_map(of_kind))
}

/// The same for an operator that writes in namespaces alone: it reads as widely, but writes nothing that is in no namespace
/// save its own resource, and restarts nobody's workloads.
pub(super) fn needs_in_namespaces() -> impl Iterator<Item = Need> {
    let is_in_namespaces = |need: &Need| {
        let kind = Kind::ALL.into_iter().find(|kind| (kind.group(), kind.plural()) == (need.group, need.resource));
        kind.is_none_or(Kind::namespaced)
    };
    let narrowed = move |need: Need| {
        if need.reach != Reach::Cluster || need.group == "meshwright.dev" {
            return Some(need);
        }
        if need.without == NO_RESTART {
            return None;
        }
        if need.verbs.iter().all(|verb| READ.contains(verb)) {
            return Some(need);
        }
        let reach = if need.group == "events.k8s.io" { Reach::Events } else { Reach::Named };
        is_in_namespaces(&need).then_some(Need { reach, ..need })
    };
    needs().filter_map(narrowed)
}

/// What applying objects of a kind takes. Gateways may be in any namespace, and so may all that they consist of.
fn of_kind(kind: Kind) -> impl Iterator<Item = Need> {
    let right = |verbs, why, without| Need {
        reach: Reach::Cluster,
        group: kind.group(),
        resource: kind.plural(),
        name: None,
        verbs,
        why,
        without,
    };
    let read = right(READ, "watch what was applied, to heal it", "the condition Ready names it; nothing is written");
    let written = "the mesh is not installed or not healed; the condition Ready names what failed";
    let write = match kind {
        // Only the control plane has any, so that these writes stay in its namespace, and the node agent has one.
        Kind::ConfigMap => None,
        Kind::Namespace => {
            Some(right(WRITE_BUT_KEEP, "make namespaces and label them; they are never deleted", written))
        }
        Kind::CustomResourceDefinition => Some(right(
            WRITE,
            "apply Istio's definitions; they are deleted only where `spec.deletion.crds` asks for it",
            written,
        )),
        Kind::ClusterRole | Kind::ClusterRoleBinding | Kind::Role | Kind::RoleBinding => {
            Some(right(WRITE, "apply and remove the mesh's own roles; never more than is held here", written))
        }
        _ => Some(right(WRITE, "apply, heal and remove the mesh's parts", written)),
    };
    std::iter::once(read).chain(write)
}

impl Need {
    /// The right itself.
    pub(super) fn add_to(&self, rules: &mut Rules) {
        let target = Target::Resource {
            group: self.group.to_owned(),
            resource: self.resource.to_owned(),
            names: self.name.into_iter().map(str::to_owned).collect(),
        };
        rules.add(target, self.verbs.iter().map(|verb| (*verb).to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_can_be_applied_can_be_watched_and_written() {
        for kind in Kind::ALL {
            let verbs: Vec<&str> = needs()
                .filter(|need| need.group == kind.group() && need.resource == kind.plural() && need.name.is_none())
                .flat_map(|need| need.verbs.iter().copied())
                .collect();
            for verb in ["get", "list", "watch", "create", "patch"] {
                assert!(verbs.contains(&verb), "{kind}: {verb} in {verbs:?}");
            }
            assert_eq!(verbs.contains(&"delete"), kind != Kind::Namespace, "{kind}");
        }
    }

    #[test]
    fn the_operator_itself_needs_no_wildcard_no_secret_but_one_and_no_way_round_rbac() {
        for need in needs() {
            let words = [need.group, need.resource].into_iter().chain(need.verbs.iter().copied());
            assert!(words.into_iter().all(|word| !word.contains('*')), "{need:?}");
            assert!(!need.verbs.iter().any(|verb| matches!(*verb, "escalate" | "bind" | "impersonate")), "{need:?}");
            assert!(need.resource != "secrets" || (need.name.is_some() && need.reach == Reach::Mesh), "{need:?}");
        }
    }

    #[test]
    fn pods_are_created_in_the_mesh_s_namespace_only() {
        let creating = needs().filter(|need| need.resource == "pods" && need.verbs.contains(&"create"));
        assert!(creating.map(|need| need.reach).eq([Reach::Mesh]));
    }
}
