//! What the operator does for a mesh in each state in which it waits: whether it reverts drift, measures health and
//! publishes Events. docs/troubleshooting.md has the same table.

use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, OPERATOR_NAMESPACE, VERSION, demo_spec, describe};
use meshwright_e2e::programs::catalog;
use meshwright_e2e::{Fault, LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::permissions::remove_permission;
use crate::stalled::{assert_stalls, wait_stalled};

/// What the operator does in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Behavior {
    reverts_drift: bool,
    measures: bool,
    emits_events: bool,
}

/// Keeps the mesh as it is, and reports changes of its health.
const KEEPS: Behavior = Behavior { reverts_drift: true, measures: true, emits_events: true };
/// Reports changes of the mesh's health, and writes nothing else.
const WATCHES: Behavior = Behavior { reverts_drift: false, ..KEEPS };
/// Nothing is deployed.
const REPORTS: Behavior = Behavior { measures: false, ..WATCHES };

/// The states, as in the documentation.
const STATES: [(&str, Behavior); 11] = [
    ("healthy", KEEPS),
    ("invalid spec", KEEPS),
    ("version not in the catalog", KEEPS),
    ("conflict with another installation", KEEPS),
    ("missing permission", KEEPS),
    ("halted", KEEPS),
    ("rolled back", KEEPS),
    ("deletion waits for pods", KEEPS),
    ("paused", WATCHES),
    ("release of the current revision missing", WATCHES),
    ("first install blocked", REPORTS),
];

fn behavior(state: &str) -> TestResult<Behavior> {
    let found =
        STATES.iter().find(|(name, _)| *name == state).ok_or_else(|| format!("{state} is no documented state"))?;
    Ok(found.1)
}

#[test]
fn documentation_lists_tested_states() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/troubleshooting.md");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("| state | reverts drift |")).skip(2);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let documented: Vec<_> = lines.take_while(|line| line.starts_with('|')).map(cells).collect();
    let yes = |does: bool| if does { "yes" } else { "no" };
    let tested: Vec<_> = STATES
        .iter()
        .map(|(state, does)| {
            [*state, yes(does.reverts_drift), yes(does.measures), "yes", yes(does.emits_events)]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    assert_eq!(documented, tested);
}

/// A label that neither istiod nor Kubernetes reads.
const LABEL: &str = "app.kubernetes.io/name";

/// An installation, and the names of its control plane's objects.
struct Subject<'m> {
    mesh: &'m Mesh,
    installation: &'static str,
    istiod: &'static str,
    config_map: &'static str,
    revision: &'static str,
}

impl<'m> Subject<'m> {
    const fn first(mesh: &'m Mesh) -> Self {
        Self { mesh, installation: NAME, istiod: "istiod", config_map: "values", revision: "default" }
    }

    const fn second(mesh: &'m Mesh) -> Self {
        Self { mesh, installation: "second", istiod: "istiod-canary", config_map: "values-canary", revision: "canary" }
    }

