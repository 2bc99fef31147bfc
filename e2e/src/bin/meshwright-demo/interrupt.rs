//! Handling of Ctrl-C and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use meshwright_e2e::TestResult;

/// Returns a token that the first SIGINT or SIGTERM cancels, so that the lab stops in order even during its start. The
/// second signal exits immediately; the kernel then kills the lab's processes.
pub(crate) fn listen() -> TestResult<CancellationToken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let token = CancellationToken::new();
    let shared = token.clone();
    let work = move || {
        runtime.block_on(async {
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if shared.is_cancelled() {
                    std::process::exit(i32::from(super::INTERRUPTED));
                }
                shared.cancel();
            }
        });
    };
    std::thread::Builder::new().name("interrupt".to_owned()).spawn(work)?;
    Ok(token)
}
