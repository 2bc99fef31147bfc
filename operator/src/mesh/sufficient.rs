//! Whether an object that somebody else has applied is as good as the desired one, where that is another question than whether
//! it has the same fields.

use serde_json::Value;

use super::kind::Kind;
use super::marks::Marks;
use super::object::Desired;
use super::rights;
use super::words::few;

/// What a live object lacks; `None` where its fields have to tell. A role may allow more. What is of a newer release was
/// applied for an upgrade that is to come, and is not judged by an older one.
#[must_use]
pub fn lacks(desired: &Desired, live: &Value) -> Option<Vec<String>> {
    if desired.key.kind != Kind::ClusterRole {
        return (Marks::of(live).release > desired.release).then(Vec::new);
    }
    let missing = rights::lacking(desired, live).ok()?;
    let missing = rights::together(&missing).into_iter();
    let missing: Vec<String> =
        missing.map(|((_, verbs), targets)| format!("{} {}", verbs.join(", "), few(&targets))).collect();
    let told = (!missing.is_empty()).then(|| format!("rules, which don't allow to {}", missing.join("; ")));
    Some(told.into_iter().collect())
}
