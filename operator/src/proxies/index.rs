//! Index of the proxies of all pods. It uses little memory, because a cluster has many pods: two words per pod, and
//! shared data of pods with the same workload and version.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use semver::Version;

use super::proxy_pod::{DetectedProxy, PodOwner, PodOwnerKind};
use super::version::UNKNOWN;

/// Proxies of all known pods.
#[derive(Debug, Default)]
pub struct ProxyIndex {
    /// Keyed by the pod's UID.
    pods: HashMap<u128, Arc<ProxyGroup>>,
    groups: HashMap<Arc<ProxyGroup>, usize>,
    strings: HashSet<Arc<str>>,
    hasher: RandomState,
}

/// Proxies of a workload with the same version and revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyGroup {
    /// Namespace of the pods.
    pub namespace: Arc<str>,
    /// Workload that the pods belong to.
    pub owner: PodOwner,
    /// Version of the proxies, or [`UNKNOWN`].
    pub version: Arc<str>,
    /// Revision of the control plane that injected them.
    pub revision: Arc<str>,
}

impl ProxyGroup {
    /// Returns whether the version of the proxies is known and differs from `version`.
    #[must_use]
    pub fn is_outdated(&self, version: &str) -> bool {
        is_outdated(&self.version, version)
    }
}

/// Returns whether the proxies have one of the revisions.
#[must_use]
pub fn has_revision(group: &ProxyGroup, revisions: &[String]) -> bool {
    revisions.iter().any(|revision| **revision == *group.revision)
}

/// Returns whether a proxy's version is known and differs from the mesh's.
#[must_use]
pub fn is_outdated(proxy: &str, mesh: &str) -> bool {
    proxy != UNKNOWN && proxy != mesh
}

/// Versions and number of the proxies of a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySummary {
    /// Versions, oldest first and unknown last.
    pub versions: Vec<String>,
    /// Number of proxies.
    pub count: usize,
    /// Number of proxies whose version differs from the mesh's.
    pub outdated: usize,
}

impl ProxyIndex {
    /// Updates a pod; `None` if it has no proxy.
    pub(super) fn update(&mut self, uid: &str, proxy: Option<DetectedProxy>) {
        let Some(proxy) = proxy else { return self.remove(uid) };
        let group = ProxyGroup {
            namespace: self.intern(&proxy.namespace),
            version: self.intern(proxy.version.as_deref().unwrap_or(UNKNOWN)),
            revision: self.intern(&proxy.revision),
            owner: proxy.owner,
        };
        let key = self.key(uid);
        if self.pods.get(&key).is_some_and(|known| **known == group) {
            return;
        }
        let group = self.groups.get_key_value(&group).map_or_else(|| Arc::new(group), |(known, _)| Arc::clone(known));
        *self.groups.entry(Arc::clone(&group)).or_default() += 1;
        if let Some(old) = self.pods.insert(key, group) {
            self.release(&old);
        }
    }

    /// Removes a deleted pod.
    pub(super) fn remove(&mut self, uid: &str) {
        if let Some(group) = self.pods.remove(&self.key(uid)) {
            self.release(&group);
        }
    }

    fn release(&mut self, group: &Arc<ProxyGroup>) {
        if let Some(pods) = self.groups.get_mut(group) {
            *pods -= 1;
            if *pods == 0 {
                self.groups.remove(group);
                // Remove unused strings, such as deleted namespaces. Only the set and this group reference those.
                for string in [&group.namespace, &group.version, &group.revision] {
                    if Arc::strong_count(string) <= 2 {
                        self.strings.remove(string);
                    }
                }
            }
        }
    }

    /// Parses the UID as UUID. Other UIDs, which Kubernetes does not generate, are hashed.
    fn key(&self, uid: &str) -> u128 {
        let digits: String = uid.chars().filter(|c| *c != '-').collect();
        u128::from_str_radix(&digits, 16).unwrap_or_else(|_| u128::from(self.hasher.hash_one(uid)))
    }

    fn intern(&mut self, string: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(string) {
            return Arc::clone(known);
        }
        let string: Arc<str> = string.into();
        self.strings.insert(Arc::clone(&string));
        string
    }

    /// Returns the number of proxies.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Returns whether there are no proxies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Returns all groups with their number of pods.
    pub fn groups(&self) -> impl Iterator<Item = (&ProxyGroup, usize)> {
        self.groups.iter().map(|(group, pods)| (group.as_ref(), *pods))
    }

    /// Returns the number of proxies by version.
    #[must_use]
    pub fn by_version(&self) -> BTreeMap<String, usize> {
        let mut versions = BTreeMap::new();
        for (group, pods) in self.groups() {
            *versions.entry(group.version.to_string()).or_default() += pods;
        }
        versions
    }

    /// Returns the versions of proxies by revision.
    #[must_use]
    pub fn by_revision(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut revisions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (group, _) in self.groups() {
            revisions.entry(group.revision.to_string()).or_default().insert(group.version.to_string());
        }
        revisions
    }

