//! The permissions that the operator itself uses, with their purpose.

use super::rule::{RuleSet, RuleTarget};
use crate::mesh::kind::Kind;
use crate::runtime::leader::LEASE_NAME;

/// Where a permission applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PermissionScope {
    /// In all namespaces and for cluster-scoped resources.
    Cluster,
    /// In the control plane's namespace.
    Mesh,
    /// In the operator's namespace.
    Operator,
    /// In each named namespace, for an operator with namespace-scoped permissions.
    Named,
    /// In the namespace of Events about cluster-scoped objects, for an operator with namespace-scoped permissions.
    Events,
}

/// A permission, its purpose, and what happens without it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnPermission {
    pub(super) scope: PermissionScope,
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    /// Names of the only objects; empty for all.
    pub(super) names: &'static [&'static str],
    pub(super) verbs: &'static [&'static str],
    pub(super) purpose: &'static str,
    pub(super) without: &'static str,
}

const READ: &[&str] = &["get", "list", "watch"];
/// A server-side apply of an object that does not exist takes both create and patch.
const WRITE: &[&str] = &["create", "delete", "patch"];
const WRITE_WITHOUT_DELETE: &[&str] = &["create", "patch"];

/// The CRDs of Istio releases since 1.5, which an adopted mesh may still have. RBAC can't limit `create` to names.
pub(super) const CRDS: [&str; 16] = [
    "authorizationpolicies.security.istio.io",
    "destinationrules.networking.istio.io",
    "envoyfilters.networking.istio.io",
    "gateways.networking.istio.io",
    "istiooperators.install.istio.io",
    "peerauthentications.security.istio.io",
    "proxyconfigs.networking.istio.io",
    "requestauthentications.security.istio.io",
    "serviceentries.networking.istio.io",
    "sidecars.networking.istio.io",
    "telemetries.telemetry.istio.io",
    "trafficextensions.extensions.istio.io",
    "virtualservices.networking.istio.io",
    "wasmplugins.extensions.istio.io",
    "workloadentries.networking.istio.io",
    "workloadgroups.networking.istio.io",
];
/// What is allowed for them only.
pub(super) const CRD_VERBS: [&str; 2] = ["delete", "patch"];

const NO_RESTART: &str =
    "with `Restart`, no workload is restarted, and `status.proxies.message` reports it; `Report` is not affected";

/// For restarting workloads with outdated proxies.
const fn restart_permission(resource: &'static str) -> OwnPermission {
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "apps",
        resource,
        names: &[],
        verbs: &["list", "patch"],
        purpose: "with `spec.proxy.update.mode: Restart`: restart workloads that are labelled for it, by two annotations on the pod template",
        without: NO_RESTART,
    }
}

