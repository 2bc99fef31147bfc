//! The pod runner: plays kubelet for Pods whose image is `pilot` or `meshwright`, with real processes.
//!
//! Each such Pod gets a network namespace of its own, joined to the lab's, an empty working directory, and a kubeconfig
//! with a token of its ServiceAccount; its containers' probes are carried out, and its status is what they say. Not
//! played: volumes, init containers, further containers (said to run), hooks, and traffic from one such Pod to another.
//!
//! `mod.rs`, `pod.rs`, `sandbox.rs` and `sources.rs` do I/O; `resolve.rs`, `probe.rs`'s counting and `status.rs` are pure.

mod faults;
mod pod;
mod probe;
mod processes;
mod quantity;
mod resolve;
mod sandbox;
mod sources;
mod status;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::credentials::{self, User};
use crate::{LabError, LabOptions, Programs, programs};

pub use faults::Fault;
use faults::Faults;
use processes::Processes;
pub use processes::{Memory, PodProcess, Times};

/// A program that stands for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// istiod.
    Pilot,
    /// The operator.
    Meshwright,
}

impl Program {
    /// The program of a Pod, and its container; `None` for Pods that kwok plays.
    pub(crate) fn of(pod: &Pod) -> Option<(Self, &Container)> {
        let containers = &pod.spec.as_ref()?.containers;
        containers.iter().find_map(|container| Some((Self::of_image(container.image.as_deref()?)?, container)))
    }

    /// Judged by the last part of the image's path, without digest and tag.
    fn of_image(image: &str) -> Option<Self> {
        let path = image.split('@').next()?;
        let name = path.rsplit('/').next()?.split(':').next()?;
        match name {
            "pilot" => Some(Self::Pilot),
            "meshwright" => Some(Self::Meshwright),
            _ => None,
        }
    }
}

/// What the runner needs to know; the same for all Pods.
#[derive(Debug)]
pub(crate) struct Settings {
    dir: PathBuf,
    authority: PathBuf,
    programs: Programs,
    meshwright: PathBuf,
    catalogs: Vec<PathBuf>,
    real_istiod: bool,
}

impl Settings {
    /// Finds the programs; the operator's is not missed yet, since not every test has one.
    pub(crate) fn new(options: &LabOptions, dir: &Path, authority: &Path) -> Result<Self, LabError> {
        Ok(Self {
            dir: dir.to_path_buf(),
            authority: authority.to_path_buf(),
            programs: Programs::find()?,
            meshwright: options.operator.clone().unwrap_or_else(programs::operator),
            catalogs: options.catalog.clone().map_or_else(programs::catalogs, |catalog| vec![catalog]),
            real_istiod: options.real_istiod,
        })
    }

    /// Whether the operator can run.
    pub(crate) fn operator_is_complete(&self) -> Result<(), LabError> {
        programs::operator_is_complete(&self.meshwright, self.catalogs.first().map(PathBuf::as_path))
    }

    /// The operator under test, or the last dist's.
    fn meshwright(&self, image: Option<&str>) -> Result<PathBuf, LabError> {
        if image == Some(programs::LAST_DIST) { programs::last_dist() } else { Ok(self.meshwright.clone()) }
    }

    /// istiod of the release that an image's tag names; the module's own build for all other tags.
    fn pilot(&self, image: Option<&str>) -> PathBuf {
        let release = image.and_then(faults::tag).map(|tag| self.programs.path(&format!("pilot-discovery-{tag}")));
        release.filter(|program| program.exists()).unwrap_or_else(|| self.programs.path("pilot-discovery"))
    }

    fn log(&self, namespace: &str, pod: &str) -> PathBuf {
        self.dir.join("logs/pods").join(format!("{namespace}_{pod}.log"))
    }
}

/// Shared by the tasks of all Pods.
struct Context {
    settings: Settings,
    client: Client,
    processes: Processes,
    faults: Faults,
    addresses: AtomicUsize,
}

/// The running runner; its thread, and with it every Pod's process, ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Runner {
    settings: PathBuf,
    processes: Processes,
    faults: Faults,
    stop: CancellationToken,
    stopped: Option<oneshot::Receiver<()>>,
}

