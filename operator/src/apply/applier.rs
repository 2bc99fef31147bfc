//! Writes: server-side apply, targeted removal of additions, deletes, and taking our marks off.

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
use crate::mesh::effective::{effective, is_contested, overwriting};
use crate::mesh::fields::FieldChange;
use crate::mesh::kind::Kind;
use crate::mesh::live::{Facts, Live};
use crate::mesh::object::{
    ADOPTED_INPUTS_ANNOTATION, COMPONENT_LABEL, Desired, FIELD_MANAGER, HASH_ANNOTATION, INSTALLATION_LABEL, ObjectKey,
    RELEASE_ANNOTATION, Stage, UID_ANNOTATION,
};
use crate::mesh::plan::{Action, Applied, Plan, Prepared, Step, Waiting, add_on_of};
use crate::mesh::uninstall::Removal;
use crate::runtime::metrics::{Metrics, WriteVerb};
use crate::runtime::requests::within_deadline;

/// Writes at a time within a stage.
const CONCURRENCY: usize = 8;
/// Definitions are large, and the API server takes its time for each: a few at a time keep the peak of memory low.
const DEFINITIONS_AT_A_TIME: usize = 2;

/// Carries plans out.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    inventory: Inventory,
    metrics: Metrics,
}

impl Applier {
    /// An applier that keeps what the server answers in the inventory.
    #[must_use]
    pub const fn new(client: Client, inventory: Inventory, metrics: Metrics) -> Self {
        Self { client, inventory, metrics }
    }

    /// Carries a plan out, stage by stage, as far as it goes now: what has to wait is told, and not waited for.
    pub async fn apply(&self, installation: &str, plan: Plan<Prepared>) -> Plan<Applied> {
        // Destructured in full, so that a new part of the plan can't be forgotten here.
        let Plan { steps, make_way, prune, leaving, agents_leaving, refusals, gateways_may_start, state: Prepared } =
            plan;
        let mut applied = Applied { failures: Vec::new(), waiting: None, written: Vec::new() };
        let all: Vec<Arc<Desired>> = steps.iter().map(|step| Arc::clone(&step.desired)).collect();
        for stage in steps.chunk_by(|a, b| a.desired.stage == b.desired.stage) {
            let Some(first) = stage.first() else { continue };
            let at = first.desired.stage;
            if at == Stage::Gateways {
                self.remove(&make_way, &mut applied).await;
            }
            // Pods and webhooks need the definitions to be served; what lies before them is applied meanwhile.
            if at >= Stage::ControlPlane && applied.waiting.is_none() {
                applied.waiting = self.open_definitions(installation, &all);
            }
            let blocked = matches!(applied.waiting, Some(Waiting::Definitions(_)));
            if at == Stage::GatewayWorkloads && !gateways_may_start && stage.iter().any(starts_pods) {
                applied.waiting.get_or_insert(Waiting::Injection);
                continue;
            }
            // What exists is put right even so; only what is new waits for what it stands on. Add-ons don't stand on others.
            let missing: Vec<&ObjectKey> =
                applied.failures.iter().map(ApplyError::key).filter(|key| !self.inventory.knows(key)).collect();
            let broken = |step: &Step| {
                let mut needed = missing.iter().map(|key| add_on_of(&steps, key));
                needed.any(|add_on| add_on.is_none() || add_on == add_on_of(&steps, &step.desired.key))
            };
            let due = stage
                .iter()
                .filter(|step| step.action != Action::Keep)
                .filter(|step| !((blocked || broken(step)) && step.action == Action::Create))
                .cloned()
                .collect();
            self.apply_stage(at, due, &mut applied).await;
        }
        let failed = applied.failures.iter().any(|failure| add_on_of(&steps, failure.key()).is_none());
        if refusals.is_empty() && !failed && applied.waiting.is_none() {
            self.remove(&prune, &mut applied).await;
            if !agents_leaving.is_empty() {
                applied.waiting = Some(Waiting::Removal(agents_leaving.clone()));
            }
        }
        Plan { steps, make_way, prune, leaving, agents_leaving, refusals, gateways_may_start, state: applied }
    }

    async fn remove(&self, removals: &[Removal], applied: &mut Applied) {
        for removal in removals {
            match self.delete(removal).await {
                Ok(()) => info!(object = %removal.key, "pruned"),
                Err(error) => applied.failures.push(error),
            }
        }
    }

