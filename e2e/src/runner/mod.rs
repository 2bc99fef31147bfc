//! The pod runner: acts as the kubelet for Pods whose image is `pilot` or `meshwright`, with real processes.
//!
//! Each such Pod gets a network namespace that is connected to the lab's, an empty working directory, and a kubeconfig
//! with a token of its ServiceAccount; probes determine its status. Secret volumes are written below the working
//! directory. Memory limits of the operator's containers apply if the lab's options say so. Not supported: other
//! volumes, init containers, other containers (reported as running), hooks, and traffic between such Pods.
//!
//! `mod.rs`, `pod.rs`, `sandbox.rs`, `sources.rs` and `memory_cgroup.rs` do I/O; `resolve.rs`, the counts in `probe.rs`
//! and `status.rs` don't.

mod faults;
pub(crate) mod memory_cgroup;
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
use crate::options::MemoryLimit;
use crate::{LabError, LabOptions, Programs, programs};

pub use faults::Fault;
use faults::Faults;
use processes::Processes;
pub use processes::{PodProcess, ProcessMemory, ProcessTimes};

/// A program that runs in place of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Pilot,
    Meshwright,
}

impl Program {
    /// Program and container of a Pod; `None` for Pods that kwok simulates.
    pub(crate) fn of(pod: &Pod) -> Option<(Self, &Container)> {
        let containers = &pod.spec.as_ref()?.containers;
        containers.iter().find_map(|container| Some((Self::of_image(container.image.as_deref()?)?, container)))
    }

    /// Matches the last component of the image's path, without digest and tag.
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

/// Settings that apply to all Pods.
#[derive(Debug)]
pub(crate) struct RunnerSettings {
    dir: PathBuf,
    authority: PathBuf,
    programs: Programs,
    meshwright: PathBuf,
    catalogs: Vec<PathBuf>,
    real_istiod: bool,
    operator_memory: MemoryLimit,
}

impl RunnerSettings {
    /// Locates the programs. The operator's program may be missing, because some tests don't need it.
    pub(crate) fn new(options: &LabOptions, dir: &Path, authority: &Path) -> Result<Self, LabError> {
        Ok(Self {
            dir: dir.to_path_buf(),
            authority: authority.to_path_buf(),
            programs: Programs::find()?,
            meshwright: options.operator.clone().unwrap_or_else(programs::operator),
            catalogs: options.catalog.clone().map_or_else(programs::catalogs, |catalog| vec![catalog]),
            real_istiod: options.real_istiod,
            operator_memory: options.operator_memory,
        })
    }

    /// Checks that the operator's program and catalog exist.
    pub(crate) fn check_operator_files(&self) -> Result<(), LabError> {
        programs::check_operator_files(&self.meshwright, self.catalogs.first().map(PathBuf::as_path))
    }

    /// Path of the operator: the one under test, or the last dist's.
    fn meshwright(&self, image: Option<&str>) -> Result<PathBuf, LabError> {
        if image == Some(programs::LAST_DIST) { programs::last_dist() } else { Ok(self.meshwright.clone()) }
    }

    /// Path of istiod: the build for the release in the image's tag, or the default build.
    fn pilot(&self, image: Option<&str>) -> PathBuf {
        let release = image.and_then(faults::tag).map(|tag| self.programs.path(&format!("pilot-discovery-{tag}")));
        release.filter(|program| program.exists()).unwrap_or_else(|| self.programs.path("pilot-discovery"))
    }

    fn log(&self, namespace: &str, pod: &str) -> PathBuf {
        self.dir.join("logs/pods").join(format!("{namespace}_{pod}.log"))
    }
}

/// State shared by the tasks of all Pods.
struct Context {
    settings: RunnerSettings,
    client: Client,
    processes: Processes,
    faults: Faults,
    addresses: AtomicUsize,
}

/// Handle of the runner's thread. Dropping it stops the thread and every process of a Pod.
#[derive(Debug)]
pub(crate) struct Runner {
    settings: PathBuf,
    processes: Processes,
    faults: Faults,
    stop: CancellationToken,
    stopped: Option<oneshot::Receiver<()>>,
}

impl Runner {
    /// Starts the runner on a separate thread, so that a busy test doesn't delay Pods.
    pub(crate) fn start(settings: RunnerSettings) -> Result<Self, LabError> {
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
            // Fails if the handle was dropped without `stop`.
            let _ = done.send(());
        };
        std::thread::Builder::new().name("pod-runner".to_owned()).spawn(work).map_err(spawn)?;
        Ok(runner)
    }

    /// Kills every Pod's process and waits until all have exited.
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

/// Channels from the watch to the task of a Pod.
struct PodHandle {
    latest: watch::Sender<Pod>,
    gone: CancellationToken,
}

async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    {
        let watching = watch_pods(&context, &stop, &mut tasks);
        tokio::select! {
            () = watching => {}
            () = stop.cancelled() => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Watches the Pods that are bound to a Node and runs a task for each one with a known program.
async fn watch_pods(context: &Arc<Context>, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    let pods: Api<Pod> = Api::all(context.client.clone());
    let config = watcher::Config::default().fields("spec.nodeName!=");
    let mut known: HashMap<String, PodHandle> = HashMap::new();
    let mut listed = Vec::new();
    let mut events = std::pin::pin!(watcher::watcher(pods, config));
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            // Some tests restart the API server; the watcher reconnects.
            Err(_) => {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            }
        };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.push(pod.uid().unwrap_or_default());
                dispatch(context, stop, tasks, &mut known, pod);
            }
            Event::InitDone => known.retain(|uid, handle| {
                let exists = listed.contains(uid);
                if !exists {
                    handle.gone.cancel();
                }
                exists
            }),
            Event::Apply(pod) => dispatch(context, stop, tasks, &mut known, pod),
            Event::Delete(pod) => {
                if let Some(handle) = known.remove(&pod.uid().unwrap_or_default()) {
                    handle.gone.cancel();
                }
            }
        }
    }
}

fn dispatch(
    context: &Arc<Context>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
    known: &mut HashMap<String, PodHandle>,
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
    known.insert(uid, PodHandle { latest, gone: gone.clone() });
    tasks.spawn(pod::run_pod(Arc::clone(context), program, receiver, gone));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_last_component_of_image() {
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
