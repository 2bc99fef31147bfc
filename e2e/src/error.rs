//! What can go wrong while a lab starts or is worked with.

use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

/// Why the lab could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The programs that the lab runs aren't there.
    #[error("the lab's programs are missing: {detail}; build them with: make lab")]
    Programs {
        /// What was looked for, and where.
        detail: String,
    },
    /// The operator can't run.
    #[error("the lab can't run the operator: {detail}")]
    Operator {
        /// What is missing, and how to get it.
        detail: String,
    },
    /// The kernel refused a network namespace.
    #[error("no network namespace ({errno}); as an ordinary user run the command under: unshare --map-root-user")]
    Namespace {
        /// The kernel's answer.
        errno: Errno,
    },
    /// `ip` (of iproute2) failed.
    #[error("ip could not carry out {batch:?}: {detail}")]
    Address {
        /// The commands that it was given.
        batch: String,
        /// What it said.
        detail: String,
    },
    /// A file or directory of the lab could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("{program} could not be started: {source}")]
    Spawn {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server's certificates could not be made.
    #[error("the lab's certificates could not be made: {source}")]
    Certificates {
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A program ended, or never became ready.
    #[error("{program} was not ready after {} s ({detail}); the end of its log:\n{log}", after.as_secs())]
    NotReady {
        /// Which.
        program: &'static str,
        /// How long it was waited for.
        after: Duration,
        /// What was seen last.
        detail: String,
        /// The end of its log.
        log: String,
    },
    /// No client could be made from a kubeconfig.
    #[error("no client from the kubeconfig {path}: {detail}", path = path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The API server refused something that the lab needs.
    #[error("{action}: {source}")]
    Api {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// A manifest is not what the API server could take.
    #[error("{origin}: {detail}")]
    Manifest {
        /// The file, or what the text was called.
        origin: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Asked of a lab on somebody else's cluster, where the lab has no such power.
    #[error(
        "{power} needs a lab of our own; this one is an external cluster (declare it with LabOptions::needs_own_lab)"
    )]
    External {
        /// What was asked for.
        power: &'static str,
    },
    /// No process runs for that Pod.
    #[error("no process runs for the Pod {namespace}/{pod}; there are processes for: {known}")]
    NoProcess {
        /// The Pod's namespace.
        namespace: String,
        /// The Pod's name.
        pod: String,
        /// The Pods that have one.
        known: String,
    },
    /// A signal could not be sent.
    #[error("process {pid} of the Pod {pod}: {errno}")]
    Signal {
        /// The process.
        pid: i32,
        /// `namespace/name`.
        pod: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A Pod's process didn't answer.
    #[error("{address} gave no answer: {source}")]
    Http {
        /// Where it was asked.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Something that was waited for didn't come.
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
