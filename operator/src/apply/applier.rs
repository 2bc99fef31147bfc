//! Writes objects: server-side apply, removal of unmanaged fields, deletes, and removal of ownership labels.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use kube::{Client, Resource as _};
use serde_json::{Value, json};
use tracing::{debug, info};

use super::error::{ApplyError, absent};
use super::inventory::Inventory;
use super::raw_object::RawObject;
use super::reader::api;
use crate::mesh::adoption;
use crate::mesh::drift;
use crate::mesh::effective::{depends_on_live, effective, effective_for_overwrite};
use crate::mesh::fields::FieldChange;
use crate::mesh::kind::Kind;
use crate::mesh::object::{
    ADOPTED_INPUTS_ANNOTATION, COMPONENT_LABEL, DesiredObject, FIELD_MANAGER, HASH_ANNOTATION, INSTALLATION_LABEL,
    ObjectKey, RELEASE_ANNOTATION, Stage, UID_ANNOTATION,
};
use crate::mesh::observed::{ObjectState, ObservedObject};
use crate::mesh::plan::{Applied, Plan, PlanAction, PlanStep, Prepared, WaitingFor, add_on_of};
use crate::mesh::uninstall::Removal;
use crate::runtime::metrics::{Metrics, WriteVerb};
use crate::runtime::requests::within_deadline;

/// Concurrent writes within a stage.
const CONCURRENCY: usize = 8;
/// CRDs are large and slow to write; few concurrent writes limit peak memory.
const CRD_CONCURRENCY: usize = 4;

/// Executes plans against the API server.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    inventory: Inventory,
    metrics: Metrics,
}

impl Applier {
    /// Creates an applier that stores the API server's responses in the inventory.
    #[must_use]
    pub const fn new(client: Client, inventory: Inventory, metrics: Metrics) -> Self {
        Self { client, inventory, metrics }
    }

    /// Executes a plan, stage by stage, as far as is possible without waiting; the result says what has to wait.
    pub async fn apply(&self, installation: &str, plan: Plan<Prepared>) -> Plan<Applied> {
        // Full destructuring makes the compiler point here when the plan gets a new part.
        let Plan {
            steps,
            delete_first,
            prune,
            terminating,
            daemon_sets_terminating,
            conflicts,
            gateways_may_start,
            state: Prepared,
        } = plan;
        let mut applied = Applied { failures: Vec::new(), waiting: None, written: Vec::new() };
        let all: Vec<Arc<DesiredObject>> = steps.iter().map(|step| Arc::clone(&step.desired)).collect();
        for stage in steps.chunk_by(|a, b| a.desired.stage == b.desired.stage) {
            let Some(first) = stage.first() else { continue };
            let at = first.desired.stage;
            if at == Stage::Gateways {
                self.remove(&delete_first, &mut applied).await;
            }
            // Control plane and webhooks need established CRDs; earlier stages do not.
            if at >= Stage::ControlPlane && applied.waiting.is_none() {
                applied.waiting = self.pending_crds(installation, &all);
            }
            let blocked = matches!(applied.waiting, Some(WaitingFor::Crds(_)));
            if at == Stage::GatewayWorkloads && !gateways_may_start && stage.iter().any(starts_pods) {
                applied.waiting.get_or_insert(WaitingFor::Injection);
                continue;
            }
            // Updates continue after a failed write; objects that depend on a missing one are not created. Add-ons do
            // not depend on each other.
            let missing: Vec<&ObjectKey> =
                applied.failures.iter().map(ApplyError::key).filter(|key| !self.inventory.knows(key)).collect();
            let lacks_dependency = |step: &PlanStep| {
                let mut needed = missing.iter().map(|key| add_on_of(&steps, key));
                needed.any(|add_on| add_on.is_none() || add_on == add_on_of(&steps, &step.desired.key))
            };
            let due = stage
                .iter()
                .filter(|step| step.action != PlanAction::Unchanged)
                .filter(|step| !((blocked || lacks_dependency(step)) && step.action == PlanAction::Create))
                .cloned()
                .collect();
            self.apply_stage(at, due, &mut applied).await;
        }
        let failed = applied.failures.iter().any(|failure| add_on_of(&steps, failure.key()).is_none());
        if conflicts.is_empty() && !failed && applied.waiting.is_none() {
            self.remove(&prune, &mut applied).await;
            if !daemon_sets_terminating.is_empty() {
                applied.waiting = Some(WaitingFor::Removal(daemon_sets_terminating.clone()));
            }
        }
        Plan {
            steps,
            delete_first,
            prune,
            terminating,
            daemon_sets_terminating,
            conflicts,
            gateways_may_start,
            state: applied,
        }
    }

