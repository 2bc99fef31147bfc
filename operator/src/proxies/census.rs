//! The census: which pod has which proxy. Kept small, since a cluster has many pods: two words for each of them, and what
//! pods of one workload and version have in common once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use semver::Version;

use super::pod::{Owner, OwnerKind, Sighting};
use super::version::UNKNOWN;

/// The proxies of all pods that are known.
#[derive(Debug, Default)]
pub struct Census {
    /// By the pod's UID.
    pods: HashMap<u128, Arc<Group>>,
    groups: HashMap<Arc<Group>, usize>,
    words: HashSet<Arc<str>>,
    hasher: RandomState,
}

/// What the proxies of one workload have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// The pods' namespace.
    pub namespace: Arc<str>,
    /// What they belong to.
    pub owner: Owner,
    /// The proxy's version, or [`UNKNOWN`].
    pub version: Arc<str>,
    /// The revision of the control plane that injected it.
    pub revision: Arc<str>,
}

impl Group {
    /// Whether the proxies are known to be of another version than this one.
    #[must_use]
    pub fn is_outdated(&self, version: &str) -> bool {
        is_outdated(&self.version, version)
    }
}

/// Whether workloads have proxies of one of these revisions.
#[must_use]
pub fn is_of(group: &Group, revisions: &[String]) -> bool {
    revisions.iter().any(|revision| **revision == *group.revision)
}

/// Whether a proxy's version is known and another than the mesh's.
#[must_use]
pub fn is_outdated(proxy: &str, mesh: &str) -> bool {
    proxy != UNKNOWN && proxy != mesh
}

/// The proxies of one revision in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Their versions, oldest first; what is unknown comes last.
    pub versions: Vec<String>,
    /// How many there are.
    pub count: usize,
    /// How many of them are of another version than the mesh.
    pub outdated: usize,
}

impl Census {
    /// Takes in what a pod looks like now; `None`: it has no proxy.
    pub(super) fn observe(&mut self, uid: &str, sighting: Option<Sighting>) {
        let Some(sighting) = sighting else { return self.forget(uid) };
        let group = Group {
            namespace: self.word(&sighting.namespace),
            version: self.word(sighting.version.as_deref().unwrap_or(UNKNOWN)),
            revision: self.word(&sighting.revision),
            owner: sighting.owner,
        };
        let key = self.key(uid);
        if self.pods.get(&key).is_some_and(|known| **known == group) {
            return;
        }
        let group = self.groups.get_key_value(&group).map_or_else(|| Arc::new(group), |(known, _)| Arc::clone(known));
        *self.groups.entry(Arc::clone(&group)).or_default() += 1;
        if let Some(old) = self.pods.insert(key, group) {
            self.leave(&old);
        }
    }

    /// Takes in that a pod is gone.
    pub(super) fn forget(&mut self, uid: &str) {
        if let Some(group) = self.pods.remove(&self.key(uid)) {
            self.leave(&group);
        }
    }

    fn leave(&mut self, group: &Arc<Group>) {
        if let Some(pods) = self.groups.get_mut(group) {
            *pods -= 1;
            if *pods == 0 {
                self.groups.remove(group);
                // Namespaces come and go. Of a word that nobody else has, the set and this group hold the last two.
                for word in [&group.namespace, &group.version, &group.revision] {
                    if Arc::strong_count(word) <= 2 {
                        self.words.remove(word);
                    }
                }
            }
        }
    }

    /// Whatever makes UIDs, they are UUIDs; of anything else, a hash does.
    fn key(&self, uid: &str) -> u128 {
        let digits: String = uid.chars().filter(|c| *c != '-').collect();
        u128::from_str_radix(&digits, 16).unwrap_or_else(|_| u128::from(self.hasher.hash_one(uid)))
    }

