//! The state of injection and its effect on readiness.

use meshwright_api::conditions::Reason;

use super::Blocker;
use crate::mesh::injection_check::InjectionOutcome;
use crate::mesh::validated::ValidatedSpec;

/// State of the injection check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injection {
    /// The current state has not been checked yet.
    Pending,
    /// The check of the current state had this outcome.
    Checked(InjectionOutcome),
}

impl Injection {
    /// Whether gateway pods may be created, which get their proxy by injection. A pod that a policy denied has passed
    /// the injector, since mutation precedes validation. A namespace without injection matters only to its own
    /// gateways.
    #[must_use]
    pub fn allows_gateways(&self, validated: &ValidatedSpec) -> bool {
        match self {
            Self::Checked(InjectionOutcome::Injected(_) | InjectionOutcome::DeniedByOther { .. }) => true,
            Self::Checked(InjectionOutcome::NamespaceExcluded { namespace, .. }) => {
                validated.gateways().all(|(_, gateways)| gateways != namespace)
            }
            Self::Checked(
                InjectionOutcome::NotInjected
                | InjectionOutcome::NotLoaded { .. }
                | InjectionOutcome::WebhookFailed(_)
                | InjectionOutcome::InjectorDenied { .. }
                | InjectionOutcome::CheckForbidden(_),
            )
            | Self::Pending => false,
        }
    }

    /// The injector denies pods, and waiting longer doesn't help.
    #[must_use]
    pub const fn is_permanently_denied(&self) -> bool {
        matches!(self, Self::Checked(InjectionOutcome::InjectorDenied { lasting: true, .. }))
    }
}

/// The blocker of readiness that follows from the injection check, if any.
#[must_use]
pub fn injection_blocker(injection: &Injection) -> Option<Blocker> {
    let (reason, message) = match injection {
        Injection::Checked(InjectionOutcome::Injected(_)) => return None,
        Injection::Pending => (Reason::Applying, "the injection check is pending".to_owned()),
        Injection::Checked(InjectionOutcome::NotInjected) => (
            Reason::NotInjected,
            "pods are not injected. A dry-run pod that requests injection got no proxy: no webhook selects it, or the \
             injector's policy skips it"
                .to_owned(),
        ),
        Injection::Checked(InjectionOutcome::NotLoaded { what, lasting: false }) => {
            (Reason::Applying, format!("istiod has not loaded its configuration yet. {what}"))
        }
        Injection::Checked(InjectionOutcome::NotLoaded { what, lasting: true }) => {
            let message = format!("istiod doesn't load its configuration: {what}. See istiod's log");
            (Reason::ConfigurationNotLoaded, message)
        }
        Injection::Checked(InjectionOutcome::WebhookFailed(why)) => (
            Reason::WebhookFailed,
            format!("the API server can't call the injection webhook. A dry-run pod was rejected: {why}"),
        ),
        Injection::Checked(InjectionOutcome::InjectorDenied { why, .. }) => {
            (Reason::WebhookFailed, format!("the injector denies pods. A dry-run pod was rejected: {why}"))
        }
        Injection::Checked(InjectionOutcome::DeniedByOther { by, message }) => (
            Reason::InjectionCheckDenied,
            format!("the injection check was denied by {by}, which is not part of the mesh. Message: {message}"),
        ),
        Injection::Checked(InjectionOutcome::NamespaceExcluded { namespace, label }) => (
            Reason::InjectionCheckDenied,
            format!(
                "the injection check is impossible: Namespace {namespace} is labelled {label}. The label excludes every \
                 pod in the namespace from injection; remove it"
            ),
        ),
        Injection::Checked(InjectionOutcome::CheckForbidden(why)) => {
            (Reason::Forbidden, format!("the operator may not run the injection check: {why}"))
        }
    };
    Some(Blocker { reason, message })
}
