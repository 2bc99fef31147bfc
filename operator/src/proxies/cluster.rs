//! Workloads with outdated proxies: read when somebody is to be restarted, never watched; and the restart itself.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::core::{Selector, SelectorExt as _};
use kube::{Client, ResourceExt as _};
use meshwright_api::{PROXY_UPDATE, PROXY_UPDATE_RESTART};
use serde_json::json;
use tracing::{debug, info};

use super::census::Group;
use super::decide::Candidate;
use super::workload::{RESTARTED_AT, RESTARTED_FOR, Read, Workload, WorkloadId, WorkloadKind};
use crate::runtime::metrics::{Metrics, WriteVerb};
use crate::runtime::requests::{pages, why, within_deadline};

/// Objects read at a time.
const PAGE: u32 = 100;
/// Field manager of what a restart writes: apart from that of the mesh's objects.
const MANAGER: &str = "meshwright-proxies";

/// Looking for workloads to restart, or restarting one, failed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyUpdateError {
    /// Objects could not be listed.
    #[error("listing {kind} failed: {}", why(.source))]
    List {
        /// Which, in the plural.
        kind: &'static str,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// A workload could not be restarted.
    #[error("restarting {workload} failed: {}", why(.source))]
    Restart {
        /// Which.
        workload: WorkloadId,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Reads and restarts workloads. Cloning shares the client.
#[derive(Clone)]
pub struct Restarts {
    client: Client,
    metrics: Metrics,
}

impl Restarts {
    /// One that counts its writes.
    #[must_use]
    pub const fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// Every workload that matters: those with an outdated proxy, and those that were restarted already. `groups` are
    /// the proxies of the mesh, `version` is its own.
    pub async fn candidates(
        &self,
        version: &str,
        groups: &[(Group, usize)],
    ) -> Result<Vec<Candidate>, ProxyUpdateError> {
        let outdated: BTreeSet<WorkloadId> =
            groups.iter().filter(|(group, _)| group.is_outdated(version)).filter_map(|(group, _)| id(group)).collect();
        let willing = self.willing_namespaces().await?;
        let mut candidates = Vec::new();
        for kind in WorkloadKind::ALL {
            for workload in self.workloads(kind).await? {
                let outdated = outdated.contains(&workload.id);
                if outdated || workload.restarted.is_some() {
                    let allowed = workload.consent.unwrap_or_else(|| willing.contains(&workload.id.namespace));
                    candidates.push(Candidate { workload, allowed, outdated, budget: None });
                }
            }
        }
        if candidates.iter().any(|candidate| candidate.allowed && candidate.outdated) {
            let budgets = self.tight_budgets().await?;
            for candidate in &mut candidates {
                let of_namespace = budgets.get(&candidate.workload.id.namespace).into_iter().flatten();
                let mut matching = of_namespace.filter(|(_, selector)| selector.matches(&candidate.workload.labels));
                candidate.budget = matching.next().map(|(name, _)| name.clone());
            }
        }
        Ok(candidates)
    }

    /// Restarts a workload as `kubectl rollout restart` does, unless somebody has changed it since it was read; whether
    /// it was restarted. The mark in the template is written by the same request.
    pub async fn restart(&self, workload: &Workload, version: &str, now: Timestamp) -> Result<bool, ProxyUpdateError> {
        let id = &workload.id;
        let annotations = json!({RESTARTED_FOR: version, RESTARTED_AT: format!("{now:.0}")});
        let patch = json!({
            "metadata": {"resourceVersion": workload.resource_version},
            "spec": {"template": {"metadata": {"annotations": annotations}}},
        });
        let resource = kube::core::ApiResource::erase::<Read>(&id.kind);
        let api: Api<kube::api::DynamicObject> = Api::namespaced_with(self.client.clone(), &id.namespace, &resource);
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        self.metrics.wrote(WriteVerb::Patch);
        match within_deadline(api.patch_metadata(&id.name, &params, &Patch::Merge(&patch))).await {
            Ok(_) => {
                info!(workload = %id, version, "restarted for its proxy");
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                debug!(workload = %id, "changed since it was read; left for the next look");
                Ok(false)
            }
            Err(source) => Err(ProxyUpdateError::Restart { workload: id.clone(), source: Box::new(source) }),
        }
    }

    async fn workloads(&self, kind: WorkloadKind) -> Result<Vec<Workload>, ProxyUpdateError> {
        let api: Api<Read> = Api::all_with(self.client.clone(), &kind);
        let mut all = Vec::new();
        let listed = pages(&api, page(), |read| all.push(Workload::of(kind, read.sketch)));
        listed.await.map_err(unlisted(kind.plural()))?;
        Ok(all)
    }

    /// The namespaces whose workloads may be restarted.
    async fn willing_namespaces(&self) -> Result<BTreeSet<String>, ProxyUpdateError> {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let params = page().labels(&format!("{PROXY_UPDATE}={PROXY_UPDATE_RESTART}"));
        let mut names = BTreeSet::new();
        let listed = pages(&api, params, |namespace| {
            names.insert(namespace.name_any());
        });
        listed.await.map_err(unlisted("namespaces"))?;
        Ok(names)
    }

    /// The budgets that allow no pod to go now, by namespace.
    async fn tight_budgets(&self) -> Result<BTreeMap<String, Vec<(String, Selector)>>, ProxyUpdateError> {
        let api: Api<PodDisruptionBudget> = Api::all(self.client.clone());
        let mut budgets: BTreeMap<String, Vec<(String, Selector)>> = BTreeMap::new();
        let listed = pages(&api, page(), |budget| {
            let (namespace, name) = (budget.namespace().unwrap_or_default(), budget.name_any());
            if let Some(selector) = tight(budget) {
                budgets.entry(namespace).or_default().push((name, selector));
            }
        });
        listed.await.map_err(unlisted("poddisruptionbudgets"))?;
        Ok(budgets)
    }
}

fn page() -> ListParams {
    ListParams::default().limit(PAGE)
}

fn unlisted(kind: &'static str) -> impl FnOnce(kube::Error) -> ProxyUpdateError {
    move |source| ProxyUpdateError::List { kind, source: Box::new(source) }
}

/// What a budget selects, if it allows nothing now. One that its controller hasn't looked at yet allows nothing.
fn tight(budget: PodDisruptionBudget) -> Option<Selector> {
    let allowed = budget.status.map_or(0, |status| status.disruptions_allowed);
    // Without a selector, a budget is about no pod.
    let selector = budget.spec?.selector?;
    (allowed <= 0).then(|| Selector::try_from(selector).ok()).flatten()
}

/// The workload that a group of pods belongs to, if it is one that can be restarted.
fn id(group: &Group) -> Option<WorkloadId> {
    let kind = WorkloadKind::of(&group.owner.kind)?;
    Some(WorkloadId { namespace: group.namespace.to_string(), kind, name: group.owner.name.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selector(spec: &Value, status: &Value) -> Option<Selector> {
        tight(serde_json::from_value(json!({"spec": spec, "status": status})).unwrap())
    }

    #[test]
    fn a_budget_counts_while_it_allows_nothing() {
        let status = |allowed: i32| json!({"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1});
        let web = || json!({"selector": {"matchLabels": {"app": "web"}}});
        assert_eq!(selector(&web(), &status(1)), None);
        let found = selector(&web(), &status(0)).unwrap();
        let labels = |app: &str| [("app".to_owned(), app.to_owned())].into();
        assert!(found.matches(&labels("web")) && !found.matches(&labels("db")));
        assert!(selector(&web(), &Value::Null).is_some(), "nobody has counted yet");
        assert!(selector(&json!({"selector": {}}), &status(0)).unwrap().matches(&labels("any")));
        assert_eq!(selector(&json!({}), &status(0)), None);
    }
}
