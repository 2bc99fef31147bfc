//! ControllerRevisions in the operator's own namespace: the operator's memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tracing::warn;

use super::error::ErrorClass;
use crate::mesh::object::{FIELD_MANAGER, INSTALLATION_LABEL, UID_ANNOTATION};
use crate::mesh::revision::{Record, ResolvedInputs, Verdict};
use crate::runtime::requests::{why, within_deadline};

const VERDICT_ANNOTATION: &str = "meshwright.dev/verdict";
const FAILURE_ANNOTATION: &str = "meshwright.dev/failure";
/// Records kept per installation: enough history for a person, little enough for etcd.
const KEPT: usize = 5;

/// A request about the memory failed.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// Reading it.
    #[error("listing ControllerRevisions of {installation} failed: {}", why(.source))]
    List {
        /// Whose.
        installation: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// Writing a record, or deleting one.
    #[error("writing ControllerRevision {name} failed: {}", why(.source))]
    Write {
        /// Which.
        name: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
}

impl RevisionError {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::List { source, .. } | Self::Write { source, .. } => ErrorClass::of(source),
        }
    }
}

/// The memory. Read once per installation and kept, since only the leader writes it. Cloning shares.
#[derive(Clone)]
pub struct Revisions {
    api: Api<ControllerRevision>,
    known: Arc<Mutex<HashMap<String, Vec<Record>>>>,
}

impl Revisions {
    /// The memory in the operator's namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), known: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Record>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revisions that the operator has named in an installation, as far as they are remembered.
    #[must_use]
    pub fn named(&self, installation: &str) -> BTreeSet<String> {
        let known = self.lock();
        let records = known.get(installation).into_iter().flatten();
        records.filter_map(|record| record.inputs.revision.clone()).collect()
    }

    /// The revision that the operator has named for what an installation is brought to.
    #[must_use]
    pub fn newest_name(&self, installation: &str) -> Option<String> {
        let known = self.lock();
        let records = known.get(installation)?;
        let failed = |record: &&Record| matches!(record.verdict, Verdict::Failed | Verdict::RolledBack);
        records.iter().rev().find(|record| !failed(record))?.inputs.revision.clone()
    }

    /// The records of an installation, oldest first.
    pub async fn of(&self, installation: &str) -> Result<Vec<Record>, RevisionError> {
        if let Some(known) = self.lock().get(installation) {
            return Ok(known.clone());
        }
        let mut records: Vec<Record> = self.list(installation).await?.into_iter().filter_map(record).collect();
        records.sort_by_key(|record| record.number);
        self.lock().insert(installation.to_owned(), records.clone());
        Ok(records)
    }

    /// The records of an installation, oldest first, each with the time when it was first accepted; read anew.
    pub async fn history(&self, installation: &str) -> Result<Vec<(Record, Option<Timestamp>)>, RevisionError> {
        let list = self.list(installation).await?.into_iter();
        let dated = list.filter_map(|revision| {
            let accepted = revision.metadata.creation_timestamp.as_ref().map(|time| time.0);
            record(revision).map(|record| (record, accepted))
        });
        let mut dated: Vec<_> = dated.collect();
        dated.sort_by_key(|(record, _)| record.number);
        Ok(dated)
    }

    async fn list(&self, installation: &str) -> Result<Vec<ControllerRevision>, RevisionError> {
        let params = ListParams::default().labels(&format!("{INSTALLATION_LABEL}={installation}"));
        let list = within_deadline(self.api.list(&params)).await.map_err(|source| RevisionError::List {
            installation: installation.to_owned(),
            source: Box::new(source),
        })?;
        Ok(list.items)
    }

