//! The operator as a process outside of Pods, with the permissions of its ServiceAccount, behind the proxy.

use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, DeleteParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::faults::FaultRules;
use super::gate::WriteGate;
use super::proxy::Proxy;
use crate::mesh::{OPERATOR_NAMESPACE, config_dir};
use crate::wait::{self, TIMEOUT, WaitError};
use crate::{Lab, LabError, TestResult, apply, credentials, http as plain_http, process, programs};

const ACCOUNT: &str = "meshwright";
const LEASE: &str = "meshwright-leader";

/// What distinguishes the replicas of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaOptions {
    /// Identity in the Lease, and name of the log file.
    pub name: String,
    /// Port of probes and metrics.
    pub admin_port: u16,
    /// Duration of the Lease.
    pub lease_seconds: u16,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self { name: "operator".to_owned(), admin_port: 8080, lease_seconds: 15 }
    }
}

/// A process of the operator with its own proxy; killed when dropped.
pub struct OperatorProcess {
    client: Client,
    pub(super) gate: Arc<WriteGate>,
    options: ReplicaOptions,
    program: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    proxy: Proxy,
}

impl OperatorProcess {
    /// Installs the CRD and RBAC, starts the process and waits until it is the leader.
    pub async fn install(lab: &Lab) -> TestResult<Self> {
        let mut operator = Self::prepare(lab, ReplicaOptions::default()).await?;
        operator.start()?;
        operator.wait_leading().await?;
        Ok(operator)
    }

    /// Installs the CRD and RBAC, and prepares a process with its proxy.
    pub async fn prepare(lab: &Lab, options: ReplicaOptions) -> TestResult<Self> {
        lab.check_operator().map_err(ToString::to_string)?;
        let client = lab.client();
        apply::apply_all(&client, manifests()?).await?;
        let dir = lab.kubeconfig().parent().ok_or("the lab has no directory")?.to_path_buf();
        let upstream = dir.join(format!("{}-upstream.kubeconfig", options.name));
        write(&upstream, &lab.kubeconfig_of(OPERATOR_NAMESPACE, ACCOUNT).await?)?;
        let gate = Arc::new(WriteGate::default());
        let proxy = Proxy::start(credentials::client(&upstream).await?, Arc::clone(&gate)).await?;
        write(&dir.join(format!("{}.kubeconfig", options.name)), &kubeconfig_for(&proxy))?;
        let log = lab.logs_dir()?.join(format!("{}.log", options.name));
        Ok(Self { client, gate, options, program: programs::operator(), dir, log, child: None, proxy })
    }

