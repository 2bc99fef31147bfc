//! The charts of an Istio release.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An Istio chart. Its name is that in `Chart.yaml` and of its directory in a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChartName {
    /// CRDs and the resources shared by all revisions.
    Base,
    /// The control plane.
    Istiod,
    /// A single gateway.
    Gateway,
    /// istio-cni, the DaemonSet that redirects the traffic of pods.
    Cni,
    /// ztunnel, the node proxy of ambient mode.
    Ztunnel,
}

impl ChartName {
    /// All charts, in installation order.
    pub const ALL: [Self; 5] = [Self::Base, Self::Istiod, Self::Cni, Self::Ztunnel, Self::Gateway];

    /// The name in `Chart.yaml`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Istiod => "istiod",
            Self::Gateway => "gateway",
            Self::Cni => "cni",
            Self::Ztunnel => "ztunnel",
        }
    }

    /// The chart's directory below `charts`: that of Istio's source tree and download, and that of a catalog.
    pub(super) fn directories(self) -> [&'static str; 2] {
        match self {
            Self::Base => ["base", "base"],
            Self::Istiod => ["istio-control/istio-discovery", "istiod"],
            Self::Gateway => ["gateway", "gateway"],
            Self::Cni => ["istio-cni", "cni"],
            Self::Ztunnel => ["ztunnel", "ztunnel"],
        }
    }

    /// Whether every release must have this chart. The other charts don't exist for older releases.
    pub(super) fn is_required(self) -> bool {
        matches!(self, Self::Base | Self::Istiod | Self::Gateway)
    }

    /// Whether the chart's values have a hub and a tag. The image of a gateway is set by the injector.
    #[must_use]
    pub fn has_images(self) -> bool {
        matches!(self, Self::Istiod | Self::Cni | Self::Ztunnel)
    }
}

impl fmt::Display for ChartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
