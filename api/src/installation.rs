//! The custom resource itself and the parts of its spec that concern the whole installation.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AddOn, Adoption, ControlPlane, FreeForm, Gateway, Images, Injector, MeshInstallationStatus, NodeAgent, NodePorts,
    ObjectPatch, PlatformName, Proxy, RevisionTag, Upgrade, is_default, rules,
};

/// What the mesh should be. Everything but `version` has a default.
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
    doc = "MeshInstallation says which Istio mesh the cluster has. The operator installs it, keeps it as written here, and reports its state in status.",
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version['running','resolved']",
        description = "The version that runs or, before one does, the one being installed"
    ),
    printcolumn(
        name = "Profile",
        type_ = "string",
        json_path = ".spec.profile",
        description = "The profile that the installation starts from"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "What the operator is doing"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether the mesh is as the spec says and works"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "The state in one sentence"
    ),
    printcolumn(
        name = "Platform",
        type_ = "string",
        json_path = ".status.platform.name",
        description = "The platform that the mesh is made for",
        priority = 1
    ),
    printcolumn(
        name = "Proxies",
        type_ = "string",
        json_path = ".status.proxies.versions",
        description = "The versions of the proxies that run",
        priority = 1
    ),
    printcolumn(
        name = "Outdated",
        type_ = "boolean",
        json_path = ".status.proxies.outdated",
        description = "Whether a pod has a proxy of another version than the mesh",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    validation = rules::name_fits_a_label(),
    validation = rules::name_is_no_components(),
    validation = rules::name_is_no_gateways(),
    validation = rules::revision_stays(),
    validation = rules::no_tag_is_the_revision(),
    validation = rules::a_canary_has_no_revision_of_its_own(),
    validation = rules::the_default_needs_no_tag(),
    validation = rules::digests_are_of_one_release()
)]
#[serde(rename_all = "camelCase")]
pub struct MeshInstallationSpec {
    /// The Istio version: a release such as `1.31.2`, or a minor such as `"1.31"`, which means the
    /// newest patch of it that the operator's catalog has, never a pre-release. Quote a minor:
    /// without quotes YAML reads a number. A minor is resolved again only when the spec changes;
    /// status.version.resolved has the result.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = rules::version_has_no_v(),
        validation = rules::version_is_well_formed()
    )]
    pub version: String,
    /// What the installation starts from: `default` for production, `demo` for trying Istio out
    /// (small resources, access logs, every trace kept), `minimal` for a control plane alone,
    /// `ambient` for a mesh without sidecars (with cni and ztunnel), `openshift` and
    /// `openshift-ambient` for OpenShift (cni and ztunnel in kube-system), `stable` for Istio's
    /// stable features only, `preview` for trying what comes next. No profile brings gateways: list
    /// them in `gateways`. Default: `default`.
    #[serde(default)]
    pub profile: Profile,
    /// The control plane's namespace, made if it doesn't exist. It can't be changed later.
    /// Default: `istio-system`.
    #[serde(default = "istio_system")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = rules::is_dns_label("namespace"),
        validation = rules::namespace_stays()
    )]
    pub namespace: String,
    /// Labels put on the control plane's namespace.
    /// Example: `{pod-security.kubernetes.io/enforce: baseline}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, String>,
    /// The revision of the control plane, for a second mesh beside another: its objects are called
    /// after it (`istiod-<revision>`), and it injects only pods and namespaces that ask for it by
    /// the label `istio.io/rev`, or by a tag of it. It can't be set, changed or taken off later.
    /// Default: none; the mesh is then the one that `istio-injection=enabled` means, unless another
    /// has the tag `default`. Example: `canary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 46))]
    #[x_kube(
        validation = rules::is_dns_label("revision"),
        validation = rules::revision_is_not_default()
    )]
    pub revision: Option<String>,
    /// Revision tags: further names by which pods and namespaces ask for this control plane, as
    /// `istio.io/rev=<name>`. The tag `default` stands for `istio-injection=enabled` too. A tag
    /// belongs to one installation at a time; it moves when the other has taken it off its list, and
    /// is answered all the while. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tags: Vec<RevisionTag>,
    /// The platform that the cluster runs on, which shapes defaults: paths of the node's network
    /// plugins, the type of a gateway's Service, the range of node ports. `auto` (default) looks at
    /// nodes and API server, and stays `generic` when they don't show one for certain;
    /// status.platform has the result and its evidence. Another value overrides what is found.
    #[serde(default)]
    pub platform: PlatformName,
    /// The istiod Deployment: replicas, resources, environment, placement.
    #[serde(default, skip_serializing_if = "is_default")]
    pub control_plane: ControlPlane,
    /// Which pods get a sidecar proxy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub injector: Injector,
    /// The sidecar proxies: resources, logs, and which traffic goes through them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy: Proxy,
    /// The node agent that redirects pods' traffic, so that pods need no privileges of their own for
    /// it; ambient mode needs it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cni: NodeAgent,
    /// The node proxy of ambient mode. Where it is enabled, the mesh is ambient, whatever the
    /// profile; it needs cni.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ztunnel: NodeAgent,
    /// Gateways: Envoys at the edge of the mesh, each a Deployment and a Service. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub gateways: Vec<Gateway>,
    /// The node ports of gateways: the range, which of it to leave alone, and who chooses.
    #[serde(default, skip_serializing_if = "is_default")]
    pub node_ports: NodePorts,
    /// Istio's `MeshConfig`, merged over the profile's. Example: `{enableTracing: true}`.
    #[serde(default, skip_serializing_if = "FreeForm::is_empty")]
    pub mesh_config: FreeForm,
    /// Further values for Istio's charts, merged last. Keys that the operator must own are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub values: ChartValues,
    /// Tools that show what the mesh does, each installed where it is listed and removed where it no
    /// longer is. Default: none. Example: `[{name: prometheus, values: {retention: 7d}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub addons: Vec<AddOn>,
    /// Changes to objects of the mesh that no value can make, in the order of the list. One that
    /// finds no such object or doesn't fit it is an error, and nothing is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub patches: Vec<ObjectPatch>,
    /// Where images come from and how they are pulled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub images: Images,
    /// How a running mesh moves to a changed spec: step by step, each with a deadline, and back
    /// again where one fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upgrade: Upgrade,
    /// What becomes of objects that Helm, istioctl or the Sail Operator made under the names of the mesh's own. `Refuse`
    /// (default): nothing is written while they are there. `Adopt`: they become this installation's as they are, and no
    /// pod is restarted; where anything in them would change, nothing is written and the condition Stalled says what
    /// (`AdoptionDiffers`). `Overwrite`: they become this installation's, what differs is changed, and gateways get new
    /// pods. Neither changes the release that runs. `meshwright adopt` prints the MeshInstallation for what is installed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adoption: Adoption,
    /// True: the operator writes nothing but status, until this is false again. Default: false.
    #[serde(default)]
    pub paused: bool,
    /// What happens when this `MeshInstallation` is deleted.
    #[serde(default)]
    pub deletion: Deletion,
}

