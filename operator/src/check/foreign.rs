//! Meshes that are here already, and who made them.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::Asked;
use super::cluster::{Cluster, Meta};
use super::makers::{Origin, or_take_over, origin};
use super::{Finding, Verdict, hidden};
use crate::mesh::words::few;

const CHECK: &str = "foreign-mesh";
/// Values of the label `istio` on control planes: today's, and the five of Istio 1.0.
const CONTROL_PLANES: [&str; 6] = ["pilot", "istiod", "citadel", "galley", "mixer", "sidecar-injector"];
/// Helm releases of these names are control planes or what they stand on.
const CORE_RELEASES: [&str; 6] = ["istio-base", "istiod", "istio", "istio-init", "istio-cni", "ztunnel"];
/// Type of the Secrets in which Helm 3 keeps a release.
pub(super) const HELM_SECRET: &str = "helm.sh/release.v1";
/// Label value of what Helm 2 kept its releases in.
pub(super) const TILLER: &str = "TILLER";

pub(super) fn findings(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let objects = &cluster.objects;
    let mut findings: Vec<Finding> = control_planes(asked, objects).collect();
    findings.extend(helm_releases(asked, objects));
    findings.extend(sail(objects));
    findings.extend(installed_state(objects));
    findings.extend(hidden(CHECK, cluster));
    if findings.is_empty() {
        findings.push(Finding::pass(CHECK, "the cluster", "no mesh of istioctl, Helm or the Sail Operator is here"));
    }
    findings
}

fn control_planes<'a>(asked: &'a Asked, objects: &'a [Meta]) -> impl Iterator<Item = Finding> + 'a {
    let is_one = |meta: &Meta| {
        meta.label("app") == Some("istiod") || meta.label("istio").is_some_and(|value| CONTROL_PLANES.contains(&value))
    };
    let found = objects.iter().filter(move |meta| meta.kind == "Deployment" && !meta.is_ours() && is_one(meta));
    found.map(|meta| {
        let here = meta.namespace.as_deref() == Some(asked.namespace.as_str());
        let taken = here && asked.adopts();
        let verdict = if here && !taken { Verdict::Fail } else { Verdict::Warn };
        let maker = origin(meta);
        let version = meta.label("app.kubernetes.io/version").or(meta.label("operator.istio.io/version"));
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        let consequence = if taken {
            "it becomes the installation's"
        } else if here {
            "it has the names that Meshwright's would have"
        } else {
            "two control planes write the same ConfigMaps into every namespace, and both may inject"
        };
        let by_hand = format!("remove that mesh: {}", meta.deletion());
        Finding::new(CHECK, verdict, meta.to_string(), format!("a control plane{version} of {maker}: {consequence}"))
            .fix(if taken { maker.forgetting() } else { or_take_over(&maker.removal(&by_hand)) })
    })
}

/// Helm's own books: a later `helm upgrade` or `uninstall` acts on them, whatever became of the objects.
fn helm_releases<'a>(asked: &'a Asked, objects: &[Meta]) -> impl Iterator<Item = Finding> + use<'a> {
    let mut releases: BTreeMap<(String, String), bool> = BTreeMap::new();
    for meta in objects {
        let (name, helm_2) = if meta.type_ == Some(HELM_SECRET) {
            (meta.label("name"), false)
        } else if meta.label("OWNER") == Some(TILLER) {
            (meta.label("NAME"), true)
        } else {
            continue;
        };
        let gone = meta
            .label("status")
            .or(meta.label("STATUS"))
            .is_some_and(|status| ["superseded", "uninstalled", "DELETED", "SUPERSEDED"].contains(&status));
        let Some(name) = name.filter(|name| !gone && (name.starts_with("istio") || *name == "ztunnel")) else {
            continue;
        };
        releases.insert((meta.namespace.clone().unwrap_or_default(), name.to_owned()), helm_2);
    }
    releases.into_iter().map(|((namespace, name), helm_2)| {
        let core = CORE_RELEASES.contains(&name.as_str());
        let verdict = if core && !asked.adopts() { Verdict::Fail } else { Verdict::Warn };
        let reason = "Helm still keeps this release, and its next upgrade or removal would act on the mesh";
        let fix = if helm_2 {
            format!("helm 2: helm delete --purge {name}")
        } else if asked.adopts() {
            Origin::Helm(namespace.clone(), name.clone()).forgetting()
        } else {
            format!("helm uninstall {name} --namespace {namespace} (Istio's definitions stay)")
        };
        Finding::new(CHECK, verdict, format!("Helm release {namespace}/{name}"), reason).fix(fix)
    })
}

/// Sail's own resources: while they are there, Sail brings its mesh back.
fn sail(objects: &[Meta]) -> Option<Finding> {
    let kinds = ["Istio", "IstioRevision", "IstioCNI", "ZTunnel"];
    let of_sail = |meta: &&Meta| meta.group == "sailoperator.io" && kinds.contains(&meta.kind.as_str());
    let found: BTreeSet<String> = objects.iter().filter(of_sail).map(ToString::to_string).collect();
    if found.is_empty() {
        return None;
    }
    let names = few(&found.into_iter().collect::<Vec<_>>());
    Some(
        Finding::fail(CHECK, names, "the Sail Operator keeps a mesh from these, and brings back what is removed")
            .fix(Origin::Sail.removal("")),
    )
}

