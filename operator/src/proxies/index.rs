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
    pods: HashMap<u128, IndexedPod>,
    groups: HashMap<Arc<ProxyGroup>, GroupCount>,
    strings: HashSet<Arc<str>>,
    hasher: RandomState,
}

#[derive(Debug, PartialEq, Eq)]
struct IndexedPod {
    group: Arc<ProxyGroup>,
    /// The pod was injected, runs and is ready.
    serving: bool,
}

#[derive(Debug, Default)]
struct GroupCount {
    pods: usize,
    serving: usize,
}

/// Proxies of a workload with the same version, revision and configuration.
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
    /// Hash of the configuration that they were injected with; `None` if unknown.
    pub configuration: Option<Arc<str>>,
}

impl ProxyGroup {
    /// Returns kind, namespace and name of the workload.
    #[must_use]
    pub fn workload(&self) -> String {
        format!("{} {}/{}", self.owner.kind, self.namespace, self.owner.name)
    }

    /// Returns whether the version of the proxies is known and differs from `version`.
    #[must_use]
    pub fn is_outdated(&self, version: &str) -> bool {
        is_outdated(&self.version, version)
    }

    /// Returns whether the configuration of the proxies is known and differs from that of new pods.
    #[must_use]
    pub fn has_stale_configuration(&self, current: &str) -> bool {
        self.configuration.as_ref().is_some_and(|configuration| **configuration != *current)
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

/// Proxies of one version in the pods of a workload that were injected, run and are ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServingProxies {
    /// Version of the proxies.
    pub version: Version,
    /// Kind, namespace and name of the workload.
    pub workload: String,
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
            configuration: proxy.configuration.map(|configuration| self.intern(&configuration)),
            owner: proxy.owner,
        };
        let (key, serving) = (self.key(uid), proxy.serving);
        if self.pods.get(&key).is_some_and(|known| *known.group == group && known.serving == serving) {
            return;
        }
        let group = self.groups.get_key_value(&group).map_or_else(|| Arc::new(group), |(known, _)| Arc::clone(known));
        let count = self.groups.entry(Arc::clone(&group)).or_default();
        count.pods += 1;
        count.serving += usize::from(serving);
        if let Some(old) = self.pods.insert(key, IndexedPod { group, serving }) {
            self.release(&old);
        }
    }

    /// Removes a deleted pod.
    pub(super) fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(&self.key(uid)) {
            self.release(&pod);
        }
    }

    fn release(&mut self, pod: &IndexedPod) {
        let group = &pod.group;
        if let Some(count) = self.groups.get_mut(group) {
            count.pods -= 1;
            count.serving -= usize::from(pod.serving);
            if count.pods == 0 {
                self.groups.remove(group);
                // Remove unused strings, such as deleted namespaces. Only the set and this group reference those.
                let strings = [&group.namespace, &group.version, &group.revision];
                for string in strings.into_iter().chain(&group.configuration) {
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
        self.groups.iter().map(|(group, count)| (group.as_ref(), count.pods))
    }

    /// Returns the groups of all pods that were injected, run and are ready.
    fn serving_groups(&self) -> impl Iterator<Item = &ProxyGroup> {
        self.groups.iter().filter(|(_, count)| count.serving > 0).map(|(group, _)| group.as_ref())
    }

    /// Returns the proxies of the revisions in serving pods, as far as their version is known.
    #[must_use]
    pub fn serving(&self, revisions: &[String]) -> Vec<ServingProxies> {
        let groups = self.serving_groups().filter(|group| has_revision(group, revisions));
        groups
            .filter_map(|group| {
                Some(ServingProxies { version: group.version.parse().ok()?, workload: group.workload() })
            })
            .collect()
    }

    /// Returns the versions of the proxies in serving pods, by revision.
    #[must_use]
    pub fn serving_versions(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut revisions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for group in self.serving_groups() {
            revisions.entry(group.revision.to_string()).or_default().insert(group.version.to_string());
        }
        revisions
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

    /// Returns the versions of proxies by revision, with the configurations that the proxies were injected with.
    #[must_use]
    pub fn by_revision(&self) -> BTreeMap<String, BTreeSet<(String, Option<String>)>> {
        let mut revisions: BTreeMap<String, BTreeSet<(String, Option<String>)>> = BTreeMap::new();
        for (group, _) in self.groups() {
            let seen = (group.version.to_string(), group.configuration.as_ref().map(ToString::to_string));
            revisions.entry(group.revision.to_string()).or_default().insert(seen);
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
            configuration: None,
            serving: true,
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
    fn pods_that_do_not_serve_are_counted_apart() {
        let (mut index, all) = (ProxyIndex::default(), [DEFAULT.to_owned()]);
        let unready = |name, version| DetectedProxy { serving: false, ..proxy("shop", name, Some(version)) };
        index.update("a", Some(unready("forged", "1.2.0")));
        index.update("b", Some(proxy("shop", "web", Some("1.30.3"))));
        index.update("c", Some(proxy("shop", "other", None)));
        let workload = |name: &str| format!("Deployment shop/{name}");
        let expected = ServingProxies { version: Version::new(1, 30, 3), workload: workload("web") };
        assert_eq!(index.serving(&all), [expected]);
        assert_eq!(index.len(), 3);
        assert_eq!(index.serving_versions()[DEFAULT], ["1.30.3".to_owned(), UNKNOWN.to_owned()].into());
        index.update("a", Some(proxy("shop", "forged", Some("1.2.0"))));
        index.update("b", Some(unready("web", "1.30.3")));
        let serving: Vec<String> = index.serving(&all).into_iter().map(|proxies| proxies.workload).collect();
        assert_eq!(serving, [workload("forged")]);
        assert!(index.serving(&["canary".to_owned()]).is_empty());
    }

    #[test]
    fn frees_memory_of_deleted_pods() {
        let mut index = ProxyIndex::default();
        for n in 0..100 {
            let (uid, namespace) = (format!("{n}"), format!("run-{n}"));
            let proxy = DetectedProxy { configuration: Some(uid.clone()), ..proxy(&namespace, "web", Some("1.31.2")) };
            index.update(&uid, Some(proxy));
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
