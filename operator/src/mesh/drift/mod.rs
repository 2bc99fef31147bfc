//! PURE: does a live object still say what we want? No client, no clock.
//!
//! `desired` is what we apply, `live` what the API server answers; the comparison is one-sided: what others added
//! stays and is no difference, with the exceptions of `extras`. Where the API server writes a value in another form
//! (quantities, dropped defaults, empty maps), the two forms are equal. `walk` goes through both sides; `place` says
//! where it is and what the API server does with lists and values there; `canonical` and `quantity` compare values.

mod canonical;
mod dropped;
mod extras;
mod fingerprint;
mod place;
mod quantity;
mod walk;

use json_patch::jsonptr::PointerBuf;
use serde_json::Value;

pub use dropped::dropped;
pub use extras::extras_patch;
pub use fingerprint::fingerprint;

/// One place where a live object is not as desired.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The place, for people: `spec.template.spec.containers[name=discovery].image`.
    pub path: String,
    /// In what way it differs.
    pub kind: DifferenceKind,
    /// What we want there; `None` for [`DifferenceKind::Extra`] and [`DifferenceKind::Dropped`].
    pub desired: Option<Value>,
    /// What is there; `None` for [`DifferenceKind::Missing`].
    pub live: Option<Value>,
    /// The place in the live object, for a patch; only of [`DifferenceKind::Extra`].
    extra_at: Option<PointerBuf>,
}

/// In what way a place differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// It has another value.
    Changed,
    /// It is gone.
    Missing,
    /// It is there and must not be: a container of a pod template, an entry of a webhook configuration, a key of a
    /// `ConfigMap`. Applying again does not take it out; [`extras_patch`] does.
    Extra,
    /// We asked for it and no longer do, and nobody else does: the next apply takes it out. Only [`dropped`] finds these.
    Dropped,
}

/// All differences, in a stable order; empty if `live` says what `desired` wants. Both are whole objects of one kind.
#[must_use]
pub fn drift(desired: &Value, live: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    walk::walk(desired, live, &mut |place, desired, live| {
        if !canonical::equal(place, Some(desired), live) {
            let kind = if live.is_some() { DifferenceKind::Changed } else { DifferenceKind::Missing };
            differences.push(Difference {
                path: place.to_string(),
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
mod laws;
#[cfg(test)]
mod tests;
