//! One lab: a control plane of our own, or somebody else's cluster.

use std::path::{Path, PathBuf};

use kube::Client;

use crate::audit::Audit;
use crate::plane::ControlPlane;
use crate::runner::{Fault, PodProcess, Runner, Settings};
use crate::workdir::WorkDir;
use crate::{LabError, LabOptions, credentials, net, objects, process};

/// A cluster to work with. Made by [`crate::run`] and [`crate::with_lab`].
pub struct Lab {
    client: Client,
    kubeconfig: PathBuf,
    own: Option<Own>,
}

/// What only a lab of our own has. Dropped in this order: the Pods' processes before the API server they talk to.
#[derive(Debug)]
struct Own {
    runner: Runner,
    plane: ControlPlane,
    dir: WorkDir,
    /// Whether the operator can run.
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

    /// Starts on the calling thread, which it moves into a network of its own.
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
        let (plane, kubeconfig, client) = ControlPlane::start(&dir, &options).await?;
        for (n, node) in options.nodes.iter().enumerate() {
            let address = net::node_address(n);
            net::add_address(address)?;
            objects::node(&client, node, address).await?;
        }
        let settings = Settings::new(&options, dir.path(), &plane.certificates().authority)?;
        let operator = settings.operator_is_complete();
        let runner = Runner::start(settings)?;
        Ok(Self { client, kubeconfig, own: Some(Own { runner, plane, dir, operator }) })
    }

    /// A client with all rights.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A kubeconfig with all rights; in a lab of our own it is of use only to programs in the lab's network.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A process in the lab's network: `nsenter -t PID -n` puts a shell there. `None` for an external cluster.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().map(|own| own.plane.pid())
    }

    /// The directory of the lab's logs: one for each program, and in `logs/pods` one for each Pod with a process.
    pub fn logs_dir(&self) -> Result<PathBuf, LabError> {
        Ok(self.power("a directory of logs")?.dir.path().join("logs"))
    }

    /// What the API server has been asked so far. An answer is written down a moment after it was given, so a caller
    /// that counts first makes a request of its own, by [`Self::settled_audit`].
    pub fn audit(&self) -> Result<Audit, LabError> {
        let path = self.power("the audit log")?.dir.path().join("audit.log");
        Ok(Audit::parse(&std::fs::read_to_string(&path).map_err(LabError::file(&path))?))
    }

    /// Like [`Self::audit`], and sure to hold everything that was answered before this call.
    pub async fn settled_audit(&self) -> Result<Audit, LabError> {
        let own = self.power("the audit log")?;
        let marker = own.dir.marker();
        let path = format!("/version?marker={marker}");
        let request = http::Request::get(&path).body(Vec::new());
        let request = request.map_err(|error| LabError::Manifest { origin: path, detail: error.to_string() })?;
        self.client.request_text(request).await.map_err(LabError::api("write a marker into the audit log"))?;
        let settled = crate::wait::until(crate::wait::PATIENCE, "the marker in the audit log", async || {
            let audit = self.audit().map_err(|error| error.to_string())?;
            let last = audit.entries().iter().rev().take(1000).any(|entry| entry.uri.ends_with(&marker));
            if last { Ok(audit) } else { Err(format!("{} entries without it", audit.entries().len())) }
        });
        settled.await.map_err(|error| LabError::Waited(Box::new(error)))
    }

    /// Ends the API server and starts it again with another range of node ports, for example `30400-30449`.
    pub async fn restart_api_server(&mut self, node_port_range: &str) -> Result<(), LabError> {
        let client = self.client.clone();
        let Some(own) = &mut self.own else { return Err(LabError::External { power: "restarting the API server" }) };
        own.plane.restart_api_server(&own.dir, &client, node_port_range).await
    }

    /// The process that runs for a Pod whose image is `pilot` or `meshwright`.
    pub fn process(&self, namespace: &str, pod: &str) -> Result<PodProcess, LabError> {
        self.power("the processes of Pods")?.runner.process(namespace, pod)
    }

    pub(crate) fn set_fault(&self, tag: &str, fault: Option<Fault>) -> Result<(), LabError> {
        self.power("the faults of istiod")?.runner.set_fault(tag, fault);
        Ok(())
    }

    /// All that the processes of a Pod of that name have written so far; also after the Pod is gone.
    pub fn logs(&self, namespace: &str, pod: &str) -> Result<String, LabError> {
        let own = self.power("the logs of Pods")?;
        let path = own.runner.log(namespace, pod);
        std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(LabError::file(&path))
    }

    /// The ends of the logs of all Pods with a process, with their names.
    pub(crate) fn log_tails(&self, bytes: u64) -> Vec<(String, String)> {
        let Some(own) = &self.own else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(own.dir.path().join("logs/pods")) else { return Vec::new() };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().replacen('_', "/", 1);
        paths.iter().map(|path| (name(path), process::tail(path, bytes))).collect()
    }

    /// The first program of the control plane that ended by itself, with the end of its log.
    pub(crate) fn ended_program(&mut self) -> Option<String> {
        self.own.as_mut().and_then(|own| own.plane.ended())
    }

    /// Ends everything. Dropping does the same; this way the Pods' processes are waited for without blocking.
    pub(crate) async fn stop(self) {
        if let Some(own) = self.own {
            let Own { runner, plane, dir, operator: _ } = own;
            runner.stop().await;
            drop(plane);
            drop(dir);
        }
    }

    /// Fails when a Pod with the operator's image could not run, saying what is missing.
    pub(crate) fn can_run_operator(&self) -> Result<(), &LabError> {
        self.own.as_ref().map_or(Ok(()), |own| own.operator.as_ref().copied())
    }

    fn power(&self, power: &'static str) -> Result<&Own, LabError> {
        self.own.as_ref().ok_or(LabError::External { power })
    }
}
