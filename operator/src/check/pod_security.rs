//! Pod Security of the namespaces in which pods of the mesh, or with a proxy, shall run.

use std::collections::BTreeMap;

use super::asked::Asked;
use super::cluster::{Cluster, Meta};
use super::{Finding, look};
use crate::mesh::node_agents::PRIVILEGED;
use crate::mesh::object::ENFORCE_LABEL as ENFORCE;
use crate::mesh::pod_security::REFUSING;
use crate::mesh::revisions::{INJECTION_LABEL, REVISION_LABEL};

const CHECK: &str = "pod-security";

pub(super) fn findings(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let namespaces = match look(CHECK, "labels of namespaces", &cluster.namespaces) {
        Ok(namespaces) => namespaces,
        Err(unknown) => return unknown,
    };
    let mut findings: Vec<Finding> = of_the_mesh(asked, namespaces).collect();
    if !asked.cni {
        findings.extend(of_applications(namespaces));
    }
    if findings.is_empty() {
        findings.push(Finding::pass(CHECK, "the namespaces", "none refuses pods of the mesh or pods with a proxy"));
    }
    findings
}

/// istiod and gateways are unprivileged, but Istio's charts set no seccomp profile.
fn of_the_mesh<'a>(asked: &'a Asked, namespaces: &'a [Meta]) -> impl Iterator<Item = Finding> + 'a {
    asked.namespaces.iter().filter_map(move |(name, ours)| {
        let live = namespaces.iter().find(|meta| meta.name == *name);
        let ours = ours.get(ENFORCE).map(String::as_str);
        let live = live.map(|meta| meta.label(ENFORCE));
        // In a namespace that is there the operator leaves it to others what node agents are allowed.
        let level = if asked.privileged.contains(name) { live.unwrap_or(ours) } else { ours.or(live.flatten()) }?;
        if asked.privileged.contains(name) && level != PRIVILEGED {
            let reason = "the pods of cni and ztunnel are privileged, and are refused";
            let fix = format!("kubectl label namespace {name} {ENFORCE}={PRIVILEGED} --overwrite");
            return Some(Finding::fail(CHECK, format!("Namespace {name} ({level})"), reason).fix(fix));
        }
        if level != "restricted" {
            return None;
        }
        let (reason, fix) = if *name == asked.namespace {
            (
                "istiod's pods have no seccomp profile, and are refused",
                "set spec.values.istiod.seccompProfile to {type: RuntimeDefault}, or the label to baseline",
            )
        } else {
            (
                "gateway pods have no seccomp profile, and are refused",
                "set values.securityContext of its gateways to {seccompProfile: {type: RuntimeDefault}, sysctls: [{name: \
                 net.ipv4.ip_unprivileged_port_start, value: \"0\"}]}, or the label to baseline",
            )
        };
        Some(Finding::warn(CHECK, format!("Namespace {name} (restricted)"), reason).fix(fix))
    })
}

/// An injected pod gets istio-init, which needs `NET_ADMIN` and `NET_RAW`.
fn of_applications(namespaces: &[Meta]) -> impl Iterator<Item = Finding> {
    let refusing: BTreeMap<&str, &str> = namespaces
        .iter()
        .filter(|namespace| is_injected(namespace))
        .filter_map(|namespace| {
            let level = namespace.label(ENFORCE).filter(|level| REFUSING.contains(level))?;
            Some((namespace.name.as_str(), level))
        })
        .collect();
    refusing.into_iter().map(|(name, level)| {
        let reason = "pods in it get the container istio-init, whose NET_ADMIN and NET_RAW are refused there: none would \
                      be made";
        Finding::fail(CHECK, format!("Namespace {name} ({level})"), reason)
            .fix(format!("kubectl label namespace {name} {ENFORCE}=privileged --overwrite, or enable spec.cni"))
    })
}

