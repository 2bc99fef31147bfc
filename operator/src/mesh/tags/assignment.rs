//! Which of an installation's objects to apply now, given the objects of its peers.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::ownership::TagOwnership;
use crate::mesh::kind::Kind;
use crate::mesh::object::{Component, DesiredObject, ObjectKey, Owner, ParseObjectError};
use crate::mesh::observed::{ObjectState, ObservedObject, ObservedObjects};
use crate::mesh::revisions::{DEFAULT, Revision};

/// The objects of an installation that exist now, and who writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectAssignment {
    /// All desired objects.
    pub desired: Vec<Arc<DesiredObject>>,
    /// Desired objects that a peer writes or that are externally managed.
    pub written_by_peers: BTreeSet<ObjectKey>,
    /// Own objects that are no longer desired but stay until a peer's webhook replaces them.
    pub retained: BTreeSet<ObjectKey>,
    /// Tags that are moving from or to the installation.
    pub moving_tags: BTreeSet<String>,
}

impl ObjectAssignment {
    /// The keys of all desired objects.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<ObjectKey> {
        self.desired.iter().map(|object| object.key.clone()).collect()
    }

    /// The objects that this installation writes.
    #[must_use]
    pub fn own(&self) -> Vec<Arc<DesiredObject>> {
        self.desired.iter().filter(|object| !self.written_by_peers.contains(&object.key)).cloned().collect()
    }

    /// The objects that are externally managed.
    #[must_use]
    pub fn externally_managed(&self) -> Vec<Arc<DesiredObject>> {
        self.desired.iter().filter(|object| object.externally_managed).cloned().collect()
    }

    /// The given objects, which this installation writes now, with those that peers write for it.
    #[must_use]
    pub fn with_peer_objects(&self, own: &[Arc<DesiredObject>]) -> Vec<Arc<DesiredObject>> {
        let of_peers = self.desired.iter().filter(|object| self.written_by_peers.contains(&object.key));
        own.iter().chain(of_peers).cloned().collect()
    }

    /// Whether the reconcile waits for objects of a peer, which the watches don't report.
    #[must_use]
    pub fn waits_for_peer(&self, live: &ObservedObjects) -> bool {
        let is_pending = |key: &ObjectKey| {
            live.get(key).is_some_and(|live| live.deleting || live.state == ObjectState::Crd { established: false })
        };
        !self.moving_tags.is_empty() || self.written_by_peers.iter().any(is_pending)
    }

    /// The live objects without retained ones, so that those are not pruned.
    #[must_use]
    pub fn without_retained<'l>(&self, live: &'l ObservedObjects) -> Cow<'l, ObservedObjects> {
        let externally_managed = self.desired.iter().any(|object| object.externally_managed);
        if self.retained.is_empty() && !externally_managed {
            return Cow::Borrowed(live);
        }
        let is_retained =
            |key: &ObjectKey| self.retained.contains(key) || (externally_managed && !key.kind.namespaced());
        let other_objects = live.iter().filter(|(key, _)| !is_retained(key));
        Cow::Owned(other_objects.map(|(key, live)| (key.clone(), live.clone())).collect())
    }
}

/// Assigns the rendered objects of an installation. `injects`: its own revision injects.
pub fn assign_objects(
    rendered: &[Arc<DesiredObject>],
    owner: &Owner,
    live: &ObservedObjects,
    tag_ownership: TagOwnership<'_>,
    injects: bool,
) -> Result<ObjectAssignment, ParseObjectError> {
    let mut assignment = ObjectAssignment {
        desired: Vec::with_capacity(rendered.len()),
        written_by_peers: BTreeSet::new(),
        retained: BTreeSet::new(),
        moving_tags: BTreeSet::new(),
    };
    for object in rendered {
        let found = live.get(&object.key);
        let state = match tag_of(object, tag_ownership) {
            Some(tag) => {
                let state = assign(object, tag, found, tag_ownership, injects);
                if state != TagObjectState::Active
                    && (tag_ownership.is_mine(tag) || !tag_ownership.is_served_by_peer(tag))
                {
                    assignment.moving_tags.insert(tag.to_owned());
                }
                state
            }
            None => TagObjectState::Active,
        };
        match state {
            TagObjectState::Active => assignment.desired.push(Arc::clone(object)),
            TagObjectState::Deactivated => {
                assignment.desired.push(Arc::new(object.with_content(deactivate(object.value()))?));
            }
            TagObjectState::Absent => continue,
        }
        if object.externally_managed || tag_ownership.peers.is_written_by_peer(object, found, &owner.release) {
            assignment.written_by_peers.insert(object.key.clone());
        }
    }
    let wanted: BTreeSet<&ObjectKey> = assignment.desired.iter().map(|object| &object.key).collect();
    for (key, tag) in leftover_objects(live, owner).filter(|(key, _)| !wanted.contains(key)) {
        let is_awaited = tag_ownership.owner(tag).is_some() && !tag_ownership.is_served_by_peer(tag);
        if is_awaited {
            assignment.retained.insert(key.clone());
            assignment.moving_tags.insert(tag.to_owned());
        }
    }
    Ok(assignment)
}

