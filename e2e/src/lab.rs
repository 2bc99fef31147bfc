//! A lab: its own control plane, or an external cluster.

use std::path::{Path, PathBuf};

use kube::Client;

use crate::audit::Audit;
use crate::control_plane::ControlPlane;
use crate::runner::{Fault, PodProcess, Runner, RunnerSettings};
use crate::workdir::WorkDir;
use crate::{LabError, LabOptions, credentials, net, objects, process};

/// A cluster for a test; [`crate::run`] and [`crate::with_lab`] create it.
pub struct Lab {
    client: Client,
    kubeconfig: PathBuf,
    own: Option<ManagedCluster>,
}

/// State of a lab with its own control plane. Field order is drop order: processes of Pods stop before their API
/// server.
#[derive(Debug)]
struct ManagedCluster {
    runner: Runner,
    control_plane: ControlPlane,
    dir: WorkDir,
    /// Error if the operator's program or catalog is missing.
    operator: Result<(), LabError>,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("kubeconfig", &self.kubeconfig).field("own", &self.own).finish_non_exhaustive()
    }
}

impl Lab {
    /// Whether tests run against the cluster of `KUBECONFIG`: `MESHWRIGHT_LAB=external`.
    #[must_use]
    pub fn is_external() -> bool {
        std::env::var("MESHWRIGHT_LAB").is_ok_and(|value| value == "external")
    }

    /// Starts a lab on the calling thread and moves the thread into a new network namespace.
    pub(crate) async fn start(options: LabOptions) -> Result<Self, LabError> {
        if Self::is_external() { Self::external().await } else { Self::own(options).await }
    }

    async fn external() -> Result<Self, LabError> {
        let kubeconfig = PathBuf::from(std::env::var_os("KUBECONFIG").unwrap_or_default());
        let client = credentials::client(&kubeconfig).await?;
        Ok(Self { client, kubeconfig, own: None })
    }

    async fn own(options: LabOptions) -> Result<Self, LabError> {
        let dir = WorkDir::create()?;
        net::enter()?;
        let (control_plane, kubeconfig, client) = ControlPlane::start(&dir, &options).await?;
        for (n, node) in options.nodes.iter().enumerate() {
            let address = net::node_address(n);
            net::add_address(address)?;
            objects::node(&client, node, address).await?;
        }
        let settings = RunnerSettings::new(&options, dir.path(), &control_plane.certificates().authority)?;
        let operator = settings.check_operator_files();
        let runner = Runner::start(settings)?;
        Ok(Self { client, kubeconfig, own: Some(ManagedCluster { runner, control_plane, dir, operator }) })
    }

    /// Client with cluster-admin permissions.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Kubeconfig with cluster-admin permissions. With its own control plane, the server is reachable only inside the
    /// lab's network namespace.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// ID of a process in the lab's network namespace, for `nsenter -t PID -n`. `None` for an external cluster.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().map(|own| own.control_plane.pid())
    }

    /// Directory of the lab's logs: one file per program, and one per Pod with a process in `logs/pods`.
    pub fn logs_dir(&self) -> Result<PathBuf, LabError> {
        Ok(self.managed("the log directory")?.dir.path().join("logs"))
    }

    /// Reads the audit log. The API server logs a response with a short delay; to count requests, use
    /// [`Self::settled_audit`].
    pub fn audit(&self) -> Result<Audit, LabError> {
        let path = self.managed("the audit log")?.dir.path().join("audit.log");
        Ok(Audit::parse(&std::fs::read_to_string(&path).map_err(LabError::file(&path))?))
    }

    /// Like [`Self::audit`], but includes every request completed before this call.
    pub async fn settled_audit(&self) -> Result<Audit, LabError> {
        let own = self.managed("the audit log")?;
        let marker = own.dir.marker();
        let path = format!("/version?marker={marker}");
        let request = http::Request::get(&path).body(Vec::new());
        let request = request.map_err(|error| LabError::Manifest { origin: path, detail: error.to_string() })?;
        self.client.request_text(request).await.map_err(LabError::api("write a marker into the audit log"))?;
        let settled = crate::wait::until(crate::wait::TIMEOUT, "the marker in the audit log", async || {
            let audit = self.audit().map_err(|error| error.to_string())?;
            let last = audit.entries().iter().rev().take(1000).any(|entry| entry.uri.ends_with(&marker));
            if last { Ok(audit) } else { Err(format!("{} entries without it", audit.entries().len())) }
        });
        settled.await.map_err(|error| LabError::Waited(Box::new(error)))
    }

    /// Restarts the API server with another node port range, for example `30400-30449`.
    pub async fn restart_api_server(&mut self, node_port_range: &str) -> Result<(), LabError> {
        let client = self.client.clone();
        let Some(own) = &mut self.own else { return Err(LabError::External { feature: "restarting the API server" }) };
        own.control_plane.restart_api_server(&own.dir, &client, node_port_range).await
    }

    /// Process of a Pod whose image is `pilot` or `meshwright`.
    pub fn process(&self, namespace: &str, pod: &str) -> Result<PodProcess, LabError> {
        self.managed("the processes of Pods")?.runner.process(namespace, pod)
    }

    pub(crate) fn set_fault(&self, tag: &str, fault: Option<Fault>) -> Result<(), LabError> {
        self.managed("the faults of istiod")?.runner.set_fault(tag, fault);
        Ok(())
    }

    /// Log of all processes of a Pod, also after the Pod was deleted.
    pub fn logs(&self, namespace: &str, pod: &str) -> Result<String, LabError> {
        let own = self.managed("the logs of Pods")?;
        let path = own.runner.log(namespace, pod);
        std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(LabError::file(&path))
    }

    /// Last log lines of all Pods with a process, by Pod.
    pub(crate) fn log_tails(&self, bytes: u64) -> Vec<(String, String)> {
        let Some(own) = &self.own else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(own.dir.path().join("logs/pods")) else { return Vec::new() };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().replacen('_', "/", 1);
        paths.iter().map(|path| (name(path), process::tail(path, bytes))).collect()
    }

    /// The first program of the control plane that exited unexpectedly, with its last log lines.
    pub(crate) fn ended_program(&mut self) -> Option<String> {
        self.own.as_mut().and_then(|own| own.control_plane.ended())
    }

    /// Stops everything. Dropping does the same, but blocks until the processes of Pods have exited.
    pub(crate) async fn stop(self) {
        if let Some(own) = self.own {
            let ManagedCluster { runner, control_plane, dir, operator: _ } = own;
            runner.stop().await;
            drop(control_plane);
            drop(dir);
        }
    }

    /// Fails if the operator's program or catalog is missing.
    pub(crate) fn check_operator(&self) -> Result<(), &LabError> {
        self.own.as_ref().map_or(Ok(()), |own| own.operator.as_ref().copied())
    }

    fn managed(&self, feature: &'static str) -> Result<&ManagedCluster, LabError> {
        self.own.as_ref().ok_or(LabError::External { feature })
    }
}