    /// Kills the process with SIGKILL and starts a new one. The server still executes the writes that were sent.
    pub async fn replace(&mut self) -> TestResult {
        self.kill();
        self.gate.wait_completed().await;
        // Saves the test from waiting until the Lease expires.
        self.leases().delete(LEASE, &DeleteParams::default()).await?;
        self.gate.discard_pending();
        self.start()?;
        self.wait_leading().await?;
        Ok(())
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE)
    }

    /// Starts the process.
    pub fn start(&mut self) -> TestResult {
        let ReplicaOptions { name, admin_port, lease_seconds } = &self.options;
        let mut command = process::bound_to_this_thread(&self.program);
        command.args(["operator", "--admin-address=127.0.0.1"]);
        command.arg(format!("--admin-port={admin_port}")).arg(format!("--lease-seconds={lease_seconds}"));
        command.arg(format!("--leader-identity={name}")).current_dir(&self.dir).env_clear();
        command.env("KUBECONFIG", self.dir.join(format!("{name}.kubeconfig")));
        command.env("MESHWRIGHT_CATALOG", std::env::join_paths(programs::catalogs())?);
        command.env("HOME", &self.dir);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        process::log_to(&mut command, &self.log)?;
        let spawned = command.spawn();
        self.child = Some(spawned.map_err(|source| LabError::Spawn { program: "the operator".to_owned(), source })?);
        Ok(())
    }

    /// Waits until this process holds the Lease.
    pub async fn wait_leading(&self) -> Result<(), WaitError> {
        let (leases, name) = (self.leases(), &self.options.name);
        wait::until(TIMEOUT, format!("{name} to become leader"), async || {
            let lease = leases.get_opt(LEASE).await.map_err(|error| error.to_string())?;
            let holder = lease.and_then(|lease| lease.spec?.holder_identity);
            if holder.as_ref() == Some(name) { Ok(()) } else { Err(format!("{holder:?}; {}", self.log_tail())) }
        })
        .await
    }

    /// Waits until all watches have listed their objects.
    pub async fn wait_synced(&self) -> Result<(), WaitError> {
        let address = format!("127.0.0.1:{}", self.options.admin_port);
        wait::until(TIMEOUT, format!("{} to be ready", self.options.name), async || {
            match plain_http::get(&address, "/readyz").await.map_err(|error| error.to_string())? {
                (200, _) => Ok(()),
                (_, body) => Err(body),
            }
        })
        .await
    }

    /// The faults of this process's requests.
    #[must_use]
    pub fn faults(&self) -> &FaultRules {
        &self.proxy.faults
    }

    /// Separates the process from the API server: nothing arrives on either side.
    pub fn partition(&self) {
        self.proxy.link.partition();
    }

    /// Ends the partition. Connections from before its end are closed.
    pub fn end_partition(&self) {
        self.proxy.link.end_partition();
    }

    /// Closes all connections of the process.
    pub fn cut_connections(&self) {
        self.proxy.link.cut();
    }

    /// Number of writes that the API server has got from the process since [`Self::forget_writes`].
    #[must_use]
    pub fn sent_writes(&self) -> usize {
        self.gate.sent()
    }

    /// Resets the number of writes.
    pub fn forget_writes(&self) {
        self.gate.set(None);
    }

    /// Stops the process until [`Self::resume`], as if its machine was suspended.
    pub fn suspend(&self) -> TestResult {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a stopped process go on.
    pub fn resume(&self) -> TestResult {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> TestResult {
        let child = self.child.as_ref().ok_or("the operator is not running")?;
        kill(Pid::from_raw(child.id().try_into()?), signal)?;
        Ok(())
    }

    /// Exit status, if the process has ended.
    pub fn exit_status(&mut self) -> TestResult<Option<ExitStatus>> {
        let child = self.child.as_mut().ok_or("the operator is not running")?;
        Ok(child.try_wait()?)
    }

    /// Waits until the process has ended by itself.
    pub async fn wait_exit(&mut self) -> TestResult<ExitStatus> {
        let Some(mut child) = self.child.take() else { return Err("the operator is not running".into()) };
        let exited = wait::until(TIMEOUT, format!("{} to exit", self.options.name), async || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it is running".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await;
        if exited.is_err() {
            self.child = Some(child);
        }
        Ok(exited?)
    }

    /// Last lines of the process's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        process::tail(&self.log, 6 * 1024)
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if the process has already exited.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The manifests in config/ except the operator's Deployment.
fn manifests() -> TestResult<Vec<kube::api::DynamicObject>> {
    let mut objects = Vec::new();
    for file in ["crd/meshinstallations", "rbac/rbac", "manager/namespace", "manager/service_account"] {
        let path = config_dir().join(format!("{file}.yaml"));
        let text = std::fs::read_to_string(&path).map_err(LabError::file(&path))?;
        objects.extend(apply::parse(file, &text)?);
    }
    Ok(objects)
}

/// A kubeconfig for the proxy, which requires no credentials.
fn kubeconfig_for(proxy: &Proxy) -> String {
    let context = json!({"cluster": "proxy", "user": "operator", "namespace": OPERATOR_NAMESPACE});
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{}", proxy.address)}}],
        "users": [{"name": "operator", "user": {}}],
        "contexts": [{"name": "proxy", "context": context}],
        "current-context": "proxy",
    })
    .to_string()
}

fn write(path: &std::path::Path, content: &str) -> Result<(), LabError> {
    std::fs::write(path, content).map_err(LabError::file(path))
}
