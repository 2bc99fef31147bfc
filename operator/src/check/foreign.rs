//! Meshes that are here already, and who made them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::asked::Asked;
use super::cluster::{Cluster, Meta};
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

/// Who made an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// `istioctl install`, or the operator that Istio once had.
    Istioctl,
    /// A Helm release, by namespace and name.
    Helm(String, String),
    /// Helm 2, or its chart applied by hand, as Istio 1.0 was.
    Helm2(String),
    /// The Sail Operator.
    Sail,
    /// Nothing says who.
    Unknown,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Istioctl => f.write_str("istioctl"),
            Self::Helm(namespace, name) => write!(f, "the Helm release {namespace}/{name}"),
            Self::Helm2(name) => write!(f, "Helm 2 or its templates (release {name})"),
            Self::Sail => f.write_str("the Sail Operator"),
            Self::Unknown => f.write_str("somebody who left no mark"),
        }
    }
}

impl Origin {
    /// How to take away what it made; `otherwise` where there is no tool for that.
    pub(super) fn removal(&self, otherwise: &str) -> String {
        match self {
            Self::Istioctl => "istioctl uninstall --purge".to_owned(),
            Self::Helm(namespace, name) => format!("helm uninstall {name} --namespace {namespace}"),
            Self::Sail => "kubectl delete istios.sailoperator.io --all, and then remove the Sail Operator".to_owned(),
            Self::Helm2(_) | Self::Unknown => otherwise.to_owned(),
        }
    }
}

/// Who made an object, by the marks on it.
pub(super) fn origin(meta: &Meta) -> Origin {
    let sail = meta.label("managed-by") == Some("sail-operator")
        || meta.label("app.kubernetes.io/managed-by") == Some("sail-operator")
        || meta.owners.iter().any(|kind| matches!(kind.as_str(), "IstioRevision" | "IstioCNI" | "ZTunnel"));
    let istioctl = ["operator.istio.io/managed", "install.operator.istio.io/owning-resource"];
    if sail {
        Origin::Sail
    } else if let Some(name) = meta.annotation("meta.helm.sh/release-name") {
        let namespace = meta.annotation("meta.helm.sh/release-namespace").or(meta.namespace.as_deref());
        Origin::Helm(namespace.unwrap_or("default").to_owned(), name.to_owned())
    } else if istioctl.iter().any(|label| meta.label(label).is_some()) {
        Origin::Istioctl
    } else if meta.label("heritage") == Some("Tiller") {
        Origin::Helm2(meta.label("release").unwrap_or("istio").to_owned())
    } else {
        Origin::Unknown
    }
}

pub(super) fn findings(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let objects = &cluster.objects;
    let mut findings: Vec<Finding> = control_planes(asked, objects).collect();
    findings.extend(helm_releases(objects));
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
        let verdict = if here { Verdict::Fail } else { Verdict::Warn };
        let maker = origin(meta);
        let version = meta.label("app.kubernetes.io/version").or(meta.label("operator.istio.io/version"));
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        let consequence = if here {
            "it has the names that Meshwright's would have"
        } else {
            "two control planes write the same ConfigMaps into every namespace, and both may inject"
        };
        let by_hand = format!("remove that mesh: {}", meta.deletion());
        Finding::new(CHECK, verdict, meta.to_string(), format!("a control plane{version} of {maker}: {consequence}"))
            .fix(maker.removal(&by_hand))
    })
}

/// Helm's own books: a later `helm upgrade` or `uninstall` acts on them, whatever became of the objects.
fn helm_releases(objects: &[Meta]) -> impl Iterator<Item = Finding> {
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
        let verdict = if CORE_RELEASES.contains(&name.as_str()) { Verdict::Fail } else { Verdict::Warn };
        let reason = "Helm still keeps this release, and its next upgrade or removal would act on the mesh";
        let fix = if helm_2 {
            format!("helm 2: helm delete --purge {name}")
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