/// All permissions except those for the kinds of the mesh's objects.
const OTHER_PERMISSIONS: [OwnPermission; 22] = [
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "meshwright.dev",
        resource: "meshinstallations",
        names: &[],
        verbs: &["get", "list", "patch", "watch"],
        purpose: "watch MeshInstallations; add and remove the finalizer",
        without: "the operator does nothing",
    },
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "meshwright.dev",
        resource: "meshinstallations/status",
        names: &[],
        verbs: &["patch"],
        purpose: "update status",
        without: "status is not updated; only the log reports it",
    },
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "",
        resource: "pods",
        names: &[],
        verbs: &["list", "watch"],
        purpose: "find running proxies for `status.proxies`, the metrics, restarts and the uninstall; only the workload and the proxy version of each pod are stored",
        without: "proxies are not reported and workloads not restarted; an uninstall waits until the permission is granted or `spec.deletion.whileInUse` is `Proceed`",
    },
    restart_permission("statefulsets"),
    restart_permission("deployments"),
    restart_permission("daemonsets"),
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "policy",
        resource: "poddisruptionbudgets",
        names: &[],
        verbs: &["list"],
        purpose: "restart no workload whose PodDisruptionBudget allows no disruption",
        without: NO_RESTART,
    },
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "",
        resource: "namespaces",
        names: &[],
        verbs: &["list"],
        purpose: "find the namespaces in which workloads may be restarted",
        without: NO_RESTART,
    },
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "",
        resource: "nodes",
        names: &[],
        verbs: &["list"],
        purpose: "detect the platform; show node addresses of gateways in status",
        without: "the platform is detected from the API server alone, or set in `spec.platform`; status has no addresses for gateways without a load balancer",
    },
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "",
        resource: "pods",
        names: &[],
        verbs: &["delete"],
        purpose: "replace gateway pods that were created without injection; gateways may be in any namespace",
        without: "such a pod keeps failing to pull the image `auto` until it is deleted manually; status names it",
    },
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "events.k8s.io",
        resource: "events",
        names: &[],
        verbs: &["create", "patch"],
        purpose: "publish Events about state changes",
        without: "no Events are published",
    },
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "",
        resource: "events",
        names: &[],
        verbs: &["list"],
        purpose: "report why pods don't start; gateways may be in any namespace",
        without: "status shows only the cause in the pods' own status",
    },
    OwnPermission {
        scope: PermissionScope::Mesh,
        group: "",
        resource: "pods",
        names: &[],
        verbs: &["create"],
        purpose: "run the injection check, a pod created in a dry run",
        without: "the injection check is impossible, so the mesh never becomes Ready",
    },
    OwnPermission {
        scope: PermissionScope::Mesh,
        group: "",
        resource: "secrets",
        names: &["istio-ca-secret"],
        verbs: &["get"],
        purpose: "report after an uninstall whether istiod's CA Secret still exists; only its metadata is read",
        without: "the report does not mention it",
    },
    OwnPermission {
        scope: PermissionScope::Mesh,
        group: "",
        resource: "secrets",
        names: &["cacerts"],
        verbs: &["get"],
        purpose: "report when the intermediate certificate of a CA that you provide expires; the private key in the Secret is not read",
        without: "`status.ca` shows the root certificate only",
    },
    OwnPermission {
        scope: PermissionScope::Mesh,
        group: "",
        resource: "configmaps",
        names: &[],
        verbs: WRITE,
        purpose: "apply the mesh's configuration, revert drift, delete it",
        without: "the mesh is not installed",
    },
    OwnPermission {
        scope: PermissionScope::Cluster,
        group: "",
        resource: "configmaps",
        names: &["istio-cni-config"],
        verbs: WRITE,
        purpose: "apply istio-cni's configuration in any namespace, revert drift, delete it",
        without: "istio-cni can't be installed outside the mesh's namespace; the condition Ready reports it",
    },
    OwnPermission {
        scope: PermissionScope::Operator,
        group: "",
        resource: "services",
        names: &[],
        verbs: &["create", "delete"],
        purpose: "create a Service with an invalid node port, since the error names the API server's node port range",
        without: "the platform's default range is assumed, or Kubernetes' own",
    },
    OwnPermission {
        scope: PermissionScope::Operator,
        group: "coordination.k8s.io",
        resource: "leases",
        names: &[],
        verbs: &["create"],
        purpose: "create the Lease for leader election (`create` can't be limited to a name)",
        without: "no replica becomes leader",
    },
    OwnPermission {
        scope: PermissionScope::Operator,
        group: "coordination.k8s.io",
        resource: "leases",
        names: &[LEASE_NAME],
        verbs: &["get", "list", "patch", "watch"],
        purpose: "acquire, renew, release and watch that Lease",
        without: "no replica becomes leader",
    },
    OwnPermission {
        scope: PermissionScope::Operator,
        group: "apps",
        resource: "controllerrevisions",
        names: &[],
        verbs: &["create", "list", "patch"],
        purpose: "store the revision history: each accepted spec with its resolved release and its result",
        without: "nothing is applied, since a rollback would be impossible",
    },
    OwnPermission {
        scope: PermissionScope::Operator,
        group: "apps",
        resource: "controllerrevisions",
        names: &[],
        verbs: &["delete"],
        purpose: "delete the oldest revisions, and all of an uninstalled mesh",
        without: "an uninstall does not finish",
    },
];

/// Every permission that the operator itself uses.
pub(super) fn own_permissions() -> impl Iterator<Item = OwnPermission> {
    OTHER_PERMISSIONS.into_iter().chain(Kind::ALL.into_iter().flat_map(permissions_for_kind))
}

/// The same for an operator with namespace-scoped permissions: it reads the same resources, but its own resource is the
/// only cluster-scoped one that it writes, and it restarts no workloads.
pub(super) fn namespaced_own_permissions() -> impl Iterator<Item = OwnPermission> {
    let is_namespaced = |permission: &OwnPermission| {
        let kind =
            Kind::ALL.into_iter().find(|kind| (kind.group(), kind.plural()) == (permission.group, permission.resource));
        kind.is_none_or(Kind::namespaced)
    };
    let narrowed = move |permission: OwnPermission| {
        if permission.scope != PermissionScope::Cluster || permission.group == "meshwright.dev" {
            return Some(permission);
        }
        if permission.without == NO_RESTART {
            return None;
        }
        if permission.verbs.iter().all(|verb| READ.contains(verb)) {
            return Some(permission);
        }
        let scope = if permission.group == "events.k8s.io" { PermissionScope::Events } else { PermissionScope::Named };
        is_namespaced(&permission).then_some(OwnPermission { scope, ..permission })
    };
    own_permissions().filter_map(narrowed)
}

