//! Admission webhooks that Meshwright doesn't manage: those that would reject the mesh's resources because their
//! Service has no endpoints, and those that inject sidecars.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};

use super::input::CheckInput;
use super::managed_by::manager;
use super::snapshot::{ClusterSnapshot, ObjectInfo, ReadResult, Webhook};
use super::{CheckVerdict, Finding, require};
use crate::mesh::kind::Kind;
use crate::mesh::tags::DEACTIVATED_LABEL;
use crate::mesh::text::abbreviate;

const BLOCKING: &str = "webhooks";
const INJECTORS: &str = "injectors";
const ISTIO: &str = "sidecar-injector.istio.io";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The mesh's Deployments create pods, so webhooks for pods matter too.
const PODS: (&str, &str) = ("", "pods");

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let webhooks = match require(BLOCKING, "admission webhooks", &cluster.webhooks) {
        Ok(webhooks) => webhooks,
        Err(unknown) => return unknown,
    };
    let others: Vec<&Webhook> = webhooks.iter().filter(|webhook| !webhook.configuration.is_ours()).collect();
    let namespaces = labels(input, cluster.namespaces.as_deref().unwrap_or_default());
    let mut blocking: Vec<Finding> =
        others.iter().filter_map(|webhook| blocking(webhook, &namespaces, &cluster.endpoints)).collect();
    if blocking.is_empty() {
        let reason = match others.len() {
            0 => "none installed".to_owned(),
            number => format!("none of {number} blocks the mesh's resources"),
        };
        blocking.push(Finding::pass(BLOCKING, "other admission webhooks", reason));
    }
    let mut injectors = injectors(&others);
    if injectors.is_empty() {
        injectors.push(Finding::pass(INJECTORS, "other sidecar injectors", "none installed"));
    }
    blocking.into_iter().chain(injectors).collect()
}

/// Labels of the mesh's namespaces after the installation.
fn labels(input: &CheckInput, namespaces: &[ObjectInfo]) -> Vec<BTreeMap<String, String>> {
    let of = |(name, ours): (&String, &BTreeMap<String, String>)| {
        let live = namespaces.iter().find(|namespace| namespace.name == *name);
        let mut labels = live.map(|namespace| namespace.labels.clone()).unwrap_or_default();
        labels.insert(NAME_LABEL.to_owned(), name.clone());
        labels.extend(ours.clone());
        labels
    };
    input.namespaces.iter().map(of).collect()
}

fn blocking(
    webhook: &Webhook,
    namespaces: &[BTreeMap<String, String>],
    endpoints: &BTreeMap<(String, String), ReadResult<usize>>,
) -> Option<Finding> {
    if webhook.failure_policy.as_deref() == Some("Ignore") {
        return None;
    }
    let service = webhook.client_config.service.as_ref()?;
    let selects_mesh = namespaces.iter().any(|labels| selects(webhook.namespace_selector.as_ref(), labels));
    let resources = resources(webhook, selects_mesh);
    if resources.is_empty() {
        return None;
    }
    let subject = format!("{} ({})", webhook.configuration, webhook.name);
    let service_name = format!("{}/{}", service.namespace, service.name);
    let answers = match endpoints.get(&(service.namespace.clone(), service.name.clone()))? {
        Ok(ready) => *ready > 0,
        Err(error) => return Some(Finding::unknown(BLOCKING, subject, error)),
    };
    if answers {
        return None;
    }
    // Match conditions and object selectors can't be evaluated without the actual requests.
    let conditional =
        !webhook.match_conditions.is_empty() || !selects(webhook.object_selector.as_ref(), &BTreeMap::new());
    let (verdict, effect) =
        if conditional { (CheckVerdict::Warn, "may reject") } else { (CheckVerdict::Fail, "rejects") };
    let reason = format!(
        "Service {service_name} has no ready endpoint, so the API server {effect} new {}",
        abbreviate(&resources)
    );
    let fix =
        format!("restore Service {service_name}, or delete the webhook: {}", webhook.configuration.delete_command());
    Some(Finding::new(BLOCKING, verdict, subject, reason).fix(fix))
}

/// An absent or empty selector selects everything; so does an invalid one, to be safe.
fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    selector.is_none_or(|selector| Selector::try_from(selector.clone()).map_or(true, |s| s.matches(labels)))
}