    /// Edits an object, replaces istiod's pods, and checks that the operator behaves as documented for the state.
    async fn assert_behavior(&self, state: &str) -> TestResult {
        let Behavior { reverts_drift, measures, emits_events } = behavior(state)?;
        assert!(measures && emits_events, "{state}: use another assertion");
        let before = self.wait_available("True", None).await?;
        let (reverts, changes) = (self.reverts().await?, self.events("").await?);
        self.label("drifted").await?;
        if reverts_drift {
            wait::until(wait::TIMEOUT, format!("{state}: an Event about reverted drift"), async || {
                let (label, now) = (self.current_label().await, self.reverts().await);
                match (label, now) {
                    (Ok(label), Ok(now)) if label == "istiod" && now > reverts => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
        }
        let changes = if reverts_drift { self.events("").await? } else { changes };

        let pods = self.mesh.api("v1", "Pod", Some("istio-system"));
        let selector = format!("app=istiod,istio.io/rev={}", self.revision);
        for pod in objects::pod_names(&self.mesh.client(), "istio-system", &selector).await? {
            pods.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
        }
        self.wait_available("False", Some(0)).await?;
        self.wait_available("True", Some(before)).await?;
        wait::until(wait::TIMEOUT, format!("{state}: an Event about the health of the mesh"), async || {
            let now = self.events("").await.map_err(|error| error.to_string())?;
            if now > changes { Ok(()) } else { Err(format!("{now} Events")) }
        })
        .await?;
        if !reverts_drift {
            // Status was written since the edit.
            assert_eq!(self.current_label().await?, "drifted", "{state}");
            self.label("istiod").await?;
        }
        Ok(())
    }

    /// Waits until Available has this status and istiod this number of ready pods; returns the number.
    async fn wait_available(&self, status: &str, ready: Option<i32>) -> TestResult<i32> {
        let what = format!("Available={status} with {ready:?} pods of {}", self.istiod);
        let found = wait::until(wait::TIMEOUT, what, async || {
            let installation = self.installation().await.map_err(|error| error.to_string())?;
            let now = installation.status.clone().unwrap_or_default();
            let available = get(&now.conditions, ConditionType::Available).is_some_and(|c| c.status == status);
            let istiod = now.components.iter().find(|component| component.name == self.istiod);
            match istiod {
                Some(istiod) if available && ready.is_none_or(|ready| istiod.ready == ready) => Ok(istiod.ready),
                _ => Err(format!("{istiod:?}; {}", describe(&installation))),
            }
        });
        Ok(found.await?)
    }

    async fn installation(&self) -> Result<MeshInstallation, kube::Error> {
        self.mesh.installations().get(self.installation).await
    }

    fn config_maps(&self) -> Api<DynamicObject> {
        self.mesh.api("v1", "ConfigMap", Some("istio-system"))
    }

    async fn label(&self, value: &str) -> TestResult {
        let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: value}}}));
        self.config_maps().patch(self.config_map, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn current_label(&self) -> Result<String, kube::Error> {
        let labels = self.config_maps().get(self.config_map).await?.metadata.labels.unwrap_or_default();
        Ok(labels.get(LABEL).cloned().unwrap_or_default())
    }

    /// How often an Event about the reverted label was published.
    async fn reverts(&self) -> Result<i64, kube::Error> {
        self.events(&format!("ConfigMap istio-system/{}: ", self.config_map)).await
    }

    /// How often Events were published whose note contains `part`.
    async fn events(&self, part: &str) -> Result<i64, kube::Error> {
        let events = self.mesh.api("events.k8s.io/v1", "Event", Some("default"));
        let list = events.list(&ListParams::default()).await?;
        let is_it = |event: &&DynamicObject| {
            event.data["regarding"]["name"] == self.installation
                && event.data["note"].as_str().is_some_and(|note| note.contains(part))
        };
        Ok(list.items.iter().filter(is_it).map(|event| event.data["series"]["count"].as_i64().unwrap_or(1)).sum())
    }
}

fn with(field: &str, value: Value) -> Value {
    let mut spec = demo_spec();
    spec[field] = value;
    spec
}

#[test]
fn keeps_mesh_while_spec_release_or_deletion_waits() {
    let dir = tempfile::tempdir().unwrap();
    let release = dir.path().join("catalog").join(VERSION);
    crate::oci::copy(&catalog().unwrap().join(VERSION), &release).unwrap();
    let mut options = LabOptions::default().needs_own_lab();
    options.catalog = Some(dir.path().join("catalog"));
    run(options, async |lab| {
        let mesh = Mesh::install(lab).await?;
        let subject = Subject::first(&mesh);
        subject.assert_behavior("healthy").await?;

        assert_stalls(&mesh, with("meshConfig", json!({"accessLogFile": 5})), "InvalidSpec", &["accessLogFile"])
            .await?;
        subject.assert_behavior("invalid spec").await?;

        assert_stalls(&mesh, with("version", json!("1.31.7")), "VersionNotInCatalog", &["1.31.7"]).await?;
        subject.assert_behavior("version not in the catalog").await?;

        mesh.apply(NAME, with("paused", json!(true))).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", Some("Paused")).await?;
        subject.assert_behavior("paused").await?;

        // The release that runs is deleted from the catalog. The operator that has rendered it keeps the mesh as it is;
        // another one can only report its health.
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        let moved = dir.path().join("moved");
        std::fs::rename(&release, &moved)?;
        assert_stalls(&mesh, with("version", json!("1.31.7")), "VersionNotInCatalog", &["1.31.7"]).await?;
        subject.assert_behavior("version not in the catalog").await?;
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        let operators = mesh.api("v1", "Pod", Some(OPERATOR_NAMESPACE));
        operators.delete(&mesh.leader().await?, &DeleteParams::default()).await?;
        wait_stalled(&mesh, NAME, "VersionNotInCatalog", &[VERSION]).await?;
        subject.assert_behavior("release of the current revision missing").await?;
        std::fs::rename(&moved, &release)?;
        // Any change of the object starts a reconcile.
        let touch = Patch::Merge(json!({"metadata": {"annotations": {"example.com/touched": "1"}}}));
        mesh.installations().patch(NAME, &PatchParams::default(), &touch).await?;
        mesh.wait_ready(NAME).await?;

        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(lab.client(), "shop");
        pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await?;
        mesh.installations().delete(NAME, &DeleteParams::default()).await?;
        mesh.wait_for(NAME, ConditionType::InUse, "True", None).await?;
        subject.assert_behavior("deletion waits for pods").await?;
        pods.delete("cart", &DeleteParams::default().grace_period(0)).await?;
        mesh.wait_gone(NAME).await?;
        Ok(())
    });
}