/// The permissions for applying objects of a kind. Gateways and their objects may be in any namespace.
fn permissions_for_kind(kind: Kind) -> Vec<OwnPermission> {
    let permission = |verbs, purpose, without| OwnPermission {
        scope: PermissionScope::Cluster,
        group: kind.group(),
        resource: kind.plural(),
        names: &[],
        verbs,
        purpose,
        without,
    };
    let read = permission(
        READ,
        "watch applied objects to revert drift",
        "the condition Ready names the permission; nothing is written",
    );
    let without = "the mesh is not installed, or drift is not reverted; the condition Ready names the failure";
    let write = match kind {
        // Only the control plane has ConfigMaps, in its namespace, and istio-cni has one.
        Kind::ConfigMap => return vec![read],
        Kind::Namespace => {
            permission(WRITE_WITHOUT_DELETE, "create and label namespaces; they are never deleted", without)
        }
        Kind::CustomResourceDefinition => {
            let purpose = "apply Istio's CRDs; they are deleted only with `spec.deletion.crds: Delete`";
            let named = OwnPermission { names: &CRDS, ..permission(&CRD_VERBS, purpose, without) };
            let create = "create Istio's CRDs (`create` can't be limited to names)";
            return vec![read, permission(&["create"], create, without), named];
        }
        Kind::ClusterRole | Kind::ClusterRoleBinding | Kind::Role | Kind::RoleBinding => {
            permission(WRITE, "apply and delete the mesh's roles, limited to the permissions listed here", without)
        }
        _ => permission(WRITE, "apply the mesh's objects, revert drift, delete them", without),
    };
    vec![read, write]
}

impl OwnPermission {
    /// Adds the permission to a set of rules.
    pub(super) fn add_to(&self, rules: &mut RuleSet) {
        let target = RuleTarget::Resource {
            group: self.group.to_owned(),
            resource: self.resource.to_owned(),
            names: self.names.iter().map(|name| (*name).to_owned()).collect(),
        };
        rules.add(target, self.verbs.iter().map(|verb| (*verb).to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalog::ReleaseFacts;
    use crate::catalog::facts::Minor;

    #[test]
    fn every_kind_can_be_watched_and_written() {
        for kind in Kind::ALL {
            let verbs: Vec<&str> = own_permissions()
                .filter(|permission| {
                    let is_complete = permission.names.is_empty() || kind == Kind::CustomResourceDefinition;
                    permission.group == kind.group() && permission.resource == kind.plural() && is_complete
                })
                .flat_map(|permission| permission.verbs.iter().copied())
                .collect();
            for verb in ["get", "list", "watch", "create", "patch"] {
                assert!(verbs.contains(&verb), "{kind}: {verb} in {verbs:?}");
            }
            assert_eq!(verbs.contains(&"delete"), kind != Kind::Namespace, "{kind}");
        }
    }

    #[test]
    fn changes_only_crds_of_istio() {
        let facts = ReleaseFacts::bundled().unwrap();
        // Older releases have Mixer, and its CRDs.
        let since = Minor { major: 1, minor: 5 };
        let minors = facts.minors().map(|minor| minor.minor).filter(|minor| *minor >= since);
        let names: BTreeSet<&str> = minors.flat_map(|minor| facts.crds(minor).unwrap()).map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(CRDS));
        assert!(names.contains("istiooperators.install.istio.io"), "of releases before 1.24");
        let writes = own_permissions().filter(|permission| permission.resource == "customresourcedefinitions");
        for permission in writes.filter(|permission| permission.names.is_empty()) {
            assert!(!permission.verbs.iter().any(|verb| CRD_VERBS.contains(verb)), "{permission:?}");
        }
    }

    #[test]
    fn has_no_wildcard_and_no_escalation() {
        for permission in own_permissions() {
            let words = [permission.group, permission.resource].into_iter().chain(permission.verbs.iter().copied());
            assert!(words.into_iter().all(|word| !word.contains('*')), "{permission:?}");
            assert!(
                !permission.verbs.iter().any(|verb| matches!(*verb, "escalate" | "bind" | "impersonate")),
                "{permission:?}"
            );
            assert!(
                permission.resource != "secrets"
                    || (!permission.names.is_empty() && permission.scope == PermissionScope::Mesh),
                "{permission:?}"
            );
        }
    }

    #[test]
    fn creates_pods_only_in_mesh_namespace() {
        let creating = own_permissions()
            .filter(|permission| permission.resource == "pods" && permission.verbs.contains(&"create"));
        assert!(creating.map(|permission| permission.scope).eq([PermissionScope::Mesh]));
    }
}
