//! Lists nodes periodically. A watch would transfer each node's status, about 10 KiB, every few minutes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams};

use crate::mesh::node::NodeAddresses;
use crate::runtime::requests::within_deadline;

/// How long a list of nodes is cached.
const NODES_TTL: Duration = Duration::from_mins(5);
/// Nodes per page: each is about 10 KiB, of which little is stored.
const PAGE: u32 = 50;

/// The cluster's nodes as of the last list. Clones share the cache.
#[derive(Clone)]
pub struct Nodes {
    api: Api<Node>,
    read: Arc<Mutex<Option<Read>>>,
}

/// A list with its time.
#[derive(Clone)]
struct Read {
    at: Instant,
    nodes: Arc<[NodeAddresses]>,
}

impl Nodes {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client), read: Arc::default() }
    }

    /// All nodes, listed at most every five minutes. An error is returned once; until the next list there are no nodes.
    pub async fn facts(&self) -> Result<Arc<[NodeAddresses]>, kube::Error> {
        // A single assignment, so a panic leaves the cache consistent.
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Read { at, nodes }) = known
            && at.elapsed() < NODES_TTL
        {
            return Ok(nodes);
        }
        let listed = self.list().await;
        let nodes = listed.as_ref().map_or_else(|_| Arc::default(), Arc::clone);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(Read { at: Instant::now(), nodes });
        listed
    }

    async fn list(&self) -> Result<Arc<[NodeAddresses]>, kube::Error> {
        let mut params = ListParams::default().limit(PAGE);
        let mut nodes = Vec::new();
        loop {
            let page = within_deadline(self.api.list(&params)).await?;
            nodes.extend(page.items.into_iter().map(NodeAddresses::of));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(nodes.into()),
            }
        }
    }
}