impl MeshInstallationSpec {
    /// The namespace of a gateway of this installation: its own, or else the control plane's.
    #[must_use]
    pub fn gateway_namespace<'a>(&'a self, gateway: &'a Gateway) -> &'a str {
        gateway.namespace.as_deref().unwrap_or(&self.namespace)
    }
}

fn istio_system() -> String {
    "istio-system".to_owned()
}

/// What an installation starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// For production.
    #[default]
    Default,
    /// For trying Istio out.
    Demo,
    /// A control plane alone.
    Minimal,
    /// Without sidecars.
    Ambient,
    /// Stable features only.
    Stable,
    /// What comes next.
    Preview,
    /// For OpenShift.
    Openshift,
    /// For OpenShift, without sidecars.
    OpenshiftAmbient,
}

impl Profile {
    /// Every profile.
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

    /// The profile's name as the spec spells it.
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

/// Values for Istio's charts, beside those that the operator makes from the rest of the spec.
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

/// What happens when the `MeshInstallation` is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// `Uninstall` (default) removes the mesh. `Orphan` leaves it running and only takes the
    /// operator's marks off.
    #[serde(default)]
    pub policy: DeletionPolicy,
    /// While pods still have proxies of this mesh: `Wait` (default) holds the removal and says so in
    /// the condition `InUse`; `Proceed` removes the mesh all the same.
    #[serde(default)]
    pub while_in_use: InUsePolicy,
    /// Istio's CRDs: `Keep` (default), or `Delete` them and every Istio object in the cluster.
    #[serde(default)]
    pub crds: CrdPolicy,
}

/// Whether the mesh goes with its `MeshInstallation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The mesh is removed.
    #[default]
    Uninstall,
    /// The mesh stays and is nobody's.
    Orphan,
}

/// Whether a mesh in use may be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InUsePolicy {
    /// Not before its last proxy is gone.
    #[default]
    Wait,
    /// At once.
    Proceed,
}

/// Whether Istio's CRDs go with the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CrdPolicy {
    /// They stay, with every object of theirs.
    #[default]
    Keep,
    /// They go, and every object of theirs with them.
    Delete,
}
