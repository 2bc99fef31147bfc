//! From which release a running mesh may go to which.

use meshwright_api::{Allowance, Upgrade, UpgradeStrategy};
use semver::Version;

/// A move that istiods and proxies of the two releases would not survive, or that nobody repairs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkewError {
    /// To an older minor.
    #[error(
        "the mesh runs {running}, and {wanted} is an older minor: configuration that {running} has accepted may be \
         unknown to it. Set the version back to {running}, or allow it with spec.upgrade.allow: [Downgrade]"
    )]
    Downgrade {
        /// What runs.
        running: Version,
        /// What is asked for.
        wanted: Version,
    },
    /// More minors ahead than the strategy may go at once.
    #[error(
        "the mesh runs {running}, and {wanted} is more than {} ahead, which Istio doesn't support {}: go to {}.{} \
         first{hint}, or allow it with spec.upgrade.allow: [SkipMinor]",
        minors(*reach), if *reach > 1 { "even by a canary" } else { "in place" }, running.major, running.minor + reach
    )]
    SkipMinor {
        /// What runs.
        running: Version,
        /// What is asked for.
        wanted: Version,
        /// How many minors may be gone at once.
        reach: u64,
        /// The catalog's newest release of that minor, in words, or nothing.
        hint: String,
    },
    /// Proxies would be left behind by more than one minor.
    #[error(
        "pods have proxies of {oldest}, and a control plane of {wanted} is meant for proxies one minor older at most: \
         restart those pods first (meshwright status --proxies names them), or allow it with spec.upgrade.allow: \
         [SkipMinor]"
    )]
    ProxiesTooOld {
        /// The oldest proxy's version.
        oldest: Version,
        /// What is asked for.
        wanted: Version,
    },
}

fn minors(count: u64) -> String {
    if count == 1 { "one minor".to_owned() } else { format!("{count} minors") }
}

/// The minor that a version is of.
#[must_use]
pub const fn minor(version: &Version) -> (u64, u64) {
    (version.major, version.minor)
}

/// Whether a mesh that runs one release may move to another. `available` is the catalog's, for advice.
pub fn check(running: &Version, wanted: &Version, upgrade: &Upgrade, available: &[&Version]) -> Result<(), SkewError> {
    let (from, to) = (minor(running), minor(wanted));
    if to < from && !upgrade.allows(Allowance::Downgrade) {
        return Err(SkewError::Downgrade { running: running.clone(), wanted: wanted.clone() });
    }
    // By a canary the old control plane stays for its proxies.
    let reach = if upgrade.strategy == UpgradeStrategy::Canary { 2 } else { 1 };
    let next = (running.major, running.minor + reach);
    if to > next && !upgrade.allows(Allowance::SkipMinor) {
        let between = available.iter().filter(|version| minor(version) == next);
        // A pre-release only where there is nothing else.
        let between = between.max_by_key(|version| (version.pre.is_empty(), **version));
        let hint = between.map(|version| format!(" (the catalog has {version})")).unwrap_or_default();
        return Err(SkewError::SkipMinor { running: running.clone(), wanted: wanted.clone(), reach, hint });
    }
    Ok(())
}

/// Whether a control plane may take another's place where pods have proxies of these versions. What isn't a version is not
/// judged; by a canary no control plane takes another's place.
pub fn check_proxies(proxies: &[String], wanted: &Version, upgrade: &Upgrade) -> Result<(), SkewError> {
    if upgrade.strategy == UpgradeStrategy::Canary || upgrade.allows(Allowance::SkipMinor) {
        return Ok(());
    }
    match oldest(proxies) {
        Some(oldest) if (oldest.major, oldest.minor + 1) < minor(wanted) => {
            Err(SkewError::ProxiesTooOld { oldest, wanted: wanted.clone() })
        }
        _ => Ok(()),
    }
}

/// The oldest of these versions of proxies.
#[must_use]
pub fn oldest(proxies: &[String]) -> Option<Version> {
    proxies.iter().filter_map(|version| version.parse::<Version>().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(from: &str, to: &str, allow: &[Allowance]) -> Result<(), String> {
        let upgrade = Upgrade { allow: allow.to_vec(), ..Upgrade::default() };
        let (a, b) = (Version::new(1, 30, 3), Version::parse("1.30.4-rc.1").unwrap());
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        check(&from, &to, &upgrade, &[&a, &b]).map_err(|error| error.to_string())
    }

    #[test]
    fn the_next_minor_and_any_patch_of_the_same_are_open() {
        for (from, to) in [
            ("1.29.6", "1.30.3"),
            ("1.30.3", "1.31.0"),
            ("1.30.3", "1.30.1"),
            ("1.28.10", "1.28.10"),
            ("1.31.0-lab.1", "1.32.0-lab.1"),
            ("1.32.0-lab.2", "1.32.0-lab.1"),
        ] {
            assert_eq!(go(from, to, &[]), Ok(()), "{from} -> {to}");
        }
    }

    #[test]
    fn a_minor_that_is_skipped_is_named_with_what_the_catalog_has_of_it() {
        let refused = go("1.29.6", "1.31.2", &[]).unwrap_err();
        assert!(refused.contains("go to 1.30 first (the catalog has 1.30.3)"), "{refused}");
        assert_eq!(go("1.29.6", "1.31.2", &[Allowance::SkipMinor]), Ok(()));
        assert!(go("1.13.9", "1.31.0", &[]).unwrap_err().contains("go to 1.14 first, or allow"));
        assert!(go("1.31.0", "2.0.0", &[]).is_err());
    }

    #[test]
    fn a_canary_may_skip_one_minor_and_no_more() {
        let canary = Upgrade { strategy: UpgradeStrategy::Canary, ..Upgrade::default() };
        let go = |to: &str| check(&Version::new(1, 29, 6), &to.parse().unwrap(), &canary, &[]);
        assert_eq!(go("1.31.2"), Ok(()));
        let refused = go("1.32.0").unwrap_err().to_string();
        assert!(refused.contains("more than 2 minors ahead") && refused.contains("go to 1.31 first"), "{refused}");
    }

    #[test]
    fn a_control_plane_doesnt_leave_proxies_behind_by_more_than_a_minor() {
        let wanted = Version::new(1, 32, 0);
        let go = |proxies: &[&str], upgrade: &Upgrade| {
            let proxies: Vec<String> = proxies.iter().map(|version| (*version).to_owned()).collect();
            check_proxies(&proxies, &wanted, upgrade).map_err(|error| error.to_string())
        };
        let in_place = Upgrade::default();
        assert_eq!(go(&["1.31.0", "1.32.0", "Unknown"], &in_place), Ok(()));
        let refused = go(&["1.30.3", "1.31.0"], &in_place).unwrap_err();
        assert!(refused.contains("proxies of 1.30.3") && refused.contains("SkipMinor"), "{refused}");
        assert_eq!(go(&["1.30.3"], &Upgrade { allow: vec![Allowance::SkipMinor], ..in_place.clone() }), Ok(()));
        assert_eq!(go(&["1.30.3"], &Upgrade { strategy: UpgradeStrategy::Canary, ..in_place }), Ok(()));
    }

    #[test]
    fn an_older_minor_is_refused_unless_allowed() {
        assert!(go("1.31.0", "1.30.3", &[Allowance::SkipMinor]).unwrap_err().contains("older minor"));
        assert_eq!(go("1.31.0", "1.28.10", &[Allowance::Downgrade]), Ok(()));
    }
}
