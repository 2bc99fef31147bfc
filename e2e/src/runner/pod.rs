//! The life of one Pod: its process, its probes, its status, its end.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Event, Node, Pod, PodStatus};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::faults::{Fault, Watched, tag};
use super::probe::{Kind, Probes};
use super::sandbox::{Launch, Running, Sandbox};
use super::status::{self, Report};
use super::{Context, Program, resolve, sources};
use crate::{LabError, net};

/// Shorter than a kubelet's ten seconds to five minutes, so that a test sees a crash loop without sitting through it.
const BACK_OFF: std::ops::RangeInclusive<u64> = 1..=20;
/// A process that lived this long starts its back-off anew.
const SETTLED: Duration = Duration::from_mins(1);

/// Plays kubelet for one Pod until it is deleted, or `gone` says that there is nothing left to play for.
pub(super) async fn live(
    context: Arc<Context>,
    program: Program,
    latest: watch::Receiver<Pod>,
    gone: CancellationToken,
) {
    let pod = latest.borrow().clone();
    let Some(container) = Program::of(&pod).map(|(_, container)| container.clone()) else { return };
    let address = net::pod_address(context.addresses.fetch_add(1, Ordering::Relaxed));
    let release = container.image.as_deref().and_then(tag).filter(|_| program == Program::Pilot);
    let mut life = Life {
        faults: context.faults.of(release),
        log: context.settings.log(&pod.namespace().unwrap_or_default(), &pod.name_any()),
        report: Report::new(address.to_string(), String::new(), Timestamp::now()),
        sent: None,
        context,
        program,
        pod,
        container,
        latest,
        gone,
    };
    life.report.host_ip = life.host_ip().await;
    let outcome = life.play(address).await;
    if let Err(error) = outcome {
        life.note(&error.to_string());
        life.report.wait("CreateContainerError", error.to_string(), Timestamp::now());
        life.send().await;
        life.until_deleted().await;
    }
    if life.deleted() {
        life.remove().await;
    }
}

struct Life {
    context: Arc<Context>,
    program: Program,
    pod: Pod,
    container: Container,
    latest: watch::Receiver<Pod>,
    gone: CancellationToken,
    faults: Watched,
    report: Report,
    sent: Option<PodStatus>,
    log: PathBuf,
}

/// Why a process is no longer looked after.
enum End {
    Exited(ExitStatus),
    Deleted,
    Gone,
}

