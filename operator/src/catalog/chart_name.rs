//! The charts that an installation is made of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of Istio's charts, by the name that its `Chart.yaml` and its folder in a catalog have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChartName {
    /// CRDs and what all revisions share.
    Base,
    /// The control plane.
    Istiod,
    /// One gateway.
    Gateway,
    /// The node agent that redirects pods' traffic.
    Cni,
    /// The node proxy of ambient mode.
    Ztunnel,
}

impl ChartName {
    /// Every chart, in the order of installation.
    pub const ALL: [Self; 5] = [Self::Base, Self::Istiod, Self::Cni, Self::Ztunnel, Self::Gateway];

    /// The name as `Chart.yaml` has it.
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

    /// Where the chart lies below a release's `charts` folder: as Istio's source tree and download
    /// have it, and as a catalog and the chart's own name have it.
    pub(super) fn folders(self) -> [&'static str; 2] {
        match self {
            Self::Base => ["base", "base"],
            Self::Istiod => ["istio-control/istio-discovery", "istiod"],
            Self::Gateway => ["gateway", "gateway"],
            Self::Cni => ["istio-cni", "cni"],
            Self::Ztunnel => ["ztunnel", "ztunnel"],
        }
    }

    /// Whether a release without this chart can't be used at all. The others are younger than some
    /// releases.
    pub(super) fn is_indispensable(self) -> bool {
        matches!(self, Self::Base | Self::Istiod | Self::Gateway)
    }

    /// Whether the chart runs images, and so has a hub and a tag among its values. A gateway's image
    /// comes from the injector.
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
