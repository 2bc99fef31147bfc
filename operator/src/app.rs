//! Creates the operator's components, runs them as tasks, and ends the process when one of them ends.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::version::Info;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::apply::{
    Applier, Changes, ClusterDetector, GatewayApi, GatewayPods, InjectionChecker, Inventory, Nodes, OwnPermissions,
    PodDiagnostics, Reader, RevisionHistory, ServerVersion, watch_all,
};
use crate::controller::{
    self, Context, EventSink, OperatorOptions, PrepareReleaseStoreError, ReleaseStore, report_oversized,
};
use crate::nodeports::NodePortServer;
use crate::platform::{LoadPlatformError, Platforms};
use crate::proxies::{ProxyWatcher, WorkloadRestarter};
use crate::runtime::admin::{Admin, AdminArgs, AdminError, AdminServer, Heartbeat};
use crate::runtime::client::{Clients, ConnectError};
use crate::runtime::leader::{Leader, LeaderArgs, LeaderConfig, LeaderState, LeaseLostError};
use crate::runtime::metrics::Metrics;
use crate::runtime::progress::ControllerProgress;
use crate::runtime::ready::Readiness;
use crate::runtime::requests::{api_error_message, within_deadline};
use crate::runtime::shutdown::{GuardOutcome, InstallSignalsError, Signals};
use crate::runtime::telemetry::{self, InitLogsError, LogArgs};

/// Interval of the liveness heartbeat; three missed beats fail the liveness probe.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Interval for reading the API server's version, where each attempt already includes retries.
const VERSION_RETRY: Duration = Duration::from_secs(2);
/// Worker threads for watches and requests; rendering uses the blocking pool.
const WORKER_THREADS: usize = 2;

