//! Which version changes a running mesh may make.

use std::collections::BTreeSet;

use meshwright_api::{AllowedUpgrade, Upgrade, UpgradeStrategy};
use semver::Version;

use crate::mesh::text::abbreviate;
use crate::proxies::ServingProxies;

/// A version change that Istio doesn't support.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkewError {
    /// The target is an older minor.
    #[error(
        "the downgrade from {running} to an older minor, {target}, is not allowed. Configuration that {running} has \
         accepted may be unknown to {target}. Set spec.version back to {running}, or allow the downgrade with \
         spec.upgrade.allow: [Downgrade]"
    )]
    Downgrade {
        /// The active release.
        running: Version,
        /// The requested release.
        target: Version,
    },
    /// The target is more minors ahead than the strategy supports.
    #[error(
        "the upgrade from {running} to {target} skips minors. Istio supports at most {} {}; upgrade to {}.{} first{hint}, \
         or allow it with spec.upgrade.allow: [SkipMinor]",
        minors(*max_step), if *max_step > 1 { "with a canary" } else { "in place" }, running.major, running.minor + max_step
    )]
    SkipMinor {
        /// The active release.
        running: Version,
        /// The requested release.
        target: Version,
        /// How many minors the strategy supports at once.
        max_step: u64,
        /// The catalog's newest release of the next minor, in parentheses; empty if it has none.
        hint: String,
    },
    /// Proxies would be more than one minor older than the control plane.
    #[error(
        "pods have proxies of {oldest}, more than one minor older than {target}: {}. Restart these first, or allow the \
         skew with spec.upgrade.allow: [SkipMinor]",
        abbreviate(workloads)
    )]
    ProxiesTooOld {
        /// Version of the oldest proxy.
        oldest: Version,
        /// Workloads with proxies that are too old, those with the oldest first.
        workloads: Vec<String>,
        /// The requested release.
        target: Version,
    },
}

fn minors(count: u64) -> String {
    if count == 1 { "one minor".to_owned() } else { format!("{count} minors") }
}

/// Major and minor of a version.
#[must_use]
pub const fn minor(version: &Version) -> (u64, u64) {
    (version.major, version.minor)
}

/// Checks a change from one release to another. `available` are the catalog's releases, for the remedy.
pub fn check(running: &Version, target: &Version, upgrade: &Upgrade, available: &[&Version]) -> Result<(), SkewError> {
    let (from, to) = (minor(running), minor(target));
    if to < from && !upgrade.allows(AllowedUpgrade::Downgrade) {
        return Err(SkewError::Downgrade { running: running.clone(), target: target.clone() });
    }
    // With a canary the old control plane stays for its proxies.
    let max_step = if upgrade.strategy == UpgradeStrategy::Canary { 2 } else { 1 };
    let next = (running.major, running.minor + max_step);
    if to > next && !upgrade.allows(AllowedUpgrade::SkipMinor) {
        let next_minor = available.iter().filter(|version| minor(version) == next);
        // A pre-release only if the catalog has no other.
        let next_minor = next_minor.max_by_key(|version| (version.pre.is_empty(), **version));
        let hint = next_minor.map(|version| format!(" (the catalog has {version})")).unwrap_or_default();
        return Err(SkewError::SkipMinor { running: running.clone(), target: target.clone(), max_step, hint });
    }
    Ok(())
}

/// Checks an in-place upgrade against the proxies of serving pods. A canary does not replace the old control plane.
pub fn check_proxies(proxies: &[ServingProxies], target: &Version, upgrade: &Upgrade) -> Result<(), SkewError> {
    if upgrade.strategy == UpgradeStrategy::Canary || upgrade.allows(AllowedUpgrade::SkipMinor) {
        return Ok(());
    }
    let is_too_old = |version: &Version| (version.major, version.minor + 1) < minor(target);
    let mut too_old: Vec<&ServingProxies> = proxies.iter().filter(|proxies| is_too_old(&proxies.version)).collect();
    too_old.sort();
    let Some(oldest) = too_old.first().map(|proxies| proxies.version.clone()) else { return Ok(()) };
    let mut seen = BTreeSet::new();
    let workloads = too_old.into_iter().filter(|proxies| seen.insert(&proxies.workload));
    let workloads = workloads.map(|proxies| proxies.workload.clone()).collect();
    Err(SkewError::ProxiesTooOld { oldest, workloads, target: target.clone() })
}

