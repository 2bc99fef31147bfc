//! The revision history: ControllerRevisions in the operator's own namespace.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tracing::warn;

use super::error::ErrorClass;
use crate::mesh::object::{FIELD_MANAGER, INSTALLATION_LABEL, ObjectKey, UID_ANNOTATION};
use crate::mesh::recorded_objects::RecordedObjects;
use crate::mesh::renamed_fields::migrate;
use crate::mesh::revision::{ResolvedInputs, RevisionRecord, RevisionVerdict};
use crate::mesh::text::shortened;
use crate::runtime::requests::{api_error_message, within_deadline};

const VERDICT_ANNOTATION: &str = "meshwright.dev/verdict";
const FAILURE_ANNOTATION: &str = "meshwright.dev/failure";
/// The objects that may exist. It is no part of the data, which can't be changed and whose hash is the revision's name.
const INVENTORY_ANNOTATION: &str = "meshwright.dev/inventory";
/// The most bytes of a failure in the annotation; all annotations of an object have at most 256 KiB.
const MAX_FAILURE: usize = 4096;
/// Revisions stored per installation.
const HISTORY_LIMIT: usize = 5;

/// A request for a ControllerRevision failed.
#[derive(Debug, thiserror::Error)]
pub enum RevisionHistoryError {
    /// The revisions could not be listed.
    #[error("listing ControllerRevisions of {installation} failed: {}", api_error_message(.source))]
    List {
        /// Name of the MeshInstallation.
        installation: String,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
    /// A revision could not be written or deleted.
    #[error("writing ControllerRevision {name} failed: {}", api_error_message(.source))]
    Write {
        /// Name of the ControllerRevision.
        name: String,
        /// The failed request.
        #[source]
        source: Box<kube::Error>,
    },
}

impl RevisionHistoryError {
    /// The error's class, which decides reason and retry.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::List { source, .. } | Self::Write { source, .. } => ErrorClass::of(source),
        }
    }
}

/// The revisions of all installations. Cached after the first read, since only the leader writes them. Clones share it.
#[derive(Clone)]
pub struct RevisionHistory {
    api: Api<ControllerRevision>,
    known: Arc<Mutex<HashMap<String, Vec<RevisionRecord>>>>,
}

impl RevisionHistory {
    /// Creates the history of an operator in this namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), known: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<RevisionRecord>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `istio.io/rev` values that the operator has generated for an installation.
    #[must_use]
    pub fn named(&self, installation: &str) -> BTreeSet<String> {
        let known = self.lock();
        let records = known.get(installation).into_iter().flatten();
        records.filter_map(|record| record.inputs.revision.clone()).collect()
    }

    /// The `istio.io/rev` that the operator has generated for an installation's newest revision that has not failed.
    #[must_use]
    pub fn newest_name(&self, installation: &str) -> Option<String> {
        let known = self.lock();
        let records = known.get(installation)?;
        let failed =
            |record: &&RevisionRecord| matches!(record.verdict, RevisionVerdict::Failed | RevisionVerdict::RolledBack);
        records.iter().rev().find(|record| !failed(record))?.inputs.revision.clone()
    }

    /// The revisions of an installation, oldest first.
    pub async fn of(&self, installation: &str) -> Result<Vec<RevisionRecord>, RevisionHistoryError> {
        if let Some(known) = self.lock().get(installation) {
            return Ok(known.clone());
        }
        let mut records: Vec<RevisionRecord> = self.list(installation).await?.into_iter().filter_map(record).collect();
        records.sort_by_key(|record| record.number);
        self.lock().insert(installation.to_owned(), records.clone());
        Ok(records)
    }

    /// The revisions of an installation, oldest first, each with its creation time; not cached.
    pub async fn history(
        &self,
        installation: &str,
    ) -> Result<Vec<(RevisionRecord, Option<Timestamp>)>, RevisionHistoryError> {
        let list = self.list(installation).await?.into_iter();
        let dated = list.filter_map(|revision| {
            let accepted = revision.metadata.creation_timestamp.as_ref().map(|time| time.0);
            record(revision).map(|record| (record, accepted))
        });
        let mut dated: Vec<_> = dated.collect();
        dated.sort_by_key(|(record, _)| record.number);
        Ok(dated)
    }

