//! Injection check: a pod is created in a dry run, and the API server's response shows whether it was injected.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::kind::Kind;
use super::loaded_configuration::{ExpectedConfiguration, TEMPLATE_NAME};
use super::object::{Component, DesiredObject};
use super::observed::{ObjectState, ObservedObjects};
use super::revisions::{DEFAULT, INJECTION_LABEL, REVISION_LABEL};
use super::validated::ValidatedSpec;

/// Result of creating a pod that requests injection, in a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InjectionOutcome {
    /// The response has the container istio-proxy, of this image.
    Injected(String),
    /// The pod was admitted without a proxy: no webhook selected it.
    NotInjected,
    /// The API server could not call the injector's webhook.
    WebhookFailed(String),
    /// The pod was injected with another configuration than that of istiod's ConfigMaps.
    NotLoaded {
        /// The ConfigMap and the path of the first difference.
        what: String,
        /// For longer than a new configuration takes to reach istiod.
        lasting: bool,
    },
    /// The injector denied the pod.
    InjectorDenied {
        /// The injector's message.
        why: String,
        /// It has denied for longer than a new configuration takes to reach it, so waiting longer doesn't help.
        lasting: bool,
    },
    /// Something other than the mesh denied the pod, which says nothing about injection.
    DeniedByOther {
        /// The webhook, policy or quota that denied it.
        by: String,
        /// The denial's message.
        message: String,
    },
    /// A label of the namespace disables injection for all of its pods, which says nothing about other namespaces.
    NamespaceExcluded {
        /// Name of the namespace.
        namespace: String,
        /// The label as `key=value`.
        label: String,
    },
    /// The operator may not create pods.
    CheckForbidden(String),
}

/// The injection template that the pod requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectionTemplate {
    /// The template for applications. Its istio-init needs capabilities that Pod Security *restricted* denies.
    Sidecar,
    /// The template for gateways. It has no istio-init and so complies with Pod Security *restricted*.
    Gateway,
}

/// The pod is only created in dry runs.
const POD_NAME: &str = "meshwright-injection-probe";
/// Suffix of the names of all injector webhooks, of any revision or tag.
const INJECTOR_SUFFIX: &str = "sidecar-injector.istio.io";

/// A pod for the injection check of one revision or tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionCheckPod {
    /// Namespace of the pod.
    pub namespace: String,
    /// ServiceAccount of the pod: istiod's, since the namespace's default account may not exist yet.
    pub account: String,
    /// The revision or tag that it selects; for the default the pod has no revision label.
    pub name: String,
}

impl InjectionCheckPod {
    fn labels(&self) -> Value {
        let mut labels = json!({"app": POD_NAME, "sidecar.istio.io/inject": "true"});
        if self.name != DEFAULT
            && let Some(labels) = labels.as_object_mut()
        {
            labels.insert(REVISION_LABEL.into(), self.name.as_str().into());
        }
        labels
    }
}

/// The pods to check: for the mesh's revision first, then for each tag whose webhook is active.
#[must_use]
pub fn injection_check_pods(
    validated: &ValidatedSpec,
    desired: &[Arc<DesiredObject>],
    live: &ObservedObjects,
) -> Vec<InjectionCheckPod> {
    let check_pod = |name: &str| InjectionCheckPod {
        namespace: validated.namespace.clone(),
        account: validated.revision.object_name("istiod"),
        name: name.to_owned(),
    };
    let is_active = |tag: &str, object: &DesiredObject| match live.get(&object.key).map(|live| &live.state) {
        Some(ObjectState::Webhooks { without_ca, answers, .. }) => {
            without_ca.is_empty() && answers.iter().any(|name| name == tag)
        }
        _ => false,
    };
    let tags = desired.iter().filter_map(|object| match &object.component {
        Component::Tag(tag) if object.key.kind == Kind::MutatingWebhookConfiguration && is_active(tag, object) => {
            Some(tag)
        }
        _ => None,
    });
    std::iter::once(validated.revision.label()).chain(tags.map(String::as_str)).map(check_pod).collect()
}