/// The oldest of these proxy versions. Those that can't be parsed are ignored.
#[must_use]
pub fn oldest(proxies: &[String]) -> Option<Version> {
    proxies.iter().filter_map(|version| version.parse::<Version>().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_change(from: &str, to: &str, allow: &[AllowedUpgrade]) -> Result<(), String> {
        let upgrade = Upgrade { allow: allow.to_vec(), ..Upgrade::default() };
        let (a, b) = (Version::new(1, 30, 3), Version::parse("1.30.4-rc.1").unwrap());
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        check(&from, &to, &upgrade, &[&a, &b]).map_err(|error| error.to_string())
    }

    #[test]
    fn allows_next_minor_and_any_patch() {
        for (from, to) in [
            ("1.29.6", "1.30.3"),
            ("1.30.3", "1.31.0"),
            ("1.30.3", "1.30.1"),
            ("1.28.10", "1.28.10"),
            ("1.31.0-lab.1", "1.32.0-lab.1"),
            ("1.32.0-lab.2", "1.32.0-lab.1"),
        ] {
            assert_eq!(check_change(from, to, &[]), Ok(()), "{from} -> {to}");
        }
    }

    #[test]
    fn names_skipped_minor_and_catalog_release() {
        let refused = check_change("1.29.6", "1.31.2", &[]).unwrap_err();
        assert!(refused.contains("upgrade to 1.30 first (the catalog has 1.30.3)"), "{refused}");
        assert_eq!(check_change("1.29.6", "1.31.2", &[AllowedUpgrade::SkipMinor]), Ok(()));
        assert!(check_change("1.13.9", "1.31.0", &[]).unwrap_err().contains("upgrade to 1.14 first, or allow"));
        assert!(check_change("1.31.0", "2.0.0", &[]).is_err());
    }

    #[test]
    fn canary_may_skip_one_minor() {
        let canary = Upgrade { strategy: UpgradeStrategy::Canary, ..Upgrade::default() };
        let check_change = |to: &str| check(&Version::new(1, 29, 6), &to.parse().unwrap(), &canary, &[]);
        assert_eq!(check_change("1.31.2"), Ok(()));
        let refused = check_change("1.32.0").unwrap_err().to_string();
        assert!(
            refused.contains("at most 2 minors with a canary") && refused.contains("upgrade to 1.31 first"),
            "{refused}"
        );
    }

    #[test]
    fn refuses_proxies_two_minors_older() {
        let target = Version::new(1, 32, 0);
        let check_change = |versions: &[&str], upgrade: &Upgrade| {
            let proxies = |(n, version): (usize, &&str)| ServingProxies {
                version: version.parse().unwrap(),
                workload: format!("Deployment shop/web-{n}"),
            };
            let proxies: Vec<ServingProxies> = versions.iter().enumerate().map(proxies).collect();
            check_proxies(&proxies, &target, upgrade).map_err(|error| error.to_string())
        };
        let in_place = Upgrade::default();
        assert_eq!(check_change(&["1.31.0", "1.32.0"], &in_place), Ok(()));
        let refused = check_change(&["1.30.3", "1.31.0"], &in_place).unwrap_err();
        assert!(refused.contains("proxies of 1.30.3") && refused.contains("SkipMinor"), "{refused}");
        assert!(refused.contains("than 1.32.0: Deployment shop/web-0. Restart"), "{refused}");
        let refused = check_change(&["1.30.3"; 500], &in_place).unwrap_err();
        assert!(refused.contains(" and 495 more") && refused.len() < 500, "{refused}");
        let refused = check_change(&["1.30.3", "1.9.0"], &in_place).unwrap_err();
        assert!(
            refused.contains("proxies of 1.9.0") && refused.contains("shop/web-1, Deployment shop/web-0"),
            "{refused}"
        );
        assert_eq!(
            check_change(&["1.30.3"], &Upgrade { allow: vec![AllowedUpgrade::SkipMinor], ..in_place.clone() }),
            Ok(())
        );
        assert_eq!(check_change(&["1.30.3"], &Upgrade { strategy: UpgradeStrategy::Canary, ..in_place }), Ok(()));
    }

    #[test]
    fn refuses_downgrade_unless_allowed() {
        assert!(check_change("1.31.0", "1.30.3", &[AllowedUpgrade::SkipMinor]).unwrap_err().contains("older minor"));
        assert_eq!(check_change("1.31.0", "1.28.10", &[AllowedUpgrade::Downgrade]), Ok(()));
    }
}