#[test]
fn keeps_mesh_despite_conflict_or_missing_permission() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, with("namespaceLabels", json!({"team": "a"}))).await?;
        mesh.wait_ready(NAME).await?;
        mesh.apply("second", with("revision", json!("canary"))).await?;
        mesh.wait_ready("second").await?;
        let mut conflicting = with("revision", json!("canary"));
        conflicting["namespaceLabels"] = json!({"team": "b"});
        mesh.apply("second", conflicting).await?;
        wait_stalled(&mesh, "second", "InvalidSpec", &["spec.namespaceLabels", NAME]).await?;
        Subject::second(&mesh).assert_behavior("conflict with another installation").await?;

        remove_permission(&mesh, "services", "patch").await?;
        let mut changed = with("namespaceLabels", json!({"team": "a"}));
        changed["gateways"] = json!([{"name": "edge", "service": {"type": "ClusterIP"}}]);
        mesh.apply(NAME, changed).await?;
        wait_stalled(&mesh, NAME, "Forbidden", &["services"]).await?;
        Subject::first(&mesh).assert_behavior("missing permission").await?;

        assert_eq!(behavior("first install blocked")?, REPORTS);
        mesh.apply("third", demo_spec()).await?;
        wait_stalled(&mesh, "third", "InstallationConflict", &[NAME]).await?;
        let third = Subject { installation: "third", ..Subject::first(&mesh) };
        let status = third.installation().await?.status.unwrap_or_default();
        assert!(status.components.is_empty() && get(&status.conditions, ConditionType::Available).is_none());
        wait::until(wait::TIMEOUT, "an Event about the conflict", async || {
            let count = third.events("already has the default revision").await.map_err(|error| error.to_string())?;
            if count > 0 { Ok(()) } else { Err("no Event".to_owned()) }
        })
        .await?;
        Ok(())
    });
}

#[test]
fn keeps_mesh_after_failed_upgrade() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let spec = |version: &str, on_failure: &str, deadline: Duration| {
            let deadline = format!("{}s", deadline.as_secs());
            let upgrade = json!({"onFailure": on_failure, "progressDeadline": deadline});
            json!({"version": version, "profile": "demo", "upgrade": upgrade})
        };
        let long = Duration::from_secs(90);
        mesh.apply(NAME, spec(LAB_1_31, "Rollback", long)).await?;
        mesh.wait_ready(NAME).await?;
        let subject = Subject::first(&mesh);
        let ready = |version: &str| format!("Istio {version} is ready");
        let wait_event = async |version: &str| -> TestResult {
            wait::until(wait::TIMEOUT, format!("the Event {}", ready(version)), async || {
                let count = subject.events(&ready(version)).await.map_err(|error| error.to_string())?;
                if count > 0 { Ok(()) } else { Err("no Event".to_owned()) }
            })
            .await?;
            Ok(())
        };
        wait_event(LAB_1_31).await?;

        lab.inject_istiod_fault(LAB_1_32, Fault::NeverStarts)?;
        mesh.apply(NAME, spec(LAB_1_32, "Halt", Duration::from_secs(10))).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "False", Some("Halted")).await?;
        subject.assert_behavior("halted").await?;

        mesh.apply(NAME, spec(LAB_1_32, "Rollback", Duration::from_secs(15))).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "False", Some("RolledBack")).await?;
        subject.assert_behavior("rolled back").await?;

        // The Event of the new release doesn't continue the series of the old one.
        let before = subject.events(&ready(LAB_1_31)).await?;
        lab.clear_istiod_fault(LAB_1_32)?;
        mesh.apply(NAME, spec(LAB_1_32, "Rollback", long)).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", Some("Healthy")).await?;
        wait_event(LAB_1_32).await?;
        assert_eq!(subject.events(&ready(LAB_1_31)).await?, before);
        Ok(())
    });
}