fn is_injected(namespace: &Meta) -> bool {
    match (namespace.label(INJECTION_LABEL), namespace.label(REVISION_LABEL)) {
        (Some(value), _) => value == "enabled",
        (None, Some(_)) => namespace.label("istio.io/dataplane-mode") != Some("ambient"),
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::samples::{self, meta};
    use super::*;

    fn judged(asked: &Asked, namespaces: Vec<Meta>) -> Vec<(Verdict, String)> {
        let mut cluster = samples::cluster();
        cluster.namespaces = Ok(namespaces);
        findings(asked, &cluster).into_iter().map(|finding| (finding.verdict, finding.subject)).collect()
    }

    fn namespace(name: &str, level: &str) -> Meta {
        meta("Namespace", "", name).labelled(ENFORCE, level)
    }

    #[test]
    fn an_injected_namespace_that_refuses_istio_init_fails() {
        let shop = |level| namespace("shop", level).labelled("istio-injection", "enabled");
        for level in ["baseline", "restricted"] {
            let found = judged(&samples::asked(), vec![shop(level)]);
            assert_eq!(found, [(Verdict::Fail, format!("Namespace shop ({level})"))]);
        }
        let pay = namespace("pay", "baseline").labelled("istio.io/rev", "default");
        assert_eq!(judged(&samples::asked(), vec![pay.clone()])[0].0, Verdict::Fail);
        let fine = [
            shop("privileged"),
            namespace("plain", "restricted"),
            namespace("off", "baseline").labelled("istio-injection", "disabled"),
            pay.labelled("istio.io/dataplane-mode", "ambient"),
        ];
        assert_eq!(judged(&samples::asked(), fine.to_vec())[0].0, Verdict::Pass);
    }

    #[test]
    fn with_the_cni_plugin_applications_are_refused_nothing_but_its_own_pods_may_be() {
        let mut asked = samples::asked();
        asked.cni = true;
        asked.privileged = ["istio-system".to_owned()].into();
        let shop = namespace("shop", "baseline").labelled("istio-injection", "enabled");
        assert_eq!(judged(&asked, vec![shop])[0].0, Verdict::Pass);
        let found = judged(&asked, vec![namespace("istio-system", "baseline")]);
        assert_eq!(found, [(Verdict::Fail, "Namespace istio-system (baseline)".to_owned())]);
        assert_eq!(judged(&asked, vec![namespace("istio-system", PRIVILEGED)])[0].0, Verdict::Pass);
        // What the operator would put there holds for a new namespace only.
        asked.namespaces.insert("istio-system".into(), [(ENFORCE.to_owned(), PRIVILEGED.to_owned())].into());
        assert_eq!(judged(&asked, vec![namespace("istio-system", "baseline")])[0].0, Verdict::Fail);
        assert_eq!(judged(&asked, vec![])[0].0, Verdict::Pass);
    }

    #[test]
    fn the_meshs_own_namespaces_warn_when_restricted_by_a_label_there_or_by_the_spec() {
        let mut asked = samples::asked();
        asked.namespaces.insert("edge".into(), BTreeMap::new());
        assert_eq!(judged(&asked, vec![namespace("istio-system", "baseline")])[0].0, Verdict::Pass);
        let found = judged(&asked, vec![namespace("istio-system", "restricted"), namespace("edge", "restricted")]);
        assert_eq!(found.iter().map(|one| one.0).collect::<Vec<_>>(), [Verdict::Warn, Verdict::Warn]);
        asked.namespaces.insert("istio-system".into(), [(ENFORCE.to_owned(), "restricted".to_owned())].into());
        assert_eq!(judged(&asked, vec![]), [(Verdict::Warn, "Namespace istio-system (restricted)".to_owned())]);
        asked.namespaces.insert("istio-system".into(), [(ENFORCE.to_owned(), PRIVILEGED.to_owned())].into());
        assert_eq!(judged(&asked, vec![namespace("istio-system", "restricted")])[0].0, Verdict::Pass);
    }
}
