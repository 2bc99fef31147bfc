//! Lists workloads with outdated proxies when restarts are due, and restarts them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::core::{Selector, SelectorExt as _};
use kube::{Client, ResourceExt as _};
use meshwright_api::{PROXY_UPDATE, PROXY_UPDATE_RESTART};
use serde_json::json;
use tracing::{debug, info};

use super::index::ProxyGroup;
use super::restart_plan::RestartCandidate;
use super::workload::{
    LastRestart, ProxyWorkload, RESTARTED_AT, RESTARTED_FOR, WorkloadId, WorkloadKind, WorkloadResource,
};
use crate::runtime::metrics::{Metrics, WriteVerb};
use crate::runtime::requests::{api_error_message, pages, within_deadline};

/// Objects per page.
const PAGE: u32 = 100;
/// Field manager of restarts. It differs from the field manager of the mesh's objects.
const MANAGER: &str = "meshwright-proxies";

/// Listing or restarting workloads failed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyUpdateError {
    /// Listing objects failed.
    #[error("listing {kind} failed: {}", api_error_message(.source))]
    List {
        /// Plural name of the resource.
        kind: &'static str,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// Restarting a workload failed.
    #[error("restarting {workload} failed: {}", api_error_message(.source))]
    Restart {
        /// The workload to restart.
        workload: WorkloadId,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Lists and restarts workloads. Clones share the client and the record of restarts.
#[derive(Clone)]
pub struct WorkloadRestarter {
    client: Client,
    metrics: Metrics,
    /// Restarts by this process. A tool such as Argo CD may reset the annotations that record them, and without this record an
    /// ineffective restart would then be repeated without end.
    restarted: Arc<Mutex<BTreeMap<WorkloadId, LastRestart>>>,
}

impl WorkloadRestarter {
    /// Returns a restarter that counts its writes in `metrics`.
    #[must_use]
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, restarted: Arc::default() }
    }

    /// Lists workloads with outdated proxies and workloads that were restarted before. `groups` are the proxies of the
    /// mesh, and `version` is its version.
    pub async fn candidates(
        &self,
        version: &str,
        groups: &[(ProxyGroup, usize)],
    ) -> Result<Vec<RestartCandidate>, ProxyUpdateError> {
        let outdated: BTreeSet<WorkloadId> = groups
            .iter()
            .filter(|(group, _)| group.is_outdated(version))
            .filter_map(|(group, _)| workload_id(group))
            .collect();
        let opted_in = self.opted_in_namespaces().await?;
        let mut candidates = Vec::new();
        for kind in WorkloadKind::ALL {
            for mut workload in self.workloads(kind).await? {
                workload.restarted = self.last_restart(&workload);
                let outdated = outdated.contains(&workload.id);
                if outdated || workload.restarted.is_some() {
                    let allowed = workload.opt_in.unwrap_or_else(|| opted_in.contains(&workload.id.namespace));
                    candidates.push(RestartCandidate { workload, allowed, outdated, budget: None });
                }
            }
        }
        if candidates.iter().any(|candidate| candidate.allowed && candidate.outdated) {
            let budgets = self.exhausted_budgets().await?;
            for candidate in &mut candidates {
                let of_namespace = budgets.get(&candidate.workload.id.namespace).into_iter().flatten();
                let mut matching = of_namespace.filter(|(_, selector)| selector.matches(&candidate.workload.labels));
                candidate.budget = matching.next().map(|(name, _)| name.clone());
            }
        }
        Ok(candidates)
    }

    /// Restarts a workload like `kubectl rollout restart`, unless it was changed since it was read. Returns whether it
    /// was restarted. The same request sets the annotations that record the restart.
    pub async fn restart(
        &self,
        workload: &ProxyWorkload,
        version: &str,
        now: Timestamp,
    ) -> Result<bool, ProxyUpdateError> {
        let id = &workload.id;
        let at = format!("{now:.0}");
        let restart = LastRestart { version: version.to_owned(), at: at.parse().ok() };
        let annotations = json!({RESTARTED_FOR: version, RESTARTED_AT: at});
        let patch = json!({
            "metadata": {"resourceVersion": workload.resource_version},
            "spec": {"template": {"metadata": {"annotations": annotations}}},
        });
        let api = self.api(id);
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        self.metrics.count_write(WriteVerb::Patch);
        let answer = within_deadline(api.patch_metadata(&id.name, &params, &Patch::Merge(&patch))).await;
        // A request that the API server has executed may fail nevertheless: after a lost response it is repeated, and
        // conflicts with its own change.
        if let Err(error) = answer
            && !self.is_restarted(id, &restart).await
        {
            return not_restarted(id, error);
        }
        self.restarted.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), restart);
        info!(workload = %id, version, "restarted workload with outdated proxies");
        Ok(true)
    }

    fn api(&self, id: &WorkloadId) -> Api<kube::api::DynamicObject> {
        let resource = kube::core::ApiResource::erase::<WorkloadResource>(&id.kind);
        Api::namespaced_with(self.client.clone(), &id.namespace, &resource)
    }

    /// Whether the annotations of the live workload record this restart.
    async fn is_restarted(&self, id: &WorkloadId, restart: &LastRestart) -> bool {
        let Ok(live) = within_deadline(self.api(id).get(&id.name)).await else { return false };
        let annotation = |key: &str| {
            let annotations = live.data.pointer("/spec/template/metadata/annotations")?;
            annotations.get(key)?.as_str().map(str::to_owned)
        };
        let at = annotation(RESTARTED_AT).and_then(|at| at.parse().ok());
        annotation(RESTARTED_FOR).as_ref() == Some(&restart.version) && at == restart.at
    }

    /// The later of the restart in the annotations and that by this process.
    fn last_restart(&self, workload: &ProxyWorkload) -> Option<LastRestart> {
        let restarted = self.restarted.lock().unwrap_or_else(PoisonError::into_inner);
        let own = restarted.get(&workload.id);
        own.into_iter().chain(&workload.restarted).max_by_key(|restart| restart.at).cloned()
    }

    async fn workloads(&self, kind: WorkloadKind) -> Result<Vec<ProxyWorkload>, ProxyUpdateError> {
        let api: Api<WorkloadResource> = Api::all_with(self.client.clone(), &kind);
        let mut all = Vec::new();
        let listed = pages(&api, page(), |workload| all.push(ProxyWorkload::new(kind, workload.raw)));
        listed.await.map_err(list_error(kind.plural()))?;
        Ok(all)
    }

    /// Lists namespaces that opted in to restarts.
    async fn opted_in_namespaces(&self) -> Result<BTreeSet<String>, ProxyUpdateError> {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let params = page().labels(&format!("{PROXY_UPDATE}={PROXY_UPDATE_RESTART}"));
        let mut names = BTreeSet::new();
        let listed = pages(&api, params, |namespace| {
            names.insert(namespace.name_any());
        });
        listed.await.map_err(list_error("namespaces"))?;
        Ok(names)
    }

    /// Lists PodDisruptionBudgets that currently allow no disruption, by namespace.
    async fn exhausted_budgets(&self) -> Result<BTreeMap<String, Vec<(String, Selector)>>, ProxyUpdateError> {
        let api: Api<PodDisruptionBudget> = Api::all(self.client.clone());
        let mut budgets: BTreeMap<String, Vec<(String, Selector)>> = BTreeMap::new();
        let listed = pages(&api, page(), |budget| {
            let (namespace, name) = (budget.namespace().unwrap_or_default(), budget.name_any());
            if let Some(selector) = selector_if_exhausted(budget) {
                budgets.entry(namespace).or_default().push((name, selector));
            }
        });
        listed.await.map_err(list_error("poddisruptionbudgets"))?;
        Ok(budgets)
    }
}

