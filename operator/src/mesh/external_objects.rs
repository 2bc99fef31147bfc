//! Whether an externally managed object meets the mesh's requirements, for kinds that aren't compared field by field.

use serde_json::Value;

use super::kind::Kind;
use super::object::DesiredObject;
use super::ownership::OwnershipMeta;
use super::rbac;
use super::text::abbreviate;

/// What an externally managed object lacks; `None` if its fields have to be compared. A role may grant more permissions
/// than desired. An object of a newer release was applied for a future upgrade and lacks nothing.
#[must_use]
pub fn missing(desired: &DesiredObject, live: &Value) -> Option<Vec<String>> {
    if desired.key.kind != Kind::ClusterRole {
        return (OwnershipMeta::of(live).release > desired.release).then(Vec::new);
    }
    let rules = rbac::missing_rules(desired, live).ok()?;
    let permissions: Vec<String> = rbac::group_by_scope(&rules)
        .into_iter()
        .map(|((_, verbs), targets)| format!("{} {}", verbs.join(", "), abbreviate(&targets)))
        .collect();
    let difference =
        (!permissions.is_empty()).then(|| format!("rules, which don't allow to {}", permissions.join("; ")));
    Some(difference.into_iter().collect())
}
