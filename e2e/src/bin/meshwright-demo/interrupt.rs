//! Ctrl-C and termination, from the first moment on.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use meshwright_e2e::TestResult;

/// A token that Ctrl-C or a termination cancels, also while the lab is still starting: it is then taken down in order.
/// A second one ends the process at once, and the kernel ends what it has started.
pub(crate) fn listen() -> TestResult<CancellationToken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let token = CancellationToken::new();
    let told = token.clone();
    let work = move || {
        runtime.block_on(async {
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if told.is_cancelled() {
                    std::process::exit(i32::from(super::INTERRUPTED));
                }
                told.cancel();
            }
        });
    };
    std::thread::Builder::new().name("interrupt".to_owned()).spawn(work)?;
    Ok(token)
}
