//! The composition root: makes the parts, runs them as one set of tasks, and ends the process when one of them ends.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use meshwright_chart::Capabilities;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::apply::{
    Applier, Changes, GatewayApi, GatewayPods, Inventory, Nodes, OwnRights, Prober, Reader, Revisions, Surveyor,
    Symptoms, watch_all,
};
use crate::controller::{self, Context, EventSink, Options, PrepareReleasesError, Releases};
use crate::nodeports::NodePortServer;
use crate::platform::{LoadPlatformError, Platforms};
use crate::proxies::{Proxies, Restarts};
use crate::runtime::admin::{Admin, AdminArgs, AdminError, AdminServer, Heartbeat};
use crate::runtime::client::{Clients, ConnectError};
use crate::runtime::leader::{Leader, LeaderArgs, LeaderConfig, LeaderState, LeaseLostError};
use crate::runtime::metrics::Metrics;
use crate::runtime::ready::Readiness;
use crate::runtime::shutdown::{InstallSignalsError, Outcome, Signals};
use crate::runtime::telemetry::{self, InitLogsError, LogArgs};

/// The loop that proves the process alive goes round this often; three rounds missed are a failure.
const BEAT: Duration = Duration::from_secs(10);
/// Threads: two serve the watches and the API; rendering has its own.
const THREADS: usize = 2;