/// What istioctl keeps of an installation; nothing acts on it but the operator that Istio once had.
fn installed_state(objects: &[Meta]) -> impl Iterator<Item = Finding> + '_ {
    let states = objects.iter().filter(|meta| meta.kind == "IstioOperator" && meta.group == "install.istio.io");
    states.map(|meta| {
        let reason = "istioctl's record of an installation; the operator that Istio once had would act on it";
        Finding::warn(CHECK, meta.to_string(), reason).fix(meta.deletion())
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, meta};
    use super::*;

    fn judged(objects: Vec<Meta>) -> Vec<Finding> {
        let mut cluster = samples::cluster();
        cluster.objects = objects;
        findings(&samples::asked(), &cluster)
    }

    #[test]
    fn a_control_plane_in_our_namespace_fails_and_one_elsewhere_warns_each_with_its_makers_tool() {
        let here = meta("Deployment", "istio-system", "istiod").labelled("app", "istiod");
        let there = meta("Deployment", "mesh", "istiod").labelled("app", "istiod");
        let makers = [
            (here.clone().labelled("operator.istio.io/managed", "Reconcile"), "istioctl uninstall --purge"),
            (
                here.clone().annotated("meta.helm.sh/release-name", "istiod"),
                "helm uninstall istiod --namespace istio-system",
            ),
            (here.clone().labelled("managed-by", "sail-operator"), "kubectl delete istios.sailoperator.io"),
            (here.clone().owned_by("IstioRevision"), "kubectl delete istios.sailoperator.io"),
            (here, "kubectl delete deployment istiod --namespace istio-system"),
        ];
        for (object, fix) in makers {
            let found = judged(vec![object]);
            assert_eq!(found[0].verdict, Verdict::Fail);
            assert!(found[0].fix.as_ref().unwrap().contains(fix), "{found:?}");
        }
        assert_eq!(judged(vec![there])[0].verdict, Verdict::Warn);
    }

    #[test]
    fn each_part_of_istio_1_0_is_a_control_plane() {
        let parts = ["pilot", "citadel", "galley", "mixer", "sidecar-injector"];
        let one = |part: &&str| {
            let name = format!("istio-{part}");
            meta("Deployment", "istio-system", &name).labelled("istio", part).labelled("heritage", "Tiller")
        };
        let found = judged(parts.iter().map(one).collect());
        assert_eq!(found.len(), 5);
        assert!(found.iter().all(|finding| finding.reason.contains("Helm 2")), "{found:?}");
    }

    #[test]
    fn our_own_mesh_and_other_peoples_deployments_are_no_foreign_mesh() {
        let ours = meta("Deployment", "istio-system", "istiod")
            .labelled("app", "istiod")
            .labelled("meshwright.dev/installation", "mesh");
        let gateway = meta("Deployment", "istio-system", "ingress").labelled("istio", "ingressgateway");
        let found = judged(vec![ours, gateway, meta("Deployment", "shop", "cart").labelled("app", "cart")]);
        assert_eq!((found.len(), found[0].verdict), (1, Verdict::Pass));
    }

    #[test]
    fn a_helm_release_is_named_once_and_past_ones_and_others_not_at_all() {
        let secret = |name: &str, version: u8, status: &str| {
            let secret = meta("Secret", "istio-system", &format!("sh.helm.release.v1.{name}.v{version}"));
            secret.typed(HELM_SECRET).labelled("name", name).labelled("status", status)
        };
        let found = judged(vec![
            secret("istiod", 1, "superseded"),
            secret("istiod", 2, "deployed"),
            secret("istio-ingress", 1, "deployed"),
            secret("shop", 1, "deployed"),
            secret("istio-base", 1, "uninstalled"),
        ]);
        let told: Vec<_> = found.iter().map(|finding| (finding.verdict, finding.subject.as_str())).collect();
        let expected = [
            (Verdict::Warn, "Helm release istio-system/istio-ingress"),
            (Verdict::Fail, "Helm release istio-system/istiod"),
        ];
        assert_eq!(told, expected);
        let old = meta("ConfigMap", "kube-system", "istio.v1").labelled("OWNER", TILLER).labelled("NAME", "istio");
        assert!(judged(vec![old])[0].fix.as_ref().unwrap().contains("--purge istio"));
    }

    #[test]
    fn what_sail_and_istioctl_keep_is_told() {
        let istio = Meta { group: "sailoperator.io".into(), ..meta("Istio", "", "default") };
        assert_eq!(judged(vec![istio])[0].verdict, Verdict::Fail);
        let state =
            Meta { group: "install.istio.io".into(), ..meta("IstioOperator", "istio-system", "installed-state") };
        let found = judged(vec![state]);
        assert_eq!(found[0].verdict, Verdict::Warn);
        let fix = "kubectl delete istiooperator.install.istio.io installed-state --namespace istio-system";
        assert_eq!(found[0].fix.as_deref(), Some(fix));
    }
}
