//! Admission webhooks of others: those that would refuse the mesh's objects because nobody answers, and those that change
//! pods as Istio's injector does.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};

use super::asked::Asked;
use super::cluster::{Cluster, Meta, Seen, Webhook};
use super::makers::origin;
use super::{Finding, Verdict, look};
use crate::mesh::kind::Kind;
use crate::mesh::tags::DEACTIVATED_LABEL;
use crate::mesh::words::few;

const BLOCKING: &str = "webhooks";
const INJECTORS: &str = "injectors";
const ISTIO: &str = "sidecar-injector.istio.io";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// What is called for pods that the mesh's Deployments make.
const PODS: (&str, &str) = ("", "pods");

pub(super) fn findings(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let webhooks = match look(BLOCKING, "admission webhooks", &cluster.webhooks) {
        Ok(webhooks) => webhooks,
        Err(unknown) => return unknown,
    };
    let others: Vec<&Webhook> = webhooks.iter().filter(|webhook| !webhook.configuration.is_ours()).collect();
    let namespaces = labels(asked, cluster.namespaces.as_deref().unwrap_or_default());
    let mut blocking: Vec<Finding> =
        others.iter().filter_map(|webhook| blocking(webhook, &namespaces, &cluster.endpoints)).collect();
    if blocking.is_empty() {
        let reason = match others.len() {
            0 => "there are none".to_owned(),
            number => format!("none of the {number} refuses the mesh's objects for want of an answer"),
        };
        blocking.push(Finding::pass(BLOCKING, "admission webhooks of others", reason));
    }
    let mut injectors = injectors(&others);
    if injectors.is_empty() {
        injectors.push(Finding::pass(INJECTORS, "admission webhooks of others", "none puts proxies into pods"));
    }
    blocking.into_iter().chain(injectors).collect()
}

/// Labels of the mesh's namespaces, as they will be.
fn labels(asked: &Asked, namespaces: &[Meta]) -> Vec<BTreeMap<String, String>> {
    let of = |(name, ours): (&String, &BTreeMap<String, String>)| {
        let live = namespaces.iter().find(|namespace| namespace.name == *name);
        let mut labels = live.map(|namespace| namespace.labels.clone()).unwrap_or_default();
        labels.insert(NAME_LABEL.to_owned(), name.clone());
        labels.extend(ours.clone());
        labels
    };
    asked.namespaces.iter().map(of).collect()
}

fn blocking(
    webhook: &Webhook,
    namespaces: &[BTreeMap<String, String>],
    endpoints: &BTreeMap<(String, String), Seen<usize>>,
) -> Option<Finding> {
    if webhook.failure_policy.as_deref() == Some("Ignore") {
        return None;
    }
    let service = webhook.client_config.service.as_ref()?;
    let in_ours = namespaces.iter().any(|labels| selects(webhook.namespace_selector.as_ref(), labels));
    let resources = resources(webhook, in_ours);
    if resources.is_empty() {
        return None;
    }
    let subject = format!("{} ({})", webhook.configuration, webhook.name);
    let place = format!("{}/{}", service.namespace, service.name);
    let answers = match endpoints.get(&(service.namespace.clone(), service.name.clone()))? {
        Ok(ready) => *ready > 0,
        Err(why) => return Some(Finding::unknown(BLOCKING, subject, why)),
    };
    if answers {
        return None;
    }
    // Which objects conditions and labels let through isn't known before they are sent.
    let picky = !webhook.match_conditions.is_empty() || !selects(webhook.object_selector.as_ref(), &BTreeMap::new());
    let (verdict, may) = if picky { (Verdict::Warn, "may refuse") } else { (Verdict::Fail, "refuses") };
    let reason = format!("Service {place} has no ready endpoint, so the API server {may} new {}", few(&resources));
    let fix = format!("bring Service {place} back, or remove the webhook: {}", webhook.configuration.deletion());
    Some(Finding::new(BLOCKING, verdict, subject, reason).fix(fix))
}

/// An absent or empty selector selects everything, and one that can't be read is taken to.
fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    selector.is_none_or(|selector| Selector::try_from(selector.clone()).map_or(true, |s| s.matches(labels)))
}