/// The pod to create in a dry run. With `expected`, istiod writes into its annotations what it has loaded.
#[must_use]
pub fn pod(
    check_pod: &InjectionCheckPod,
    template: InjectionTemplate,
    expected: Option<&ExpectedConfiguration>,
) -> Value {
    let (container_name, templates) = match template {
        InjectionTemplate::Sidecar => ("probe", expected.map(ExpectedConfiguration::templates)),
        InjectionTemplate::Gateway if expected.is_some() => ("istio-proxy", Some(format!("gateway,{TEMPLATE_NAME}"))),
        InjectionTemplate::Gateway => ("istio-proxy", Some("gateway".to_owned())),
    };
    let annotations = templates.map_or_else(|| json!({}), |names| json!({"inject.istio.io/templates": names}));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": POD_NAME,
            "namespace": check_pod.namespace,
            "labels": check_pod.labels(),
            "annotations": annotations,
        },
        "spec": {
            "serviceAccountName": check_pod.account,
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

/// Reads the pod in the API server's response.
#[must_use]
pub fn read_created_pod(pod: &Value, expected: Option<&ExpectedConfiguration>) -> InjectionOutcome {
    let outcome = injected_image(pod);
    match expected.filter(|_| matches!(outcome, InjectionOutcome::Injected(_))) {
        Some(expected) => {
            expected.unloaded(pod).map_or(outcome, |what| InjectionOutcome::NotLoaded { what, lasting: false })
        }
        None => outcome,
    }
}

fn injected_image(pod: &Value) -> InjectionOutcome {
    ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .filter_map(|path| pod.pointer(path).and_then(Value::as_array))
        .flatten()
        .filter(|container| container.get("name").and_then(Value::as_str) == Some("istio-proxy"))
        .filter_map(|container| container.get("image").and_then(Value::as_str))
        .find(|image| *image != "auto")
        .map_or(InjectionOutcome::NotInjected, |image| InjectionOutcome::Injected(image.to_owned()))
}

/// The namespace label that keeps the injector's webhooks from selecting any pod in the namespace. Istio's
/// documentation puts `istio-injection=disabled` on the control plane's namespace.
#[must_use]
pub fn excluded_by(labels: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let label = |key: &str| labels.get(key).map(|value| (key.to_owned(), value.as_str()));
    let (key, value) = match (label(INJECTION_LABEL), label(REVISION_LABEL)) {
        (Some((_, "enabled")), _) if name == DEFAULT => return None,
        (None, None) => return None,
        (None, Some((_, selected))) if selected == name => return None,
        (Some(label), _) | (None, Some(label)) => label,
    };
    Some(format!("{key}={value}"))
}

/// Classifies a rejection by HTTP status and message. `None` when it says nothing about admission, such as 429.
#[must_use]
pub fn classify_denial(code: u16, message: &str) -> Option<InjectionOutcome> {
    let other = |by: String| Some(InjectionOutcome::DeniedByOther { by, message: message.to_owned() });
    if let Some(name) = quoted_after(message, "failed calling webhook ").or(quoted_after(message, "admission webhook "))
    {
        return if !name.ends_with(INJECTOR_SUFFIX) {
            other(format!("webhook {name}"))
        } else if message.contains(" denied the request") {
            Some(InjectionOutcome::InjectorDenied { why: message.to_owned(), lasting: false })
        } else {
            Some(InjectionOutcome::WebhookFailed(message.to_owned()))
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
        return Some(InjectionOutcome::CheckForbidden(message.to_owned()));
    }
    (code == 403).then(|| InjectionOutcome::DeniedByOther { by: "admission".into(), message: message.to_owned() })
}

/// The quoted text (double or single quotes) that follows `marker`.
fn quoted_after<'a>(message: &'a str, marker: &str) -> Option<&'a str> {
    let rest = message.split(marker).nth(1)?;
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest.split(quote).nth(1)
}

