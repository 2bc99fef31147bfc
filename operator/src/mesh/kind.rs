//! The kinds that an installation consists of, in one closed table: every kind that can be rendered is also watched,
//! checked for drift, pruned, and covered by RBAC.

use std::fmt;

use kube::core::{ApiResource, GroupVersionKind};

/// A kind that Meshwright applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Namespace: shared with others, never pruned.
    Namespace,
    /// `apiextensions.k8s.io/v1` CustomResourceDefinition: shared with other meshes, never pruned.
    CustomResourceDefinition,
    /// `v1` ServiceAccount of istiod, cni, ztunnel, a gateway or an add-on.
    ServiceAccount,
    /// `rbac.authorization.k8s.io/v1` ClusterRole, whose permissions the operator must have itself.
    ClusterRole,
    /// `rbac.authorization.k8s.io/v1` ClusterRoleBinding, applied once its role exists.
    ClusterRoleBinding,
    /// `rbac.authorization.k8s.io/v1` Role in the namespace of a component.
    Role,
    /// `rbac.authorization.k8s.io/v1` RoleBinding, applied once its role exists.
    RoleBinding,
    /// `v1` ConfigMap, such as the mesh configuration and the injector's templates.
    ConfigMap,
    /// `v1` `ResourceQuota`, which GKE requires for system priority classes.
    ResourceQuota,
    /// `v1` Service of istiod, a gateway or an add-on.
    Service,
    /// `apps/v1` Deployment of istiod, a gateway or an add-on.
    Deployment,
    /// `apps/v1` DaemonSet of cni or ztunnel.
    DaemonSet,
    /// `autoscaling/v2` HorizontalPodAutoscaler of istiod or a gateway.
    HorizontalPodAutoscaler,
    /// `policy/v1` PodDisruptionBudget of istiod or a gateway.
    PodDisruptionBudget,
    /// `networking.k8s.io/v1` NetworkPolicy, mostly of add-ons.
    NetworkPolicy,
    /// `admissionregistration.k8s.io/v1` ValidatingAdmissionPolicy, served since Kubernetes 1.30.
    ValidatingAdmissionPolicy,
    /// `admissionregistration.k8s.io/v1` ValidatingAdmissionPolicyBinding, served since Kubernetes 1.30.
    ValidatingAdmissionPolicyBinding,
    /// `admissionregistration.k8s.io/v1` ValidatingWebhookConfiguration for Istio's configuration.
    ValidatingWebhookConfiguration,
    /// `admissionregistration.k8s.io/v1` MutatingWebhookConfiguration of the sidecar injector.
    MutatingWebhookConfiguration,
    /// `k8s.cni.cncf.io/v1` `NetworkAttachmentDefinition`, which Multus installs; most clusters don't have it.
    NetworkAttachmentDefinition,
}

/// Names and scope of a kind in the Kubernetes API.
struct KindInfo {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

impl Kind {
    /// All kinds, in the order of declaration.
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

    const fn info(self) -> KindInfo {
        const fn info(
            group: &'static str,
            version: &'static str,
            kind: &'static str,
            plural: &'static str,
            namespaced: bool,
        ) -> KindInfo {
            KindInfo { group, version, kind, plural, namespaced }
        }
        match self {
            Self::Namespace => info("", "v1", "Namespace", "namespaces", false),
            Self::CustomResourceDefinition => {
                info("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false)
            }
            Self::ServiceAccount => info("", "v1", "ServiceAccount", "serviceaccounts", true),
            Self::ClusterRole => info(RBAC, "v1", "ClusterRole", "clusterroles", false),
            Self::ClusterRoleBinding => info(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", false),
            Self::Role => info(RBAC, "v1", "Role", "roles", true),
            Self::RoleBinding => info(RBAC, "v1", "RoleBinding", "rolebindings", true),
            Self::ConfigMap => info("", "v1", "ConfigMap", "configmaps", true),
            Self::ResourceQuota => info("", "v1", "ResourceQuota", "resourcequotas", true),
            Self::Service => info("", "v1", "Service", "services", true),
            Self::Deployment => info("apps", "v1", "Deployment", "deployments", true),
            Self::DaemonSet => info("apps", "v1", "DaemonSet", "daemonsets", true),
            Self::HorizontalPodAutoscaler => {
                info("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true)
            }
            Self::PodDisruptionBudget => info("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
            Self::NetworkPolicy => info("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true),
            Self::ValidatingAdmissionPolicy => {
                info(ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", false)
            }
            Self::ValidatingAdmissionPolicyBinding => {
                info(ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", false)
            }
            Self::ValidatingWebhookConfiguration => {
                info(ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false)
            }
            Self::MutatingWebhookConfiguration => {
                info(ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false)
            }
            Self::NetworkAttachmentDefinition => {
                info("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition", "network-attachment-definitions", true)
            }
        }
    }

    /// The kind of an object by its `apiVersion` and `kind`, if it is in the table. The version is ignored, since the
    /// object is applied unchanged.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Self::ALL.into_iter().find(|k| k.info().group == group && k.info().kind == kind)
    }

    /// The API group, which is empty for the core group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        self.info().group
    }

    /// The value of an object's `kind`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.info().kind
    }

    /// The plural resource name, as in RBAC rules and URL paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.info().plural
    }

    /// Whether the kind is namespaced.
    #[must_use]
    pub const fn namespaced(self) -> bool {
        self.info().namespaced
    }

    /// Whether other installations and users share objects of this kind: they are never refused, pruned or downgraded.
    #[must_use]
    pub const fn shared(self) -> bool {
        matches!(self, Self::Namespace | Self::CustomResourceDefinition)
    }

    /// Whether every supported API server serves this kind. The others require a third-party CRD or Kubernetes 1.30.
    #[must_use]
    pub const fn built_in(self) -> bool {
        !matches!(
            self,
            Self::NetworkAttachmentDefinition
                | Self::ValidatingAdmissionPolicy
                | Self::ValidatingAdmissionPolicyBinding
        )
    }

    /// Whether objects of this kind create pods, which are deleted before the object is gone.
    #[must_use]
    pub const fn makes_pods(self) -> bool {
        matches!(self, Self::Deployment | Self::DaemonSet)
    }

    /// The resource description for a dynamic client.
    #[must_use]
    pub fn api_resource(self) -> ApiResource {
        let info = self.info();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(info.group, info.version, info.kind), info.plural)
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
    fn finds_every_kind_by_its_names() {
        for kind in Kind::ALL {
            let resource = kind.api_resource();
            assert_eq!(Kind::of(&resource.api_version, &resource.kind), Some(kind));
        }
    }

    #[test]
    fn ignores_kinds_of_other_groups() {
        assert_eq!(Kind::of("gateway.networking.k8s.io/v1", "Service"), None);
        assert_eq!(Kind::of("networking.istio.io/v1", "Gateway"), None);
    }
}