    /// Remembers accepted inputs. Does nothing where they are the newest remembered already.
    pub async fn accept(
        &self,
        installation: &str,
        uid: &str,
        inputs: &ResolvedInputs,
    ) -> Result<Record, RevisionError> {
        let records = self.of(installation).await?;
        let name = inputs.record_name(installation);
        if let Some(last) = records.last()
            && last.name == name
            && last.uid == uid
        {
            return Ok(last.clone());
        }
        let number = records.last().map_or(0, |last| last.number) + 1;
        let fail = |source| RevisionError::Write { name: name.clone(), source: Box::new(source) };
        if records.iter().any(|record| record.name == name) {
            // An old spec is wanted again: the same record, as the newest, to be judged anew.
            let patch = json!({"revision": number, "metadata": {"annotations": {VERDICT_ANNOTATION: null, FAILURE_ANNOTATION: null, UID_ANNOTATION: uid}}});
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            within_deadline(self.api.patch(&name, &params, &Patch::Merge(&patch))).await.map_err(fail)?;
        } else {
            let body = ControllerRevision {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    labels: Some([(INSTALLATION_LABEL.to_owned(), installation.to_owned())].into()),
                    annotations: Some([(UID_ANNOTATION.to_owned(), uid.to_owned())].into()),
                    ..ObjectMeta::default()
                },
                data: Some(RawExtension(serde_json::to_value(inputs).unwrap_or_default())),
                revision: number,
            };
            let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
            match within_deadline(self.api.create(&params, &body)).await {
                Ok(_) => {}
                // Written by a leader that died before it could tell.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(source) => return Err(fail(source)),
            }
        }
        let record = Record {
            name,
            number,
            inputs: inputs.clone(),
            verdict: Verdict::Pending,
            failure: None,
            uid: uid.to_owned(),
        };
        {
            let mut known = self.lock();
            let list = known.entry(installation.to_owned()).or_default();
            list.retain(|old| old.name != record.name);
            list.push(record.clone());
        }
        self.drop_surplus(installation).await?;
        Ok(record)
    }

    /// Drops the oldest records beyond those that are kept, but never the last one that proved good.
    async fn drop_surplus(&self, installation: &str) -> Result<(), RevisionError> {
        let records = self.of(installation).await?;
        let good = records.iter().rev().find(|record| record.verdict == Verdict::Proved).map(|record| &record.name);
        let surplus = records.len().saturating_sub(KEPT);
        for record in records.iter().take(surplus).filter(|record| Some(&record.name) != good) {
            self.delete(&record.name).await?;
            if let Some(list) = self.lock().get_mut(installation) {
                list.retain(|r| r.name != record.name);
            }
        }
        Ok(())
    }

    /// Marks the newest record as proved, and the one that was before as superseded.
    pub async fn prove(&self, installation: &str, name: &str) -> Result<(), RevisionError> {
        let records = self.of(installation).await?;
        // The newest first: a process that ends in between must not leave a mesh without anything to go back to.
        for record in records.iter().rev() {
            let verdict = match (record.name == name, record.verdict) {
                (true, Verdict::Proved) => continue,
                (true, _) => Verdict::Proved,
                (false, Verdict::Proved) => Verdict::Superseded,
                // What never was Ready stays so.
                (false, _) => continue,
            };
            if !self.write_verdict(installation, &record.name, verdict, None).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Marks a record as failed, with the reason, or as rolled back.
    pub async fn judge(
        &self,
        installation: &str,
        name: &str,
        verdict: Verdict,
        failure: Option<&str>,
    ) -> Result<(), RevisionError> {
        self.write_verdict(installation, name, verdict, failure).await.map(drop)
    }

    /// Answers false when the record is gone.
    async fn write_verdict(
        &self,
        installation: &str,
        name: &str,
        verdict: Verdict,
        failure: Option<&str>,
    ) -> Result<bool, RevisionError> {
        let mut annotations = json!({VERDICT_ANNOTATION: verdict.as_str()});
        if let Some(failure) = failure {
            crate::mesh::merge::merge(&mut annotations, json!({FAILURE_ANNOTATION: failure}));
        }
        let patch = json!({"metadata": {"annotations": annotations}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        match within_deadline(self.api.patch(name, &params, &Patch::Merge(&patch))).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                // Somebody deleted our memory: read anew, and write the newest again at the next reconcile.
                warn!(name, "a ControllerRevision is gone; remembering it again");
                self.forget(installation);
                return Ok(false);
            }
            Err(source) => return Err(RevisionError::Write { name: name.to_owned(), source: Box::new(source) }),
        }
        if let Some(known) = self.lock().get_mut(installation).and_then(|l| l.iter_mut().find(|r| r.name == name)) {
            known.verdict = verdict;
            known.failure = failure.map(str::to_owned).or_else(|| known.failure.take());
        }
        Ok(true)
    }

    /// Deletes all records of an installation.
    pub async fn erase(&self, installation: &str) -> Result<(), RevisionError> {
        self.forget(installation);
        for record in self.of(installation).await? {
            self.delete(&record.name).await?;
        }
        self.forget(installation);
        Ok(())
    }

    /// Forgets what was read, so that it is read again.
    pub fn forget(&self, installation: &str) {
        self.lock().remove(installation);
    }

    async fn delete(&self, name: &str) -> Result<(), RevisionError> {
        match within_deadline(self.api.delete(name, &DeleteParams::default())).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(RevisionError::Write { name: name.to_owned(), source: Box::new(source) }),
        }
    }
}

/// Reads a record; one that can't be read (written by a newer operator) is left out, and so is never rolled back to.
fn record(revision: ControllerRevision) -> Option<Record> {
    let verdict = Verdict::parse(revision.annotations().get(VERDICT_ANNOTATION).map(String::as_str));
    let uid = revision.annotations().get(UID_ANNOTATION).cloned().unwrap_or_default();
    let failure = revision.annotations().get(FAILURE_ANNOTATION).cloned();
    let name = revision.name_any();
    let data = revision.data?.0;
    match serde_json::from_value(data) {
        Ok(inputs) => Some(Record { name, number: revision.revision, inputs, verdict, failure, uid }),
        Err(error) => {
            warn!(name, error = %error, "a ControllerRevision can't be read and is left out");
            None
        }
    }
}