/// The tags of an installation that is being deleted whose new owner does not serve them yet, so that its objects must
/// stay. Another installation that can't be read may list any of its tags.
#[must_use]
pub fn awaited_tags(live: &ObservedObjects, tag_ownership: TagOwnership<'_>) -> BTreeSet<String> {
    let may_be_listed =
        |tag: &str| tag_ownership.peers.unreadable().next().is_some() && tag_ownership.peers.me().tags.contains(tag);
    let is_awaited =
        |tag: &str| (tag_ownership.owner(tag).is_some() || may_be_listed(tag)) && !tag_ownership.is_served_by_peer(tag);
    let served = live.values().flat_map(|live| match &live.state {
        ObjectState::Webhooks { answers, .. } if !live.deleting => answers.clone(),
        _ => Vec::new(),
    });
    served.filter(|tag| is_awaited(tag)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagObjectState {
    Active,
    Deactivated,
    Absent,
}

/// The tag whose ownership decides about an object: its own tag, or `default` for the default revision's injector.
fn tag_of<'a>(object: &'a DesiredObject, tag_ownership: TagOwnership<'_>) -> Option<&'a str> {
    match &object.component {
        Component::Tag(tag) => Some(tag),
        Component::Istiod if is_injector(object) && tag_ownership.peers.me().revision == Revision::Default => {
            Some(DEFAULT)
        }
        _ => None,
    }
}

fn is_injector(object: &DesiredObject) -> bool {
    object.key.kind == Kind::MutatingWebhookConfiguration
}

fn assign(
    object: &DesiredObject,
    tag: &str,
    found: Option<&ObservedObject>,
    tag_ownership: TagOwnership<'_>,
    injects: bool,
) -> TagObjectState {
    let (is_mine, is_served) = (tag_ownership.is_mine(tag), tag_ownership.is_served_by_peer(tag));
    if object.component == Component::Istiod {
        return if is_mine || !is_served { TagObjectState::Active } else { TagObjectState::Deactivated };
    }
    let is_applied =
        found.is_some_and(|live| live.ownership.installation.as_deref() == Some(&tag_ownership.peers.me().name));
    let is_callable = found.is_some_and(
        |live| matches!(&live.state, ObjectState::Webhooks { without_ca, .. } if without_ca.is_empty() && !live.deleting),
    );
    if !is_mine || (is_served && !is_applied && !injects) {
        TagObjectState::Absent
    } else if is_served && is_injector(object) && !is_callable {
        TagObjectState::Deactivated
    } else {
        TagObjectState::Active
    }
}

/// Live tag objects of this installation, with their tags.
fn leftover_objects<'a>(live: &'a ObservedObjects, owner: &Owner) -> impl Iterator<Item = (&'a ObjectKey, &'a str)> {
    live.iter().filter_map(move |(key, live)| match &live.ownership.component {
        Some(Component::Tag(tag)) if live.ownership.uid.as_deref() == Some(&owner.uid) => Some((key, tag.as_str())),
        _ => None,
    })
}

/// Label in the selectors of a deactivated webhook, which no pod or namespace has.
pub const DEACTIVATED_LABEL: &str = "istio.io/deactivated";

/// Makes an injection webhook match no pod, as istioctl does.
#[must_use]
pub fn deactivate(mut object: Value) -> Value {
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
