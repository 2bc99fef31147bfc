//! The kinds of object that an installation consists of: one closed table, so that whatever can be rendered can also be
//! watched, healed, pruned and granted.

use std::fmt;

use kube::core::{ApiResource, GroupVersionKind};

/// A kind that Meshwright applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Namespace: shared, never pruned.
    Namespace,
    /// `apiextensions.k8s.io/v1` CustomResourceDefinition: shared, never pruned.
    CustomResourceDefinition,
    /// `v1` ServiceAccount.
    ServiceAccount,
    /// `rbac.authorization.k8s.io/v1` ClusterRole.
    ClusterRole,
    /// `rbac.authorization.k8s.io/v1` ClusterRoleBinding.
    ClusterRoleBinding,
    /// `rbac.authorization.k8s.io/v1` Role.
    Role,
    /// `rbac.authorization.k8s.io/v1` RoleBinding.
    RoleBinding,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `v1` `ResourceQuota`.
    ResourceQuota,
    /// `v1` Service.
    Service,
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `autoscaling/v2` HorizontalPodAutoscaler.
    HorizontalPodAutoscaler,
    /// `policy/v1` PodDisruptionBudget.
    PodDisruptionBudget,
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
    /// `admissionregistration.k8s.io/v1` ValidatingAdmissionPolicy.
    ValidatingAdmissionPolicy,
    /// `admissionregistration.k8s.io/v1` ValidatingAdmissionPolicyBinding.
    ValidatingAdmissionPolicyBinding,
    /// `admissionregistration.k8s.io/v1` ValidatingWebhookConfiguration.
    ValidatingWebhookConfiguration,
    /// `admissionregistration.k8s.io/v1` MutatingWebhookConfiguration.
    MutatingWebhookConfiguration,
    /// `k8s.cni.cncf.io/v1` `NetworkAttachmentDefinition`, which Multus brings; most clusters don't have it.
    NetworkAttachmentDefinition,
}

/// What the API server calls a kind.
struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 20] = [
        Self::Namespace,
        Self::CustomResourceDefinition,
        Self::ServiceAccount,
        Self::ClusterRole,
        Self::ClusterRoleBinding,
        Self::Role,
        Self::RoleBinding,
        Self::ConfigMap,
        Self::ResourceQuota,
        Self::Service,
        Self::Deployment,
        Self::DaemonSet,
        Self::HorizontalPodAutoscaler,
        Self::PodDisruptionBudget,
        Self::NetworkPolicy,
        Self::ValidatingAdmissionPolicy,
        Self::ValidatingAdmissionPolicyBinding,
        Self::ValidatingWebhookConfiguration,
        Self::MutatingWebhookConfiguration,
        Self::NetworkAttachmentDefinition,
    ];

    const fn row(self) -> Row {
        const fn row(
            group: &'static str,
            version: &'static str,
            kind: &'static str,
            plural: &'static str,
            namespaced: bool,
        ) -> Row {
            Row { group, version, kind, plural, namespaced }
        }
        match self {
            Self::Namespace => row("", "v1", "Namespace", "namespaces", false),
            Self::CustomResourceDefinition => {
                row("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false)
            }
            Self::ServiceAccount => row("", "v1", "ServiceAccount", "serviceaccounts", true),
            Self::ClusterRole => row(RBAC, "v1", "ClusterRole", "clusterroles", false),
            Self::ClusterRoleBinding => row(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", false),
            Self::Role => row(RBAC, "v1", "Role", "roles", true),
            Self::RoleBinding => row(RBAC, "v1", "RoleBinding", "rolebindings", true),
            Self::ConfigMap => row("", "v1", "ConfigMap", "configmaps", true),
            Self::ResourceQuota => row("", "v1", "ResourceQuota", "resourcequotas", true),
            Self::Service => row("", "v1", "Service", "services", true),
            Self::Deployment => row("apps", "v1", "Deployment", "deployments", true),
            Self::DaemonSet => row("apps", "v1", "DaemonSet", "daemonsets", true),
            Self::HorizontalPodAutoscaler => {
                row("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true)
            }
            Self::PodDisruptionBudget => row("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
            Self::NetworkPolicy => row("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true),
            Self::ValidatingAdmissionPolicy => {
                row(ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", false)
            }
            Self::ValidatingAdmissionPolicyBinding => {
                row(ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", false)
            }
            Self::ValidatingWebhookConfiguration => {
                row(ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false)
            }
            Self::MutatingWebhookConfiguration => {
                row(ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false)
            }
            Self::NetworkAttachmentDefinition => {
                row("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition", "network-attachment-definitions", true)
            }
        }
    }

    /// The kind that an object's `apiVersion` and `kind` name, if it is one of ours. Any version of the group will do:
    /// the object is sent as it is.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Self::ALL.into_iter().find(|k| k.row().group == group && k.row().kind == kind)
    }

    /// API group; empty for the core group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        self.row().group
    }

    /// The name in the singular, as in an object's `kind`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().kind
    }

    /// The name in the plural, as in RBAC rules and paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.row().plural
    }

    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub const fn namespaced(self) -> bool {
        self.row().namespaced
    }

    /// Shared with others in the cluster: never refused, pruned or downgraded.
    #[must_use]
    pub const fn shared(self) -> bool {
        matches!(self, Self::Namespace | Self::CustomResourceDefinition)
    }

    /// Whether every API server has this kind: the others are defined by somebody else's CRD, or came with Kubernetes
    /// 1.30.
    #[must_use]
    pub const fn built_in(self) -> bool {
        !matches!(
            self,
            Self::NetworkAttachmentDefinition
                | Self::ValidatingAdmissionPolicy
                | Self::ValidatingAdmissionPolicyBinding
        )
    }

    /// Whether objects of this kind make pods, which go before their maker is gone.
    #[must_use]
    pub const fn makes_pods(self) -> bool {
        matches!(self, Self::Deployment | Self::DaemonSet)
    }

    /// What a dynamic client needs to address the kind.
    #[must_use]
    pub fn api_resource(self) -> ApiResource {
        let row = self.row();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(row.group, row.version, row.kind), row.plural)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_own_names() {
        for kind in Kind::ALL {
            let resource = kind.api_resource();
            assert_eq!(Kind::of(&resource.api_version, &resource.kind), Some(kind));
        }
    }

    #[test]
    fn a_kind_of_another_group_is_not_ours() {
        assert_eq!(Kind::of("gateway.networking.k8s.io/v1", "Service"), None);
        assert_eq!(Kind::of("networking.istio.io/v1", "Gateway"), None);
    }
}
