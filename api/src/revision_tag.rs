//! `spec.tags`: revision tags.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// A revision tag of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionTag {
    /// Name of the tag, the value of the label `istio.io/rev`. Example: `prod`.
    #[schemars(length(min = 1, max = 43))]
    #[x_kube(validation = rules::is_dns_label("a tag's name"))]
    pub name: String,
}
