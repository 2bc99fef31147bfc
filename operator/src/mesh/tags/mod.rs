//! PURE: which installation answers for a revision tag, and how one comes to answer for it after another without a pod
//! being refused or let through in between.
//!
//! The default is a tag too: whoever lists the tag `default` answers `istio-injection=enabled`, and where nobody does, it
//! is the installation without a revision, by the webhook of its own. Nothing of a move is remembered: every step of it
//! follows from the specs and from the webhooks that are live.
//!
//! 1. The new holder waits until its own injection is proved; the old one goes on answering.
//! 2. Where both webhooks are one object (a tag's name is in its own name, as the namespace is), the new holder turns it
//!    to its own istiod with one write. Where they are two, the new one begins deactivated, since it would refuse pods
//!    until istiod has filled in its certificate, and is activated once that is there.
//! 3. The old holder takes its webhook away when the new one answers; that of an installation without revision stays, and
//!    is deactivated, as istioctl does it.

mod arrangement;
mod standing;

pub use arrangement::{Arrangement, DEACTIVATED_LABEL, arrange, awaited, deactivated};
pub use standing::{Injector, Standing};
