//! The operator as a process outside of Pods, with the permissions of its ServiceAccount, behind the proxy.

use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use super::gate::WriteGate;
use super::proxy::Proxy;
use crate::mesh::{OPERATOR_NAMESPACE, config_dir};
use crate::wait::{self, TIMEOUT};
use crate::{Lab, LabError, TestResult, apply, credentials, process, programs};

const ACCOUNT: &str = "meshwright";
const LEASE: &str = "meshwright-leader";

/// The operator's process; killed when dropped.
pub(super) struct OperatorProcess {
    client: Client,
    pub(super) gate: Arc<WriteGate>,
    program: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    _proxy: Proxy,
}

impl OperatorProcess {
    /// Installs the CRD and RBAC and starts the process.
    pub(super) async fn install(lab: &Lab) -> TestResult<Self> {
        lab.check_operator().map_err(ToString::to_string)?;
        let client = lab.client();
        apply::apply_all(&client, manifests()?).await?;
        let dir = lab.kubeconfig().parent().ok_or("the lab has no directory")?.to_path_buf();
        let upstream = dir.join("operator-upstream.kubeconfig");
        write(&upstream, &lab.kubeconfig_of(OPERATOR_NAMESPACE, ACCOUNT).await?)?;
        let gate = Arc::new(WriteGate::default());
        let proxy = Proxy::start(credentials::client(&upstream).await?, Arc::clone(&gate)).await?;
        write(&dir.join("operator.kubeconfig"), &kubeconfig_for(&proxy))?;
        let log = lab.logs_dir()?.join("operator.log");
        let mut operator = Self { client, gate, program: programs::operator(), dir, log, child: None, _proxy: proxy };
        operator.start().await?;
        Ok(operator)
    }

    /// Kills the process with SIGKILL and starts a new one. The server still executes the writes that were sent.
    pub(super) async fn replace(&mut self) -> TestResult {
        self.kill();
        self.gate.wait_completed().await;
        // Saves the test from waiting until the Lease expires.
        self.leases().delete(LEASE, &DeleteParams::default()).await?;
        self.gate.discard_pending();
        self.start().await
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE)
    }

    /// Starts the process and waits until it is the leader.
    async fn start(&mut self) -> TestResult {
        let mut command = process::bound_to_this_thread(&self.program);
        command.args(["operator", "--admin-address=127.0.0.1"]).current_dir(&self.dir).env_clear();
        command.env("KUBECONFIG", self.dir.join("operator.kubeconfig"));
        command.env("MESHWRIGHT_CATALOG", std::env::join_paths(programs::catalogs())?);
        command.env("HOME", &self.dir);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        process::log_to(&mut command, &self.log)?;
        let spawned = command.spawn();
        self.child = Some(spawned.map_err(|source| LabError::Spawn { program: "the operator".to_owned(), source })?);
        let leases = self.leases();
        wait::until(TIMEOUT, "the operator to become leader", async || {
            let lease = leases.get_opt(LEASE).await.map_err(|error| error.to_string())?;
            lease.map(drop).ok_or_else(|| format!("no Lease; {}", self.log_tail()))
        })
        .await?;
        Ok(())
    }

    /// Last lines of the operator's log.
    pub(super) fn log_tail(&self) -> String {
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
