//! Existing Istio installations and the tools that manage them.

use std::collections::{BTreeMap, BTreeSet};

use super::input::CheckInput;
use super::managed_by::{Manager, manager, or_adopt};
use super::snapshot::{ClusterSnapshot, ObjectInfo};
use super::{CheckVerdict, Finding, unreadable};
use crate::mesh::text::abbreviate;

const CHECK: &str = "existing-mesh";
/// Values of the label `istio` on control planes: the current one and the five of Istio 1.0.
const CONTROL_PLANES: [&str; 6] = ["pilot", "istiod", "citadel", "galley", "mixer", "sidecar-injector"];
/// Names of Helm releases with a control plane or with components that it needs.
const CORE_RELEASES: [&str; 6] = ["istio-base", "istiod", "istio", "istio-init", "istio-cni", "ztunnel"];
/// Type of Helm 3's release Secrets.
pub(super) const HELM_SECRET: &str = "helm.sh/release.v1";
/// Owner label of Helm 2's release ConfigMaps.
pub(super) const TILLER: &str = "TILLER";

pub(super) fn findings(input: &CheckInput, cluster: &ClusterSnapshot) -> Vec<Finding> {
    let objects = &cluster.objects;
    let mut findings: Vec<Finding> = control_planes(input, objects).collect();
    findings.extend(helm_releases(input, objects));
    findings.extend(sail(objects));
    findings.extend(installed_state(objects));
    findings.extend(unreadable(CHECK, cluster));
    if findings.is_empty() {
        findings.push(Finding::pass(
            CHECK,
            "the cluster",
            "no mesh installed with istioctl, Helm or the Sail Operator",
        ));
    }
    findings
}

fn control_planes<'a>(input: &'a CheckInput, objects: &'a [ObjectInfo]) -> impl Iterator<Item = Finding> + 'a {
    let is_control_plane = |meta: &ObjectInfo| {
        meta.label("app") == Some("istiod") || meta.label("istio").is_some_and(|value| CONTROL_PLANES.contains(&value))
    };
    let found =
        objects.iter().filter(move |meta| meta.kind == "Deployment" && !meta.is_ours() && is_control_plane(meta));
    found.map(|meta| {
        let same_namespace = meta.namespace.as_deref() == Some(input.namespace.as_str());
        let adopted = same_namespace && input.adopts();
        let verdict = if same_namespace && !adopted { CheckVerdict::Fail } else { CheckVerdict::Warn };
        let manager = manager(meta);
        let version = meta.label("app.kubernetes.io/version").or(meta.label("operator.istio.io/version"));
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        let consequence = if adopted {
            "this installation adopts it"
        } else if same_namespace {
            "its resource names conflict with those of this installation"
        } else {
            "two control planes write the same ConfigMaps into every namespace, and both may inject sidecars"
        };
        let manual = format!("uninstall that mesh: {}", meta.delete_command());
        Finding::new(
            CHECK,
            verdict,
            meta.to_string(),
            format!("control plane{version}, managed by {manager}: {consequence}"),
        )
        .fix(if adopted {
            manager.release_instructions()
        } else {
            or_adopt(&manager.uninstall_command(&manual))
        })
    })
}

/// Helm's release records: a later `helm upgrade` or `helm uninstall` uses them even if the resources have changed.
fn helm_releases<'a>(input: &'a CheckInput, objects: &[ObjectInfo]) -> impl Iterator<Item = Finding> + use<'a> {
    let mut releases: BTreeMap<(String, String), bool> = BTreeMap::new();
    for meta in objects {
        let (name, helm_2) = if meta.type_ == Some(HELM_SECRET) {
            (meta.label("name"), false)
        } else if meta.label("OWNER") == Some(TILLER) {
            (meta.label("NAME"), true)
        } else {
            continue;
        };
        let outdated = meta
            .label("status")
            .or(meta.label("STATUS"))
            .is_some_and(|status| ["superseded", "uninstalled", "DELETED", "SUPERSEDED"].contains(&status));
        let Some(name) = name.filter(|name| !outdated && (name.starts_with("istio") || *name == "ztunnel")) else {
            continue;
        };
        releases.insert((meta.namespace.clone().unwrap_or_default(), name.to_owned()), helm_2);
    }
    releases.into_iter().map(|((namespace, name), helm_2)| {
        let core = CORE_RELEASES.contains(&name.as_str());
        let verdict = if core && !input.adopts() { CheckVerdict::Fail } else { CheckVerdict::Warn };
        let reason = "Helm still manages this release; helm upgrade or helm uninstall would change the mesh";
        let fix = if helm_2 {
            format!("helm 2: helm delete --purge {name}")
        } else if input.adopts() {
            Manager::Helm(namespace.clone(), name.clone()).release_instructions()
        } else {
            format!("helm uninstall {name} --namespace {namespace} (Istio's CRDs are kept)")
        };
        Finding::new(CHECK, verdict, format!("Helm release {namespace}/{name}"), reason).fix(fix)
    })
}

