//! Pod Security Admission levels of the mesh's namespaces and of namespaces with sidecar injection.

use std::collections::BTreeMap;

use super::input::CheckInput;
use super::snapshot::{ClusterSnapshot, ObjectInfo};
use super::{Finding, require};
use crate::mesh::node_components::PRIVILEGED;
use crate::mesh::object::ENFORCE_LABEL as ENFORCE;
use crate::mesh::pod_security::BLOCKING_LEVELS;
use crate::mesh::revisions::{INJECTION_LABEL, REVISION_LABEL};

const CHECK: &str = "pod-security";

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let namespaces = match require(CHECK, "namespace labels", &cluster.namespaces) {
        Ok(namespaces) => namespaces,
        Err(unknown) => return unknown,
    };
    let mut findings: Vec<Finding> = mesh_namespaces(input, namespaces).collect();
    if !input.cni {
        findings.extend(application_namespaces(namespaces));
    }
    if findings.is_empty() {
        findings.push(Finding::pass(CHECK, "namespaces", "none rejects pods of the mesh or pods with a sidecar"));
    }
    findings
}

/// istiod and gateways are unprivileged, but Istio's charts set no seccomp profile.
fn mesh_namespaces<'a>(input: &'a CheckInput, namespaces: &'a [ObjectInfo]) -> impl Iterator<Item = Finding> + 'a {
    input.namespaces.iter().filter_map(move |(name, ours)| {
        let live = namespaces.iter().find(|meta| meta.name == *name);
        let ours = ours.get(ENFORCE).map(String::as_str);
        let live = live.map(|meta| meta.label(ENFORCE));
        // The operator doesn't change the level that an existing namespace sets for node components.
        let level = if input.privileged.contains(name) { live.unwrap_or(ours) } else { ours.or(live.flatten()) }?;
        if input.privileged.contains(name) && level != PRIVILEGED {
            let reason = "rejects the privileged pods of istio-cni and ztunnel";
            let fix = format!("kubectl label namespace {name} {ENFORCE}={PRIVILEGED} --overwrite");
            return Some(Finding::fail(CHECK, format!("Namespace {name} ({level})"), reason).fix(fix));
        }
        if level != "restricted" {
            return None;
        }
        let (reason, fix) = if *name == input.namespace {
            (
                "rejects istiod's pods, which have no seccomp profile",
                "set spec.values.istiod.seccompProfile to {type: RuntimeDefault}, or change the label to baseline",
            )
        } else {
            (
                "rejects gateway pods, which have no seccomp profile",
                "set values.securityContext of its gateways to {seccompProfile: {type: RuntimeDefault}, sysctls: [{name: \
                 net.ipv4.ip_unprivileged_port_start, value: \"0\"}]}, or change the label to baseline",
            )
        };
        Some(Finding::warn(CHECK, format!("Namespace {name} (restricted)"), reason).fix(fix))
    })
}

/// Injected pods have the init container istio-init, which needs `NET_ADMIN` and `NET_RAW`.
fn application_namespaces(namespaces: &[ObjectInfo]) -> impl Iterator<Item = Finding> {
    let rejecting: BTreeMap<&str, &str> = namespaces
        .iter()
        .filter(|namespace| is_injected(namespace))
        .filter_map(|namespace| {
            let level = namespace.label(ENFORCE).filter(|level| BLOCKING_LEVELS.contains(level))?;
            Some((namespace.name.as_str(), level))
        })
        .collect();
    rejecting.into_iter().map(|(name, level)| {
        let reason = "rejects injected pods: their container istio-init needs NET_ADMIN and NET_RAW";
        Finding::fail(CHECK, format!("Namespace {name} ({level})"), reason)
            .fix(format!("kubectl label namespace {name} {ENFORCE}=privileged --overwrite, or enable spec.cni"))
    })
}

