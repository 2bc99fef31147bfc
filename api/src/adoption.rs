//! `spec.adoption`: how to handle existing Istio resources.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to handle existing resources that have the names of the mesh's objects and are not managed by Meshwright.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// Leave them unchanged and write nothing while they exist.
    #[default]
    Refuse,
    /// Take ownership without changing them. If the rendered objects differ, or if an adopted workload would get an
    /// additional object, write nothing and report the differences.
    Adopt,
    /// Take ownership and overwrite differences. Pods whose template differs are replaced; gateway pods are always
    /// replaced.
    Overwrite,
}