    async fn apply_stage(&self, stage: Stage, due: Vec<Step>, applied: &mut Applied) {
        let at_a_time = if stage == Stage::Definitions { DEFINITIONS_AT_A_TIME } else { CONCURRENCY };
        let write = |step: Step| async move {
            let result = self.carry_out(&step).await;
            (step, result)
        };
        let mut writes = stream::iter(due).map(write).buffer_unordered(at_a_time);
        while let Some((step, result)) = writes.next().await {
            match result {
                Ok(()) => applied.written.push((step.desired.key.clone(), step.action)),
                Err(error) => {
                    self.inventory.doubt(error.key());
                    applied.failures.push(error);
                }
            }
        }
    }

    /// Sends objects in a dry run, and answers what would be refused. What only time can tell is no refusal: a namespace or
    /// a kind that isn't there yet.
    pub async fn rehearse(&self, desired: Vec<Arc<Desired>>) -> Vec<ApplyError> {
        let attempt = |desired: Arc<Desired>| async move {
            let wanted = self.with_never_owned_left_out(&desired).await?;
            let params = PatchParams { dry_run: true, ..PatchParams::apply(FIELD_MANAGER).force() };
            match self.send(&desired.key, wanted, &params).await {
                Ok(_) => Ok(()),
                Err(source) if absent(&source) => Ok(()),
                Err(source) => Err(not_applied(&desired.key, source)),
            }
        };
        let results = stream::iter(desired).map(attempt).buffered(DEFINITIONS_AT_A_TIME);
        results.filter_map(|result| std::future::ready(result.err())).collect().await
    }

    fn open_definitions(&self, installation: &str, all: &[Arc<Desired>]) -> Option<Waiting> {
        let live = self.inventory.snapshot(installation, all);
        let open: Vec<String> = all
            .iter()
            .filter(|d| d.key.kind == Kind::CustomResourceDefinition)
            .filter(|d| live.get(&d.key).is_none_or(|live| live.facts != (Facts::Definition { established: true })))
            .map(|d| d.key.name.clone())
            .collect();
        (!open.is_empty()).then_some(Waiting::Definitions(open))
    }

    async fn carry_out(&self, step: &Step) -> Result<(), ApplyError> {
        let desired = &step.desired;
        debug!(object = %desired.key, action = ?step.action, "writing");
        match &step.action {
            Action::Keep => Ok(()),
            // Without force a create that finds an object made a moment ago is refused, not taken over.
            Action::Create => self.patch(desired, desired.value(), false).await,
            Action::Update(_) => {
                let wanted = self.with_never_owned_left_out(desired).await?;
                self.patch(desired, wanted, true).await?;
                // The answer tells at once whether additions remain; they take one targeted patch more.
                Ok(())
            }
            Action::Adopt(changes) => self.adopt(desired, changes, effective).await,
            Action::Overwrite(changes) => self.adopt(desired, changes, overwriting).await,
            Action::TakeOut(_) => self.take_out(desired).await,
        }
    }

    /// Who owns which field is only to be seen on the live object; few kinds have such fields.
    async fn with_never_owned_left_out(&self, desired: &Desired) -> Result<Value, ApplyError> {
        let wanted = desired.value();
        if !is_contested(&wanted) {
            return Ok(wanted);
        }
        match self.read(&desired.key).await? {
            Some(live) => Ok(effective(wanted, &live)),
            None => Ok(wanted),
        }
    }

    async fn read(&self, key: &ObjectKey) -> Result<Option<Value>, ApplyError> {
        let found = api(&self.client, key).get_opt(&key.name).await;
        found
            .map(|object| object.map(RawObject::into_value))
            .map_err(|source| ApplyError::Read { key: key.clone(), source: Box::new(source) })
    }

    async fn patch(&self, desired: &Arc<Desired>, wanted: Value, force: bool) -> Result<(), ApplyError> {
        let key = &desired.key;
        let mut params = PatchParams::apply(FIELD_MANAGER);
        params.force = force;
        self.metrics.wrote(WriteVerb::Apply);
        let answer = self.send(key, wanted, &params).await.map_err(|source| not_applied(key, source))?;
        self.inventory.applied(desired, &answer.into_value());
        Ok(())
    }

    async fn send(&self, key: &ObjectKey, wanted: Value, params: &PatchParams) -> Result<RawObject, kube::Error> {
        let url = RawObject::url_path(&key.kind.api_resource(), key.namespace.as_deref());
        let request = Request::new(url).patch(&key.name, params, &Patch::Apply(&wanted));
        // While the server thinks about it the text is enough, which takes a tenth of the memory.
        drop(wanted);
        within_deadline(self.client.request(request.map_err(kube::Error::BuildRequest)?)).await
    }

