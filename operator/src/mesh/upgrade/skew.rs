//! From which release a running mesh may go to which.

use meshwright_api::{Allowance, Upgrade};
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
    /// More than one minor ahead.
    #[error(
        "the mesh runs {running}, and {wanted} is more than one minor ahead, which Istio doesn't support in place: go to \
         {}.{} first{hint}, or allow it with spec.upgrade.allow: [SkipMinor]", running.major, running.minor + 1
    )]
    SkipMinor {
        /// What runs.
        running: Version,
        /// What is asked for.
        wanted: Version,
        /// The catalog's newest release of the minor between, in words, or nothing.
        hint: String,
    },
}

/// Whether a mesh that runs one release may move to another in place. `available` is the catalog's, for advice.
pub fn check(running: &Version, wanted: &Version, upgrade: &Upgrade, available: &[&Version]) -> Result<(), SkewError> {
    let minor = |version: &Version| (version.major, version.minor);
    let (from, to) = (minor(running), minor(wanted));
    if to < from && !upgrade.allows(Allowance::Downgrade) {
        return Err(SkewError::Downgrade { running: running.clone(), wanted: wanted.clone() });
    }
    let next = (running.major, running.minor + 1);
    if to > next && !upgrade.allows(Allowance::SkipMinor) {
        let between = available.iter().filter(|version| minor(version) == next);
        // A pre-release only where there is nothing else.
        let between = between.max_by_key(|version| (version.pre.is_empty(), **version));
        let hint = between.map(|version| format!(" (the catalog has {version})")).unwrap_or_default();
        return Err(SkewError::SkipMinor { running: running.clone(), wanted: wanted.clone(), hint });
    }
    Ok(())
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
    fn an_older_minor_is_refused_unless_allowed() {
        assert!(go("1.31.0", "1.30.3", &[Allowance::SkipMinor]).unwrap_err().contains("older minor"));
        assert_eq!(go("1.31.0", "1.28.10", &[Allowance::Downgrade]), Ok(()));
    }
}