/// The mesh's resources for which the API server calls the webhook. `selects_mesh`: its selector matches a mesh
/// namespace.
fn resources(webhook: &Webhook, selects_mesh: bool) -> Vec<String> {
    let kinds = Kind::ALL.into_iter().filter(|kind| selects_mesh || !kind.namespaced());
    let mut all: BTreeSet<(&str, &str)> = kinds.map(|kind| (kind.group(), kind.plural())).collect();
    if selects_mesh {
        all.insert(PODS);
    }
    all.into_iter()
        .filter(|(group, resource)| called_for(webhook, group, resource))
        .map(|(_, resource)| resource.to_owned())
        .collect()
}

fn called_for(webhook: &Webhook, group: &str, resource: &str) -> bool {
    let has =
        |list: &Option<Vec<String>>, words: &[&str]| list.iter().flatten().any(|word| words.contains(&word.as_str()));
    webhook.rules.iter().any(|rule| {
        has(&rule.operations, &["CREATE", "*"])
            && has(&rule.api_groups, &[group, "*"])
            && has(&rule.resources, &[resource, "*", "*/*"])
    })
}

/// One finding per webhook configuration: its webhooks only differ in their selectors.
fn injectors(others: &[&Webhook]) -> Vec<Finding> {
    let mut by_configuration: BTreeMap<&str, Vec<&Webhook>> = BTreeMap::new();
    let injects = |webhook: &&&Webhook| {
        webhook.configuration.kind == "MutatingWebhookConfiguration"
            && called_for(webhook, PODS.0, PODS.1)
            && (webhook.name.contains("inject") || webhook.configuration.name.contains("inject"))
            && !is_deactivated(webhook)
    };
    for webhook in others.iter().filter(injects) {
        by_configuration.entry(&webhook.configuration.name).or_default().push(webhook);
    }
    by_configuration.into_values().filter_map(|entries| injector(&entries)).collect()
}

/// istioctl disables a webhook with a selector for a label that no namespace has.
fn is_deactivated(webhook: &Webhook) -> bool {
    let selector = webhook.namespace_selector.as_ref();
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    labels.is_some_and(|labels| labels.contains_key(DEACTIVATED_LABEL))
}

