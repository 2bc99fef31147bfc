//! Which versions of the Kubernetes Gateway API a release works with. Pure: what is installed is an argument.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use semver::Version;
use serde::Deserialize;

use super::facts::{Minor, ReleaseFacts};

/// What the releases of a minor do with versions of the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayApiFacts {
    /// The version that the minor was built with.
    pub built_with: Version,
    /// Kinds that istiod reads from some versions only.
    pub kinds: Vec<KindVersions>,
    /// Versions that keep istiod from starting.
    pub fails_from: Option<FailsFrom>,
}

/// The versions from which istiod reads a kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindVersions {
    /// The kind. Example: `TLSRoute`.
    pub kind: String,
    /// The oldest version. Until then the kind is in the experimental channel.
    pub from: Option<Version>,
    /// The newest version.
    pub until: Option<Version>,
}

/// A version with which older patch releases don't start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailsFrom {
    /// The first such version of the Gateway API.
    pub version: Version,
    /// The first release of the minor that starts with it.
    pub fixed_in: Version,
}

/// A release doesn't work with the installed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayApiMismatch {
    /// Whether istiod doesn't start.
    pub is_fatal: bool,
    /// What istiod does.
    pub reason: String,
    /// The version to install, or the release to use.
    pub fix: String,
}

static FACTS: LazyLock<BTreeMap<Minor, GatewayApiFacts>> = LazyLock::new(|| {
    let facts = ReleaseFacts::bundled().ok();
    let minors = facts.iter().flat_map(ReleaseFacts::minors);
    minors.filter_map(|facts| Some((facts.minor, facts.gateway_api.clone()?))).collect()
});

impl GatewayApiFacts {
    /// The bundled facts about a release's minor.
    #[must_use]
    pub fn of(release: &Version) -> Option<&'static Self> {
        FACTS.get(&Minor::of(release))
    }

    /// What is wrong with an installed version. `is_installed` is true for a kind that has a CRD.
    #[must_use]
    pub fn mismatch(
        &self,
        release: &Version,
        installed: &Version,
        is_installed: impl Fn(&KindVersions) -> bool,
    ) -> Option<GatewayApiMismatch> {
        let built_with = &self.built_with;
        if let Some(FailsFrom { version, fixed_in }) = &self.fails_from
            && installed >= version
            && release < fixed_in
        {
            return Some(GatewayApiMismatch {
                is_fatal: true,
                reason: format!("istiod {release} doesn't start with Gateway API v{installed}"),
                fix: format!("use Istio {fixed_in} or newer, or install Gateway API v{built_with}"),
            });
        }
        let ignored = |is_outside: fn(&KindVersions, &Version) -> bool| {
            let kinds = self.kinds.iter().filter(|kind| is_outside(kind, installed) && is_installed(kind));
            let names = kinds.map(|kind| kind.kind.as_str()).collect::<Vec<_>>().join(", ");
            (!names.is_empty()).then(|| format!("istiod {release} ignores {names} of Gateway API v{installed}"))
        };
        let mismatch = |reason, fix| GatewayApiMismatch { is_fatal: false, reason, fix };
        if let Some(reason) = ignored(KindVersions::is_too_old) {
            return Some(mismatch(reason, format!("install Gateway API v{built_with}")));
        }
        let reason = ignored(KindVersions::is_too_new)?;
        Some(mismatch(reason, format!("use a newer minor of Istio, or install Gateway API v{built_with}")))
    }

    /// Whether a version is of a later minor than the one that the release was built with.
    #[must_use]
    pub fn is_newer(&self, installed: &Version) -> bool {
        Minor::of(installed) > Minor::of(&self.built_with)
    }
}

impl KindVersions {
    fn is_too_old(&self, installed: &Version) -> bool {
        self.from.as_ref().is_some_and(|from| installed < from)
    }

    fn is_too_new(&self, installed: &Version) -> bool {
        self.until.as_ref().is_some_and(|until| installed > until)
    }

    /// The name of the CRD.
    #[must_use]
    pub fn crd(&self) -> String {
        let kind = self.kind.to_lowercase();
        let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
        format!("{plural}.gateway.networking.k8s.io")
    }
}

/// Parses the version in the CRDs' annotation. A pre-release counts as its release, as in istiod.
#[must_use]
pub fn parse_bundle_version(annotation: &str) -> Option<Version> {
    let version = Version::parse(annotation.strip_prefix('v').unwrap_or(annotation)).ok()?;
    Some(Version::new(version.major, version.minor, version.patch))
}

/// Warns of an installed version that a release doesn't work with. Only the CRDs of the experimental channel include
/// kinds that istiod finds too old.
#[must_use]
pub fn warning(release: &Version, annotation: &str, is_experimental: bool) -> Option<String> {
    let installed = parse_bundle_version(annotation)?;
    let is_installed = |kind: &KindVersions| is_experimental || kind.until.is_some();
    let GatewayApiMismatch { reason, fix, .. } =
        GatewayApiFacts::of(release)?.mismatch(release, &installed, is_installed)?;
    Some(format!("{reason}; {fix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(release: &str, annotation: &str, is_experimental: bool) -> String {
        warning(&release.parse().unwrap(), annotation, is_experimental).unwrap_or_default()
    }

    #[test]
    fn warns_of_ignored_kinds() {
        assert_eq!(
            warned("1.31.2", "v1.4.1", true),
            "istiod 1.31.2 ignores TLSRoute, TCPRoute of Gateway API v1.4.1; install Gateway API v1.6.0"
        );
        assert_eq!(
            warned("1.29.6", "v1.5.0", false),
            "istiod 1.29.6 ignores TLSRoute of Gateway API v1.5.0; use a newer minor of Istio, or install Gateway API \
             v1.4.1"
        );
    }

    #[test]
    fn warns_of_version_that_stops_istiod() {
        assert_eq!(
            warned("1.29.1", "v1.5.1", false),
            "istiod 1.29.1 doesn't start with Gateway API v1.5.1; use Istio 1.29.2 or newer, or install Gateway API \
             v1.4.1"
        );
    }

    #[test]
    fn standard_channel_lacks_kinds_that_are_too_old() {
        assert_eq!(warned("1.31.2", "v1.4.1", false), "");
    }

    #[test]
    fn accepts_versions_in_range() {
        for (release, annotation) in [("1.30.3", "v1.5.1"), ("1.30.3", "v1.5.0-rc.1"), ("1.30.3", "v1.7.0")] {
            assert_eq!(warned(release, annotation, true), "", "{annotation}");
        }
        for (release, annotation) in [("1.29.6", "v1.4.1"), ("1.13.9", "v0.4.0"), ("1.31.2", "unknown")] {
            assert_eq!(warned(release, annotation, true), "", "{annotation}");
        }
    }

    #[test]
    fn bundled_facts_cover_minors_from_1_28() {
        for minor in 28..=32 {
            let release = Version::new(1, minor, 0);
            let facts = GatewayApiFacts::of(&release).unwrap();
            assert!(!facts.is_newer(&facts.built_with), "{release}");
            assert!(facts.mismatch(&release, &facts.built_with, |_| true).is_none(), "{release}");
        }
    }

    #[test]
    fn names_crds_of_kinds() {
        let crd = |kind: &str| KindVersions { kind: kind.into(), from: None, until: None }.crd();
        assert_eq!(crd("TLSRoute"), "tlsroutes.gateway.networking.k8s.io");
        assert_eq!(crd("BackendTLSPolicy"), "backendtlspolicies.gateway.networking.k8s.io");
    }
}