impl InjectionOutcome {
    /// A short name for the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Injected(_) => "Injected",
            Self::NotInjected => "NotInjected",
            Self::WebhookFailed(_) => "WebhookFailed",
            Self::NotLoaded { .. } => "NotLoaded",
            Self::InjectorDenied { .. } => "InjectorDenied",
            Self::DeniedByOther { .. } => "DeniedByOther",
            Self::NamespaceExcluded { .. } => "NamespaceExcluded",
            Self::CheckForbidden(_) => "CheckForbidden",
        }
    }

    /// The failure of a check by tag, after the check by revision succeeded; `None` where it says nothing about the
    /// tag.
    #[must_use]
    pub fn for_tag(self, tag: &str) -> Option<Self> {
        match self {
            Self::Injected(_) | Self::NotLoaded { .. } | Self::NamespaceExcluded { .. } => None,
            Self::NotInjected => {
                Some(Self::WebhookFailed(format!("tag {tag}: no webhook selects a pod with this tag")))
            }
            Self::WebhookFailed(why) => Some(Self::WebhookFailed(format!("tag {tag}: {why}"))),
            Self::InjectorDenied { why, lasting } => {
                Some(Self::InjectorDenied { why: format!("tag {tag}: {why}"), lasting })
            }
            other @ (Self::DeniedByOther { .. } | Self::CheckForbidden(_)) => Some(other),
        }
    }

    /// Pod Security denied the pod; it may admit one with the other template.
    #[must_use]
    pub fn is_denied_by_pod_security(&self) -> bool {
        matches!(self, Self::DeniedByOther { by, .. } if by.starts_with("PodSecurity"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_native_sidecar() {
        let sidecar = json!({"spec": {"containers": [{"name": "probe", "image": "auto"}],
            "initContainers": [{"name": "istio-proxy", "image": "hub/proxyv2:1"}]}});
        assert_eq!(read_created_pod(&sidecar, None), InjectionOutcome::Injected("hub/proxyv2:1".into()));
    }

    fn check_pod(name: &str) -> InjectionCheckPod {
        InjectionCheckPod { namespace: "istio-system".into(), account: "istiod".into(), name: name.into() }
    }

    #[test]
    fn unchanged_pod_is_not_injected() {
        assert_eq!(
            read_created_pod(&pod(&check_pod("default"), InjectionTemplate::Sidecar, None), None),
            InjectionOutcome::NotInjected
        );
        assert_eq!(
            read_created_pod(&pod(&check_pod("default"), InjectionTemplate::Gateway, None), None),
            InjectionOutcome::NotInjected
        );
    }

    #[test]
    fn only_named_revision_sets_label() {
        let label = |name: &str| {
            pod(&check_pod(name), InjectionTemplate::Sidecar, None)["metadata"]["labels"].get(REVISION_LABEL).cloned()
        };
        assert_eq!(label("default"), None);
        assert_eq!(label("canary"), Some("canary".into()));
    }

    #[test]
    fn finds_namespace_labels_that_exclude_pods() {
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
    fn attributes_denials() {
        let cases: &[(u16, &str, &str)] = &[
            (
                500,
                r#"Internal error occurred: failed calling webhook "namespace.sidecar-injector.istio.io": failed to call webhook: Post "https://istiod": connection refused"#,
                "WebhookFailed",
            ),
            (
                400,
                r#"admission webhook "rev.object.sidecar-injector.istio.io" denied the request: failed to run injection template"#,
                "InjectorDenied",
            ),
            (403, r#"admission webhook "policy.example.com" denied the request: no"#, "DeniedByOther"),
            (500, r#"Internal error occurred: failed calling webhook "policy.example.com": timeout"#, "DeniedByOther"),
            (
                422,
                "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'no-probes' with binding 'b' denied request: no",
                "DeniedByOther",
            ),
            (
                403,
                r#"pods "x" is forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities"#,
                "DeniedByOther",
            ),
            (
                403,
                r#"pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=5, limited: pods=5"#,
                "DeniedByOther",
            ),
            (
                403,
                r#"pods is forbidden: User "system:serviceaccount:a:b" cannot create resource "pods" in API group "" in the namespace "istio-system""#,
                "CheckForbidden",
            ),
        ];
        for (code, message, expected) in cases {
            assert_eq!(classify_denial(*code, message).unwrap().name(), *expected, "{message}");
        }
    }

    #[test]
    fn names_denying_policy_or_quota() {
        let by = |code, message| match classify_denial(code, message) {
            Some(InjectionOutcome::DeniedByOther { by, .. }) => by,
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
    fn ignores_overloaded_server() {
        assert_eq!(classify_denial(429, "too many requests"), None);
    }
}
