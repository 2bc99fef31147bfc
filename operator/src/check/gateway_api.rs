//! Whether the cluster has the Kubernetes Gateway API. Nothing of the mesh depends on it.

use super::asked::Asked;
use super::cluster::Cluster;
use super::{Finding, look};
use crate::apply::{GATEWAY_API_DEFINITION, GATEWAY_API_VERSION};

const CHECK: &str = "gateway-api";

pub(super) fn findings(_: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let subject = "Kubernetes Gateway API";
    let definitions = match look(CHECK, subject, &cluster.definitions) {
        Ok(definitions) => definitions,
        Err(unknown) => return unknown,
    };
    let finding = match definitions.iter().find(|definition| definition.name == GATEWAY_API_DEFINITION) {
        Some(definition) => {
            let version = definition.annotation(GATEWAY_API_VERSION).unwrap_or("of unknown version");
            Finding::pass(CHECK, subject, format!("is there, {version}: istiod will serve its Gateways and routes"))
        }
        None => Finding::pass(CHECK, subject, "is not there; only its own routes and ambient waypoints would need it"),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn its_version_is_told_and_its_absence_is_no_fault() {
        let mut cluster = samples::cluster();
        assert!(findings(&samples::asked(), &cluster)[0].reason.starts_with("is not there"));
        let definition = samples::meta("CustomResourceDefinition", "", GATEWAY_API_DEFINITION);
        cluster.definitions = Ok(vec![definition.annotated(GATEWAY_API_VERSION, "v1.5.0")]);
        assert!(findings(&samples::asked(), &cluster)[0].reason.starts_with("is there, v1.5.0"));
    }
}
