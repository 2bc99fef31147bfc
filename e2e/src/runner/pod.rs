//! Runs one Pod: its process, probes, status and termination.

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

use super::faults::{Fault, FaultWatch, tag};
use super::memory_cgroup::MemoryCgroup;
use super::probe::{ProbeKind, Probes};
use super::sandbox::{ProcessSpec, Running, Sandbox};
use super::status::{self, PodReport};
use super::{Context, Program, quantity, resolve, sources};
use crate::options::MemoryLimit;
use crate::{LabError, net};

/// Seconds of back-off. Shorter than the kubelet's 10 s to 5 min, so that tests of crash loops finish quickly.
const BACK_OFF: std::ops::RangeInclusive<u64> = 1..=20;
/// A process that ran this long resets the back-off.
const BACK_OFF_RESET: Duration = Duration::from_mins(1);

/// Acts as the kubelet for one Pod until it is deleted or `gone` is cancelled.
pub(super) async fn run_pod(
    context: Arc<Context>,
    program: Program,
    latest: watch::Receiver<Pod>,
    gone: CancellationToken,
) {
    let pod = latest.borrow().clone();
    let Some(container) = Program::of(&pod).map(|(_, container)| container.clone()) else { return };
    let address = net::pod_address(context.addresses.fetch_add(1, Ordering::Relaxed));
    let release = container.image.as_deref().and_then(tag).filter(|_| program == Program::Pilot);
    let mut task = PodTask {
        faults: context.faults.of(release),
        log: context.settings.log(&pod.namespace().unwrap_or_default(), &pod.name_any()),
        report: PodReport::new(address.to_string(), String::new(), Timestamp::now()),
        sent: None,
        context,
        program,
        pod,
        container,
        latest,
        gone,
    };
    task.report.host_ip = task.host_ip().await;
    if let Err(error) = task.run(address).await {
        task.log_line(&error.to_string());
        task.report.wait("CreateContainerError", error.to_string(), Timestamp::now());
        task.send().await;
        task.wait_deleted().await;
    }
    if task.is_deleted() {
        task.remove().await;
    }
}

struct PodTask {
    context: Arc<Context>,
    program: Program,
    pod: Pod,
    container: Container,
    latest: watch::Receiver<Pod>,
    gone: CancellationToken,
    faults: FaultWatch,
    report: PodReport,
    sent: Option<PodStatus>,
    log: PathBuf,
}

/// Why supervision of a process ended.
enum ProcessEnd {
    Exited(ExitStatus),
    Deleted,
    Gone,
}