/// The Sail Operator's resources: as long as they exist, it recreates the mesh.
fn sail(objects: &[ObjectInfo]) -> Option<Finding> {
    let kinds = ["Istio", "IstioRevision", "IstioCNI", "ZTunnel"];
    let of_sail = |meta: &&ObjectInfo| meta.group == "sailoperator.io" && kinds.contains(&meta.kind.as_str());
    let found: BTreeSet<String> = objects.iter().filter(of_sail).map(ToString::to_string).collect();
    if found.is_empty() {
        return None;
    }
    let names = abbreviate(&found.into_iter().collect::<Vec<_>>());
    Some(
        Finding::fail(CHECK, names, "the Sail Operator manages a mesh from these resources and recreates deleted ones")
            .fix(Manager::Sail.uninstall_command("")),
    )
}

/// istioctl's record of an installation. Only Istio's former in-cluster operator acts on it.
fn installed_state(objects: &[ObjectInfo]) -> impl Iterator<Item = Finding> + '_ {
    let states = objects.iter().filter(|meta| meta.kind == "IstioOperator" && meta.group == "install.istio.io");
    states.map(|meta| {
        let reason = "istioctl's record of an installation; Istio's former in-cluster operator would act on it";
        Finding::warn(CHECK, meta.to_string(), reason).fix(meta.delete_command())
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, meta};
    use super::*;

    fn findings_for(objects: Vec<ObjectInfo>) -> Vec<Finding> {
        let mut cluster = samples::cluster();
        cluster.objects = objects;
        findings(&samples::input(), &cluster)
    }

    #[test]
    fn control_plane_fails_in_same_namespace_only() {
        let same_namespace = meta("Deployment", "istio-system", "istiod").labelled("app", "istiod");
        let there = meta("Deployment", "mesh", "istiod").labelled("app", "istiod");
        let managed_by = [
            (same_namespace.clone().labelled("operator.istio.io/managed", "Reconcile"), "istioctl uninstall --purge"),
            (
                same_namespace.clone().annotated("meta.helm.sh/release-name", "istiod"),
                "helm uninstall istiod --namespace istio-system",
            ),
            (same_namespace.clone().labelled("managed-by", "sail-operator"), "kubectl delete istios.sailoperator.io"),
            (same_namespace.clone().owned_by("IstioRevision"), "kubectl delete istios.sailoperator.io"),
            (same_namespace, "kubectl delete deployment istiod --namespace istio-system"),
        ];
        for (object, fix) in managed_by {
            let found = findings_for(vec![object]);
            assert_eq!(found[0].verdict, CheckVerdict::Fail);
            assert!(found[0].fix.as_ref().unwrap().contains(fix), "{found:?}");
        }
        assert_eq!(findings_for(vec![there])[0].verdict, CheckVerdict::Warn);
    }

    #[test]
    fn detects_istio_1_0_components() {
        let parts = ["pilot", "citadel", "galley", "mixer", "sidecar-injector"];
        let one = |part: &&str| {
            let name = format!("istio-{part}");
            meta("Deployment", "istio-system", &name).labelled("istio", part).labelled("heritage", "Tiller")
        };
        let found = findings_for(parts.iter().map(one).collect());
        assert_eq!(found.len(), 5);
        assert!(found.iter().all(|finding| finding.reason.contains("Helm 2")), "{found:?}");
    }

    #[test]
    fn ignores_own_mesh_and_applications() {
        let ours = meta("Deployment", "istio-system", "istiod")
            .labelled("app", "istiod")
            .labelled("meshwright.dev/installation", "mesh");
        let gateway = meta("Deployment", "istio-system", "ingress").labelled("istio", "ingressgateway");
        let found = findings_for(vec![ours, gateway, meta("Deployment", "shop", "cart").labelled("app", "cart")]);
        assert_eq!((found.len(), found[0].verdict), (1, CheckVerdict::Pass));
    }

    #[test]
    fn reports_current_istio_helm_releases_once() {
        let secret = |name: &str, version: u8, status: &str| {
            let secret = meta("Secret", "istio-system", &format!("sh.helm.release.v1.{name}.v{version}"));
            secret.typed(HELM_SECRET).labelled("name", name).labelled("status", status)
        };
        let found = findings_for(vec![
            secret("istiod", 1, "superseded"),
            secret("istiod", 2, "deployed"),
            secret("istio-ingress", 1, "deployed"),
            secret("shop", 1, "deployed"),
            secret("istio-base", 1, "uninstalled"),
        ]);
        let reported: Vec<_> = found.iter().map(|finding| (finding.verdict, finding.subject.as_str())).collect();
        let expected = [
            (CheckVerdict::Warn, "Helm release istio-system/istio-ingress"),
            (CheckVerdict::Fail, "Helm release istio-system/istiod"),
        ];
        assert_eq!(reported, expected);
        let old = meta("ConfigMap", "kube-system", "istio.v1").labelled("OWNER", TILLER).labelled("NAME", "istio");
        assert!(findings_for(vec![old])[0].fix.as_ref().unwrap().contains("--purge istio"));
    }

    #[test]
    fn reports_sail_and_istioctl_resources() {
        let istio = ObjectInfo { group: "sailoperator.io".into(), ..meta("Istio", "", "default") };
        assert_eq!(findings_for(vec![istio])[0].verdict, CheckVerdict::Fail);
        let state =
            ObjectInfo { group: "install.istio.io".into(), ..meta("IstioOperator", "istio-system", "installed-state") };
        let found = findings_for(vec![state]);
        assert_eq!(found[0].verdict, CheckVerdict::Warn);
        let fix = "kubectl delete istiooperator.install.istio.io installed-state --namespace istio-system";
        assert_eq!(found[0].fix.as_deref(), Some(fix));
    }
}
