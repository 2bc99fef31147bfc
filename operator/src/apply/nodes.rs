//! Reads of nodes: a list now and then. A watch would bring every node's status, some 10 KiB, every few minutes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams};

use crate::mesh::node::NodeFacts;
use crate::runtime::requests::within_deadline;

/// What was read stays good for so long.
const FRESH: Duration = Duration::from_mins(5);
/// Nodes read at a time: each is some 10 KiB, of which little is kept.
const PAGE: u32 = 50;

/// The cluster's nodes, as last read. Cloning shares.
#[derive(Clone)]
pub struct Nodes {
    api: Api<Node>,
    read: Arc<Mutex<Option<Read>>>,
}

/// One list, and when it was made.
#[derive(Clone)]
struct Read {
    at: Instant,
    nodes: Arc<[NodeFacts]>,
}

impl Nodes {
    /// Nodes of a cluster, none read yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client), read: Arc::default() }
    }

    /// All nodes, read at most every five minutes. A failure is told once; until the next read there are none.
    pub async fn facts(&self) -> Result<Arc<[NodeFacts]>, kube::Error> {
        // One assignment: nothing is half-done after a panic.
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Read { at, nodes }) = known
            && at.elapsed() < FRESH
        {
            return Ok(nodes);
        }
        let listed = self.list().await;
        let nodes = listed.as_ref().map_or_else(|_| Arc::default(), Arc::clone);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(Read { at: Instant::now(), nodes });
        listed
    }

    async fn list(&self) -> Result<Arc<[NodeFacts]>, kube::Error> {
        let mut params = ListParams::default().limit(PAGE);
        let mut nodes = Vec::new();
        loop {
            let page = within_deadline(self.api.list(&params)).await?;
            nodes.extend(page.items.into_iter().map(NodeFacts::of));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(nodes.into()),
            }
        }
    }
}