fn injector(entries: &[&Webhook]) -> Option<Finding> {
    let configuration = &entries.first()?.configuration;
    let is_istio = entries.iter().any(|webhook| webhook.name.ends_with(ISTIO));
    // Webhooks for pods without a revision label: the two current ones, and the only one of Istio 1.0.
    let default_webhooks = ["namespace.sidecar-injector.istio.io", "object.sidecar-injector.istio.io", ISTIO];
    let is_default = entries.iter().any(|webhook| default_webhooks.contains(&webhook.name.as_str()));
    let manager = manager(configuration);
    let fix = if is_istio {
        manager.uninstall_command(&configuration.delete_command())
    } else {
        "don't label namespaces for both injectors".to_owned()
    };
    let (verdict, reason) = match (is_istio, is_default) {
        (true, true) => {
            (CheckVerdict::Fail, format!("injector managed by {manager} selects the same pods as Meshwright's"))
        }
        (true, false) => (CheckVerdict::Warn, format!("injector managed by {manager} for another revision")),
        (false, _) => (
            CheckVerdict::Warn,
            "also modifies pods: a pod that both this and Istio's injector select gets two sidecars".to_owned(),
        ),
    };
    Some(Finding::new(INJECTORS, verdict, configuration.to_string(), reason).fix(fix))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::samples::{self, meta};
    use super::*;

    fn webhook(entry: Value) -> Webhook {
        let mut webhook: Webhook = serde_json::from_value(entry).unwrap();
        let mut configuration = meta("ValidatingWebhookConfiguration", "", "policy");
        configuration.group = "admissionregistration.k8s.io".into();
        webhook.configuration = configuration;
        webhook
    }

    fn policy(change: &Value) -> Webhook {
        let mut entry = json!({
            "name": "policy.example.com", "failurePolicy": "Fail",
            "clientConfig": {"service": {"namespace": "policy", "name": "server"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        });
        entry.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        webhook(entry)
    }

    fn findings_for(webhook: Webhook, ready: ReadResult<usize>) -> Finding {
        let mut cluster = samples::cluster();
        cluster.webhooks = Ok(vec![webhook]);
        cluster.endpoints = [(("policy".to_owned(), "server".to_owned()), ready)].into();
        findings(&samples::input(), &cluster).remove(0)
    }

    #[test]
    fn fails_for_webhook_without_endpoints() {
        let dead = findings_for(policy(&json!({})), Ok(0));
        assert_eq!(dead.verdict, CheckVerdict::Fail);
        assert_eq!(dead.subject, "ValidatingWebhookConfiguration policy (policy.example.com)");
        assert!(dead.reason.contains("policy/server") && dead.reason.contains("pods"), "{dead:?}");
        let fix = "kubectl delete validatingwebhookconfiguration policy";
        assert!(dead.fix.as_ref().unwrap().ends_with(fix), "{dead:?}");
        assert_eq!(findings_for(policy(&json!({})), Ok(1)).verdict, CheckVerdict::Pass);
        assert_eq!(findings_for(policy(&json!({})), Err("not allowed".into())).verdict, CheckVerdict::Unknown);
    }

    #[test]
    fn ignores_webhooks_for_other_resources() {
        let elsewhere = json!({"matchLabels": {"team": "a"}});
        let without_system = json!({"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["istio-system"]}]});
        let rules = |group: &str, resource: &str, operation: &str| json!([{"operations": [operation], "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]}]);
        for change in [
            json!({"failurePolicy": "Ignore"}),
            json!({"namespaceSelector": elsewhere}),
            json!({"namespaceSelector": without_system}),
            json!({"rules": rules("", "nodes", "CREATE")}),
            json!({"rules": rules("", "pods", "DELETE")}),
            json!({"clientConfig": {"url": "https://policy.example.com"}}),
        ] {
            assert_eq!(findings_for(policy(&change), Ok(0)).verdict, CheckVerdict::Pass, "{change}");
        }
        let only_roles = json!({
            "namespaceSelector": {"matchLabels": {"team": "a"}},
            "rules": rules("rbac.authorization.k8s.io", "*", "*"),
        });
        let found = findings_for(policy(&only_roles), Ok(0));
        assert!(found.reason.contains("clusterroles") && !found.reason.contains("new roles"), "{found:?}");
    }

    #[test]
    fn warns_for_conditional_webhooks() {
        for change in [
            json!({"matchConditions": [{"name": "a", "expression": "false"}]}),
            json!({"objectSelector": {"matchLabels": {"guarded": "yes"}}}),
        ] {
            assert_eq!(findings_for(policy(&change), Ok(0)).verdict, CheckVerdict::Warn);
        }
    }

    fn injector_named(configuration: &str, names: &[&str], selector: &Value) -> Vec<Finding> {
        let entries = names.iter().map(|name| {
            let mut entry = policy(&json!({"name": name, "namespaceSelector": selector}));
            entry.configuration = meta("MutatingWebhookConfiguration", "", configuration);
            entry
        });
        let mut cluster = samples::cluster();
        cluster.webhooks = Ok(entries.collect());
        cluster.endpoints = [(("policy".to_owned(), "server".to_owned()), Ok(1))].into();
        findings(&samples::input(), &cluster).into_iter().filter(|finding| finding.check == INJECTORS).collect()
    }

    #[test]
    fn distinguishes_injectors_by_selected_pods() {
        let verdict = |configuration: &str, names: &[&str]| injector_named(configuration, names, &json!({}))[0].verdict;
        let both = ["rev.namespace.sidecar-injector.istio.io", "namespace.sidecar-injector.istio.io"];
        assert_eq!(verdict("istio-sidecar-injector", &both), CheckVerdict::Fail);
        assert_eq!(verdict("istio-sidecar-injector", &["sidecar-injector.istio.io"]), CheckVerdict::Fail);
        assert_eq!(verdict("istio-sidecar-injector-canary", &both[..1]), CheckVerdict::Warn);
        assert_eq!(
            verdict("linkerd-proxy-injector-webhook-config", &["linkerd-proxy-injector.linkerd.io"]),
            CheckVerdict::Warn
        );
        assert_eq!(verdict("policy", &["policy.example.com"]), CheckVerdict::Pass);
        let off = injector_named(
            "istio-sidecar-injector",
            &both,
            &json!({"matchLabels": {"istio.io/deactivated": "never-match"}}),
        );
        assert_eq!(off[0].verdict, CheckVerdict::Pass);
    }
}