    fn word(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.words.get(word) {
            return Arc::clone(known);
        }
        let word: Arc<str> = word.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    /// How many proxies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Workloads with the version of their proxies, and how many pods have it.
    pub fn groups(&self) -> impl Iterator<Item = (&Group, usize)> {
        self.groups.iter().map(|(group, pods)| (group.as_ref(), *pods))
    }

    /// How many proxies there are of each version.
    #[must_use]
    pub fn by_version(&self) -> BTreeMap<String, usize> {
        let mut versions = BTreeMap::new();
        for (group, pods) in self.groups() {
            *versions.entry(group.version.to_string()).or_default() += pods;
        }
        versions
    }

    /// The versions of each revision's proxies.
    #[must_use]
    pub fn by_revision(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut revisions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (group, _) in self.groups() {
            revisions.entry(group.revision.to_string()).or_default().insert(group.version.to_string());
        }
        revisions
    }

    /// How many proxies of these revisions don't belong to these Deployments, by namespace and name.
    #[must_use]
    pub fn others(&self, revisions: &[String], own: &[(String, String)]) -> usize {
        let is_own = |group: &Group| {
            group.owner.kind == OwnerKind::Deployment
                && own.iter().any(|(namespace, name)| **namespace == *group.namespace && **name == *group.owner.name)
        };
        self.groups().filter(|(group, _)| is_of(group, revisions) && !is_own(group)).map(|(_, pods)| pods).sum()
    }

    /// The proxies of a revision, held against the mesh's version.
    #[must_use]
    pub fn summary(&self, revisions: &[String], mesh: &str) -> Summary {
        let mut versions = BTreeSet::new();
        let mut summary = Summary::default();
        for (group, pods) in self.groups().filter(|(group, _)| is_of(group, revisions)) {
            versions.insert(group.version.to_string());
            summary.count += pods;
            summary.outdated += if group.is_outdated(mesh) { pods } else { 0 };
        }
        summary.versions = in_order(versions);
        summary
    }
}

/// Versions from old to new; what is unknown comes last.
#[must_use]
pub fn in_order(versions: BTreeSet<String>) -> Vec<String> {
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

    fn seen(namespace: &str, name: &str, version: Option<&str>) -> Sighting {
        Sighting {
            namespace: namespace.to_owned(),
            owner: Owner { kind: OwnerKind::Deployment, name: name.into() },
            version: version.map(str::to_owned),
            revision: DEFAULT.to_owned(),
        }
    }

    #[test]
    fn a_pod_counts_once_with_what_it_was_last_seen_with() {
        let mut census = Census::default();
        for version in [None, Some("1.31.2"), Some("1.31.2"), Some("1.32.0")] {
            census.observe("a", Some(seen("shop", "web", version)));
        }
        census.observe("b", Some(seen("shop", "web", Some("1.9.0"))));
        census.observe("c", Some(seen("shop", "web", None)));
        let versions = vec!["1.9.0".to_owned(), "1.32.0".to_owned(), UNKNOWN.to_owned()];
        assert_eq!(census.summary(&[DEFAULT.to_owned()], "1.32.0"), Summary { versions, count: 3, outdated: 1 });
        assert_eq!(census.summary(&["canary".to_owned()], "1.32.0"), Summary::default());
        census.observe("b", None);
        census.forget("c");
        census.forget("nobody");
        assert_eq!(census.by_version(), [("1.32.0".to_owned(), 1)].into());
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let mut census = Census::default();
        for n in 0..100 {
            let (uid, namespace) = (format!("{n}"), format!("run-{n}"));
            census.observe(&uid, Some(seen(&namespace, "web", Some("1.31.2"))));
            census.forget(&uid);
        }
        assert_eq!((census.pods.len(), census.groups.len(), census.words.len()), (0, 0, 0));
    }

    #[test]
    fn a_meshs_own_gateways_dont_hold_it_and_others_of_their_name_do() {
        let mut census = Census::default();
        let pods = [
            ("a", "edge", OwnerKind::Deployment, "gw", DEFAULT),
            ("b", "shop", OwnerKind::Deployment, "gw", DEFAULT),
            ("c", "edge", OwnerKind::StatefulSet, "gw", DEFAULT),
            ("d", "shop", OwnerKind::Deployment, "web", "canary"),
        ];
        for (uid, namespace, kind, name, revision) in pods {
            let owner = Owner { kind, name: name.into() };
            census.observe(uid, Some(Sighting { owner, revision: revision.into(), ..seen(namespace, name, None) }));
        }
        let own = [("edge".to_owned(), "gw".to_owned())];
        assert_eq!(census.others(&[DEFAULT.to_owned()], &own), 2);
        assert_eq!(census.others(&["canary".to_owned()], &own), 1);
    }

    proptest! {
        /// Whatever pods do, the groups' counts are those of the pods.
        #[test]
        fn the_groups_count_what_the_pods_have(steps in prop::collection::vec((0_u8..6, 0_u8..3, any::<bool>()), 0..60)) {
            let mut census = Census::default();
            let mut known = BTreeMap::new();
            for (pod, version, there) in steps {
                let (uid, version) = (pod.to_string(), format!("1.{version}.0"));
                if there {
                    census.observe(&uid, Some(seen("shop", "web", Some(&version))));
                    known.insert(uid, version);
                } else {
                    census.forget(&uid);
                    known.remove(&uid);
                }
            }
            let mut expected = BTreeMap::new();
            for version in known.into_values() {
                *expected.entry(version).or_default() += 1;
            }
            prop_assert_eq!(census.by_version(), expected);
        }
    }
}