    /// Counts the proxies of the revisions, without those of the mesh's `own` Deployments (namespace and name).
    #[must_use]
    pub fn count_users(&self, revisions: &[String], own: &[(String, String)]) -> usize {
        let is_own = |group: &ProxyGroup| {
            group.owner.kind == PodOwnerKind::Deployment
                && own.iter().any(|(namespace, name)| **namespace == *group.namespace && **name == *group.owner.name)
        };
        self.groups().filter(|(group, _)| has_revision(group, revisions) && !is_own(group)).map(|(_, pods)| pods).sum()
    }

    /// Summarizes the proxies of the revisions of a mesh.
    #[must_use]
    pub fn summary(&self, revisions: &[String], mesh: &str) -> ProxySummary {
        let mut versions = BTreeSet::new();
        let mut summary = ProxySummary::default();
        for (group, pods) in self.groups().filter(|(group, _)| has_revision(group, revisions)) {
            versions.insert(group.version.to_string());
            summary.count += pods;
            summary.outdated += if group.is_outdated(mesh) { pods } else { 0 };
        }
        summary.versions = sorted_versions(versions);
        summary
    }
}

/// Sorts versions from old to new, with unknown ones last.
#[must_use]
pub fn sorted_versions(versions: BTreeSet<String>) -> Vec<String> {
    let mut versions: Vec<String> = versions.into_iter().collect();
    versions.sort_by_cached_key(|version| {
        let parsed = Version::parse(version).ok();
        (parsed.is_none(), parsed)
    });
    versions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mesh::revisions::DEFAULT;

    fn proxy(namespace: &str, name: &str, version: Option<&str>) -> DetectedProxy {
        DetectedProxy {
            namespace: namespace.to_owned(),
            owner: PodOwner { kind: PodOwnerKind::Deployment, name: name.into() },
            version: version.map(str::to_owned),
            revision: DEFAULT.to_owned(),
        }
    }

    #[test]
    fn counts_each_pod_with_its_last_version() {
        let mut index = ProxyIndex::default();
        for version in [None, Some("1.31.2"), Some("1.31.2"), Some("1.32.0")] {
            index.update("a", Some(proxy("shop", "web", version)));
        }
        index.update("b", Some(proxy("shop", "web", Some("1.9.0"))));
        index.update("c", Some(proxy("shop", "web", None)));
        let versions = vec!["1.9.0".to_owned(), "1.32.0".to_owned(), UNKNOWN.to_owned()];
        assert_eq!(index.summary(&[DEFAULT.to_owned()], "1.32.0"), ProxySummary { versions, count: 3, outdated: 1 });
        assert_eq!(index.summary(&["canary".to_owned()], "1.32.0"), ProxySummary::default());
        index.update("b", None);
        index.remove("c");
        index.remove("unknown");
        assert_eq!(index.by_version(), [("1.32.0".to_owned(), 1)].into());
    }

    #[test]
    fn frees_memory_of_deleted_pods() {
        let mut index = ProxyIndex::default();
        for n in 0..100 {
            let (uid, namespace) = (format!("{n}"), format!("run-{n}"));
            index.update(&uid, Some(proxy(&namespace, "web", Some("1.31.2"))));
            index.remove(&uid);
        }
        assert_eq!((index.pods.len(), index.groups.len(), index.strings.len()), (0, 0, 0));
    }

    #[test]
    fn own_gateways_are_not_users() {
        let mut index = ProxyIndex::default();
        let pods = [
            ("a", "edge", PodOwnerKind::Deployment, "gw", DEFAULT),
            ("b", "shop", PodOwnerKind::Deployment, "gw", DEFAULT),
            ("c", "edge", PodOwnerKind::StatefulSet, "gw", DEFAULT),
            ("d", "shop", PodOwnerKind::Deployment, "web", "canary"),
        ];
        for (uid, namespace, kind, name, revision) in pods {
            let owner = PodOwner { kind, name: name.into() };
            index.update(uid, Some(DetectedProxy { owner, revision: revision.into(), ..proxy(namespace, name, None) }));
        }
        let own = [("edge".to_owned(), "gw".to_owned())];
        assert_eq!(index.count_users(&[DEFAULT.to_owned()], &own), 2);
        assert_eq!(index.count_users(&["canary".to_owned()], &own), 1);
    }

    proptest! {
        /// The counts of the groups match the pods after any sequence of updates.
        #[test]
        fn group_counts_match_pods(steps in prop::collection::vec((0_u8..6, 0_u8..3, any::<bool>()), 0..60)) {
            let mut index = ProxyIndex::default();
            let mut known = BTreeMap::new();
            for (pod, version, exists) in steps {
                let (uid, version) = (pod.to_string(), format!("1.{version}.0"));
                if exists {
                    index.update(&uid, Some(proxy("shop", "web", Some(&version))));
                    known.insert(uid, version);
                } else {
                    index.remove(&uid);
                    known.remove(&uid);
                }
            }
            let mut expected = BTreeMap::new();
            for version in known.into_values() {
                *expected.entry(version).or_default() += 1;
            }
            prop_assert_eq!(index.by_version(), expected);
        }
    }
}