    /// Makes an object ours that is nobody's: first the fields of whoever made it, so that those which nobody wants any
    /// more go with the apply. `changes` are those that were judged, `wanted` says what is applied over what is live.
    async fn adopt(
        &self,
        desired: &Arc<Desired>,
        changes: &[FieldChange],
        wanted: fn(Value, &Value) -> Value,
    ) -> Result<(), ApplyError> {
        let key = &desired.key;
        let Some(mut live) = self.read(key).await? else { return self.patch(desired, desired.value(), false).await };
        let found = Live::of(key.kind, &live, Some(desired), None);
        if !found.marks.are_missing() || found.differences != changes {
            // It has become somebody's, or another, meanwhile; the next plan says whether it may be written.
            self.inventory.read(key, &live);
            return Ok(());
        }
        if let Some(patch) = adoption::hand_over(&live) {
            self.metrics.wrote(WriteVerb::Patch);
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            let (api, patch) = (api(&self.client, key), Patch::Json::<()>(patch));
            let answer = within_deadline(api.patch(&key.name, &params, &patch)).await;
            live = answer.map_err(|source| not_applied(key, source))?.into_value();
        }
        self.patch(desired, wanted(desired.value(), &live), true).await
    }

    async fn take_out(&self, desired: &Arc<Desired>) -> Result<(), ApplyError> {
        let key = &desired.key;
        let Some(live) = self.read(key).await? else { return Ok(()) };
        let wanted = effective(desired.value(), &live);
        let Some(patch) = drift::extras_patch(&drift::drift(&wanted, &live), &live) else {
            self.inventory.read(key, &live);
            return Ok(());
        };
        self.metrics.wrote(WriteVerb::Patch);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let api = api(&self.client, key);
        let answer = within_deadline(api.patch(&key.name, &params, &Patch::Json::<()>(patch)))
            .await
            .map_err(|source| ApplyError::TakeOut { key: key.clone(), source: Box::new(source) })?;
        self.inventory.applied(desired, &answer.into_value());
        Ok(())
    }

    /// Deletes an object if it still is the one that was meant. Workloads take their pods along before they are gone.
    pub async fn delete(&self, removal: &Removal) -> Result<(), ApplyError> {
        let key = &removal.key;
        let propagation =
            if key.kind.makes_pods() { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
        let params = DeleteParams {
            propagation_policy: Some(propagation),
            preconditions: Some(Preconditions { uid: Some(removal.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        self.metrics.wrote(WriteVerb::Delete);
        match within_deadline(api(&self.client, key).delete(&key.name, &params)).await {
            Ok(answer) => {
                // It may take a while to go; without this it is deleted again before a watch tells.
                if let Some(ending) = answer.left() {
                    self.inventory.seen_again(key, &ending.into_value());
                }
                Ok(())
            }
            // Gone, or another object of that name by now: not the one that was meant.
            Err(error) if absent(&error) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
            Err(source) => Err(ApplyError::Delete { key: key.clone(), source: Box::new(source) }),
        }
    }

    /// Takes our marks off an object and leaves it as it is.
    pub async fn release(&self, key: &ObjectKey) -> Result<(), ApplyError> {
        let patch = json!({"metadata": {
            "labels": {INSTALLATION_LABEL: null, COMPONENT_LABEL: null},
            "annotations": {
                UID_ANNOTATION: null, HASH_ANNOTATION: null, RELEASE_ANNOTATION: null, ADOPTED_INPUTS_ANNOTATION: null,
            },
        }});
        self.metrics.wrote(WriteVerb::Patch);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        match within_deadline(api(&self.client, key).patch(&key.name, &params, &Patch::Merge(&patch))).await {
            Ok(answer) => {
                self.inventory.seen_again(key, &answer.into_value());
                Ok(())
            }
            Err(error) if absent(&error) => Ok(()),
            Err(source) => Err(ApplyError::Release { key: key.clone(), source: Box::new(source) }),
        }
    }
}

fn not_applied(key: &ObjectKey, source: kube::Error) -> ApplyError {
    if absent(&source) && !key.kind.built_in() {
        return ApplyError::NotServed { key: key.clone() };
    }
    ApplyError::Apply { key: key.clone(), source: Box::new(source) }
}

/// A new pod template or a new Deployment starts pods.
fn starts_pods(step: &Step) -> bool {
    matches!(step.action, Action::Create | Action::Adopt(_) | Action::Overwrite(_) | Action::Update(_))
}