/// The result of a failed restart: `false` if the workload was changed since it was read.
fn not_restarted(id: &WorkloadId, error: kube::Error) -> Result<bool, ProxyUpdateError> {
    match error {
        kube::Error::Api(status) if status.is_conflict() || status.is_not_found() => {
            debug!(workload = %id, "workload was changed since it was read; retrying later");
            Ok(false)
        }
        source => Err(ProxyUpdateError::Restart { workload: id.clone(), source: Box::new(source) }),
    }
}

fn page() -> ListParams {
    ListParams::default().limit(PAGE)
}

fn list_error(kind: &'static str) -> impl FnOnce(kube::Error) -> ProxyUpdateError {
    move |source| ProxyUpdateError::List { kind, source: Box::new(source) }
}

/// Returns the selector of a budget that currently allows no disruption. A budget without status allows none.
fn selector_if_exhausted(budget: PodDisruptionBudget) -> Option<Selector> {
    let allowed = budget.status.map_or(0, |status| status.disruptions_allowed);
    // A budget without a selector matches no pods.
    let selector = budget.spec?.selector?;
    (allowed <= 0).then(|| Selector::try_from(selector).ok()).flatten()
}

/// Returns the workload of a group, if it can be restarted.
fn workload_id(group: &ProxyGroup) -> Option<WorkloadId> {
    let kind = WorkloadKind::of(&group.owner.kind)?;
    Some(WorkloadId { namespace: group.namespace.to_string(), kind, name: group.owner.name.to_string() })
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::BoxError;

    use super::*;

    /// Restarts a workload through a server that reports a conflict, and has a workload with these annotations.
    async fn restart_with_conflict(annotations: Value) -> (bool, Option<LastRestart>) {
        let server = tower::service_fn(move |request: Request<Body>| {
            let template = json!({"metadata": {"annotations": annotations}});
            let live = json!({"metadata": {"name": "web"}, "spec": {"template": template}});
            let conflict = json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409});
            let (code, answer) = if request.method() == Method::PATCH { (409, conflict) } else { (200, live) };
            let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            std::future::ready(response.map_err(BoxError::from))
        });
        let restarter = WorkloadRestarter::new(Client::new(server, "default"), Metrics::new());
        let workload = json!({"metadata": {"namespace": "shop", "name": "web", "resourceVersion": "7"}});
        let workload: WorkloadResource = serde_json::from_value(workload).unwrap();
        let workload = ProxyWorkload::new(WorkloadKind::Deployment, workload.raw);
        let now = "2026-11-21T10:00:00.2Z".parse().unwrap();
        let is_done = restarter.restart(&workload, "1.32.0", now).await.unwrap();
        (is_done, restarter.last_restart(&workload))
    }

    #[tokio::test]
    async fn repeated_restart_is_recorded_despite_conflict() {
        let at = |at: &str| json!({RESTARTED_FOR: "1.32.0", RESTARTED_AT: at});
        let (restarted, recorded) = restart_with_conflict(at("2026-11-21T10:00:00Z")).await;
        let expected = LastRestart { version: "1.32.0".into(), at: "2026-11-21T10:00:00Z".parse().ok() };
        assert_eq!((restarted, recorded), (true, Some(expected)));
        for of_others in [at("2026-11-21T09:00:00Z"), json!({})] {
            assert_eq!(restart_with_conflict(of_others).await, (false, None));
        }
    }

    fn selector(spec: &Value, status: &Value) -> Option<Selector> {
        selector_if_exhausted(serde_json::from_value(json!({"spec": spec, "status": status})).unwrap())
    }

    #[test]
    fn budget_blocks_while_it_allows_no_disruption() {
        let status = |allowed: i32| json!({"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1});
        let web = || json!({"selector": {"matchLabels": {"app": "web"}}});
        assert_eq!(selector(&web(), &status(1)), None);
        let found = selector(&web(), &status(0)).unwrap();
        let labels = |app: &str| [("app".to_owned(), app.to_owned())].into();
        assert!(found.matches(&labels("web")) && !found.matches(&labels("db")));
        assert!(selector(&web(), &Value::Null).is_some(), "the status is not set yet");
        assert!(selector(&json!({"selector": {}}), &status(0)).unwrap().matches(&labels("any")));
        assert_eq!(selector(&json!({}), &status(0)), None);
    }
}
