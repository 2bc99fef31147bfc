//! Errors of the lab.

use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

/// Error of a lab operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The programs that the lab runs are missing.
    #[error("the lab's programs are missing: {detail}; build them with: make lab")]
    Programs {
        /// Missing program and the searched path.
        detail: String,
    },
    /// The operator's program or catalog is missing.
    #[error("the lab can't run the operator: {detail}")]
    Operator {
        /// What is missing and how to get it.
        detail: String,
    },
    /// The kernel refused a network namespace.
    #[error(
        "could not create a network namespace ({errno}); as a non-root user, run the command under: unshare --map-root-user"
    )]
    Namespace {
        /// Error code of the system call.
        errno: Errno,
    },
    /// `ip` (of iproute2) failed.
    #[error("ip -batch failed for {batch:?}: {detail}")]
    Address {
        /// Commands passed to `ip -batch`.
        batch: String,
        /// Standard error of `ip`.
        detail: String,
    },
    /// A file or directory of the lab could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Path of the file or directory.
        path: PathBuf,
        /// Underlying I/O error.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("{program} could not be started: {source}")]
    Spawn {
        /// Path or name of the program.
        program: String,
        /// Error of the spawn call.
        #[source]
        source: std::io::Error,
    },
    /// The server's certificates could not be created.
    #[error("could not create the lab's certificates: {source}")]
    Certificates {
        /// Error of the certificate library.
        #[source]
        source: rcgen::Error,
    },
    /// A program exited or didn't become ready before the deadline.
    #[error("{program} was not ready after {} s ({detail}); last log lines:\n{log}", after.as_secs())]
    NotReady {
        /// Name of the program.
        program: &'static str,
        /// Time spent waiting.
        after: Duration,
        /// Last observed state or error.
        detail: String,
        /// Last lines of the program's log.
        log: String,
    },
    /// A client could not be created from a kubeconfig.
    #[error("could not create a client from kubeconfig {path}: {detail}", path = path.display())]
    Kubeconfig {
        /// Path of the kubeconfig.
        path: PathBuf,
        /// Message of the client library.
        detail: String,
    },
    /// A request to the API server failed.
    #[error("{action}: {source}")]
    Api {
        /// Attempted action, for example `create the Node node-1`.
        action: String,
        /// Error of the client.
        #[source]
        source: Box<kube::Error>,
    },
    /// A manifest is invalid.
    #[error("{origin}: {detail}")]
    Manifest {
        /// File name or description of the manifest.
        origin: String,
        /// Parse or validation error.
        detail: String,
    },
    /// The feature isn't available on an external cluster.
    #[error("{feature} is not available on an external cluster; declare the test with LabOptions::needs_own_lab")]
    External {
        /// What the test requested.
        feature: &'static str,
    },
    /// The Pod has no process.
    #[error("Pod {namespace}/{pod} has no process; Pods with a process: {known}")]
    NoProcess {
        /// The Pod's namespace.
        namespace: String,
        /// The Pod's name.
        pod: String,
        /// Pods that have a process.
        known: String,
    },
    /// A signal could not be sent.
    #[error("could not signal process {pid} of Pod {pod}: {errno}")]
    Signal {
        /// Process ID of the program.
        pid: i32,
        /// Pod, as `namespace/name`.
        pod: String,
        /// Error code of the system call.
        errno: Errno,
    },
    /// A Pod's process didn't respond.
    #[error("no response from {address}: {source}")]
    Http {
        /// Address of the request.
        address: String,
        /// Underlying I/O error.
        #[source]
        source: std::io::Error,
    },
    /// An awaited condition didn't occur before the deadline.
    #[error(transparent)]
    Waited(Box<crate::wait::WaitError>),
}

impl LabError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Api { action, source: Box::new(source) }
    }
}
