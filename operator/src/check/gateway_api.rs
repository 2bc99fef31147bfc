//! The Kubernetes Gateway API, which is optional for the mesh.

use super::input::CheckInput;
use super::snapshot::ClusterSnapshot;
use super::{Finding, require};
use crate::apply::{GATEWAY_API_CRD, GATEWAY_API_VERSION};

const CHECK: &str = "gateway-api";

pub(super) fn findings(_: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let subject = "Kubernetes Gateway API";
    let crds = match require(CHECK, subject, &cluster.crds) {
        Ok(crds) => crds,
        Err(unknown) => return unknown,
    };
    let finding = match crds.iter().find(|crd| crd.name == GATEWAY_API_CRD) {
        Some(crd) => {
            let version = crd.annotation(GATEWAY_API_VERSION).unwrap_or("of unknown version");
            Finding::pass(CHECK, subject, format!("installed, {version}; istiod implements its Gateways and routes"))
        }
        None => Finding::pass(
            CHECK,
            subject,
            "not installed; only needed for its Gateways and routes and for ambient waypoints",
        ),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn passes_with_and_without_gateway_api() {
        let mut cluster = samples::cluster();
        assert!(findings(&samples::input(), &cluster)[0].reason.starts_with("not installed"));
        let crd = samples::meta("CustomResourceDefinition", "", GATEWAY_API_CRD);
        cluster.crds = Ok(vec![crd.annotated(GATEWAY_API_VERSION, "v1.5.0")]);
        assert!(findings(&samples::input(), &cluster)[0].reason.starts_with("installed, v1.5.0"));
    }
}