    async fn list(&self, installation: &str) -> Result<Vec<ControllerRevision>, RevisionHistoryError> {
        let params = ListParams::default().labels(&format!("{INSTALLATION_LABEL}={installation}"));
        let list = within_deadline(self.api.list(&params)).await.map_err(|source| RevisionHistoryError::List {
            installation: installation.to_owned(),
            source: Box::new(source),
        })?;
        Ok(list.items)
    }

    /// Stores accepted inputs as the newest revision, with the objects that may exist from then on.
    pub async fn accept(
        &self,
        installation: &str,
        uid: &str,
        inputs: &ResolvedInputs,
        objects: BTreeSet<ObjectKey>,
    ) -> Result<(), RevisionHistoryError> {
        let records = self.of(installation).await?;
        let name = inputs.revision_name(installation);
        let number = records.last().map_or(0, |last| last.number) + 1;
        let objects = RecordedObjects::new(objects);
        let inventory = objects.to_annotation(number);
        let is_known = records.iter().any(|record| record.name == name);
        if is_known || !self.create(installation, uid, &name, number, inputs, inventory.as_deref()).await? {
            // A previous spec was restored, or a previous leader ended right after the create: the revision becomes the
            // newest one, without a verdict.
            let patch = json!({"revision": number, "metadata": {"annotations": {
                VERDICT_ANNOTATION: null, FAILURE_ANNOTATION: null, UID_ANNOTATION: uid, INVENTORY_ANNOTATION: inventory,
            }}});
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            let patched = within_deadline(self.api.patch(&name, &params, &Patch::Merge(&patch))).await;
            patched.map_err(|source| RevisionHistoryError::Write { name: name.clone(), source: Box::new(source) })?;
        }
        let record = RevisionRecord {
            name,
            number,
            inputs: inputs.clone(),
            verdict: RevisionVerdict::Pending,
            failure: None,
            renamed_fields: Vec::new(),
            uid: uid.to_owned(),
            objects,
        };
        {
            let mut known = self.lock();
            let list = known.entry(installation.to_owned()).or_default();
            list.retain(|old| old.name != record.name);
            list.push(record);
        }
        // A surplus revision does no harm, and the next accepted one deletes it.
        if let Err(error) = self.prune_records(installation).await {
            warn!(installation, error = %error, "deleting an old ControllerRevision failed");
        }
        Ok(())
    }

