//! The API server's version. It is read again while the operator runs, since the API server may be upgraded meanwhile.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kube::Client;
use tracing::{info, warn};

use crate::runtime::requests::{api_error_message, within_deadline};

/// Interval between reads. A release that needs a newer Kubernetes version is refused for that long after its upgrade.
const INTERVAL: Duration = Duration::from_mins(2);

/// The last version that was read. Clones share it.
#[derive(Clone)]
pub struct ServerVersion {
    client: Client,
    current: Arc<RwLock<String>>,
}

impl ServerVersion {
    /// Starts with a version that was read before.
    #[must_use]
    pub fn new(client: Client, version: String) -> Self {
        Self { client, current: Arc::new(RwLock::new(version)) }
    }

    /// The version, such as `v1.36.3`. It applies to new revisions; recorded ones keep that for which they were rendered.
    #[must_use]
    pub fn get(&self) -> String {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the version again and again. Never returns.
    pub async fn refresh(self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match within_deadline(self.client.apiserver_version()).await {
                Ok(found) => self.set(found.git_version),
                Err(error) => warn!(error = api_error_message(&error), "reading the API server's version failed"),
            }
        }
    }

    fn set(&self, version: String) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if *current != version {
            info!(from = *current, to = version, "the API server's version has changed");
            *current = version;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tower::BoxError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_upgrade_of_api_server() {
        let count = AtomicUsize::new(0);
        let server = tower::service_fn(move |_: Request<Body>| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            let version = json!({
                "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            });
            // The API server is restarted in between.
            let (status, body) = if n == 0 { (503, String::new()) } else { (200, version.to_string()) };
            let response = Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap();
            std::future::ready(Ok::<_, BoxError>(response))
        });
        let version = ServerVersion::new(Client::new(server, "default"), "v1.35.4".to_owned());
        tokio::spawn(version.clone().refresh());
        tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;
        assert_eq!(version.get(), "v1.35.4", "a failed read changes nothing");
        tokio::time::sleep(INTERVAL).await;
        assert_eq!(version.get(), "v1.36.0");
    }
}
