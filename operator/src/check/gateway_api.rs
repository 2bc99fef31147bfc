//! The Kubernetes Gateway API, which is optional for the mesh, and whether the release works with its version.

use meshwright_api::version::VersionRequest;
use semver::Version;

use super::input::CheckInput;
use super::snapshot::{ClusterSnapshot, ObjectInfo};
use super::{Finding, require};
use crate::apply::{GATEWAY_API_CRD, GATEWAY_API_VERSION};
use crate::catalog::gateway_api::{GatewayApiFacts, KindVersions, parse_bundle_version};

const CHECK: &str = "gateway-api";
const SUBJECT: &str = "Kubernetes Gateway API";

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let crds = match require(CHECK, SUBJECT, &cluster.crds) {
        Ok(crds) => crds,
        Err(unknown) => return unknown,
    };
    let finding = match crds.iter().find(|crd| crd.name == GATEWAY_API_CRD) {
        Some(crd) => installed(input, crds, crd),
        None => Finding::pass(
            CHECK,
            SUBJECT,
            "not installed; only needed for its Gateways and routes and for ambient waypoints",
        ),
    };
    vec![finding]
}

fn installed(input: &CheckInput, crds: &[ObjectInfo], crd: &ObjectInfo) -> Finding {
    let stated = crd.annotation(GATEWAY_API_VERSION);
    let works = || {
        let version = stated.unwrap_or("of unknown version");
        Finding::pass(CHECK, SUBJECT, format!("installed, {version}; istiod implements its Gateways and routes"))
    };
    let Some(release) = release(input) else { return works() };
    let Some(facts) = GatewayApiFacts::of(&release) else { return works() };
    let Some(version) = stated.and_then(parse_bundle_version) else {
        let reason = format!(
            "installed, of unknown version: CustomResourceDefinition {GATEWAY_API_CRD} has no valid annotation \
             {GATEWAY_API_VERSION}"
        );
        return Finding::warn(CHECK, SUBJECT, reason).fix(format!("install Gateway API v{}", facts.built_with));
    };
    let is_installed = |kind: &KindVersions| {
        let name = kind.crd();
        crds.iter().any(|crd| crd.name == name)
    };
    match facts.mismatch(&release, &version, is_installed) {
        Some(mismatch) if mismatch.is_fatal => Finding::fail(CHECK, SUBJECT, mismatch.reason).fix(mismatch.fix),
        Some(mismatch) => Finding::warn(CHECK, SUBJECT, mismatch.reason).fix(mismatch.fix),
        None if facts.is_newer(&version) => {
            let reason = format!(
                "v{version} is installed; Istio {release} was built with v{} and is not tested with newer minors",
                facts.built_with
            );
            Finding::warn(CHECK, SUBJECT, reason).fix(format!("install Gateway API v{}", facts.built_with))
        }
        None => works(),
    }
}

/// The release to check for: that of the installation, or else the newest that the catalog has of the requested minor.
fn release(input: &CheckInput) -> Option<Version> {
    if let Some(Ok(mesh)) = &input.installation {
        return Some(mesh.owner.release.clone());
    }
    if let Some(VersionRequest::Exact(version)) = &input.version {
        return Some(version.clone());
    }
    let accepts = |version: &&Version| input.version.as_ref().is_none_or(|request| request.accepts(version));
    input.available.iter().find(accepts).cloned()
}

#[cfg(test)]
mod tests {
    use super::super::{CheckVerdict, samples};
    use super::*;

    /// The finding for Istio 1.31.2 and CRDs of a version.
    fn finding(version: &str, names: &[&str]) -> Finding {
        let mut cluster = samples::cluster();
        let crd = |name: &&str| {
            let name = format!("{name}.gateway.networking.k8s.io");
            samples::meta("CustomResourceDefinition", "", &name).annotated(GATEWAY_API_VERSION, version)
        };
        cluster.crds = Ok(names.iter().map(crd).collect());
        findings(&samples::input(), &cluster).remove(0)
    }

    #[test]
    fn passes_with_and_without_gateway_api() {
        assert!(finding("v1.5.0", &[]).reason.starts_with("not installed"));
        assert!(finding("v1.5.0", &["gateways"]).reason.starts_with("installed, v1.5.0"));
        assert_eq!(finding("v1.5.0", &["gateways", "httproutes"]).verdict, CheckVerdict::Pass);
    }

    #[test]
    fn warns_of_crds_that_istiod_ignores() {
        let found = finding("v1.4.1", &["gateways", "tlsroutes"]);
        assert_eq!(found.verdict, CheckVerdict::Warn);
        assert_eq!(found.reason, "istiod 1.31.2 ignores TLSRoute of Gateway API v1.4.1");
        assert_eq!(found.fix.as_deref(), Some("install Gateway API v1.6.0"));
    }

    #[test]
    fn warns_of_newer_and_unknown_versions() {
        let found = finding("v1.7.0", &["gateways"]);
        assert_eq!((found.verdict, found.fix.as_deref()), (CheckVerdict::Warn, Some("install Gateway API v1.6.0")));
        assert_eq!(finding("main", &["gateways"]).verdict, CheckVerdict::Warn);
    }

    #[test]
    fn fails_if_istiod_would_not_start() {
        let mut cluster = samples::cluster();
        let crd = samples::meta("CustomResourceDefinition", "", GATEWAY_API_CRD);
        cluster.crds = Ok(vec![crd.annotated(GATEWAY_API_VERSION, "v1.5.1")]);
        let mut input = samples::input();
        (input.installation, input.version) = (None, Some("1.29.1".parse().unwrap()));
        let found = findings(&input, &cluster).remove(0);
        assert_eq!(found.verdict, CheckVerdict::Fail);
        assert!(found.fix.unwrap().starts_with("use Istio 1.29.2 or newer"));
    }
}
