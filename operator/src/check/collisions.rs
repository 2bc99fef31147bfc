//! Objects of others in the way of those that shall be applied: the very refusals that the operator would make.

use super::asked::Asked;
use super::cluster::{Cluster, Meta, deletion};
use super::makers::{Origin, or_take_over, origin};
use super::{Finding, look};
use crate::controller;
use crate::mesh::object::ObjectKey;
use crate::mesh::plan::Refusal;
use crate::mesh::words::few;

const CHECK: &str = "object-in-the-way";

pub(super) fn findings(asked: &Asked, cluster: &Cluster) -> Vec<Finding> {
    let Some(Ok(wanted)) = &asked.installation else { return Vec::new() };
    let subject = "the objects of the installation";
    let refusals = match look(CHECK, subject, &cluster.refusals) {
        Ok(refusals) => refusals,
        Err(unknown) => return unknown,
    };
    if refusals.is_empty() {
        let reason = format!("none of the {} objects is somebody else's", wanted.desired.len());
        return vec![Finding::pass(CHECK, subject, reason)];
    }
    refusals.iter().map(|refusal| finding(refusal, &cluster.objects)).collect()
}

fn finding(refusal: &Refusal, objects: &[Meta]) -> Finding {
    match refusal {
        Refusal::Terminating(namespace) => {
            Finding::fail(CHECK, format!("Namespace {namespace}"), "it is being deleted").fix("wait until it is gone")
        }
        Refusal::Differs { key, changes } => {
            let told: Vec<String> = changes.iter().map(|change| controller::field(key, change)).collect();
            Finding::fail(CHECK, key.to_string(), format!("adoption would change {}", few(&told)))
                .fix("say so in the spec, as meshwright adopt prints it; or set spec.adoption to Overwrite")
        }
        Refusal::Selects { key, changes } => {
            let told: Vec<String> = changes.iter().map(|change| controller::field(key, change)).collect();
            let found = format!("no workload's selector can be changed, and adoption would change {}", few(&told));
            Finding::fail(CHECK, key.to_string(), found).fix(controller::SELECTS_REMEDY)
        }
        Refusal::OtherRelease { key, release } => {
            Finding::fail(CHECK, key.to_string(), format!("its pods are of release {release}"))
                .fix(format!("take it over with spec.version {release}, and upgrade then"))
        }
        Refusal::Foreign { key, holder: Some(holder) } => {
            Finding::fail(CHECK, key.to_string(), format!("it belongs to MeshInstallation {holder}"))
                .fix("give the installations different namespaces, and gateways different names")
        }
        Refusal::Foreign { key, holder: None } => {
            let maker = objects.iter().find(|meta| is(meta, key)).map_or(Origin::Unknown, origin);
            Finding::fail(CHECK, key.to_string(), format!("it is there already, made by {maker}")).fix(or_take_over(
                &maker.removal(&deletion(&key.kind.name().to_lowercase(), &key.name, key.namespace.as_deref())),
            ))
        }
    }
}

fn is(meta: &Meta, key: &ObjectKey) -> bool {
    meta.kind == key.kind.name() && meta.namespace == key.namespace && meta.name == key.name
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, samples};
    use super::*;
    use crate::mesh::kind::Kind;

    #[test]
    fn what_is_in_the_way_is_named_with_who_made_it_and_how_to_remove_it() {
        let key = ObjectKey { kind: Kind::Deployment, namespace: Some("istio-system".into()), name: "istiod".into() };
        let mut cluster = samples::cluster();
        cluster.refusals = Ok(vec![Refusal::Foreign { key: key.clone(), holder: None }]);
        let plain = findings(&samples::asked(), &cluster);
        assert_eq!((plain[0].verdict, plain[0].subject.as_str()), (Verdict::Fail, "Deployment istio-system/istiod"));
        assert_eq!(
            plain[0].fix.as_deref(),
            Some("kubectl delete deployment istiod --namespace istio-system; or take it over: meshwright adopt")
        );
        let helm = samples::meta("Deployment", "istio-system", "istiod")
            .annotated("meta.helm.sh/release-name", "istiod")
            .annotated("meta.helm.sh/release-namespace", "istio-system");
        cluster.objects = vec![helm];
        let helm = findings(&samples::asked(), &cluster);
        assert_eq!(
            helm[0].fix.as_deref(),
            Some("helm uninstall istiod --namespace istio-system; or take it over: meshwright adopt")
        );
        assert!(helm[0].reason.contains("Helm"), "{helm:?}");
    }

    #[test]
    fn another_installations_object_and_a_vanishing_namespace_are_told_apart() {
        let key = ObjectKey { kind: Kind::ConfigMap, namespace: Some("istio-system".into()), name: "istio".into() };
        let held = finding(&Refusal::Foreign { key, holder: Some("other".into()) }, &[]);
        assert!(held.reason.contains("MeshInstallation other"));
        assert!(finding(&Refusal::Terminating("istio-system".into()), &[]).reason.contains("being deleted"));
    }

    #[test]
    fn without_an_installation_nothing_can_be_in_the_way() {
        let mut asked = samples::asked();
        asked.installation = None;
        assert_eq!(findings(&asked, &samples::blind()), []);
    }
}
