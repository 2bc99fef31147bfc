//! The custom resource `MeshInstallation` and the parts of its spec that concern the whole installation.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AddOn, Adoption, ControlPlane, FreeForm, Gateway, Images, Injector, MeshInstallationStatus, NodeComponent,
    NodePorts, ObjectPatch, PlatformName, Proxy, RevisionTag, Upgrade, is_default, rules,
};

/// Desired state of the mesh. All fields except `version` have defaults.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "meshwright.dev",
    version = "v1alpha1",
    kind = "MeshInstallation",
    plural = "meshinstallations",
    singular = "meshinstallation",
    shortname = "mi",
    category = "mesh",
    status = "MeshInstallationStatus",
    derive = "PartialEq",
    doc = "MeshInstallation describes an Istio mesh in the cluster. The operator installs and upgrades it, reverts drift, and reports its health in status.",
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version['running','resolved']",
        description = "Running Istio version, or the version being installed"
    ),
    printcolumn(
        name = "Profile",
        type_ = "string",
        json_path = ".spec.profile",
        description = "Configuration profile"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Current phase of the installation"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether the mesh matches its spec and is healthy"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "Summary of the current state"
    ),
    printcolumn(
        name = "Platform",
        type_ = "string",
        json_path = ".status.platform.name",
        description = "Kubernetes platform of the cluster",
        priority = 1
    ),
    printcolumn(
        name = "Proxies",
        type_ = "string",
        json_path = ".status.proxies.versions",
        description = "Versions of running proxies",
        priority = 1
    ),
    printcolumn(
        name = "Outdated",
        type_ = "boolean",
        json_path = ".status.proxies.outdated",
        description = "Whether the proxy version of any pod differs from the mesh's version",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    validation = rules::name_is_label_value(),
    validation = rules::name_is_not_a_component(),
    validation = rules::name_is_not_a_gateway(),
    validation = rules::revision_is_immutable(),
    validation = rules::tags_differ_from_revision(),
    validation = rules::canary_excludes_revision(),
    validation = rules::default_tag_requires_revision(),
    validation = rules::digests_require_exact_version()
)]
#[serde(rename_all = "camelCase")]
pub struct MeshInstallationSpec {
    /// Istio version: an exact release such as `1.31.2`, or a minor version such as `"1.31"`, which selects the newest
    /// patch release in the operator's catalog, never a pre-release. Quote minor versions, because YAML parses them as
    /// numbers otherwise. A minor version is only resolved again when the spec changes; `status.version.resolved`
    /// shows the result.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = rules::version_has_no_leading_v(),
        validation = rules::version_is_well_formed()
    )]
    pub version: String,
    /// Configuration profile: `default` for production, `demo` for evaluation (small resource requests, access logs,
    /// tracing of every request), `minimal` for a single small istiod, `ambient` for ambient mode (cni and ztunnel
    /// instead of sidecars), `openshift` and `openshift-ambient` for OpenShift (cni and ztunnel in kube-system),
    /// `stable` for stable features only, `preview` for features planned for future releases. No profile includes
    /// gateways; define them in `gateways`. Default: `default`.
    #[serde(default)]
    pub profile: Profile,
    /// Namespace of the control plane, created if it doesn't exist. Immutable. Default: `istio-system`.
    #[serde(default = "istio_system")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = rules::is_dns_label("namespace"),
        validation = rules::namespace_is_immutable()
    )]
    pub namespace: String,
    /// Labels added to the control plane's namespace.
    /// Example: `{pod-security.kubernetes.io/enforce: baseline}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, String>,
    /// Revision of the control plane, required to install a second mesh in the cluster. The revision becomes part of
    /// object names (`istiod-<revision>`), and only pods and namespaces that select it or one of its tags with the
    /// label `istio.io/rev` are injected. Immutable; it can't be added or removed later. Default: none; the mesh then
    /// injects namespaces with `istio-injection=enabled`, unless another mesh has the tag `default`. Example:
    /// `canary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 46))]
    #[x_kube(
        validation = rules::is_dns_label("revision"),
        validation = rules::revision_is_not_default()
    )]
    pub revision: Option<String>,
    /// Revision tags: stable names that pods and namespaces can select with `istio.io/rev=<tag>` instead of the
    /// revision. The tag `default` also selects namespaces with `istio-injection=enabled`. A tag belongs to one
    /// installation at a time. To move it, list it in the new installation and remove it from the old one; injection
    /// continues during the move. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tags: Vec<RevisionTag>,
    /// Kubernetes platform of the cluster. It determines defaults such as the paths of CNI plugins, the type of
    /// gateway Services and the node port range. `auto` (default) detects the platform from the nodes and the API
    /// server, and uses `generic` if the result is ambiguous; `status.platform` shows the result and its evidence.
    /// Other values override the detection.
    #[serde(default)]
    pub platform: PlatformName,
    /// Configuration of the istiod Deployment: replicas, resources, environment variables and scheduling.
    #[serde(default, skip_serializing_if = "is_default")]
    pub control_plane: ControlPlane,
    /// Configuration of sidecar injection.
    #[serde(default, skip_serializing_if = "is_default")]
    pub injector: Injector,
    /// Configuration of sidecar proxies: resources, logging, traffic redirection and restarts after upgrades.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy: Proxy,
    /// Configuration of istio-cni, a DaemonSet that sets up traffic redirection so that application pods need no
    /// elevated privileges. Required in ambient mode.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cni: NodeComponent,
    /// Configuration of ztunnel, the node proxy of ambient mode. Enabling it makes the mesh ambient with any profile.
    /// Requires cni.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ztunnel: NodeComponent,
    /// Ingress, egress and east-west gateways, each with a Deployment and a Service. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub gateways: Vec<Gateway>,
    /// Node ports of gateways: range, reserved ports and assignment.
    #[serde(default, skip_serializing_if = "is_default")]
    pub node_ports: NodePorts,
    /// Istio's MeshConfig. It is merged over the MeshConfig of the profile. Example: `{enableTracing: true}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub mesh_config: FreeForm,
    /// Additional values for Istio's charts. They take precedence over all other values. The operator rejects
    /// a key that another field sets differently, and reports unknown keys.
    #[serde(default, skip_serializing_if = "is_default")]
    pub values: ChartValues,
    /// Observability add-ons. The operator installs each listed add-on and uninstalls it when it is removed from the
    /// list. Default: none. Example: `[{name: prometheus, values: {retention: 7d}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub addons: Vec<AddOn>,
    /// JSON patches for rendered objects, for changes that no chart value supports. They are applied in order. If a
    /// target doesn't exist or a patch fails, the operator reports an error and applies nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub patches: Vec<ObjectPatch>,
    /// Registry, pull policy, pull secrets and digests of images.
    #[serde(default, skip_serializing_if = "is_default")]
    pub images: Images,
    /// How the operator rolls out spec changes to a running mesh: strategy, deadline of each step and behavior on
    /// failure.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upgrade: Upgrade,
    /// How to handle existing Istio resources created by Helm, istioctl or the Sail Operator. `Refuse` (default): the
    /// operator writes nothing while they exist. `Adopt`: the operator takes ownership without changing them or
    /// restarting pods; if the rendered objects differ, or if it would have to create one that an existing workload has
    /// worked without, it writes nothing and reports the differences in the condition Stalled (`AdoptionConflict`).
    /// `Overwrite`: the operator takes ownership, overwrites differences and replaces gateway pods. Neither changes the
    /// running Istio version. `meshwright adopt` prints a MeshInstallation for existing resources.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adoption: Adoption,
    /// Whether reconciliation is paused. While it is true, the operator only updates status. Default: false.
    #[serde(default)]
    pub paused: bool,
    /// What the operator does when this MeshInstallation is deleted.
    #[serde(default)]
    pub deletion: Deletion,
}

