//! Statuses that could not be written. Reconciles go on from them, as if they had been written: an upgrade keeps its
//! deadlines, and an uninstall proceeds. They are lost when the operator ends.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use meshwright_api::{MeshInstallation, MeshInstallationStatus};

use super::backoff::backoff;
use crate::apply::ErrorClass;

/// Unwritten statuses by installation.
#[derive(Default)]
pub struct UnwrittenStatuses(Mutex<HashMap<String, UnwrittenStatus>>);

struct UnwrittenStatus {
    /// UID of the MeshInstallation.
    uid: String,
    status: MeshInstallationStatus,
    class: ErrorClass,
    failures: u32,
    retry_at: Instant,
}

impl UnwrittenStatuses {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, UnwrittenStatus>> {
        // Every critical section is a single insertion, removal or assignment, so a panic leaves the map consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The MeshInstallation with its unwritten status, if it has one.
    pub fn apply_to<'i>(&self, installation: &'i MeshInstallation) -> Cow<'i, MeshInstallation> {
        let unwritten = self.lock();
        let own = |unwritten: &&UnwrittenStatus| installation.uid().is_some_and(|uid| uid == unwritten.uid);
        match unwritten.get(&installation.name_any()).filter(own) {
            Some(unwritten) => {
                let status = Some(unwritten.status.clone());
                Cow::Owned(MeshInstallation { status, ..installation.clone() })
            }
            None => Cow::Borrowed(installation),
        }
    }

    /// Records a failed write. Returns when to retry.
    pub fn record_failure(
        &self,
        installation: &MeshInstallation,
        status: &MeshInstallationStatus,
        class: ErrorClass,
    ) -> Duration {
        let (name, uid) = (installation.name_any(), installation.uid().unwrap_or_default());
        let mut all = self.lock();
        let failures = all.get(&name).map_or(0, |known| known.failures).saturating_add(1);
        let delay = backoff(class, failures, &name);
        let retry_at = Instant::now() + delay;
        all.insert(name, UnwrittenStatus { uid, status: status.clone(), class, failures, retry_at });
        delay
    }

    /// Updates an unwritten status whose retry is not due yet.
    pub fn update(&self, installation: &str, status: &MeshInstallationStatus) {
        if let Some(known) = self.lock().get_mut(installation) {
            known.status.clone_from(status);
        }
    }

    /// The time until the next attempt to write; `None` if nothing is unwritten.
    pub fn retry_after(&self, installation: &str) -> Option<Duration> {
        let unwritten = self.lock();
        Some(unwritten.get(installation)?.retry_at.saturating_duration_since(Instant::now()))
    }

    /// The class of the last error; `None` if nothing is unwritten.
    pub fn error_class(&self, installation: &str) -> Option<ErrorClass> {
        self.lock().get(installation).map(|unwritten| unwritten.class)
    }

    /// Forgets the status, since one was written or the installation was deleted.
    pub fn clear(&self, installation: &str) {
        self.lock().remove(installation);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn installation(uid: &str) -> MeshInstallation {
        let value = json!({"apiVersion": "meshwright.dev/v1alpha1", "kind": "MeshInstallation",
            "metadata": {"name": "mesh", "uid": uid}, "spec": {"version": "1.32"}, "status": {"observedGeneration": 1}});
        serde_json::from_value(value).unwrap()
    }

    fn status(generation: i64) -> MeshInstallationStatus {
        MeshInstallationStatus { observed_generation: generation, ..MeshInstallationStatus::default() }
    }

    #[test]
    fn reconciles_go_on_from_unwritten_status() {
        let unwritten = UnwrittenStatuses::default();
        let generation = |uid: &str| unwritten.apply_to(&installation(uid)).status.clone().unwrap().observed_generation;
        assert_eq!((generation("a"), unwritten.retry_after("mesh")), (1, None));
        unwritten.record_failure(&installation("a"), &status(2), ErrorClass::Transient);
        assert_eq!((generation("a"), generation("b")), (2, 1), "another MeshInstallation of that name");
        unwritten.update("mesh", &status(3));
        assert_eq!((generation("a"), unwritten.error_class("mesh")), (3, Some(ErrorClass::Transient)));
        unwritten.clear("mesh");
        assert_eq!((generation("a"), unwritten.error_class("mesh")), (1, None));
    }

    #[test]
    fn retries_less_often_after_each_failure() {
        let unwritten = UnwrittenStatuses::default();
        let fail = || unwritten.record_failure(&installation("a"), &status(2), ErrorClass::Transient);
        let delays: Vec<Duration> = (0..12).map(|_| fail()).collect();
        assert!(delays[0] < Duration::from_secs(1) && delays[11] > Duration::from_secs(20), "{delays:?}");
        assert!(unwritten.retry_after("mesh").is_some_and(|left| left <= delays[11]));
    }
}
