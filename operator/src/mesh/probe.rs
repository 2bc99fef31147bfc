//! The proof of injection: a pod that is created in a dry run, and what the API server's answer to it means.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::kind::Kind;
use super::live::{Facts, LiveObjects};
use super::object::{Component, Desired};
use super::revisions::{DEFAULT, INJECTION_LABEL, REVISION_LABEL};
use super::validated::Validated;

/// What a dry run of a pod that wants a proxy showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod came back with istio-proxy, of this image.
    Proved(String),
    /// The pod was let through as it is: no webhook took it.
    NotInjected,
    /// The injector's webhook could not be called.
    WebhookFailed(String),
    /// The injector was called, and refused the pod.
    InjectorRefuses {
        /// In its own words.
        why: String,
        /// It has kept to that for longer than a new configuration takes to reach it: waiting doesn't mend it.
        lasting: bool,
    },
    /// Something that is not the mesh's refuses the pod: says nothing about injection.
    RefusedByOther {
        /// What refused it.
        by: String,
        /// In its own words.
        message: String,
    },
    /// The namespace keeps injectors away from all of its pods, the test pod included: says nothing about others.
    Excluded {
        /// The namespace.
        namespace: String,
        /// Its label, as `key=value`.
        label: String,
    },
    /// We may not create pods, so nothing can be proved.
    NotAllowed(String),
}

/// Which injection template the pod asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The sidecar's: the one that applications get. Its istio-init needs rights that *restricted* denies.
    Sidecar,
    /// The gateway's: fits Pod Security *restricted*, since it has no istio-init.
    Gateway,
}

/// Name of the pod; it never exists.
const NAME: &str = "meshwright-injection-probe";
/// Names of the injector's webhooks end so, whatever revision or tag they belong to.
const INJECTOR_SUFFIX: &str = "sidecar-injector.istio.io";

/// By which name a pod asks for a proxy, and what it takes to create it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its ServiceAccount. The namespace's default account may not exist yet; istiod's does.
    pub account: String,
    /// The revision or tag; by that of the default, pods ask without naming one.
    pub name: String,
}

impl Ask {
    fn labels(&self) -> Value {
        let mut labels = json!({"app": NAME, "sidecar.istio.io/inject": "true"});
        if self.name != DEFAULT
            && let Some(labels) = labels.as_object_mut()
        {
            labels.insert(REVISION_LABEL.into(), self.name.as_str().into());
        }
        labels
    }
}

/// The names by which pods are to get a proxy of this mesh: that of its revision first, then tags whose webhook is on.
#[must_use]
pub fn asks(validated: &Validated, desired: &[Arc<Desired>], live: &LiveObjects) -> Vec<Ask> {
    let ask = |name: &str| Ask {
        namespace: validated.namespace.clone(),
        account: validated.revision.of_object("istiod"),
        name: name.to_owned(),
    };
    let is_on = |tag: &str, object: &Desired| match live.get(&object.key).map(|live| &live.facts) {
        Some(Facts::Webhooks { without_ca, answers, .. }) => {
            without_ca.is_empty() && answers.iter().any(|name| name == tag)
        }
        _ => false,
    };
    let tags = desired.iter().filter_map(|object| match &object.component {
        Component::Tag(tag) if object.key.kind == Kind::MutatingWebhookConfiguration && is_on(tag, object) => Some(tag),
        _ => None,
    });
    std::iter::once(validated.revision.label()).chain(tags.map(String::as_str)).map(ask).collect()
}

