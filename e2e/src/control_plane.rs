//! Processes of the lab's control plane.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kube::Client;

use crate::certificates::Certificates;
use crate::credentials::{self, PORT, User};
use crate::process::Daemon;
use crate::workdir::WorkDir;
use crate::{LabError, LabOptions, Programs, net};

/// Allows for several labs that start at once on few cores.
const START_DEADLINE: Duration = Duration::from_secs(90);

const STAGES: &str = concat!(include_str!("../lab/stages/node.yaml"), "---\n", include_str!("../lab/stages/pod.yaml"));

/// Logs every request without its body; without `omitStages`, each request would be logged twice.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
                            rules: [{level: Metadata}]\n";

/// The running control plane.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    programs: Programs,
    certificates: Certificates,
    audited: bool,
    // Field order is drop order: clients are killed before their server.
    clients: Vec<Daemon>,
    api_server: Daemon,
    _etcd: Daemon,
}

impl ControlPlane {
    /// Starts all programs and waits until the API server is ready. Returns the administrator's kubeconfig and client.
    pub(crate) async fn start(dir: &WorkDir, options: &LabOptions) -> Result<(Self, PathBuf, Client), LabError> {
        let programs = Programs::find()?;
        let etcd = Daemon::start("etcd", &programs.path("etcd"), &etcd_args(dir), dir.path(), dir.log("etcd"))?;
        let certificates = Certificates::create(dir)?;
        dir.write("tokens.csv", &credentials::token_file())?;
        dir.write("audit-policy.yaml", AUDIT_POLICY)?;
        dir.write("kwok.yaml", &stages(options.real_istiod))?;
        let api_server = start_api_server(&programs, &certificates, dir, &options.node_port_range, options.audit)?;
        let kubeconfig = dir.write("kubeconfig", &credentials::kubeconfig(User::ADMIN, &certificates.authority))?;
        let client = credentials::client(&kubeconfig).await?;
        let mut control_plane =
            Self { programs, certificates, audited: options.audit, clients: Vec::new(), api_server, _etcd: etcd };
        control_plane.wait_ready(&client).await?;
        control_plane.start_clients(dir)?;
        Ok((control_plane, kubeconfig, client))
    }

    /// Restarts the API server with another node port range and waits until it is ready.
    pub(crate) async fn restart_api_server(
        &mut self,
        dir: &WorkDir,
        client: &Client,
        node_port_range: &str,
    ) -> Result<(), LabError> {
        // A controller manager exits if it loses its server during startup, and no kubelet restarts it here.
        self.clients.clear();
        self.api_server.stop();
        self.api_server = start_api_server(&self.programs, &self.certificates, dir, node_port_range, self.audited)?;
        self.wait_ready(client).await?;
        self.start_clients(dir)
    }

    /// ID of a process in the lab's network namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.api_server.pid()
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The first program that exited unexpectedly.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.clients.iter_mut().chain([&mut self.api_server]).find_map(|daemon| {
            let status = daemon.ended()?;
            Some(format!("{} exited with {status}; last log lines:\n{}", daemon.name(), daemon.log_tail()))
        })
    }

    fn start_clients(&mut self, dir: &WorkDir) -> Result<(), LabError> {
        let config = |user: User| {
            let text = credentials::kubeconfig(user, &self.certificates.authority);
            dir.write(&format!("{}.kubeconfig", user.name.replace(':', "-")), &text)
        };
        let controllers = controller_args(&self.certificates, &config(User::CONTROLLERS)?);
        let scheduler = scheduler_args(&config(User::SCHEDULER)?);
        let kwok = kwok_args(&config(User::KWOK)?, dir);
        for (name, args) in [("kube-controller-manager", controllers), ("kube-scheduler", scheduler), ("kwok", kwok)] {
            self.clients.push(Daemon::start(name, &self.programs.path(name), &args, dir.path(), dir.log(name))?);
        }
        Ok(())
    }

    async fn wait_ready(&mut self, client: &Client) -> Result<(), LabError> {
        let start = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new());
            let response = match request {
                Ok(request) => client.request_text(request).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let Err(mut detail) = response else { return Ok(()) };
            let ended = self.api_server.ended();
            if let Some(status) = ended {
                detail = format!("exited with {status}");
            }
            if ended.is_some() || start.elapsed() > START_DEADLINE {
                let log = self.api_server.log_tail();
                return Err(LabError::NotReady { program: "kube-apiserver", after: start.elapsed(), detail, log });
            }
            // Poll interval; the deadline is checked above.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// kwok's Stages, without the Pods that the pod runner handles.
fn stages(real_istiod: bool) -> String {
    if real_istiod { STAGES.to_owned() } else { STAGES.replace("[pilot, meshwright]", "[meshwright]") }
}

fn start_api_server(
    programs: &Programs,
    certificates: &Certificates,
    dir: &WorkDir,
    node_port_range: &str,
    audited: bool,
) -> Result<Daemon, LabError> {
    let args = api_server_args(certificates, dir, node_port_range, audited);
    let name = "kube-apiserver";
    Daemon::start(name, &programs.path(name), &args, dir.path(), dir.log(name))
}

fn etcd_args(dir: &WorkDir) -> Vec<String> {
    let client = "http://127.0.0.1:2379";
    let peer = "http://127.0.0.1:2380";
    vec![
        format!("--data-dir={}", dir.path().join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        // The lab's data needs no durability.
        "--unsafe-no-fsync".to_owned(),
        "--quota-backend-bytes=4294967296".to_owned(),
    ]
}

fn api_server_args(certificates: &Certificates, dir: &WorkDir, range: &str, audited: bool) -> Vec<String> {
    let file = |name: &str| dir.path().join(name).display().to_string();
    let mut args = vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--tls-cert-file={}", certificates.server.display()),
        format!("--tls-private-key-file={}", certificates.server_key.display()),
        "--bind-address=0.0.0.0".to_owned(),
        format!("--secure-port={PORT}"),
        format!("--advertise-address={}", net::SERVER),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        format!("--service-node-port-range={range}"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", certificates.service_account_public.display()),
        format!("--service-account-signing-key-file={}", certificates.service_account_key.display()),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        // Sends webhook calls to endpoint addresses: the lab has no kube-proxy for cluster IPs.
        "--enable-aggregator-routing=true".to_owned(),
        // Queueing would delay test requests when many clients are busy.
        "--enable-priority-and-fairness=false".to_owned(),
    ];
    if audited {
        args.push(format!("--audit-policy-file={}", file("audit-policy.yaml")));
        args.push(format!("--audit-log-path={}", file("audit.log")));
        args.push("--audit-log-maxsize=100000".to_owned());
    }
    args
}

fn controller_args(certificates: &Certificates, kubeconfig: &std::path::Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--service-account-private-key-file={}", certificates.service_account_key.display()),
        format!("--root-ca-file={}", certificates.authority.display()),
        "--use-service-account-credentials=true".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ]
}

fn scheduler_args(kubeconfig: &std::path::Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ]
}

fn kwok_args(kubeconfig: &std::path::Path, dir: &WorkDir) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--config={}", dir.path().join("kwok.yaml").display()),
        "--manage-all-nodes=true".to_owned(),
        format!("--node-ip={}", net::node_address(0)),
        "--cidr=10.97.0.0/16".to_owned(),
        // Without renewed Leases the node lifecycle controller marks the Nodes as unreachable.
        "--node-lease-duration-seconds=40".to_owned(),
    ]
}
