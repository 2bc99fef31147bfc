//! Drift detection: compares the desired object that the operator applies with the live object of the API server.
//!
//! The comparison is one-sided: fields that other clients added are no drift, with the exceptions in `extras`.
//! Notations that the API server normalizes (quantities, omitted defaults, empty maps) are equal. `walk` traverses both
//! objects; `path` has the path of a field and how the API server treats lists and values at it; `canonical` and
//! `quantity` compare values.

mod canonical;
mod dropped;
mod extras;
mod fingerprint;
mod path;
mod quantity;
mod walk;

use json_patch::jsonptr::PointerBuf;
use serde_json::Value;

pub use dropped::dropped;
pub use extras::extras_patch;
pub use fingerprint::fingerprint;

/// A field in which a live object differs from the desired one.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Readable path, such as `spec.template.spec.containers[name=discovery].image`.
    pub path: String,
    /// How the field differs.
    pub kind: DifferenceKind,
    /// The desired value; `None` for [`DifferenceKind::Extra`] and [`DifferenceKind::Dropped`].
    pub desired: Option<Value>,
    /// The live value; `None` for [`DifferenceKind::Missing`].
    pub live: Option<Value>,
    /// JSON pointer into the live object for a patch; only for [`DifferenceKind::Extra`].
    extra_at: Option<PointerBuf>,
}

/// How a field differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The live object has another value.
    Changed,
    /// The live object lacks the field.
    Missing,
    /// Another client added a container of a pod template, an entry of a webhook configuration or a key of a
    /// `ConfigMap`. An apply does not remove it; [`extras_patch`] does.
    Extra,
    /// Only the operator owns the field, and it is no longer desired: the next apply removes it. Only [`dropped`]
    /// returns these.
    Dropped,
}

/// All differences, in a stable order; empty if `live` matches `desired`. Both are complete objects of one kind.
#[must_use]
pub fn drift(desired: &Value, live: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    walk::walk(desired, live, &mut |path, desired, live| {
        if !canonical::equal(path, Some(desired), live) {
            let kind = if live.is_some() { DifferenceKind::Changed } else { DifferenceKind::Missing };
            differences.push(Difference {
                path: path.to_string(),
                kind,
                desired: Some(desired.clone()),
                live: live.cloned(),
                extra_at: None,
            });
        }
    });
    extras::find(desired, live, &mut differences);
    differences
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