/// The pod to create in a dry run.
#[must_use]
pub fn pod(ask: &Ask, template: Template) -> Value {
    let mut annotations = json!({});
    let container_name = match template {
        Template::Sidecar => "probe",
        Template::Gateway => {
            annotations = json!({"inject.istio.io/templates": "gateway"});
            "istio-proxy"
        }
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            "namespace": ask.namespace,
            "labels": ask.labels(),
            "annotations": annotations,
        },
        "spec": {
            "serviceAccountName": ask.account,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": container_name,
                "image": "auto",
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

/// Reads the pod that came back.
#[must_use]
pub fn judge_pod(pod: &Value) -> Outcome {
    ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .filter_map(|path| pod.pointer(path).and_then(Value::as_array))
        .flatten()
        .filter(|container| container.get("name").and_then(Value::as_str) == Some("istio-proxy"))
        .filter_map(|container| container.get("image").and_then(Value::as_str))
        .find(|image| *image != "auto")
        .map_or(Outcome::NotInjected, |image| Outcome::Proved(image.to_owned()))
}

/// The label of a namespace by which no webhook of the injector takes a pod in it, whatever the pod asks for. Istio's
/// documents put `istio-injection=disabled` on the control plane's namespace; the webhooks' selectors decide.
#[must_use]
pub fn excluded_by(labels: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let label = |key: &str| labels.get(key).map(|value| (key.to_owned(), value.as_str()));
    let (key, value) = match (label(INJECTION_LABEL), label(REVISION_LABEL)) {
        (Some((_, "enabled")), _) if name == DEFAULT => return None,
        (None, None) => return None,
        (None, Some((_, asked))) if asked == name => return None,
        (Some(label), _) | (None, Some(label)) => label,
    };
    Some(format!("{key}={value}"))
}

/// Reads a refusal: HTTP status and message. `None` when it says nothing about admission, such as an overloaded server.
#[must_use]
pub fn judge_refusal(code: u16, message: &str) -> Option<Outcome> {
    let other = |by: String| Some(Outcome::RefusedByOther { by, message: message.to_owned() });
    if let Some(name) = quoted_after(message, "failed calling webhook ").or(quoted_after(message, "admission webhook "))
    {
        return if !name.ends_with(INJECTOR_SUFFIX) {
            other(format!("webhook {name}"))
        } else if message.contains(" denied the request") {
            Some(Outcome::InjectorRefuses { why: message.to_owned(), lasting: false })
        } else {
            Some(Outcome::WebhookFailed(message.to_owned()))
        };
    }
    if let Some(name) = quoted_after(message, "ValidatingAdmissionPolicy ") {
        return other(format!("ValidatingAdmissionPolicy {name}"));
    }
    if let Some(rest) = message.split("violates PodSecurity ").nth(1) {
        let level = rest.split('"').nth(1).unwrap_or("of the namespace");
        return other(format!("PodSecurity {level}"));
    }
    if let Some(rest) = message.split("exceeded quota: ").nth(1) {
        return other(format!("ResourceQuota {}", rest.split(',').next().unwrap_or(rest)));
    }
    if message.contains("failed quota: ") || message.contains("LimitRange") {
        return other("a quota or limit range of the namespace".into());
    }
    if code == 403 && message.contains("cannot create resource \"pods\"") {
        return Some(Outcome::NotAllowed(message.to_owned()));
    }
    (code == 403).then(|| Outcome::RefusedByOther { by: "admission".into(), message: message.to_owned() })
}

/// The text in quotes (double or single) that follows `marker`.
fn quoted_after<'a>(message: &'a str, marker: &str) -> Option<&'a str> {
    let rest = message.split(marker).nth(1)?;
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest.split(quote).nth(1)
}