fn is_injected(namespace: &ObjectInfo) -> bool {
    match (namespace.label(INJECTION_LABEL), namespace.label(REVISION_LABEL)) {
        (Some(value), _) => value == "enabled",
        (None, Some(_)) => namespace.label("istio.io/dataplane-mode") != Some("ambient"),
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::super::samples::{self, meta};
    use super::*;

    fn findings_for(input: &CheckInput, namespaces: Vec<ObjectInfo>) -> Vec<(CheckVerdict, String)> {
        let mut cluster = samples::cluster();
        cluster.namespaces = Ok(namespaces);
        findings(input, &cluster).into_iter().map(|finding| (finding.verdict, finding.subject)).collect()
    }

    fn namespace(name: &str, level: &str) -> ObjectInfo {
        meta("Namespace", "", name).labelled(ENFORCE, level)
    }

    #[test]
    fn fails_for_injected_baseline_namespaces() {
        let shop = |level| namespace("shop", level).labelled("istio-injection", "enabled");
        for level in ["baseline", "restricted"] {
            let found = findings_for(&samples::input(), vec![shop(level)]);
            assert_eq!(found, [(CheckVerdict::Fail, format!("Namespace shop ({level})"))]);
        }
        let pay = namespace("pay", "baseline").labelled("istio.io/rev", "default");
        assert_eq!(findings_for(&samples::input(), vec![pay.clone()])[0].0, CheckVerdict::Fail);
        let fine = [
            shop("privileged"),
            namespace("plain", "restricted"),
            namespace("off", "baseline").labelled("istio-injection", "disabled"),
            pay.labelled("istio.io/dataplane-mode", "ambient"),
        ];
        assert_eq!(findings_for(&samples::input(), fine.to_vec())[0].0, CheckVerdict::Pass);
    }

    #[test]
    fn with_cni_only_its_own_namespace_can_fail() {
        let mut input = samples::input();
        input.cni = true;
        input.privileged = ["istio-system".to_owned()].into();
        let shop = namespace("shop", "baseline").labelled("istio-injection", "enabled");
        assert_eq!(findings_for(&input, vec![shop])[0].0, CheckVerdict::Pass);
        let found = findings_for(&input, vec![namespace("istio-system", "baseline")]);
        assert_eq!(found, [(CheckVerdict::Fail, "Namespace istio-system (baseline)".to_owned())]);
        assert_eq!(findings_for(&input, vec![namespace("istio-system", PRIVILEGED)])[0].0, CheckVerdict::Pass);
        // The operator only labels namespaces that it creates.
        input.namespaces.insert("istio-system".into(), [(ENFORCE.to_owned(), PRIVILEGED.to_owned())].into());
        assert_eq!(findings_for(&input, vec![namespace("istio-system", "baseline")])[0].0, CheckVerdict::Fail);
        assert_eq!(findings_for(&input, vec![])[0].0, CheckVerdict::Pass);
    }

    #[test]
    fn warns_for_restricted_mesh_namespaces() {
        let mut input = samples::input();
        input.namespaces.insert("edge".into(), BTreeMap::new());
        assert_eq!(findings_for(&input, vec![namespace("istio-system", "baseline")])[0].0, CheckVerdict::Pass);
        let found =
            findings_for(&input, vec![namespace("istio-system", "restricted"), namespace("edge", "restricted")]);
        assert_eq!(found.iter().map(|one| one.0).collect::<Vec<_>>(), [CheckVerdict::Warn, CheckVerdict::Warn]);
        input.namespaces.insert("istio-system".into(), [(ENFORCE.to_owned(), "restricted".to_owned())].into());
        assert_eq!(
            findings_for(&input, vec![]),
            [(CheckVerdict::Warn, "Namespace istio-system (restricted)".to_owned())]
        );
        input.namespaces.insert("istio-system".into(), [(ENFORCE.to_owned(), PRIVILEGED.to_owned())].into());
        assert_eq!(findings_for(&input, vec![namespace("istio-system", "restricted")])[0].0, CheckVerdict::Pass);
    }
}
