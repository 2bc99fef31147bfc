//! Reads and conditional writes of the Lease object.

use std::time::Duration;

use futures::future::ready;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use serde_json::{Value, json};

use super::LEASE_NAME;
use super::step::{LeaseRecord, ObservedLease};
use crate::runtime::client::Clients;

/// Writing the lease failed.
#[derive(Debug)]
pub(super) enum LeaseWriteError {
    /// The lease was changed, deleted or created by another client since it was read.
    Conflict,
    /// Any other error. The server may have persisted the write.
    Failed(Box<kube::Error>),
}

/// Content that a candidate writes to acquire or renew the lease.
#[derive(Clone, Debug)]
pub(super) struct LeaseClaim {
    pub(super) identity: String,
    pub(super) duration: Duration,
    pub(super) transitions: i32,
    /// Whether this write changes the holder.
    pub(super) acquired: bool,
}

/// Access to the lease.
pub(super) trait LeaseStore: Send + Sync {
    fn read(&self) -> impl Future<Output = Result<ObservedLease, Box<kube::Error>>> + Send;
    fn create(&self, claim: &LeaseClaim) -> impl Future<Output = Result<ObservedLease, LeaseWriteError>> + Send;
    fn update(
        &self,
        claim: &LeaseClaim,
        version: &str,
    ) -> impl Future<Output = Result<ObservedLease, LeaseWriteError>> + Send;
    /// Clears the holder, if the lease still has this resourceVersion.
    fn release(&self, version: &str) -> impl Future<Output = Result<(), LeaseWriteError>> + Send;
    /// Returns an endless stream of the lease's current content and its changes.
    fn changes(&self) -> BoxStream<'static, ObservedLease>;
}

/// Access to the lease in a cluster.
pub(super) struct KubeLeaseStore {
    requests: Api<Lease>,
    watches: Api<Lease>,
}

impl KubeLeaseStore {
    pub(super) fn new(clients: &Clients, namespace: &str) -> Self {
        Self {
            requests: Api::namespaced(clients.requests.clone(), namespace),
            watches: Api::namespaced(clients.watches.clone(), namespace),
        }
    }

    // A merge patch with a resourceVersion is conditional and keeps unknown fields.
    async fn patch(&self, patch: &Value) -> Result<Lease, LeaseWriteError> {
        let patched = self.requests.patch(LEASE_NAME, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map_err(|error| write_error(error, &["Conflict", "NotFound"]))
    }
}

impl LeaseStore for KubeLeaseStore {
    async fn read(&self) -> Result<ObservedLease, Box<kube::Error>> {
        Ok(observed(self.requests.get_opt(LEASE_NAME).await?))
    }

    async fn create(&self, claim: &LeaseClaim) -> Result<ObservedLease, LeaseWriteError> {
        let now = MicroTime(Timestamp::now());
        let spec = LeaseSpec {
            holder_identity: Some(claim.identity.clone()),
            lease_duration_seconds: Some(whole_seconds(claim.duration)),
            lease_transitions: Some(claim.transitions),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec) };
        match self.requests.create(&PostParams::default(), &lease).await {
            Ok(lease) => Ok(observed(Some(lease))),
            Err(error) => Err(write_error(error, &["AlreadyExists"])),
        }
    }

    async fn update(&self, claim: &LeaseClaim, version: &str) -> Result<ObservedLease, LeaseWriteError> {
        let now = MicroTime(Timestamp::now());
        let mut spec = json!({
            "holderIdentity": claim.identity,
            "leaseDurationSeconds": whole_seconds(claim.duration),
            "leaseTransitions": claim.transitions,
            "renewTime": now,
        });
        if let Some(spec) = spec.as_object_mut().filter(|_| claim.acquired) {
            spec.insert("acquireTime".to_owned(), json!(now));
        }
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": spec });
        Ok(observed(Some(self.patch(&patch).await?)))
    }

    async fn release(&self, version: &str) -> Result<(), LeaseWriteError> {
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "holderIdentity": null } });
        self.patch(&patch).await.map(drop)
    }

    fn changes(&self) -> BoxStream<'static, ObservedLease> {
        // Errors are ignored here, because `read` returns them too.
        watch_object(self.watches.clone(), LEASE_NAME)
            .default_backoff()
            .map_ok(observed)
            .filter_map(|change| ready(change.ok()))
            .boxed()
    }
}

fn write_error(error: kube::Error, conflicts: &[&str]) -> LeaseWriteError {
    match &error {
        kube::Error::Api(status) if conflicts.contains(&status.reason.as_str()) => LeaseWriteError::Conflict,
        _ => LeaseWriteError::Failed(Box::new(error)),
    }
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn observed(lease: Option<Lease>) -> ObservedLease {
    let Some(lease) = lease else { return ObservedLease::Absent };
    let spec = lease.spec.unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0);
    let record = LeaseRecord {
        holder: spec.holder_identity,
        duration: seconds.map(Duration::from_secs),
        renewed: spec.renew_time.map(|time| time.0.to_string()),
        transitions: spec.lease_transitions.unwrap_or_default(),
    };
    ObservedLease::Present { record, version: lease.metadata.resource_version.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignores_invalid_lease_durations() {
        for seconds in [None, Some(0), Some(-5)] {
            let spec = LeaseSpec { lease_duration_seconds: seconds, ..LeaseSpec::default() };
            let lease = Lease { metadata: ObjectMeta::default(), spec: Some(spec) };
            let ObservedLease::Present { record, .. } = observed(Some(lease)) else { unreachable!() };
            assert_eq!(record.duration, None);
        }
    }
}