impl Outcome {
    /// A short name for metrics and reasons.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Proved(_) => "Proved",
            Self::NotInjected => "NotInjected",
            Self::WebhookFailed(_) => "WebhookFailed",
            Self::InjectorRefuses { .. } => "InjectorRefuses",
            Self::RefusedByOther { .. } => "RefusedByOther",
            Self::Excluded { .. } => "Excluded",
            Self::NotAllowed(_) => "NotAllowed",
        }
    }

    /// What a failure means that only pods meet which ask by a tag; `None` where it says nothing about the tag.
    #[must_use]
    pub fn of_tag(self, tag: &str) -> Option<Self> {
        match self {
            Self::Proved(_) | Self::Excluded { .. } => None,
            Self::NotInjected => {
                Some(Self::WebhookFailed(format!("tag {tag}: no webhook takes a pod that asks for it")))
            }
            Self::WebhookFailed(why) => Some(Self::WebhookFailed(format!("tag {tag}: {why}"))),
            Self::InjectorRefuses { why, lasting } => {
                Some(Self::InjectorRefuses { why: format!("tag {tag}: {why}"), lasting })
            }
            other @ (Self::RefusedByOther { .. } | Self::NotAllowed(_)) => Some(other),
        }
    }

    /// Refused because of the pod's shape, which the other template may avoid.
    #[must_use]
    pub fn refused_by_pod_security(&self) -> bool {
        matches!(self, Self::RefusedByOther { by, .. } if by.starts_with("PodSecurity"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_with_a_proxy_beside_it_or_before_it_is_proof() {
        let sidecar = json!({"spec": {"containers": [{"name": "probe", "image": "auto"}],
            "initContainers": [{"name": "istio-proxy", "image": "hub/proxyv2:1"}]}});
        assert_eq!(judge_pod(&sidecar), Outcome::Proved("hub/proxyv2:1".into()));
    }

    fn ask(name: &str) -> Ask {
        Ask { namespace: "istio-system".into(), account: "istiod".into(), name: name.into() }
    }

    #[test]
    fn a_pod_that_came_back_unchanged_is_not_injected() {
        assert_eq!(judge_pod(&pod(&ask("default"), Template::Sidecar)), Outcome::NotInjected);
        assert_eq!(judge_pod(&pod(&ask("default"), Template::Gateway)), Outcome::NotInjected);
    }

    #[test]
    fn a_pod_asks_for_a_revision_by_its_label_and_for_the_default_without() {
        let label = |name: &str| pod(&ask(name), Template::Sidecar)["metadata"]["labels"].get(REVISION_LABEL).cloned();
        assert_eq!(label("default"), None);
        assert_eq!(label("canary"), Some("canary".into()));
    }

    #[test]
    fn labels_that_keep_injectors_away_from_a_namespace_are_known() {
        let by = |name: &str, labels: &[(&str, &str)]| {
            excluded_by(&labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(), name)
        };
        let excluded = |labels: &[(&str, &str)]| by("default", labels);
        assert_eq!(by("canary", &[("istio-injection", "enabled")]).as_deref(), Some("istio-injection=enabled"));
        assert_eq!(by("canary", &[("istio.io/rev", "default")]).as_deref(), Some("istio.io/rev=default"));
        assert_eq!(by("canary", &[("istio.io/rev", "canary")]), None);
        assert_eq!(excluded(&[("istio-injection", "disabled")]).as_deref(), Some("istio-injection=disabled"));
        assert_eq!(
            excluded(&[("istio-injection", ""), ("istio.io/rev", "default")]).as_deref(),
            Some("istio-injection=")
        );
        assert_eq!(excluded(&[("istio.io/rev", "canary")]).as_deref(), Some("istio.io/rev=canary"));
        for fine in [&[][..], &[("istio-injection", "enabled")], &[("istio.io/rev", "default")], &[("a", "disabled")]] {
            assert_eq!(excluded(fine), None, "{fine:?}");
        }
    }

    #[test]
    fn refusals_are_attributed_to_who_made_them() {
        let cases: &[(u16, &str, &str)] = &[
            (
                500,
                r#"Internal error occurred: failed calling webhook "namespace.sidecar-injector.istio.io": failed to call webhook: Post "https://istiod": connection refused"#,
                "WebhookFailed",
            ),
            (
                400,
                r#"admission webhook "rev.object.sidecar-injector.istio.io" denied the request: failed to run injection template"#,
                "InjectorRefuses",
            ),
            (403, r#"admission webhook "policy.example.com" denied the request: no"#, "RefusedByOther"),
            (500, r#"Internal error occurred: failed calling webhook "policy.example.com": timeout"#, "RefusedByOther"),
            (
                422,
                "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'no-probes' with binding 'b' denied request: no",
                "RefusedByOther",
            ),
            (
                403,
                r#"pods "x" is forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities"#,
                "RefusedByOther",
            ),
            (
                403,
                r#"pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=5, limited: pods=5"#,
                "RefusedByOther",
            ),
            (
                403,
                r#"pods is forbidden: User "system:serviceaccount:a:b" cannot create resource "pods" in API group "" in the namespace "istio-system""#,
                "NotAllowed",
            ),
        ];
        for (code, message, expected) in cases {
            assert_eq!(judge_refusal(*code, message).unwrap().name(), *expected, "{message}");
        }
    }

    #[test]
    fn who_refused_is_named() {
        let by = |code, message| match judge_refusal(code, message) {
            Some(Outcome::RefusedByOther { by, .. }) => by,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            by(422, "ValidatingAdmissionPolicy 'no-probes' with binding"),
            "ValidatingAdmissionPolicy no-probes"
        );
        assert_eq!(by(403, "x exceeded quota: small, requested"), "ResourceQuota small");
        assert_eq!(by(403, r#"violates PodSecurity "restricted:latest": y"#), "PodSecurity restricted:latest");
    }

    #[test]
    fn an_overloaded_server_says_nothing_about_injection() {
        assert_eq!(judge_refusal(429, "too many requests"), None);
    }
}
