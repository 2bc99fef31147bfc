//! The operator as a process of its own, with the rights of its ServiceAccount, behind the proxy.

use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use super::gate::Gate;
use super::proxy::Proxy;
use crate::mesh::{OPERATOR_NAMESPACE, config};
use crate::wait::{self, PATIENCE};
use crate::{Lab, LabError, TestResult, apply, credentials, process, programs};

const ACCOUNT: &str = "meshwright";
const LEASE: &str = "meshwright-leader";

/// Killed when dropped.
pub(super) struct Operator {
    client: Client,
    pub(super) gate: Arc<Gate>,
    program: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    _proxy: Proxy,
}

impl Operator {
    /// Installs definition and rights, and starts it.
    pub(super) async fn install(lab: &Lab) -> TestResult<Self> {
        lab.can_run_operator().map_err(ToString::to_string)?;
        let client = lab.client();
        apply::apply_all(&client, manifests()?).await?;
        let dir = lab.kubeconfig().parent().ok_or("the lab has no directory")?.to_path_buf();
        let upstream = dir.join("operator-upstream.kubeconfig");
        write(&upstream, &lab.kubeconfig_of(OPERATOR_NAMESPACE, ACCOUNT).await?)?;
        let gate = Arc::new(Gate::default());
        let proxy = Proxy::start(credentials::client(&upstream).await?, Arc::clone(&gate)).await?;
        write(&dir.join("operator.kubeconfig"), &unauthorised(&proxy))?;
        let log = lab.logs_dir()?.join("operator.log");
        let mut operator = Self { client, gate, program: programs::operator(), dir, log, child: None, _proxy: proxy };
        operator.start().await?;
        Ok(operator)
    }

    /// `kill -9`, and another in its place. What the killed one had sent is carried out.
    pub(super) async fn replace(&mut self) -> TestResult {
        self.end();
        self.gate.all_answered().await;
        // Waiting for a lease to expire would prove nothing here.
        self.leases().delete(LEASE, &DeleteParams::default()).await?;
        self.gate.bury();
        self.start().await
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE)
    }

    /// Starts it, and waits until it leads.
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
        wait::until(PATIENCE, "the operator to lead", async || {
            let lease = leases.get_opt(LEASE).await.map_err(|error| error.to_string())?;
            lease.map(drop).ok_or_else(|| format!("no lease; {}", self.log_tail()))
        })
        .await?;
        Ok(())
    }

    /// The end of its log.
    pub(super) fn log_tail(&self) -> String {
        process::tail(&self.log, 6 * 1024)
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already is what we want.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.end();
    }
}

/// All that a person applies, but for the Deployment.
fn manifests() -> TestResult<Vec<kube::api::DynamicObject>> {
    let mut objects = Vec::new();
    for file in ["crd/meshinstallations", "rbac/rbac", "manager/namespace", "manager/service_account"] {
        let path = config().join(format!("{file}.yaml"));
        let text = std::fs::read_to_string(&path).map_err(LabError::file(&path))?;
        objects.extend(apply::parse(file, &text)?);
    }
    Ok(objects)
}

/// A kubeconfig for the proxy, which asks nobody who they are.
fn unauthorised(proxy: &Proxy) -> String {
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