    async fn remove(&self, removals: &[Removal], applied: &mut Applied) {
        for removal in removals {
            match self.delete(removal).await {
                Ok(()) => info!(object = %removal.key, "pruned"),
                Err(error) => applied.failures.push(error),
            }
        }
    }

    async fn apply_stage(&self, stage: Stage, due: Vec<PlanStep>, applied: &mut Applied) {
        let concurrency = if stage == Stage::Crds { CRD_CONCURRENCY } else { CONCURRENCY };
        let write = |step: PlanStep| async move {
            let result = self.execute(&step).await;
            (step, result)
        };
        let mut writes = stream::iter(due).map(write).buffer_unordered(concurrency);
        while let Some((step, result)) = writes.next().await {
            match result {
                Ok(()) => applied.written.push((step.desired.key.clone(), step.action)),
                Err(error) => {
                    self.inventory.invalidate(error.key());
                    applied.failures.push(error);
                }
            }
        }
    }

    fn pending_crds(&self, installation: &str, all: &[Arc<DesiredObject>]) -> Option<WaitingFor> {
        let live = self.inventory.snapshot(installation, all);
        let open: Vec<String> = all
            .iter()
            .filter(|d| d.key.kind == Kind::CustomResourceDefinition)
            .filter(|d| live.get(&d.key).is_none_or(|live| live.state != (ObjectState::Crd { established: true })))
            .map(|d| d.key.name.clone())
            .collect();
        (!open.is_empty()).then_some(WaitingFor::Crds(open))
    }

    async fn execute(&self, step: &PlanStep) -> Result<(), ApplyError> {
        let desired = &step.desired;
        debug!(object = %desired.key, action = ?step.action, "writing");
        match &step.action {
            PlanAction::Unchanged => Ok(()),
            // Not forced, so that an object that was created in the meantime is a conflict and not overwritten.
            PlanAction::Create => self.patch(desired, desired.value(), false).await,
            PlanAction::Update(_) => {
                let wanted = self.without_foreign_fields(desired).await?;
                self.patch(desired, wanted, true).await?;
                // The response shows remaining unmanaged fields, which the next plan removes with a patch.
                Ok(())
            }
            PlanAction::Adopt(changes) => self.adopt(desired, changes, effective).await,
            PlanAction::Overwrite(changes) => self.adopt(desired, changes, effective_for_overwrite).await,
            PlanAction::RemoveExtras(_) => self.remove_extras(desired).await,
        }
    }

    /// The desired object without fields that another manager owns, which are only known from the live object.
    async fn without_foreign_fields(&self, desired: &DesiredObject) -> Result<Value, ApplyError> {
        let wanted = desired.value();
        if !depends_on_live(&wanted) {
            return Ok(wanted);
        }
        match self.read(&desired.key).await? {
            Some(live) => Ok(effective(wanted, &live)),
            None => Ok(wanted),
        }
    }

    async fn read(&self, key: &ObjectKey) -> Result<Option<Value>, ApplyError> {
        let found = within_deadline(api(&self.client, key).get_opt(&key.name)).await;
        found
            .map(|object| object.map(RawObject::into_value))
            .map_err(|source| ApplyError::Read { key: key.clone(), source: Box::new(source) })
    }

    async fn patch(&self, desired: &Arc<DesiredObject>, wanted: Value, force: bool) -> Result<(), ApplyError> {
        let key = &desired.key;
        let mut params = PatchParams::apply(FIELD_MANAGER);
        params.force = force;
        self.metrics.count_write(WriteVerb::Apply);
        let answer = apply_object(&self.client, key, wanted, &params).await;
        let answer = answer.map_err(|source| apply_error(key, source))?;
        self.inventory.applied(desired, &answer.into_value());
        Ok(())
    }

    /// Adopts an unmanaged object. First takes over the fields of the tool that created it, so that the apply removes
    /// those that are no longer desired. `changes` are those that the plan found; `wanted` derives the applied object.
    async fn adopt(
        &self,
        desired: &Arc<DesiredObject>,
        changes: &[FieldChange],
        wanted: fn(Value, &Value) -> Value,
    ) -> Result<(), ApplyError> {
        let key = &desired.key;
        let Some(mut live) = self.read(key).await? else { return self.patch(desired, desired.value(), false).await };
        let found = ObservedObject::of(key.kind, &live, Some(desired), None);
        if !found.ownership.is_absent() || found.differences != changes {
            // The object has changed since the plan was computed; the next plan decides.
            self.inventory.read(key, &live);
            return Ok(());
        }
        if let Some(patch) = adoption::take_over_patch(&live) {
            self.metrics.count_write(WriteVerb::Patch);
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            let (api, patch) = (api(&self.client, key), Patch::Json::<()>(patch));
            let answer = within_deadline(api.patch(&key.name, &params, &patch)).await;
            live = answer.map_err(|source| apply_error(key, source))?.into_value();
        }
        self.patch(desired, wanted(desired.value(), &live), true).await
    }

