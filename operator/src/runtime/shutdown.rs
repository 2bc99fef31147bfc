//! Two-stage shutdown: the first signal asks for a drain, the second ends the process at once.

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT, which Ctrl-C sends.
    Interrupt,
    /// SIGTERM, which the kubelet sends.
    Terminate,
}

impl StopSignal {
    /// The exit code by which shells know a process that this signal ended: 128 plus its number.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// How [`Signals::guard`] ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The work came to its own end, drained or not.
    Finished(T),
    /// A second signal came first; the caller exits with [`StopSignal::exit_code`].
    Aborted(StopSignal),
}

/// The process could not listen for signals.
#[derive(Debug, Error)]
#[error("can't install the handler for {name}; a stop could not be graceful")]
pub struct InstallSignalsError {
    name: &'static str,
    #[source]
    source: std::io::Error,
}

/// Handlers for SIGINT and SIGTERM. From [`Signals::install`] on, neither ends the process by itself.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes over both signals; needs a tokio runtime.
    pub fn install() -> Result<Self, InstallSignalsError> {
        let listen = |kind, name| signal(kind).map_err(|source| InstallSignalsError { name, source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt(), "SIGINT")?,
            terminate: listen(SignalKind::terminate(), "SIGTERM")?,
        })
    }

    /// Runs `work` to its end. The first signal cancels `drain`, on which `work` should finish; the second drops it.
    pub async fn guard<T>(mut self, drain: CancellationToken, work: impl Future<Output = T>) -> Outcome<T> {
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
) -> Outcome<T> {
    let second = async {
        let first = next().await;
        info!(signal = ?first, "stopping; a second signal ends the process at once");
        drain.cancel();
        next().await
    };
    tokio::select! {
        // Work that is already done wins over a signal that arrives in the same moment.
        biased;
        done = work => Outcome::Finished(done),
        signal = second => {
            warn!(?signal, "second signal; ending without a drain");
            Outcome::Aborted(signal)
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
    async fn the_first_signal_asks_for_a_drain_and_the_work_still_finishes() {
        let (send, next) = signals();
        let drain = CancellationToken::new();
        send.send(StopSignal::Terminate).unwrap();
        let work = drain.clone().cancelled_owned();
        assert_eq!(guard(next, drain, work).await, Outcome::Finished(()));
    }

    #[tokio::test]
    async fn the_second_signal_ends_work_that_does_not_drain() {
        let (send, next) = signals();
        let drain = CancellationToken::new();
        send.send(StopSignal::Terminate).unwrap();
        send.send(StopSignal::Interrupt).unwrap();
        let outcome = guard(next, drain.clone(), std::future::pending::<()>()).await;
        assert_eq!(outcome, Outcome::Aborted(StopSignal::Interrupt));
        assert!(drain.is_cancelled());
    }

    #[tokio::test]
    async fn work_that_ends_by_itself_needs_no_signal() {
        let (_send, next) = signals();
        let drain = CancellationToken::new();
        assert_eq!(guard(next, drain.clone(), async { 7 }).await, Outcome::Finished(7));
        assert!(!drain.is_cancelled());
    }

    #[test]
    fn exit_codes_are_those_that_shells_use() {
        assert_eq!(StopSignal::Interrupt.exit_code(), 130);
        assert_eq!(StopSignal::Terminate.exit_code(), 143);
    }
}