impl Life {
    async fn play(&mut self, address: Ipv4Addr) -> Result<(), LabError> {
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let sandbox = Sandbox::start(&namespace, &name, address, self.context.processes.clone()).await?;
        let mut back_off = *BACK_OFF.start();
        while !self.deleted() && !self.gone.is_cancelled() {
            if self.faults.now() == Some(Fault::NeverStarts) {
                self.lack_image().await;
                continue;
            }
            let launch = match self.prepare().await {
                Ok(launch) => launch,
                Err(message) => {
                    self.report.wait("CreateContainerConfigError", message, Timestamp::now());
                    self.send().await;
                    self.sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let mut running = sandbox.launch(launch).await?;
            let started = Instant::now();
            let end = self.look_after(&mut running).await;
            let status = match end {
                End::Exited(status) => status,
                End::Deleted => return self.terminate(running).await,
                End::Gone => {
                    running.signal(Signal::SIGKILL);
                    let _ = running.ended.await;
                    return Ok(());
                }
            };
            self.report.end(status.code(), status.signal(), Timestamp::now());
            if self.finished(status) {
                self.send().await;
                return Ok(());
            }
            if started.elapsed() > SETTLED {
                back_off = *BACK_OFF.start();
            }
            self.report.back_off(&self.container.name, back_off, Timestamp::now());
            self.send().await;
            let message = format!("Back-off restarting failed container {} in pod {name}", self.container.name);
            self.tell("BackOff", message).await;
            self.sleep(Duration::from_secs(back_off)).await;
            back_off = (back_off * 2).min(*BACK_OFF.end());
        }
        Ok(())
    }

    /// What a kubelet shows of an image that its registry doesn't have, until that has changed.
    async fn lack_image(&mut self) {
        let image = self.container.image.clone().unwrap_or_default();
        let error = format!("failed to resolve reference \"{image}\": {image}: not found");
        self.tell("Failed", format!("Failed to pull image \"{image}\": {error}")).await;
        let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {error}");
        self.report.wait("ImagePullBackOff", message, Timestamp::now());
        self.send().await;
        while self.faults.now() == Some(Fault::NeverStarts) {
            tokio::select! {
                () = self.faults.changed() => {}
                () = self.gone.cancelled() => return,
                changed = self.latest.changed() => if changed.is_err() || self.deleted() { return },
            }
        }
    }

    /// What a kubelet gathers before it starts a container. The error is the message of its status.
    async fn prepare(&self) -> Result<Launch, String> {
        let (client, settings) = (&self.context.client, &self.context.settings);
        let home = settings.dir.join("pods").join(self.pod.uid().unwrap_or_default());
        // What an earlier process of this container left is gone, as with a real one.
        let work = home.join(format!("work-{}", self.report.restarts));
        std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
        let report = &self.report;
        let sources = sources::fetch(client, &self.pod, &self.container, &report.pod_ip, &report.host_ip)
            .await
            .map_err(|error| error.to_string())?;
        let own = resolve::environment(&self.pod, &self.container, &sources)?;
        let kubeconfig = sources::kubeconfig(client, &self.pod, &home, &settings.authority)
            .await
            .map_err(|error| error.to_string())?;
        let mut args = resolve::arguments(&self.container, &own);
        let mut env = sources::base_environment(self.program, &self.pod, settings, &work);
        env.extend(own);
        env.extend(sources::lab_environment(&kubeconfig));
        let program = match self.program {
            Program::Pilot => {
                args.push(format!("--kubeconfig={}", kubeconfig.display()));
                settings.pilot(self.container.image.as_deref())
            }
            Program::Meshwright => {
                settings.meshwright(self.container.image.as_deref()).map_err(|error| error.to_string())?
            }
        };
        Ok(Launch { program, args, env, dir: work, log: self.log.clone() })
    }

    /// Reports what the probes say until the process or the Pod ends.
    async fn look_after(&mut self, running: &mut Running) -> End {
        let (context, namespace, name) =
            (Arc::clone(&self.context), self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let held = move || context.processes.held(&namespace, &name);
        let mut probes = Probes::start(&self.container, &self.report.pod_ip, held);
        let unasked = self.container.readiness_probe.is_none();
        // What the probes say; the Pod's readiness, unless a fault belies them.
        let mut serves = unasked && self.container.startup_probe.is_none();
        let mut crash = None;
        self.report.run(false, Timestamp::now());
        loop {
            let fault = self.faults.now();
            self.report.turn(serves && fault != Some(Fault::NeverReady), Timestamp::now());
            self.send().await;
            crash = match fault {
                Some(Fault::CrashesAfter(time)) if serves => {
                    crash.or_else(|| tokio::time::Instant::now().checked_add(time))
                }
                _ => None,
            };
            let (kind, holds) = tokio::select! {
                () = self.gone.cancelled() => return End::Gone,
                ended = &mut running.ended => return ended.map_or(End::Gone, End::Exited),
                changed = self.latest.changed() => {
                    if changed.is_err() {
                        return End::Gone;
                    }
                    if self.deleted() {
                        return End::Deleted;
                    }
                    continue;
                }
                () = self.faults.changed() => continue,
                () = reached(crash) => {
                    running.signal(Signal::SIGKILL);
                    return (&mut running.ended).await.map_or(End::Gone, End::Exited);
                }
                verdict = probes.next() => verdict,
            };
            match (kind, holds) {
                (Kind::Startup, true) => serves = unasked,
                (Kind::Readiness, ready) => serves = self.hear(ready, serves).await,
                (Kind::Startup | Kind::Liveness, false) => self.fail(running, kind),
                (Kind::Liveness, true) => {}
            }
        }
    }

    /// Takes a verdict on readiness, and tells of one that is bad. One that only starts is asked more often than a
    /// kubelet would, and isn't called unhealthy for that.
    async fn hear(&mut self, ready: bool, before: bool) -> bool {
        if before && !ready {
            self.tell("Unhealthy", "Readiness probe failed".to_owned()).await;
        } else if ready && self.faults.now() == Some(Fault::NeverReady) {
            self.tell("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503".to_owned()).await;
        }
        ready
    }

    fn fail(&self, running: &Running, probe: Kind) {
        self.note(&format!("{probe:?} probe failed; the process is killed"));
        running.signal(Signal::SIGKILL);
    }

    async fn terminate(&mut self, mut running: Running) -> Result<(), LabError> {
        let grace = self.latest.borrow().metadata.deletion_grace_period_seconds.unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
        running.signal(Signal::SIGTERM);
        // A process that a test has paused couldn't hear it.
        running.signal(Signal::SIGCONT);
        let ended = tokio::select! {
            ended = tokio::time::timeout(grace, &mut running.ended) => ended.is_ok(),
            () = self.gone.cancelled() => false,
        };
        if !ended {
            running.signal(Signal::SIGKILL);
            let _ = running.ended.await;
        }
        Ok(())
    }

    /// Whether the Pod's restart policy leaves it at that, and as what.
    fn finished(&mut self, status: ExitStatus) -> bool {
        let policy = self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        self.report.phase = match (policy, status.success()) {
            (Some("Never" | "OnFailure"), true) => "Succeeded",
            (Some("Never"), false) => "Failed",
            _ => return false,
        };
        true
    }

    fn deleted(&self) -> bool {
        self.latest.borrow().metadata.deletion_timestamp.is_some()
    }

    async fn until_deleted(&mut self) {
        while !self.deleted() && !self.gone.is_cancelled() {
            self.sleep(Duration::from_hours(1)).await;
        }
    }

    /// Sleeps, but not past a change of the Pod.
    async fn sleep(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.gone.cancelled() => return,
                changed = self.latest.changed() => if changed.is_err() || self.deleted() { return },
            }
        }
    }

    /// Takes the Pod object away, as a kubelet does when its containers are gone.
    async fn remove(&self) {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: self.pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        while !self.gone.is_cancelled() {
            match self.pods().delete(&self.pod.name_any(), &params).await {
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return,
                Ok(_) => return,
                Err(error) => self.again(&error).await,
            }
        }
    }

    /// Patches the Pod's status if it differs from what was last sent.
    async fn send(&mut self) {
        let status = self.report.status(&self.pod, &self.container.name);
        if self.sent.as_ref() == Some(&status) {
            return;
        }
        let patch = Patch::Strategic(serde_json::json!({"metadata": {"uid": self.pod.uid()}, "status": status}));
        while !self.gone.is_cancelled() {
            match self.pods().patch_status(&self.pod.name_any(), &PatchParams::default(), &patch).await {
                Ok(_) => break,
                Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => return,
                // Asking again wouldn't make it right.
                Err(kube::Error::Api(refusal)) if refusal.is_invalid() => return self.note(&refusal.to_string()),
                Err(error) => self.again(&error).await,
            }
        }
        self.sent = Some(status);
    }

    /// Notes a failure and lets a moment pass, as a kubelet does before it asks again.
    async fn again(&self, error: &kube::Error) {
        self.note(&error.to_string());
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
            () = self.gone.cancelled() => {}
        }
    }

    async fn host_ip(&self) -> String {
        let node = self.pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        let status = nodes.get(&node).await.ok().and_then(|node| node.status).unwrap_or_default();
        let mut addresses = status.addresses.into_iter().flatten();
        let internal = addresses.find(|address| address.type_ == "InternalIP");
        internal.map_or_else(|| net::node_address(0).to_string(), |address| address.address)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), &self.pod.namespace().unwrap_or_default())
    }

    /// Tells a warning by an Event, as a kubelet does.
    async fn tell(&self, reason: &str, message: String) {
        let event = status::event(&self.pod, &self.container.name, reason, message, Timestamp::now());
        let events: Api<Event> =
            Api::namespaced(self.context.client.clone(), &self.pod.namespace().unwrap_or_default());
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            self.note(&format!("no Event {reason}: {error}"));
        }
    }

    /// Writes a line of the lab's own into the Pod's log.
    fn note(&self, text: &str) {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        // A line that can't be written must not end the Pod.
        let _ = file.and_then(|mut file| writeln!(file, "lab: {text}"));
    }
}

/// Waits for a point in time; for ever without one.
async fn reached(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
