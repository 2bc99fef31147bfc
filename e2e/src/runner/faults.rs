//! How istiod fails on a test's request, by the tag of its image: so that it is one release that doesn't work.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

/// A way in which the istiod of a release fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its image can't be pulled: the Pod stays Pending, its container waits with `ImagePullBackOff`.
    NeverStarts,
    /// It is killed that long after it became ready, each time anew: `CrashLoopBackOff`.
    CrashesAfter(Duration),
    /// It runs, and its readiness probe fails.
    NeverReady,
}

/// The faults that are asked for now, by image tag. Whoever holds a clone sees them change.
#[derive(Debug, Clone)]
pub(super) struct Faults(watch::Sender<BTreeMap<String, Fault>>);

impl Default for Faults {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Faults {
    /// From now on; `None`: from now on no more.
    pub(super) fn set(&self, tag: &str, fault: Option<Fault>) {
        self.0.send_modify(|faults| {
            match fault {
                Some(fault) => faults.insert(tag.to_owned(), fault),
                None => faults.remove(tag),
            };
        });
    }

    /// The faults of one tag, as they come and go.
    pub(super) fn of(&self, tag: Option<&str>) -> Watched {
        Watched { tag: tag.map(str::to_owned), faults: self.0.subscribe() }
    }
}

/// What a Pod sees of the faults.
#[derive(Debug)]
pub(super) struct Watched {
    tag: Option<String>,
    faults: watch::Receiver<BTreeMap<String, Fault>>,
}

impl Watched {
    pub(super) fn now(&self) -> Option<Fault> {
        self.faults.borrow().get(self.tag.as_ref()?).copied()
    }

    /// Waits for a change to any fault; for ever when nobody can make one any more.
    pub(super) async fn changed(&mut self) {
        if self.faults.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The tag of an image, without the name of a variant; `None` where there is none, or only a digest.
pub(super) fn tag(image: &str) -> Option<&str> {
    let (_, tag) = image.split('@').next()?.rsplit('/').next()?.split_once(':')?;
    let plain = ["-distroless", "-debug"].iter().find_map(|variant| tag.strip_suffix(variant));
    Some(plain.unwrap_or(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_the_releases_whatever_the_variant_and_registry() {
        for image in ["pilot:1.31.2", "host:5000/istio/pilot:1.31.2-distroless", "a/pilot:1.31.2-debug@sha256:00"] {
            assert_eq!(tag(image), Some("1.31.2"), "{image}");
        }
        assert_eq!(tag("host/pilot:1.32.0-lab.1"), Some("1.32.0-lab.1"));
        for image in ["host:5000/pilot", "pilot@sha256:00", "pilot"] {
            assert_eq!(tag(image), None, "{image}");
        }
    }

    #[test]
    fn a_fault_is_of_one_tag_until_it_is_taken_back() {
        let faults = Faults::default();
        let (new, old) = (faults.of(Some("1.32.0")), faults.of(Some("1.31.0")));
        faults.set("1.32.0", Some(Fault::NeverStarts));
        assert_eq!((new.now(), old.now()), (Some(Fault::NeverStarts), None));
        faults.set("1.32.0", None);
        assert_eq!(new.now(), None);
    }
}