impl Runner {
    /// Starts on a thread of its own, so that a test that computes for long doesn't keep Pods from becoming ready.
    pub(crate) fn start(settings: Settings) -> Result<Self, LabError> {
        let logs = settings.dir.join("logs/pods");
        std::fs::create_dir_all(&logs).map_err(LabError::file(&logs))?;
        let kubeconfig = settings.dir.join("runner.kubeconfig");
        let text = credentials::kubeconfig(User::RUNNER, &settings.authority);
        std::fs::write(&kubeconfig, text).map_err(LabError::file(&kubeconfig))?;
        let (processes, faults, stop) = (Processes::default(), Faults::default(), CancellationToken::new());
        let (done, stopped) = oneshot::channel();
        let runner = Self {
            settings: logs,
            processes: processes.clone(),
            faults: faults.clone(),
            stop: stop.clone(),
            stopped: Some(stopped),
        };
        let spawn = |source| LabError::Spawn { program: "the pod runner".to_owned(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(spawn)?;
        let work = move || {
            runtime.block_on(async {
                match credentials::client(&kubeconfig).await {
                    Ok(client) => {
                        let addresses = AtomicUsize::new(0);
                        run(Arc::new(Context { settings, client, processes, faults, addresses }), stop).await;
                    }
                    Err(error) => eprintln!("the pod runner could not start: {error}"),
                }
            });
            // Nobody may be waiting any more.
            let _ = done.send(());
        };
        std::thread::Builder::new().name("pod-runner".to_owned()).spawn(work).map_err(spawn)?;
        Ok(runner)
    }

    /// Kills every Pod's process and waits until all are gone.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(stopped) = self.stopped.take() {
            let _ = stopped.await;
        }
    }

    pub(crate) fn process(&self, namespace: &str, pod: &str) -> Result<PodProcess, LabError> {
        self.processes.find(namespace, pod)
    }

    pub(crate) fn set_fault(&self, tag: &str, fault: Option<Fault>) {
        self.faults.set(tag, fault);
    }

    pub(crate) fn log(&self, namespace: &str, pod: &str) -> PathBuf {
        self.settings.join(format!("{namespace}_{pod}.log"))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop.cancel();
        self.processes.kill_all();
    }
}

/// What the watch tells the task of one Pod.
struct Handle {
    latest: watch::Sender<Pod>,
    gone: CancellationToken,
}

async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    {
        let follow = follow(&context, &stop, &mut tasks);
        tokio::select! {
            () = follow => {}
            () = stop.cancelled() => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Follows the Pods that are bound to a Node, and keeps one task for each that is ours.
async fn follow(context: &Arc<Context>, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    let pods: Api<Pod> = Api::all(context.client.clone());
    let config = watcher::Config::default().fields("spec.nodeName!=");
    let mut known: HashMap<String, Handle> = HashMap::new();
    let mut listed = Vec::new();
    let mut events = std::pin::pin!(watcher::watcher(pods, config));
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            // The API server restarts in some tests; the watcher starts anew by itself.
            Err(_) => {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            }
        };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.push(pod.uid().unwrap_or_default());
                see(context, stop, tasks, &mut known, pod);
            }
            Event::InitDone => known.retain(|uid, handle| {
                let there = listed.contains(uid);
                if !there {
                    handle.gone.cancel();
                }
                there
            }),
            Event::Apply(pod) => see(context, stop, tasks, &mut known, pod),
            Event::Delete(pod) => {
                if let Some(handle) = known.remove(&pod.uid().unwrap_or_default()) {
                    handle.gone.cancel();
                }
            }
        }
    }
}

fn see(
    context: &Arc<Context>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
    known: &mut HashMap<String, Handle>,
    pod: Pod,
) {
    let Some((program, _)) = Program::of(&pod) else { return };
    if program == Program::Pilot && !context.settings.real_istiod {
        return;
    }
    let uid = pod.uid().unwrap_or_default();
    if let Some(handle) = known.get(&uid) {
        handle.latest.send_replace(pod);
        return;
    }
    let finished = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(finished, Some("Succeeded" | "Failed")) {
        return;
    }
    let (latest, receiver) = watch::channel(pod);
    let gone = stop.child_token();
    known.insert(uid, Handle { latest, gone: gone.clone() });
    tasks.spawn(pod::live(Arc::clone(context), program, receiver, gone));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_the_last_part_of_the_image() {
        for image in
            ["pilot", "pilot:1.31", "registry.istio.io/release/pilot:1.31.2-debug", "host:5000/pilot@sha256:00"]
        {
            assert_eq!(Program::of_image(image), Some(Program::Pilot), "{image}");
        }
        assert_eq!(Program::of_image("ghcr.io/me/meshwright:dev"), Some(Program::Meshwright));
        for image in ["proxyv2", "host/pilot/app:1", "autopilot", ""] {
            assert_eq!(Program::of_image(image), None, "{image}");
        }
    }
}