    /// Creates a revision; false if it exists.
    async fn create(
        &self,
        installation: &str,
        uid: &str,
        name: &str,
        number: i64,
        inputs: &ResolvedInputs,
        inventory: Option<&str>,
    ) -> Result<bool, RevisionHistoryError> {
        let annotations = [(UID_ANNOTATION, Some(uid)), (INVENTORY_ANNOTATION, inventory)];
        let annotations = annotations.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
        let body = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some([(INSTALLATION_LABEL.to_owned(), installation.to_owned())].into()),
                annotations: Some(annotations.collect()),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(serde_json::to_value(inputs).unwrap_or_default())),
            revision: number,
        };
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        match within_deadline(self.api.create(&params, &body)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(source) => Err(RevisionHistoryError::Write { name: name.to_owned(), source: Box::new(source) }),
        }
    }

    /// Replaces the inventory of the newest revision: a newer operator may render more objects from the same inputs.
    pub async fn set_objects(
        &self,
        installation: &str,
        newest: &RevisionRecord,
        objects: BTreeSet<ObjectKey>,
    ) -> Result<(), RevisionHistoryError> {
        let objects = RecordedObjects::new(objects);
        let annotations = json!({INVENTORY_ANNOTATION: objects.to_annotation(newest.number)});
        if self.write_annotations(installation, &newest.name, annotations).await?
            && let Some(known) = self.lock().get_mut(installation).and_then(|list| list.last_mut())
        {
            known.objects = objects;
        }
        Ok(())
    }

    /// Deletes the oldest revisions beyond the limit, but never the last known good one.
    async fn prune_records(&self, installation: &str) -> Result<(), RevisionHistoryError> {
        let records = self.of(installation).await?;
        let good =
            records.iter().rev().find(|record| record.verdict == RevisionVerdict::Deployed).map(|record| &record.name);
        let surplus = records.len().saturating_sub(HISTORY_LIMIT);
        for record in records.iter().take(surplus).filter(|record| Some(&record.name) != good) {
            self.delete(&record.name).await?;
            if let Some(list) = self.lock().get_mut(installation) {
                list.retain(|r| r.name != record.name);
            }
        }
        Ok(())
    }

    /// Marks the newest revision as deployed, and the previously deployed one as superseded.
    pub async fn mark_deployed(&self, installation: &str, name: &str) -> Result<(), RevisionHistoryError> {
        let records = self.of(installation).await?;
        // The newest first, so that a process that ends in between leaves a revision to roll back to.
        for record in records.iter().rev() {
            let verdict = match (record.name == name, record.verdict) {
                (true, RevisionVerdict::Deployed) => continue,
                (true, _) => RevisionVerdict::Deployed,
                (false, RevisionVerdict::Deployed) => RevisionVerdict::Superseded,
                // A revision that was never Ready keeps its verdict.
                (false, _) => continue,
            };
            if !self.write_verdict(installation, &record.name, verdict, None).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Marks a revision as failed, with the cause, or as rolled back.
    pub async fn set_verdict(
        &self,
        installation: &str,
        name: &str,
        verdict: RevisionVerdict,
        failure: Option<&str>,
    ) -> Result<(), RevisionHistoryError> {
        self.write_verdict(installation, name, verdict, failure).await.map(drop)
    }

    /// Returns false if the ControllerRevision no longer exists.
    async fn write_verdict(
        &self,
        installation: &str,
        name: &str,
        verdict: RevisionVerdict,
        failure: Option<&str>,
    ) -> Result<bool, RevisionHistoryError> {
        let failure = failure.map(|failure| shortened(failure, MAX_FAILURE));
        let mut annotations = json!({VERDICT_ANNOTATION: verdict.as_str()});
        if let Some(failure) = &failure {
            crate::mesh::merge::merge(&mut annotations, json!({FAILURE_ANNOTATION: failure}));
        }
        if !self.write_annotations(installation, name, annotations).await? {
            return Ok(false);
        }
        if let Some(known) = self.lock().get_mut(installation).and_then(|l| l.iter_mut().find(|r| r.name == name)) {
            known.verdict = verdict;
            known.failure = failure.or_else(|| known.failure.take());
        }
        Ok(true)
    }

    /// Returns false if the ControllerRevision no longer exists.
    async fn write_annotations(
        &self,
        installation: &str,
        name: &str,
        annotations: Value,
    ) -> Result<bool, RevisionHistoryError> {
        let patch = json!({"metadata": {"annotations": annotations}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        match within_deadline(self.api.patch(name, &params, &Patch::Merge(&patch))).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                // Another client deleted it: the next reconcile reads the list and stores the newest revision again.
                warn!(name, "a ControllerRevision was deleted; recreating it");
                self.forget(installation);
                Ok(false)
            }
            Err(source) => Err(RevisionHistoryError::Write { name: name.to_owned(), source: Box::new(source) }),
        }
    }

    /// Deletes all revisions of an installation.
    pub async fn erase(&self, installation: &str) -> Result<(), RevisionHistoryError> {
        self.forget(installation);
        for record in self.of(installation).await? {
            self.delete(&record.name).await?;
        }
        self.forget(installation);
        Ok(())
    }

    /// Invalidates the cache of an installation.
    pub fn forget(&self, installation: &str) {
        self.lock().remove(installation);
    }

    async fn delete(&self, name: &str) -> Result<(), RevisionHistoryError> {
        match within_deadline(self.api.delete(name, &DeleteParams::default())).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(RevisionHistoryError::Write { name: name.to_owned(), source: Box::new(source) }),
        }
    }
}

/// Parses a revision. One that can't be parsed, since a newer operator has written it, is ignored and never a rollback
/// target.
fn record(revision: ControllerRevision) -> Option<RevisionRecord> {
    let verdict = RevisionVerdict::parse(revision.annotations().get(VERDICT_ANNOTATION).map(String::as_str));
    let uid = revision.annotations().get(UID_ANNOTATION).cloned().unwrap_or_default();
    let failure = revision.annotations().get(FAILURE_ANNOTATION).cloned();
    let inventory = revision.annotations().get(INVENTORY_ANNOTATION).map(String::as_str);
    let objects = RecordedObjects::parse(inventory, revision.revision);
    let name = revision.name_any();
    let mut data = revision.data?.0;
    let renamed_fields = data.get_mut("spec").map(migrate).unwrap_or_default();
    match serde_json::from_value(data) {
        Ok(inputs) => {
            let number = revision.revision;
            Some(RevisionRecord { name, number, inputs, verdict, failure, renamed_fields, uid, objects })
        }
        Err(error) => {
            warn!(name, error = %error, "ignoring a ControllerRevision that can't be parsed");
            None
        }
    }
}
