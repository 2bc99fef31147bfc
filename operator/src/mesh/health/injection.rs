//! What is known of injection, and what that means for the mesh.

use meshwright_api::conditions::Reason;

use super::Blocker;
use crate::mesh::probe::Outcome;
use crate::mesh::validated::Validated;

/// What is known of injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injection {
    /// A newer state is being probed; nothing is known of it yet.
    Pending,
    /// This was seen, of the state as it is.
    Seen(Outcome),
}

impl Injection {
    /// Whether gateway pods may be made. They exist only through injection; what others refuse has passed the injector,
    /// since mutation comes before validation. A namespace that keeps the injector away is no reason against gateways in
    /// another.
    #[must_use]
    pub fn lets_gateways_start(&self, validated: &Validated) -> bool {
        match self {
            Self::Seen(Outcome::Proved(_) | Outcome::RefusedByOther { .. }) => true,
            Self::Seen(Outcome::Excluded { namespace, .. }) => {
                validated.gateways().all(|(_, gateways)| gateways != namespace)
            }
            Self::Seen(
                Outcome::NotInjected
                | Outcome::WebhookFailed(_)
                | Outcome::InjectorRefuses { .. }
                | Outcome::NotAllowed(_),
            )
            | Self::Pending => false,
        }
    }

    /// Whether the injector refuses pods, and will go on doing so.
    #[must_use]
    pub const fn is_refused_for_good(&self) -> bool {
        matches!(self, Self::Seen(Outcome::InjectorRefuses { lasting: true, .. }))
    }
}

/// What is in the way of injection, if anything.
#[must_use]
pub fn injection_blocker(injection: &Injection) -> Option<Blocker> {
    let (reason, message) = match injection {
        Injection::Seen(Outcome::Proved(_)) => return None,
        Injection::Pending => (Reason::Applying, "injection is not proved yet".to_owned()),
        Injection::Seen(Outcome::NotInjected) => (
            Reason::NotInjected,
            "a pod that asks for a proxy gets none: no webhook takes it, or the injector's policy skips it".to_owned(),
        ),
        Injection::Seen(Outcome::WebhookFailed(why)) => (
            Reason::WebhookFailed,
            format!("a pod that asks for a proxy is refused, since the injector can't be called: {why}"),
        ),
        Injection::Seen(Outcome::InjectorRefuses { why, .. }) => {
            (Reason::WebhookFailed, format!("a pod that asks for a proxy is refused by the injector: {why}"))
        }
        Injection::Seen(Outcome::RefusedByOther { by, message }) => (
            Reason::ProbeRefused,
            format!("injection can't be proved: {by} refuses the test pod, which is not the mesh's doing: {message}"),
        ),
        Injection::Seen(Outcome::Excluded { namespace, label }) => (
            Reason::ProbeRefused,
            format!(
                "injection can't be proved: namespace {namespace} is labelled {label}, which keeps the injector away \
                 from every pod in it, the test pod too; take that label off"
            ),
        ),
        Injection::Seen(Outcome::NotAllowed(why)) => (Reason::Forbidden, format!("injection can't be proved: {why}")),
    };
    Some(Blocker { reason, message })
}
