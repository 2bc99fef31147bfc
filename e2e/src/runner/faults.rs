//! Injected faults of istiod, by image tag, so that a single release fails.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

/// A fault of a release's istiod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The image can't be pulled: the Pod stays Pending, its container waits with `ImagePullBackOff`.
    NeverStarts,
    /// The process is killed this long after each time it became ready: `CrashLoopBackOff`.
    CrashesAfter(Duration),
    /// The process runs, but its readiness probe fails.
    NeverReady,
}

/// Current faults by image tag. Clones share the state.
#[derive(Debug, Clone)]
pub(super) struct Faults(watch::Sender<BTreeMap<String, Fault>>);

impl Default for Faults {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Faults {
    /// Sets the fault of a tag; `None` clears it.
    pub(super) fn set(&self, tag: &str, fault: Option<Fault>) {
        self.0.send_modify(|faults| {
            match fault {
                Some(fault) => faults.insert(tag.to_owned(), fault),
                None => faults.remove(tag),
            };
        });
    }

    /// Subscribes to the faults of one tag.
    pub(super) fn of(&self, tag: Option<&str>) -> FaultWatch {
        FaultWatch { tag: tag.map(str::to_owned), faults: self.0.subscribe() }
    }
}

/// A Pod's subscription to the faults of its image tag.
#[derive(Debug)]
pub(super) struct FaultWatch {
    tag: Option<String>,
    faults: watch::Receiver<BTreeMap<String, Fault>>,
}

impl FaultWatch {
    pub(super) fn now(&self) -> Option<Fault> {
        self.faults.borrow().get(self.tag.as_ref()?).copied()
    }

    /// Waits until any fault changes; forever once the sender is dropped.
    pub(super) async fn changed(&mut self) {
        if self.faults.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The tag of an image without its variant suffix; `None` without a tag.
pub(super) fn tag(image: &str) -> Option<&str> {
    let (_, tag) = image.split('@').next()?.rsplit('/').next()?.split_once(':')?;
    let plain = ["-distroless", "-debug"].iter().find_map(|variant| tag.strip_suffix(variant));
    Some(plain.unwrap_or(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_ignores_registry_variant_and_digest() {
        for image in ["pilot:1.31.2", "host:5000/istio/pilot:1.31.2-distroless", "a/pilot:1.31.2-debug@sha256:00"] {
            assert_eq!(tag(image), Some("1.31.2"), "{image}");
        }
        assert_eq!(tag("host/pilot:1.32.0-lab.1"), Some("1.32.0-lab.1"));
        for image in ["host:5000/pilot", "pilot@sha256:00", "pilot"] {
            assert_eq!(tag(image), None, "{image}");
        }
    }

    #[test]
    fn fault_applies_to_one_tag_until_cleared() {
        let faults = Faults::default();
        let (new, old) = (faults.of(Some("1.32.0")), faults.of(Some("1.31.0")));
        faults.set("1.32.0", Some(Fault::NeverStarts));
        assert_eq!((new.now(), old.now()), (Some(Fault::NeverStarts), None));
        faults.set("1.32.0", None);
        assert_eq!(new.now(), None);
    }
}
