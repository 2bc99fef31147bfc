//! Two-stage shutdown: the first signal starts a drain, the second terminates the process immediately.

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A termination signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT, sent by Ctrl-C.
    Interrupt,
    /// SIGTERM, sent by the kubelet.
    Terminate,
}

impl StopSignal {
    /// Returns the conventional exit code of a process terminated by the signal: 128 plus the signal number.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Result of [`Signals::guard`].
#[derive(Debug, PartialEq, Eq)]
pub enum GuardOutcome<T> {
    /// The work completed, with or without a drain.
    Finished(T),
    /// A second signal arrived first; the caller exits with [`StopSignal::exit_code`].
    Aborted(StopSignal),
}

/// Installing a signal handler failed.
#[derive(Debug, Error)]
#[error("can't install the signal handler for {name}, which is required for a graceful shutdown")]
pub struct InstallSignalsError {
    name: &'static str,
    #[source]
    source: std::io::Error,
}

/// Handlers for SIGINT and SIGTERM. After [`Signals::install`], these signals don't terminate the process by default.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Installs the handlers. Requires a tokio runtime.
    pub fn install() -> Result<Self, InstallSignalsError> {
        let listen = |kind, name| signal(kind).map_err(|source| InstallSignalsError { name, source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt(), "SIGINT")?,
            terminate: listen(SignalKind::terminate(), "SIGTERM")?,
        })
    }

    /// Runs `work`. The first signal cancels `drain`, after which `work` should finish; the second signal drops `work`.
    pub async fn guard<T>(mut self, drain: CancellationToken, work: impl Future<Output = T>) -> GuardOutcome<T> {
        guard(async || self.next().await, drain, work).await
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
        }
    }
}

async fn guard<T>(
    mut next: impl AsyncFnMut() -> StopSignal,
    drain: CancellationToken,
    work: impl Future<Output = T>,
) -> GuardOutcome<T> {
    let second = async {
        let first = next().await;
        info!(signal = ?first, "shutting down; a second signal terminates the process immediately");
        drain.cancel();
        next().await
    };
    tokio::select! {
        // Completed work takes precedence over a signal that arrives at the same time.
        biased;
        done = work => GuardOutcome::Finished(done),
        signal = second => {
            warn!(?signal, "second signal; terminating without a drain");
            GuardOutcome::Aborted(signal)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn signals() -> (mpsc::UnboundedSender<StopSignal>, impl AsyncFnMut() -> StopSignal) {
        let (send, mut receive) = mpsc::unbounded_channel();
        (send, async move || match receive.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        })
    }

    #[tokio::test]
    async fn first_signal_drains_and_work_finishes() {
        let (send, next) = signals();
        let drain = CancellationToken::new();
        send.send(StopSignal::Terminate).unwrap();
        let work = drain.clone().cancelled_owned();
        assert_eq!(guard(next, drain, work).await, GuardOutcome::Finished(()));
    }

    #[tokio::test]
    async fn second_signal_aborts_work() {
        let (send, next) = signals();
        let drain = CancellationToken::new();
        send.send(StopSignal::Terminate).unwrap();
        send.send(StopSignal::Interrupt).unwrap();
        let outcome = guard(next, drain.clone(), std::future::pending::<()>()).await;
        assert_eq!(outcome, GuardOutcome::Aborted(StopSignal::Interrupt));
        assert!(drain.is_cancelled());
    }

    #[tokio::test]
    async fn work_finishes_without_signal() {
        let (_send, next) = signals();
        let drain = CancellationToken::new();
        assert_eq!(guard(next, drain.clone(), async { 7 }).await, GuardOutcome::Finished(7));
        assert!(!drain.is_cancelled());
    }

    #[test]
    fn exit_codes_follow_shell_convention() {
        assert_eq!(StopSignal::Interrupt.exit_code(), 130);
        assert_eq!(StopSignal::Terminate.exit_code(), 143);
    }
}