/// The operator could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Logging could not be set up.
    #[error("setting up logs failed")]
    Logs(#[source] InitLogsError),
    /// The async runtime could not be made.
    #[error("starting the async runtime failed")]
    Runtime(#[source] std::io::Error),
    /// Signals could not be taken over.
    #[error("taking over signals failed")]
    Signals(#[source] InstallSignalsError),
    /// No cluster.
    #[error("connecting to the cluster failed")]
    Connect(#[source] ConnectError),
    /// The API server didn't tell its version.
    #[error("asking the API server for its version failed")]
    ServerVersion(#[source] Box<kube::Error>),
    /// The platforms that come with the program can't be read.
    #[error("reading the platforms failed")]
    Platforms(#[source] LoadPlatformError),
    /// The admin server failed.
    #[error("the admin server failed")]
    Admin(#[source] AdminError),
    /// Leadership was lost.
    #[error("leadership was lost")]
    Lease(#[source] LeaseLostError),
    /// The catalogs can't be used.
    #[error("preparing the catalogs failed")]
    Releases(#[source] PrepareReleasesError),
    /// A task ended that should have gone on.
    #[error("a part of the operator ended unexpectedly: {0}")]
    TaskEnded(&'static str),
}

/// Runs the operator until a signal, a lost lease or the end of one of its parts.
pub fn run(options: Options, admin: &AdminArgs, leader: &LeaderArgs, log: &LogArgs) -> Result<ExitCode, RunError> {
    telemetry::init(log).map_err(RunError::Logs)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(async {
        let signals = Signals::install().map_err(RunError::Signals)?;
        let drain = CancellationToken::new();
        Ok(signals.guard(drain.clone(), Box::pin(operate(options, admin, leader, drain))).await)
    })?;
    // Tasks that hang in a request must not hold the process up.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Outcome::Finished(result) => result.map(|()| ExitCode::SUCCESS),
        Outcome::Aborted(signal) => Ok(ExitCode::from(signal.exit_code())),
    }
}

/// Everything between the first and the last request.
async fn operate(
    options: Options,
    admin: &AdminArgs,
    leader: &LeaderArgs,
    drain: CancellationToken,
) -> Result<(), RunError> {
    let changed = Changes::default();
    let releases = Releases::prepare(&options, changed.clone()).map_err(RunError::Releases)?;
    let clients = Clients::infer().await.map_err(RunError::Connect)?;
    let readiness = Readiness::new(drain.clone());
    let metrics = Metrics::new();
    let state = Admin::new(readiness.clone(), metrics.clone());
    let server = AdminServer::bind(admin.socket(), state.clone()).await.map_err(RunError::Admin)?;
    let finished = CancellationToken::new();
    let admin_task = tokio::spawn(server.serve(finished.clone()));

    let inventory = Inventory::default();
    let mut watches = JoinSet::new();
    watch_all(&mut watches, &clients.watches, &inventory, &readiness, &changed);
    let gateway_api = GatewayApi::default();
    watches.spawn(gateway_api.clone().watch(clients.watches.clone(), inventory.clone(), changed.clone()));

    let config = LeaderConfig::new(leader, &clients.namespace);
    let (identity, namespace) = (config.identity.clone(), config.namespace.clone());
    let (election, leadership) = Leader::new(&clients, config);
    let election_over = CancellationToken::new();
    let mut election = tokio::spawn(election.run(election_over.clone()));
    state.watch(beat(inventory.clone(), metrics.clone(), drain.clone()));

    let lead = async {
        if !leads(leadership, &metrics, &drain).await {
            return Ok(());
        }
        info!(identity, "leading");
        let (events, write_events) = EventSink::new(clients.requests.clone(), Some(identity.clone()));
        let events_task = tokio::spawn(write_events);
        let proxies = Proxies::default();
        // Only who leads tells of proxies; pods are many, and their lists are not waited for.
        let mut background = JoinSet::new();
        background.spawn(proxies.clone().watch(
            clients.watches.clone(),
            inventory.clone(),
            changed.clone(),
            metrics.clone(),
        ));
        let live = Live { inventory, gateway_api, proxies, releases, changed: changed.clone() };
        let context = context(options, &clients, &namespace, live, &metrics, events).await?;
        tokio::select! {
            () = controller::run(context, changed, drain.clone()) => {}
            _ = background.join_next() => return Err(RunError::TaskEnded("the watch of proxies")),
        }
        // The controller and its sink are gone: what was noted is written, if that doesn't take too long.
        let _ = tokio::time::timeout(Duration::from_secs(2), events_task).await;
        if drain.is_cancelled() { Ok(()) } else { Err(RunError::TaskEnded("the controller")) }
    };
    let result = tokio::select! {
        result = lead => result,
        lost = &mut election => Err(match lost {
            Ok(Err(lost)) => RunError::Lease(lost),
            _ => RunError::TaskEnded("the leader election"),
        }),
        _ = watches.join_next() => Err(RunError::TaskEnded("a watch")),
    };
    if let Err(failure) = &result {
        error!(error = %failure, "ending");
    }
    // The lease is given back last, when nothing writes any more.
    election_over.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(5), election).await;
    finished.cancel();
    let _ = admin_task.await;
    result
}

/// Waits for leadership; false when the process is told to stop first.
async fn leads(mut leadership: watch::Receiver<LeaderState>, metrics: &Metrics, drain: &CancellationToken) -> bool {
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

/// A heartbeat that stops when the runtime or the inventory hangs. With each beat it is told how much the inventory holds.
fn beat(inventory: Inventory, metrics: Metrics, drain: CancellationToken) -> Heartbeat {
    let heartbeat = Heartbeat::new(BEAT * 3);
    let beating = heartbeat.clone();
    tokio::spawn(async move {
        while drain.run_until_cancelled(tokio::time::sleep(BEAT)).await.is_some() {
            for (kind, objects) in inventory.counts() {
                metrics.set_watched(kind.name(), objects);
            }
            beating.beat();
        }
    });
    heartbeat
}

/// What the watches keep, the releases, and by which both call for a reconcile.
struct Live {
    inventory: Inventory,
    gateway_api: GatewayApi,
    proxies: Proxies,
    releases: Releases,
    changed: Changes,
}

async fn context(
    options: Options,
    clients: &Clients,
    namespace: &str,
    live: Live,
    metrics: &Metrics,
    events: EventSink,
) -> Result<Context, RunError> {
    let Live { inventory, gateway_api, proxies, releases, changed } = live;
    let requests = clients.requests.clone();
    let node_ports = NodePortServer::new(requests.clone(), namespace);
    // Both at a time: the first reconcile waits for them.
    let (version, _) = tokio::join!(requests.apiserver_version(), node_ports.range());
    let version = version.map_err(|e| RunError::ServerVersion(Box::new(e)))?;
    info!(kubernetes = version.git_version, "connected");
    let nodes = Nodes::new(requests.clone());
    let prober = Prober::new(requests.clone(), options.probe_interval, changed.clone(), metrics.clone());
    let platforms = Arc::new(Platforms::bundled().map_err(RunError::Platforms)?);
    let surveyor = Surveyor::new(requests.clone(), platforms, version.git_version.clone());
    Ok(Context {
        capabilities: Capabilities::of_version(version.git_version),
        reader: Reader::new(requests.clone(), inventory.clone()),
        applier: Applier::new(requests.clone(), inventory.clone(), metrics.clone()),
        rights: OwnRights::new(requests.clone(), namespace),
        gateway_api,
        gateway_pods: GatewayPods::new(requests.clone(), metrics.clone()),
        symptoms: Symptoms::new(requests.clone()),
        restarts: Restarts::new(requests.clone(), metrics.clone()),
        proxies,
        revisions: Revisions::new(requests, namespace),
        node_ports,
        nodes,
        clients: clients.clone(),
        metrics: metrics.clone(),
        changes: changed,
        releases,
        memory: controller::Memory::default(),
        store: None,
        options,
        inventory,
        prober,
        surveyor,
        events,
    })
}