/// What of the mesh's objects the webhook is called for. `in_ours`: it selects a namespace of the mesh.
fn resources(webhook: &Webhook, in_ours: bool) -> Vec<String> {
    let kinds = Kind::ALL.into_iter().filter(|kind| in_ours || !kind.namespaced());
    let mut all: BTreeSet<(&str, &str)> = kinds.map(|kind| (kind.group(), kind.plural())).collect();
    if in_ours {
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

/// By configuration: its entries differ only in whom they select.
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

/// istioctl switches a webhook off by a label that no namespace has.
fn is_deactivated(webhook: &Webhook) -> bool {
    let selector = webhook.namespace_selector.as_ref();
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    labels.is_some_and(|labels| labels.contains_key(DEACTIVATED_LABEL))
}

fn injector(entries: &[&Webhook]) -> Option<Finding> {
    let configuration = &entries.first()?.configuration;
    let is_istio = entries.iter().any(|webhook| webhook.name.ends_with(ISTIO));
    // Those that take what has no revision: today's two, and the only one that Istio 1.0 had.
    let plain = ["namespace.sidecar-injector.istio.io", "object.sidecar-injector.istio.io", ISTIO];
    let default = entries.iter().any(|webhook| plain.contains(&webhook.name.as_str()));
    let maker = origin(configuration);
    let fix =
        if is_istio { maker.removal(&configuration.deletion()) } else { "label no namespace for both".to_owned() };
    let (verdict, reason) = match (is_istio, default) {
        (true, true) => (Verdict::Fail, format!("an injector of {maker} takes the same pods as Meshwright's would")),
        (true, false) => (Verdict::Warn, format!("an injector of {maker}, for a revision of its own")),
        (false, _) => (
            Verdict::Warn,
            "changes pods too: one that this and Istio's injector both select gets two proxies".to_owned(),
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

    fn judged(webhook: Webhook, ready: Seen<usize>) -> Finding {
        let mut cluster = samples::cluster();
        cluster.webhooks = Ok(vec![webhook]);
        cluster.endpoints = [(("policy".to_owned(), "server".to_owned()), ready)].into();
        findings(&samples::asked(), &cluster).remove(0)
    }

    #[test]
    fn a_webhook_that_nobody_answers_fails_and_one_that_answers_passes() {
        let dead = judged(policy(&json!({})), Ok(0));
        assert_eq!(dead.verdict, Verdict::Fail);
        assert_eq!(dead.subject, "ValidatingWebhookConfiguration policy (policy.example.com)");
        assert!(dead.reason.contains("policy/server") && dead.reason.contains("pods"), "{dead:?}");
        let fix = "kubectl delete validatingwebhookconfiguration policy";
        assert!(dead.fix.as_ref().unwrap().ends_with(fix), "{dead:?}");
        assert_eq!(judged(policy(&json!({})), Ok(1)).verdict, Verdict::Pass);
        assert_eq!(judged(policy(&json!({})), Err("may not list".into())).verdict, Verdict::Unknown);
    }

    #[test]
    fn a_dead_webhook_that_is_not_called_for_the_mesh_passes() {
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
            assert_eq!(judged(policy(&change), Ok(0)).verdict, Verdict::Pass, "{change}");
        }
        let only_roles = json!({
            "namespaceSelector": {"matchLabels": {"team": "a"}},
            "rules": rules("rbac.authorization.k8s.io", "*", "*"),
        });
        let found = judged(policy(&only_roles), Ok(0));
        assert!(found.reason.contains("clusterroles") && !found.reason.contains("new roles"), "{found:?}");
    }

    #[test]
    fn whether_a_picky_webhook_takes_our_objects_is_not_claimed() {
        for change in [
            json!({"matchConditions": [{"name": "a", "expression": "false"}]}),
            json!({"objectSelector": {"matchLabels": {"guarded": "yes"}}}),
        ] {
            assert_eq!(judged(policy(&change), Ok(0)).verdict, Verdict::Warn);
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
        findings(&samples::asked(), &cluster).into_iter().filter(|finding| finding.check == INJECTORS).collect()
    }

    #[test]
    fn injectors_of_others_are_told_apart_by_whom_they_take() {
        let verdict = |configuration: &str, names: &[&str]| injector_named(configuration, names, &json!({}))[0].verdict;
        let both = ["rev.namespace.sidecar-injector.istio.io", "namespace.sidecar-injector.istio.io"];
        assert_eq!(verdict("istio-sidecar-injector", &both), Verdict::Fail);
        assert_eq!(verdict("istio-sidecar-injector", &["sidecar-injector.istio.io"]), Verdict::Fail);
        assert_eq!(verdict("istio-sidecar-injector-canary", &both[..1]), Verdict::Warn);
        assert_eq!(
            verdict("linkerd-proxy-injector-webhook-config", &["linkerd-proxy-injector.linkerd.io"]),
            Verdict::Warn
        );
        assert_eq!(verdict("policy", &["policy.example.com"]), Verdict::Pass);
        let off = injector_named(
            "istio-sidecar-injector",
            &both,
            &json!({"matchLabels": {"istio.io/deactivated": "never-match"}}),
        );
        assert_eq!(off[0].verdict, Verdict::Pass);
    }
}
