//! Detects the cluster's platform and namespaces with Pod Security.

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
use crate::platform::{ClusterFacts, DetectedPlatform, NodeFacts, Platforms, detect};
use crate::runtime::requests::{api_error_message, within_deadline};

/// Nodes to read. In one cluster their platform labels are alike.
const NODES: u32 = 50;
/// How long a detected platform is cached.
const PLATFORM_INTERVAL: Duration = Duration::from_mins(5);
/// The same while the cluster has no nodes yet.
const NO_NODES_INTERVAL: Duration = Duration::from_secs(5);
/// How long namespaces are cached: slightly less than the resync interval, so that reconciles in between read nothing.
const NAMESPACES_INTERVAL: Duration = Duration::from_mins(4);
/// The same for a spec that has not been Ready yet.
const NEW_SPEC_INTERVAL: Duration = Duration::from_secs(5);
/// Namespaces per page.
const PAGE: u32 = 500;

/// The cluster's state could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {what} failed: {}", api_error_message(.source))]
pub struct DetectClusterError {
    what: &'static str,
    #[source]
    source: Box<kube::Error>,
}

impl DetectClusterError {
    /// The error's class, which decides reason and retry.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::of(&self.source)
    }
}

/// Detects properties of the cluster, with a cache. Clones share it.
#[derive(Clone)]
pub struct ClusterDetector {
    client: Client,
    platforms: Arc<Platforms>,
    server_version: String,
    cached: Arc<Mutex<CachedDetection>>,
}

#[derive(Default)]
struct CachedDetection {
    platform: Option<(Instant, DetectedPlatform)>,
    namespaces: Option<(Instant, Vec<NamespaceLabels>)>,
}

impl ClusterDetector {
    /// Creates a detector for a cluster of this version.
    #[must_use]
    pub fn new(client: Client, platforms: Arc<Platforms>, server_version: String) -> Self {
        Self { client, platforms, server_version, cached: Arc::default() }
    }

    /// All supported platforms.
    #[must_use]
    pub fn platforms(&self) -> &Platforms {
        &self.platforms
    }

    fn cached<T>(&self, read: impl FnOnce(&mut CachedDetection) -> T) -> T {
        read(&mut self.cached.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Detects the platform. Without permission to list nodes, detection uses the API server alone.
    pub async fn platform(&self) -> Result<DetectedPlatform, DetectClusterError> {
        let known = self
            .cached(|cached| cached.platform.clone())
            .filter(|(at, found)| at.elapsed() < if found.provisional { NO_NODES_INTERVAL } else { PLATFORM_INTERVAL });
        if let Some((_, found)) = known {
            return Ok(found);
        }
        let (groups, nodes) = tokio::join!(within_deadline(self.client.list_api_groups()), self.nodes());
        let groups = groups.map_err(|e| DetectClusterError { what: "the API groups", source: Box::new(e) })?;
        let (nodes, hidden) = match nodes {
            Ok(nodes) => (nodes, false),
            Err(error) if ErrorClass::of(&error) == ErrorClass::Forbidden => (Vec::new(), true),
            Err(error) => return Err(DetectClusterError { what: "the nodes", source: Box::new(error) }),
        };
        let observed = ClusterFacts {
            nodes,
            server_version: self.server_version.clone(),
            api_groups: groups.groups.into_iter().map(|group| group.name).collect(),
        };
        let mut found = detect(&self.platforms, &observed);
        if hidden {
            warn!("no permission to list nodes; detecting the platform from the API server alone");
            found = found.without_node_access();
        }
        info!(platform = found.name, evidence = ?found.evidence, "detected the platform");
        self.cached(|cached| cached.platform = Some((Instant::now(), found.clone())));
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

    /// Namespaces in which Pod Security may reject pods, with their labels; `None` if they can't be listed. A spec that
    /// is not `deployed` gets newer data.
    pub async fn restricted_namespaces(&self, deployed: bool) -> Option<Vec<NamespaceLabels>> {
        let interval = if deployed { NAMESPACES_INTERVAL } else { NEW_SPEC_INTERVAL };
        let known = self.cached(|cached| cached.namespaces.clone()).filter(|(at, _)| at.elapsed() < interval);
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
        self.cached(|cached| cached.namespaces = Some((Instant::now(), found.clone())));
        Some(found)
    }
}