impl MeshInstallationSpec {
    /// Returns the namespace of a gateway: its own or by default the control plane's.
    #[must_use]
    pub fn gateway_namespace<'a>(&'a self, gateway: &'a Gateway) -> &'a str {
        gateway.namespace.as_deref().unwrap_or(&self.namespace)
    }
}

fn istio_system() -> String {
    "istio-system".to_owned()
}

/// Configuration profile: the default values that the spec starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Istio's defaults, for production.
    #[default]
    Default,
    /// Evaluation: small resource requests, access logs and full tracing.
    Demo,
    /// A single small istiod.
    Minimal,
    /// Ambient mode: no sidecars.
    Ambient,
    /// Only Istio's stable features.
    Stable,
    /// Features planned for future Istio releases.
    Preview,
    /// Sidecar mode on OpenShift.
    Openshift,
    /// Ambient mode on OpenShift.
    OpenshiftAmbient,
}

impl Profile {
    /// All profiles in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Default,
        Self::Demo,
        Self::Minimal,
        Self::Ambient,
        Self::Stable,
        Self::Preview,
        Self::Openshift,
        Self::OpenshiftAmbient,
    ];

    /// Returns the profile's name as it is written in the spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Demo => "demo",
            Self::Minimal => "minimal",
            Self::Ambient => "ambient",
            Self::Stable => "stable",
            Self::Preview => "preview",
            Self::Openshift => "openshift",
            Self::OpenshiftAmbient => "openshift-ambient",
        }
    }
}

/// Additional values for Istio's charts. They take precedence over the values that the operator derives from the spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChartValues {
    /// Values of the `base` chart (CRDs and cluster roles).
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub base: FreeForm,
    /// Values of the `istiod` chart. Example: `{global: {logging: {level: "default:debug"}}}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub istiod: FreeForm,
    /// Values of the `cni` chart. Example: `{excludeNamespaces: [kube-system, legacy]}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub cni: FreeForm,
    /// Values of the `ztunnel` chart. Example: `{logLevel: debug}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub ztunnel: FreeForm,
}

/// What the operator does when the MeshInstallation is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// What happens to the mesh. `Uninstall` (default): the operator removes it. `Orphan`: the mesh keeps running, and
    /// the operator only removes its ownership labels and annotations.
    #[serde(default)]
    pub policy: DeletionPolicy,
    /// What happens while pods use proxies of this mesh. `Wait` (default): the operator delays the removal and reports
    /// the pods in the condition `InUse`. `Proceed`: the operator removes the mesh anyway.
    #[serde(default)]
    pub while_in_use: InUsePolicy,
    /// What happens to Istio's CRDs. `Keep` (default): they stay. `Delete`: the operator deletes them, and with them
    /// all Istio custom resources in the cluster.
    #[serde(default)]
    pub crds: CrdPolicy,
}

/// What happens to the mesh when its MeshInstallation is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The operator removes the mesh.
    #[default]
    Uninstall,
    /// The mesh keeps running, unmanaged.
    Orphan,
}

/// Whether to remove a mesh that pods still use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InUsePolicy {
    /// Wait until no pod uses a proxy of the mesh.
    #[default]
    Wait,
    /// Remove the mesh immediately.
    Proceed,
}

/// What happens to Istio's CRDs when the mesh is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CrdPolicy {
    /// Keep the CRDs and their custom resources.
    #[default]
    Keep,
    /// Delete the CRDs and with them all their custom resources.
    Delete,
}
