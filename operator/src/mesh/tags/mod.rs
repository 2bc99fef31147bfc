//! Revision tags: which installation owns a tag, and how a tag moves to another installation without a pod being denied
//! or admitted without a proxy in between. Pure.
//!
//! The default revision is a tag too: the owner of the tag `default` injects namespaces with `istio-injection=enabled`.
//! Without that tag the installation without a revision does, by its own webhook. A move has no state of its own: each
//! step follows from the specs and the live webhooks.
//!
//! 1. The new owner waits until its own revision injects. The old owner's webhook stays active.
//! 2. If both webhooks are the same object (its name contains the tag and the namespace), the new owner changes it to
//!    its own istiod in one write. Otherwise the new webhook is created deactivated, since it would deny pods until
//!    istiod has set its caBundle, and is then activated.
//! 3. The old owner deletes its webhook once the new one is active. An installation without a revision deactivates its
//!    webhook instead, as istioctl does.

mod assignment;
mod ownership;

pub use assignment::{DEACTIVATED_LABEL, ObjectAssignment, assign_objects, awaited_tags, deactivate};
pub use ownership::{Injector, TagOwnership};
