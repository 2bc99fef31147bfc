//! What of an installation's objects is to exist now, beside those of other installations.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::standing::Standing;
use crate::mesh::kind::Kind;
use crate::mesh::live::{Facts, Live, LiveObjects};
use crate::mesh::object::{AdmitObjectError, Component, Desired, ObjectKey, Owner};
use crate::mesh::revisions::{DEFAULT, Revision};

/// What of an installation's objects is to exist now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrangement {
    /// All that the installation needs.
    pub desired: Vec<Arc<Desired>>,
    /// What of that another installation writes, or somebody has applied beforehand.
    pub anothers: BTreeSet<ObjectKey>,
    /// What is its own and no longer needed, but stays until another installation answers in its place.
    pub kept: BTreeSet<ObjectKey>,
    /// Tags that are on the move from or to it.
    pub moving: BTreeSet<String>,
}

impl Arrangement {
    /// What this installation writes.
    #[must_use]
    pub fn own(&self) -> Vec<Arc<Desired>> {
        self.desired.iter().filter(|object| !self.anothers.contains(&object.key)).cloned().collect()
    }

    /// What somebody else applies beforehand.
    #[must_use]
    pub fn preinstalled(&self) -> Vec<Arc<Desired>> {
        self.desired.iter().filter(|object| object.preinstalled).cloned().collect()
    }

    /// What it writes now, which may be less than all, and what another writes for it.
    #[must_use]
    pub fn with_anothers(&self, own: &[Arc<Desired>]) -> Vec<Arc<Desired>> {
        let anothers = self.desired.iter().filter(|object| self.anothers.contains(&object.key));
        own.iter().chain(anothers).cloned().collect()
    }

    /// Whether something is to come from another installation, whose objects nothing tells of.
    #[must_use]
    pub fn waits_for_another(&self, live: &LiveObjects) -> bool {
        let is_open = |key: &ObjectKey| {
            live.get(key).is_some_and(|live| live.deleting || live.facts == Facts::Definition { established: false })
        };
        !self.moving.is_empty() || self.anothers.iter().any(is_open)
    }

    /// The live objects without those that stay for now, so that they are not pruned.
    #[must_use]
    pub fn without_kept<'l>(&self, live: &'l LiveObjects) -> Cow<'l, LiveObjects> {
        let preinstalled = self.desired.iter().any(|object| object.preinstalled);
        if self.kept.is_empty() && !preinstalled {
            return Cow::Borrowed(live);
        }
        let stays = |key: &ObjectKey| self.kept.contains(key) || (preinstalled && !key.kind.namespaced());
        let others = live.iter().filter(|(key, _)| !stays(key));
        Cow::Owned(others.map(|(key, live)| (key.clone(), live.clone())).collect())
    }
}

/// Arranges what was rendered of an installation. `proved` says that its own revision injects.
pub fn arrange(
    rendered: &[Arc<Desired>],
    owner: &Owner,
    live: &LiveObjects,
    standing: Standing<'_>,
    proved: bool,
) -> Result<Arrangement, AdmitObjectError> {
    let mut arranged = Arrangement {
        desired: Vec::with_capacity(rendered.len()),
        anothers: BTreeSet::new(),
        kept: BTreeSet::new(),
        moving: BTreeSet::new(),
    };
    for object in rendered {
        let found = live.get(&object.key);
        let place = match name_of(object, standing) {
            Some(tag) => {
                let place = place(object, tag, found, standing, proved);
                if place != Place::Active && (standing.is_mine(tag) || !standing.is_answered_by_another(tag)) {
                    arranged.moving.insert(tag.to_owned());
                }
                place
            }
            None => Place::Active,
        };
        match place {
            Place::Active => arranged.desired.push(Arc::clone(object)),
            Place::Deactivated => arranged.desired.push(Arc::new(object.revise(deactivated(object.value()))?)),
            Place::Absent => continue,
        }
        if object.preinstalled || standing.beside.is_anothers(object, found, &owner.release) {
            arranged.anothers.insert(object.key.clone());
        }
    }
    let wanted: BTreeSet<&ObjectKey> = arranged.desired.iter().map(|object| &object.key).collect();
    for (key, tag) in left_over(live, owner).filter(|(key, _)| !wanted.contains(key)) {
        let awaited = standing.holder(tag).is_some() && !standing.is_answered_by_another(tag);
        if awaited {
            arranged.kept.insert(key.clone());
            arranged.moving.insert(tag.to_owned());
        }
    }
    Ok(arranged)
}

/// Whether the objects of an installation that goes must stay for now, since another is to answer for a tag of it and
/// doesn't yet: the tags.
#[must_use]
pub fn awaited(live: &LiveObjects, standing: Standing<'_>) -> BTreeSet<String> {
    let awaited = |tag: &str| standing.holder(tag).is_some() && !standing.is_answered_by_another(tag);
    let answered = live.values().flat_map(|live| match &live.facts {
        Facts::Webhooks { answers, .. } if !live.deleting => answers.clone(),
        _ => Vec::new(),
    });
    answered.filter(|tag| awaited(tag)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Deactivated,
    Absent,
}

/// The tag that decides over an object: the one that it is for, and the default for the injector of the default revision.
fn name_of<'a>(object: &'a Desired, standing: Standing<'_>) -> Option<&'a str> {
    match &object.component {
        Component::Tag(tag) => Some(tag),
        Component::Istiod if is_injector(object) && standing.beside.me().revision == Revision::Default => Some(DEFAULT),
        _ => None,
    }
}

fn is_injector(object: &Desired) -> bool {
    object.key.kind == Kind::MutatingWebhookConfiguration
}

fn place(object: &Desired, tag: &str, found: Option<&Live>, standing: Standing<'_>, proved: bool) -> Place {
    let (mine, answered) = (standing.is_mine(tag), standing.is_answered_by_another(tag));
    if object.component == Component::Istiod {
        return if mine || !answered { Place::Active } else { Place::Deactivated };
    }
    let already = found.is_some_and(|live| live.marks.installation.as_deref() == Some(&standing.beside.me().name));
    let callable = found.is_some_and(
        |live| matches!(&live.facts, Facts::Webhooks { without_ca, .. } if without_ca.is_empty() && !live.deleting),
    );
    if !mine || (answered && !already && !proved) {
        Place::Absent
    } else if answered && is_injector(object) && !callable {
        Place::Deactivated
    } else {
        Place::Active
    }
}

/// The objects of tags that are this installation's, and their tags.
fn left_over<'a>(live: &'a LiveObjects, owner: &Owner) -> impl Iterator<Item = (&'a ObjectKey, &'a str)> {
    live.iter().filter_map(move |(key, live)| match &live.marks.component {
        Some(Component::Tag(tag)) if live.marks.uid.as_deref() == Some(&owner.uid) => Some((key, tag.as_str())),
        _ => None,
    })
}

/// What a deactivated webhook asks for: no pod and no namespace has it.
pub const DEACTIVATED_LABEL: &str = "istio.io/deactivated";

/// Makes an injection webhook match no pod, as istioctl does it.
#[must_use]
pub fn deactivated(mut object: Value) -> Value {
    let never = json!({"matchLabels": {DEACTIVATED_LABEL: "never-match"}});
    for entry in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("namespaceSelector".into(), never.clone());
            entry.insert("objectSelector".into(), never.clone());
        }
    }
    object
}

#[cfg(test)]
mod tests;
