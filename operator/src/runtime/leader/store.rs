//! Where the lease lies: reads and conditional writes of one Lease object. I/O.

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
use super::step::{Observed, Record};
use crate::runtime::client::Clients;

/// Why a write did not happen.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The lease has changed since it was seen, is gone, or has come up meanwhile.
    Conflict,
    /// Anything else; the write may even have happened.
    Failed(Box<kube::Error>),
}

/// What is written into the lease to hold it.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) identity: String,
    pub(super) duration: Duration,
    pub(super) transitions: i32,
    /// Whether the holder changes by this write.
    pub(super) acquired: bool,
}

/// Access to one lease.
pub(super) trait Store: Send + Sync {
    fn read(&self) -> impl Future<Output = Result<Observed, Box<kube::Error>>> + Send;
    fn create(&self, hold: &Hold) -> impl Future<Output = Result<Observed, WriteError>> + Send;
    fn update(&self, hold: &Hold, version: &str) -> impl Future<Output = Result<Observed, WriteError>> + Send;
    /// Takes the holder's name out, if the lease still has this version.
    fn release(&self, version: &str) -> impl Future<Output = Result<(), WriteError>> + Send;
    /// What the lease is, now and after each change; never ends.
    fn changes(&self) -> BoxStream<'static, Observed>;
}

/// The lease in a cluster.
pub(super) struct KubeStore {
    requests: Api<Lease>,
    watches: Api<Lease>,
}

impl KubeStore {
    pub(super) fn new(clients: &Clients, namespace: &str) -> Self {
        Self {
            requests: Api::namespaced(clients.requests.clone(), namespace),
            watches: Api::namespaced(clients.watches.clone(), namespace),
        }
    }

    // A merge patch with a resourceVersion: conditional, and fields that we don't know are kept.
    async fn patch(&self, patch: &Value) -> Result<Lease, WriteError> {
        let patched = self.requests.patch(LEASE_NAME, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map_err(|error| write_error(error, &["Conflict", "NotFound"]))
    }
}

impl Store for KubeStore {
    async fn read(&self) -> Result<Observed, Box<kube::Error>> {
        Ok(observed(self.requests.get_opt(LEASE_NAME).await?))
    }

    async fn create(&self, hold: &Hold) -> Result<Observed, WriteError> {
        let now = MicroTime(Timestamp::now());
        let spec = LeaseSpec {
            holder_identity: Some(hold.identity.clone()),
            lease_duration_seconds: Some(whole_seconds(hold.duration)),
            lease_transitions: Some(hold.transitions),
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

    async fn update(&self, hold: &Hold, version: &str) -> Result<Observed, WriteError> {
        let now = MicroTime(Timestamp::now());
        let mut spec = json!({
            "holderIdentity": hold.identity,
            "leaseDurationSeconds": whole_seconds(hold.duration),
            "leaseTransitions": hold.transitions,
            "renewTime": now,
        });
        if let Some(spec) = spec.as_object_mut().filter(|_| hold.acquired) {
            spec.insert("acquireTime".to_owned(), json!(now));
        }
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": spec });
        Ok(observed(Some(self.patch(&patch).await?)))
    }

    async fn release(&self, version: &str) -> Result<(), WriteError> {
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "holderIdentity": null } });
        self.patch(&patch).await.map(drop)
    }

    fn changes(&self) -> BoxStream<'static, Observed> {
        // Errors are left to `read`, which meets them too and reports them once.
        watch_object(self.watches.clone(), LEASE_NAME)
            .default_backoff()
            .map_ok(observed)
            .filter_map(|change| ready(change.ok()))
            .boxed()
    }
}

fn write_error(error: kube::Error, conflicts: &[&str]) -> WriteError {
    match &error {
        kube::Error::Api(status) if conflicts.contains(&status.reason.as_str()) => WriteError::Conflict,
        _ => WriteError::Failed(Box::new(error)),
    }
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn observed(lease: Option<Lease>) -> Observed {
    let Some(lease) = lease else { return Observed::Absent };
    let spec = lease.spec.unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0);
    let record = Record {
        holder: spec.holder_identity,
        duration: seconds.map(Duration::from_secs),
        renewed: spec.renew_time.map(|time| time.0.to_string()),
        transitions: spec.lease_transitions.unwrap_or_default(),
    };
    Observed::Present { record, version: lease.metadata.resource_version.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_without_a_sound_duration_leaves_it_to_the_candidate() {
        for seconds in [None, Some(0), Some(-5)] {
            let spec = LeaseSpec { lease_duration_seconds: seconds, ..LeaseSpec::default() };
            let lease = Lease { metadata: ObjectMeta::default(), spec: Some(spec) };
            let Observed::Present { record, .. } = observed(Some(lease)) else { unreachable!() };
            assert_eq!(record.duration, None);
        }
    }
}