/// The operator could not start, or ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Logging could not be set up.
    #[error("setting up logging failed")]
    Logs(#[source] InitLogsError),
    /// The async runtime could not be created.
    #[error("starting the async runtime failed")]
    Runtime(#[source] std::io::Error),
    /// Signal handlers could not be installed.
    #[error("installing signal handlers failed")]
    Signals(#[source] InstallSignalsError),
    /// The kubeconfig or the in-cluster configuration is unusable.
    #[error("connecting to the cluster failed")]
    Connect(#[source] ConnectError),
    /// A bundled platform file is invalid.
    #[error("reading the bundled platforms failed")]
    Platforms(#[source] LoadPlatformError),
    /// The server for probes and metrics failed.
    #[error("the admin server failed")]
    Admin(#[source] AdminError),
    /// Another replica holds the Lease.
    #[error("leadership was lost")]
    Lease(#[source] LeaseLostError),
    /// A catalog is unusable.
    #[error("preparing the catalogs failed")]
    Catalogs(#[source] PrepareReleaseStoreError),
    /// A task ended that must run as long as the process.
    #[error("a task ended unexpectedly: {0}")]
    TaskEnded(&'static str),
}

/// Runs the operator until a signal, a lost Lease or the end of one of its tasks.
pub fn run(
    options: OperatorOptions,
    admin: &AdminArgs,
    leader: &LeaderArgs,
    log: &LogArgs,
) -> Result<ExitCode, RunError> {
    telemetry::init(log).map_err(RunError::Logs)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(async {
        let signals = Signals::install().map_err(RunError::Signals)?;
        let drain = CancellationToken::new();
        Ok(signals.guard(drain.clone(), Box::pin(operate(options, admin, leader, drain))).await)
    })?;
    // Tasks blocked in a request must not delay the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        GuardOutcome::Finished(result) => result.map(|()| ExitCode::SUCCESS),
        GuardOutcome::Aborted(signal) => Ok(ExitCode::from(signal.exit_code())),
    }
}

/// Connects to the cluster, waits for leadership and runs the controller.
async fn operate(
    options: OperatorOptions,
    admin: &AdminArgs,
    leader: &LeaderArgs,
    drain: CancellationToken,
) -> Result<(), RunError> {
    let changed = Changes::default();
    let releases = ReleaseStore::prepare(&options, changed.clone()).map_err(RunError::Catalogs)?;
    let clients = Clients::infer().await.map_err(RunError::Connect)?;
    let readiness = Readiness::new(drain.clone());
    let metrics = Metrics::new();
    let state = Admin::new(readiness.clone(), metrics.clone());
    let server = AdminServer::bind(admin.socket(), state.clone()).await.map_err(RunError::Admin)?;
    let finished = CancellationToken::new();
    let admin_task = tokio::spawn(server.serve(finished.clone()));

    let inventory = Inventory::default();
    let mut watches = JoinSet::new();
    watch_all(&mut watches, &clients, &inventory, &readiness, &changed);
    let gateway_api = GatewayApi::default();
    watches.spawn(gateway_api.clone().watch(clients.watches.clone(), inventory.clone(), changed.clone()));

    let config = LeaderConfig::new(leader, &clients.namespace);
    let (identity, namespace) = (config.identity.clone(), config.namespace.clone());
    let (election, leadership) = Leader::new(&clients, config);
    let fence = election.fence();
    let election_over = CancellationToken::new();
    let mut election = tokio::spawn(election.run(election_over.clone()));
    let progress = changed.progress().clone();
    state.set_heartbeat(start_heartbeat(inventory.clone(), clients.clone(), metrics.clone(), progress, drain.clone()));

    let lead = async {
        if !wait_for_leadership(leadership, &metrics, &drain).await {
            return Ok(());
        }
        info!(identity, "leading");
        let clients = clients.for_reconciles(fence);
        let (events, write_events) = EventSink::new(clients.requests.clone(), Some(identity.clone()));
        let events_task = tokio::spawn(write_events);
        let proxies = ProxyWatcher::default();
        // Only the leader reports proxies. Listing pods takes long, so reconciles do not wait for it.
        let mut background = JoinSet::new();
        background.spawn(proxies.clone().watch(clients.clone(), inventory.clone(), changed.clone(), metrics.clone()));
        let components = Components { inventory, gateway_api, proxies, releases, changed: changed.clone() };
        let reported = events.clone();
        let context = context(options, &clients, &namespace, components, &metrics, events);
        let Some(context) = Box::pin(drain.run_until_cancelled(context)).await else { return Ok(()) };
        let context = context?;
        background.spawn(context.server_version.clone().refresh());
        tokio::select! {
            () = controller::run(context, changed, drain.clone()) => {}
            () = report_oversized(&clients.replaced, &reported) => {}
            _ = background.join_next() => return Err(RunError::TaskEnded("a background task")),
        }
        drop(reported);
        // The controller has ended: publish the queued Events, within a limit.
        let _ = tokio::time::timeout(Duration::from_secs(2), events_task).await;
        if drain.is_cancelled() { Ok(()) } else { Err(RunError::TaskEnded("the controller")) }
    };
    let mut has_election_ended = false;
    let result = tokio::select! {
        result = lead => result,
        lost = &mut election => {
            has_election_ended = true;
            Err(match lost {
                Ok(Err(lost)) => RunError::Lease(lost),
                _ => RunError::TaskEnded("the leader election"),
            })
        }
        _ = watches.join_next() => Err(RunError::TaskEnded("a watch")),
    };
    if let Err(failure) = &result {
        error!(error = %failure, "shutting down");
    }
    // Release the Lease last, when nothing writes any more.
    election_over.cancel();
    if !has_election_ended {
        let _ = tokio::time::timeout(Duration::from_secs(5), election).await;
    }
    finished.cancel();
    let _ = admin_task.await;
    result
}

/// Waits for leadership; false if the process receives a stop signal first.
async fn wait_for_leadership(
    mut leadership: watch::Receiver<LeaderState>,
    metrics: &Metrics,
    drain: &CancellationToken,
) -> bool {
    loop {
        let state = leadership.borrow_and_update().clone();
        metrics.set_leader(&state);
        if state == LeaderState::Leading {
            return true;
        }
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return false },
            () = drain.cancelled() => return false,
        }
    }
}

/// A heartbeat that stops when the runtime or the inventory deadlocks, or the controller is stuck. Each beat updates the
/// metrics of watches.
fn start_heartbeat(
    inventory: Inventory,
    clients: Clients,
    metrics: Metrics,
    progress: ControllerProgress,
    drain: CancellationToken,
) -> Heartbeat {
    let heartbeat = Heartbeat::new(HEARTBEAT_INTERVAL * 3);
    let handle = heartbeat.clone();
    tokio::spawn(async move {
        while drain.run_until_cancelled(tokio::time::sleep(HEARTBEAT_INTERVAL)).await.is_some() {
            for (kind, objects) in inventory.counts() {
                metrics.set_watched(kind.name(), objects);
            }
            metrics.set_watch_ages(&clients.watch_activity.ages());
            for (resource, objects) in clients.replaced.counts() {
                metrics.set_oversized(&resource, objects);
            }
            if progress.is_stuck(Instant::now()) {
                error!("the controller is stuck; the liveness probe fails");
            } else {
                handle.beat();
            }
        }
    });
    heartbeat
}

/// Reads the API server's version, for as long as it takes: another replica would have no other API server.
async fn server_version(client: &Client) -> Info {
    loop {
        match within_deadline(client.apiserver_version()).await {
            Ok(version) => return version,
            Err(error) => {
                let error = api_error_message(&error);
                warn!(error, "reading the API server's version failed; nothing is reconciled until it succeeds");
            }
        }
        tokio::time::sleep(VERSION_RETRY).await;
    }
}

/// The components that exist before leadership.
struct Components {
    inventory: Inventory,
    gateway_api: GatewayApi,
    proxies: ProxyWatcher,
    releases: ReleaseStore,
    changed: Changes,
}

async fn context(
    options: OperatorOptions,
    clients: &Clients,
    namespace: &str,
    components: Components,
    metrics: &Metrics,
    events: EventSink,
) -> Result<Context, RunError> {
    let Components { inventory, gateway_api, proxies, releases, changed } = components;
    let requests = clients.requests.clone();
    let node_ports = NodePortServer::new(requests.clone(), namespace);
    // Concurrently, since the first reconcile waits for both.
    let (version, _) = tokio::join!(server_version(&requests), node_ports.range());
    info!(kubernetes = version.git_version, "connected");
    let nodes = Nodes::new(requests.clone());
    let injection_checker =
        InjectionChecker::new(requests.clone(), options.injection_check_interval, changed.clone(), metrics.clone());
    let platforms = Arc::new(Platforms::bundled().map_err(RunError::Platforms)?);
    let detector = ClusterDetector::new(requests.clone(), platforms, version.git_version.clone());
    Ok(Context {
        server_version: ServerVersion::new(requests.clone(), version.git_version),
        reader: Reader::new(requests.clone(), inventory.clone()),
        applier: Applier::new(requests.clone(), inventory.clone(), metrics.clone()),
        permissions: OwnPermissions::new(requests.clone(), namespace),
        gateway_api,
        gateway_pods: GatewayPods::new(requests.clone(), metrics.clone()),
        pod_diagnostics: PodDiagnostics::new(requests.clone()),
        restarts: WorkloadRestarter::new(requests.clone(), metrics.clone()),
        proxies,
        revision_history: RevisionHistory::new(requests, namespace),
        node_ports,
        nodes,
        clients: clients.clone(),
        metrics: metrics.clone(),
        changes: changed,
        releases,
        cache: controller::ReconcileCache::default(),
        store: None,
        options,
        inventory,
        injection_checker,
        detector,
        events,
    })
}
