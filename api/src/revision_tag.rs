//! Revision tags.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// A further name of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionTag {
    /// The tag: what the label `istio.io/rev` says. Example: `prod`.
    #[schemars(length(min = 1, max = 43))]
    #[x_kube(validation = rules::is_dns_label("a tag's name"))]
    pub name: String,
}