    async fn remove_extras(&self, desired: &Arc<DesiredObject>) -> Result<(), ApplyError> {
        let key = &desired.key;
        let Some(live) = self.read(key).await? else { return Ok(()) };
        let wanted = effective(desired.value(), &live);
        let Some(patch) = drift::extras_patch(&drift::drift(&wanted, &live), &live) else {
            self.inventory.read(key, &live);
            return Ok(());
        };
        self.metrics.count_write(WriteVerb::Patch);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let api = api(&self.client, key);
        let answer = within_deadline(api.patch(&key.name, &params, &Patch::Json::<()>(patch)))
            .await
            .map_err(|source| ApplyError::RemoveExtras { key: key.clone(), source: Box::new(source) })?;
        self.inventory.applied(desired, &answer.into_value());
        Ok(())
    }

    /// Deletes an object unless it was changed or replaced since. Workloads are deleted after their pods.
    pub async fn delete(&self, removal: &Removal) -> Result<(), ApplyError> {
        let key = &removal.key;
        let propagation =
            if key.kind.makes_pods() { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
        let resource_version = (removal.resource_version != 0).then(|| removal.resource_version.to_string());
        let params = DeleteParams {
            propagation_policy: Some(propagation),
            preconditions: Some(Preconditions { uid: Some(removal.uid.clone()), resource_version }),
            ..DeleteParams::default()
        };
        self.metrics.count_write(WriteVerb::Delete);
        match within_deadline(api(&self.client, key).delete(&key.name, &params)).await {
            Ok(answer) => {
                // Record the deletion timestamp, so that the next reconcile does not delete the object again.
                if let Some(terminating) = answer.left() {
                    self.inventory.refresh(key, &terminating.into_value());
                }
                Ok(())
            }
            Err(error) if absent(&error) => {
                self.inventory.evict(key, &removal.uid);
                Ok(())
            }
            // Changed, or replaced by another object of that name, which the watch reports only if it has our label.
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                match self.read(key).await? {
                    Some(live) => self.inventory.refresh(key, &live),
                    None => self.inventory.evict(key, &removal.uid),
                }
                Ok(())
            }
            Err(source) => Err(ApplyError::Delete { key: key.clone(), source: Box::new(source) }),
        }
    }

    /// Removes ownership labels and annotations from an object, and nothing else.
    pub async fn release(&self, key: &ObjectKey) -> Result<(), ApplyError> {
        let patch = json!({"metadata": {
            "labels": {INSTALLATION_LABEL: null, COMPONENT_LABEL: null},
            "annotations": {
                UID_ANNOTATION: null, HASH_ANNOTATION: null, RELEASE_ANNOTATION: null, ADOPTED_INPUTS_ANNOTATION: null,
            },
        }});
        self.metrics.count_write(WriteVerb::Patch);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        match within_deadline(api(&self.client, key).patch(&key.name, &params, &Patch::Merge(&patch))).await {
            Ok(answer) => {
                self.inventory.refresh(key, &answer.into_value());
                Ok(())
            }
            Err(error) if absent(&error) => Ok(()),
            Err(source) => Err(ApplyError::Release { key: key.clone(), source: Box::new(source) }),
        }
    }
}

/// Sends a server-side apply.
pub(super) async fn apply_object(
    client: &Client,
    key: &ObjectKey,
    wanted: Value,
    params: &PatchParams,
) -> Result<RawObject, kube::Error> {
    let url = RawObject::url_path(&key.kind.api_resource(), key.namespace.as_deref());
    let request = Request::new(url).patch(&key.name, params, &Patch::Apply(&wanted));
    // The serialized body takes a tenth of the parsed object's memory while the request is in flight.
    drop(wanted);
    within_deadline(client.request(request.map_err(kube::Error::BuildRequest)?)).await
}

fn apply_error(key: &ObjectKey, source: kube::Error) -> ApplyError {
    if absent(&source) && !key.kind.built_in() {
        return ApplyError::NotServed { key: key.clone() };
    }
    ApplyError::Apply { key: key.clone(), source: Box::new(source) }
}

/// Whether a step may start pods, by a new pod template or a new Deployment.
fn starts_pods(step: &PlanStep) -> bool {
    matches!(step.action, PlanAction::Create | PlanAction::Adopt(_) | PlanAction::Overwrite(_) | PlanAction::Update(_))
}
