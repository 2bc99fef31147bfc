//! Which installations to look at: named by the watches and the prober, taken by the controller. A name that waits
//! already is not noted again, so that a replica that never leads keeps no backlog.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use futures::stream::unfold;
use tokio::sync::Notify;

/// Names of installations that wait to be looked at. Cloning shares.
#[derive(Clone, Default)]
pub struct Changes {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    names: Mutex<BTreeSet<String>>,
    wake: Notify,
}

impl Changes {
    /// Asks for an installation to be looked at.
    pub fn note(&self, installation: String) {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner).insert(installation);
        self.shared.wake.notify_one();
    }

    fn take(&self) -> Option<String> {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    /// The names as they come, without end. For one reader.
    pub fn stream(self) -> impl Stream<Item = String> {
        unfold(self, |changes| async {
            loop {
                if let Some(name) = changes.take() {
                    return Some((name, changes));
                }
                changes.shared.wake.notified().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[test]
    fn what_is_noted_twice_is_told_once_and_nothing_noted_later_is_lost() {
        let changes = Changes::default();
        for name in ["b", "a", "b"] {
            changes.note(name.to_owned());
        }
        let mut told = Box::pin(changes.clone().stream());
        assert_eq!(told.next().now_or_never().flatten().as_deref(), Some("a"));
        assert_eq!(told.next().now_or_never().flatten().as_deref(), Some("b"));
        assert_eq!(told.next().now_or_never(), None);
        changes.note("b".to_owned());
        assert_eq!(told.next().now_or_never().flatten().as_deref(), Some("b"));
    }
}