impl PodTask {
    async fn run(&mut self, address: Ipv4Addr) -> Result<(), LabError> {
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let sandbox = Sandbox::start(&namespace, &name, address, self.context.processes.clone()).await?;
        let mut back_off = *BACK_OFF.start();
        while !self.is_deleted() && !self.gone.is_cancelled() {
            if self.faults.now() == Some(Fault::NeverStarts) {
                self.report_missing_image().await;
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
            let end = self.supervise(&mut running).await;
            let status = match end {
                ProcessEnd::Exited(status) => status,
                ProcessEnd::Deleted => return self.terminate(running).await,
                ProcessEnd::Gone => {
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
            if started.elapsed() > BACK_OFF_RESET {
                back_off = *BACK_OFF.start();
            }
            self.report.back_off(&self.container.name, back_off, Timestamp::now());
            self.send().await;
            let message = format!("Back-off restarting failed container {} in pod {name}", self.container.name);
            self.emit_event("BackOff", message).await;
            self.sleep(Duration::from_secs(back_off)).await;
            back_off = (back_off * 2).min(*BACK_OFF.end());
        }
        Ok(())
    }

    /// Reports a missing image like the kubelet, until the fault is cleared.
    async fn report_missing_image(&mut self) {
        let image = self.container.image.clone().unwrap_or_default();
        let error = format!("failed to resolve reference \"{image}\": {image}: not found");
        self.emit_event("Failed", format!("Failed to pull image \"{image}\": {error}")).await;
        let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {error}");
        self.report.wait("ImagePullBackOff", message, Timestamp::now());
        self.send().await;
        while self.faults.now() == Some(Fault::NeverStarts) {
            tokio::select! {
                () = self.faults.changed() => {}
                () = self.gone.cancelled() => return,
                changed = self.latest.changed() => if changed.is_err() || self.is_deleted() { return },
            }
        }
    }

    /// Collects what a container start needs. The error is the message for the container status.
    async fn prepare(&self) -> Result<ProcessSpec, String> {
        let (client, settings) = (&self.context.client, &self.context.settings);
        let home = settings.dir.join("pods").join(self.pod.uid().unwrap_or_default());
        // A restarted container starts with an empty file system.
        let work = home.join(format!("work-{}", self.report.restarts));
        std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
        let report = &self.report;
        let sources = sources::fetch(client, &self.pod, &self.container, &report.pod_ip, &report.host_ip)
            .await
            .map_err(|error| error.to_string())?;
        sources::write_secret_volumes(client, &self.pod, &self.container, &work)
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
        let memory = self.memory_cgroup().map_err(|error| error.to_string())?;
        Ok(ProcessSpec { program, args, env, dir: work, log: self.log.clone(), memory })
    }

    /// A cgroup with the container's memory limit, for the operator if the lab's options say so.
    fn memory_cgroup(&self) -> Result<Option<MemoryCgroup>, LabError> {
        if self.program != Program::Meshwright || self.context.settings.operator_memory == MemoryLimit::Ignored {
            return Ok(None);
        }
        let limits = self.container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        let limit = limits.and_then(|limits| quantity::divided(&limits.get("memory")?.0, "1"));
        let name = format!("{}-{}", self.pod.uid().unwrap_or_default(), self.report.restarts);
        limit.and_then(|bytes| u64::try_from(bytes).ok()).map(|bytes| MemoryCgroup::create(&name, bytes)).transpose()
    }

    /// Reports probe results until the process exits or the Pod is deleted.
    async fn supervise(&mut self, running: &mut Running) -> ProcessEnd {
        let (context, namespace, name) =
            (Arc::clone(&self.context), self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let is_paused = move || context.processes.is_paused(&namespace, &name);
        let mut probes = Probes::start(&self.container, &self.report.pod_ip, is_paused);
        let no_readiness_probe = self.container.readiness_probe.is_none();
        // Result of the probes; a fault can override it in the status.
        let mut ready = no_readiness_probe && self.container.startup_probe.is_none();
        let mut crash = None;
        self.report.run(false, Timestamp::now());
        loop {
            let fault = self.faults.now();
            self.report.set_ready(ready && fault != Some(Fault::NeverReady), Timestamp::now());
            self.send().await;
            crash = match fault {
                Some(Fault::CrashesAfter(time)) if ready => {
                    crash.or_else(|| tokio::time::Instant::now().checked_add(time))
                }
                _ => None,
            };
            let (kind, success) = tokio::select! {
                () = self.gone.cancelled() => return ProcessEnd::Gone,
                ended = &mut running.ended => return ended.map_or(ProcessEnd::Gone, ProcessEnd::Exited),
                changed = self.latest.changed() => {
                    if changed.is_err() {
                        return ProcessEnd::Gone;
                    }
                    if self.is_deleted() {
                        return ProcessEnd::Deleted;
                    }
                    continue;
                }
                () = self.faults.changed() => continue,
                () = reached(crash) => {
                    running.signal(Signal::SIGKILL);
                    return (&mut running.ended).await.map_or(ProcessEnd::Gone, ProcessEnd::Exited);
                }
                result = probes.next() => result,
            };
            match (kind, success) {
                (ProbeKind::Startup, true) => ready = no_readiness_probe,
                (ProbeKind::Readiness, success) => ready = self.report_readiness(success, ready).await,
                (ProbeKind::Startup | ProbeKind::Liveness, false) => self.kill_unhealthy(running, kind),
                (ProbeKind::Liveness, true) => {}
            }
        }
    }

    /// Emits an Event when a ready Pod becomes unready. Failures during startup emit none, because they are probed more
    /// often than by a kubelet.
    async fn report_readiness(&mut self, ready: bool, before: bool) -> bool {
        if before && !ready {
            self.emit_event("Unhealthy", "Readiness probe failed".to_owned()).await;
        } else if ready && self.faults.now() == Some(Fault::NeverReady) {
            self.emit_event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503".to_owned())
                .await;
        }
        ready
    }

    fn kill_unhealthy(&self, running: &Running, probe: ProbeKind) {
        self.log_line(&format!("{probe:?} probe failed; killing the process"));
        running.signal(Signal::SIGKILL);
    }

    async fn terminate(&mut self, mut running: Running) -> Result<(), LabError> {
        let grace = self.latest.borrow().metadata.deletion_grace_period_seconds.unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
        running.signal(Signal::SIGTERM);
        // A paused process would not handle SIGTERM.
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

    /// Whether the restart policy ends the Pod; sets its final phase.
    fn finished(&mut self, status: ExitStatus) -> bool {
        let policy = self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        self.report.phase = match (policy, status.success()) {
            (Some("Never" | "OnFailure"), true) => "Succeeded",
            (Some("Never"), false) => "Failed",
            _ => return false,
        };
        true
    }

    fn is_deleted(&self) -> bool {
        self.latest.borrow().metadata.deletion_timestamp.is_some()
    }

    async fn wait_deleted(&mut self) {
        while !self.is_deleted() && !self.gone.is_cancelled() {
            self.sleep(Duration::from_hours(1)).await;
        }
    }

    /// Sleeps until the time has passed or the Pod is deleted.
    async fn sleep(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.gone.cancelled() => return,
                changed = self.latest.changed() => if changed.is_err() || self.is_deleted() { return },
            }
        }
    }

    /// Deletes the Pod object, as the kubelet does after its containers have exited.
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
                Err(error) => self.pause_before_retry(&error).await,
            }
        }
    }

    /// Patches the Pod's status if it differs from the last one sent.
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
                // A retry would fail too.
                Err(kube::Error::Api(refusal)) if refusal.is_invalid() => return self.log_line(&refusal.to_string()),
                Err(error) => self.pause_before_retry(&error).await,
            }
        }
        self.sent = Some(status);
    }

    /// Logs an error and waits before the retry.
    async fn pause_before_retry(&self, error: &kube::Error) {
        self.log_line(&error.to_string());
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

    /// Emits a warning Event like the kubelet.
    async fn emit_event(&self, reason: &str, message: String) {
        let event = status::event(&self.pod, &self.container.name, reason, message, Timestamp::now());
        let events: Api<Event> =
            Api::namespaced(self.context.client.clone(), &self.pod.namespace().unwrap_or_default());
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            self.log_line(&format!("could not create Event {reason}: {error}"));
        }
    }

    /// Appends a line to the Pod's log, prefixed with `lab:`.
    fn log_line(&self, text: &str) {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        // A failed write must not stop the Pod.
        let _ = file.and_then(|mut file| writeln!(file, "lab: {text}"));
    }
}

/// Sleeps until a point in time; forever if there is none.
async fn reached(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
