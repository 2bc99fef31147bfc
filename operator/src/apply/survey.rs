//! Looks at the cluster: which platform it is, and which namespaces refuse what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::Client;
use kube::api::{Api, ListParams};
use tracing::{info, warn};

use super::error::ErrorClass;
use crate::mesh::object::ENFORCE_LABEL;
use crate::mesh::pod_security::NamespaceLabels;
use crate::platform::{Detected, NodeFacts, Observed, Platforms, detect};
use crate::runtime::requests::{why, within_deadline};

/// Nodes that are looked at. Those of one cluster are alike in what shows its platform.
const NODES: u32 = 50;
/// A platform that was found is looked for again no sooner than this.
const PLATFORM_INTERVAL: Duration = Duration::from_mins(5);
/// Where there were no nodes, they may come at any moment.
const NO_NODES_INTERVAL: Duration = Duration::from_secs(5);
/// Namespaces are looked at anew after this long, which is a little less than the time between two looks at a mesh that
/// nothing happens to: heals in between cost no read.
const NAMESPACES_INTERVAL: Duration = Duration::from_mins(4);
/// While a spec is new, what is told of it shall be fresh.
const NEW_SPEC_INTERVAL: Duration = Duration::from_secs(5);
/// Namespaces listed at a time.
const PAGE: u32 = 500;

/// The cluster could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("reading {what} failed: {}", why(.source))]
pub struct SurveyError {
    what: &'static str,
    #[source]
    source: Box<kube::Error>,
}

impl SurveyError {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::of(&self.source)
    }
}

/// Reads what tells of the cluster, and keeps what it found for a while. Cloning shares.
#[derive(Clone)]
pub struct Surveyor {
    client: Client,
    platforms: Arc<Platforms>,
    server_version: String,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    platform: Option<(Instant, Detected)>,
    namespaces: Option<(Instant, Vec<NamespaceLabels>)>,
}

impl Surveyor {
    /// A surveyor of the cluster whose server has this version.
    #[must_use]
    pub fn new(client: Client, platforms: Arc<Platforms>, server_version: String) -> Self {
        Self { client, platforms, server_version, kept: Arc::default() }
    }

    /// The platforms that are known.
    #[must_use]
    pub fn platforms(&self) -> &Platforms {
        &self.platforms
    }

    fn kept<T>(&self, read: impl FnOnce(&mut Kept) -> T) -> T {
        read(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Which platform this is. A missing right to list nodes is no failure: then the server alone is judged.
    pub async fn platform(&self) -> Result<Detected, SurveyError> {
        let known = self
            .kept(|kept| kept.platform.clone())
            .filter(|(at, found)| at.elapsed() < if found.provisional { NO_NODES_INTERVAL } else { PLATFORM_INTERVAL });
        if let Some((_, found)) = known {
            return Ok(found);
        }
        let groups = within_deadline(self.client.list_api_groups());
        let groups = groups.await.map_err(|e| SurveyError { what: "the API groups", source: Box::new(e) })?;
        let (nodes, hidden) = match self.nodes().await {
            Ok(nodes) => (nodes, false),
            Err(error) if ErrorClass::of(&error) == ErrorClass::Forbidden => (Vec::new(), true),
            Err(error) => return Err(SurveyError { what: "the nodes", source: Box::new(error) }),
        };
        let observed = Observed {
            nodes,
            server_version: self.server_version.clone(),
            api_groups: groups.groups.into_iter().map(|group| group.name).collect(),
        };
        let mut found = detect(&self.platforms, &observed);
        if hidden {
            warn!("nodes may not be listed: the platform is judged by the API server alone");
            found = found.without_nodes();
        }
        info!(platform = found.name, evidence = ?found.evidence, "the cluster's platform");
        self.kept(|kept| kept.platform = Some((Instant::now(), found.clone())));
        Ok(found)
    }

    async fn nodes(&self) -> Result<Vec<NodeFacts>, kube::Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let listed = within_deadline(api.list(&ListParams::default().limit(NODES))).await?;
        let facts = listed.items.into_iter().map(|node| NodeFacts {
            name: node.metadata.name.unwrap_or_default(),
            labels: node.metadata.labels.unwrap_or_default(),
            provider_id: node.spec.and_then(|spec| spec.provider_id).unwrap_or_default(),
        });
        Ok(facts.collect())
    }

    /// The namespaces in which Pod Security refuses pods, by their labels; `proved` says whether the spec has been Ready
    /// before. `None` where they can't be listed now.
    pub async fn guarded_namespaces(&self, proved: bool) -> Option<Vec<NamespaceLabels>> {
        let interval = if proved { NAMESPACES_INTERVAL } else { NEW_SPEC_INTERVAL };
        let known = self.kept(|kept| kept.namespaces.clone()).filter(|(at, _)| at.elapsed() < interval);
        if let Some((_, found)) = known {
            return Some(found);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let mut params = ListParams::default().labels(ENFORCE_LABEL).limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = within_deadline(api.list_metadata(&params)).await.ok()?;
            found.extend(page.items.into_iter().map(|namespace| NamespaceLabels {
                name: namespace.metadata.name.unwrap_or_default(),
                labels: namespace.metadata.labels.unwrap_or_else(BTreeMap::new),
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        self.kept(|kept| kept.namespaces = Some((Instant::now(), found.clone())));
        Some(found)
    }
}
