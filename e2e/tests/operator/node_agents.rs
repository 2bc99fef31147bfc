//! cni and ztunnel: their order, what refuses them, and how they go; and patches on what is rendered.

use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::audit::Audit;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR, VERSION, operator_writes};
use meshwright_e2e::{LabOptions, NodeSpec, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::stalling::stalls;

/// Small resources, and a gateway that takes no load balancer.
fn spec(profile: &str) -> Value {
    let gateway = json!({"name": "edge", "namespace": "edge", "replicas": 1, "service": {"type": "ClusterIP"}});
    let small = json!({"requests": {"cpu": "10m", "memory": "100Mi"}});
    json!({"version": VERSION, "profile": profile, "controlPlane": {"replicas": 1, "resources": small}, "gateways": [gateway]})
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

/// Where in the operator's writes an object's first one with this verb is.
fn place(audit: &Audit, verb: &str, resource: &str, name: &str) -> TestResult<usize> {
    let found = audit
        .writes(OPERATOR)
        .position(|entry| (&*entry.verb, &*entry.resource, &*entry.name) == (verb, resource, name));
    found.ok_or_else(|| format!("no {verb} of {resource} {name}").into())
}

fn component(installation: &MeshInstallation, name: &str) -> Option<(String, i32, i32)> {
    let status = installation.status.as_ref()?;
    let found = status.components.iter().find(|component| component.name == name)?;
    Some((found.namespace.clone().unwrap_or_default(), found.ready, found.desired))
}

fn message(installation: &MeshInstallation) -> String {
    installation.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default()
}

async fn gone(mesh: &Mesh, api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> TestResult {
    let api = mesh.api(api_version, kind, namespace);
    wait::until(wait::PATIENCE, format!("{kind} {name} to be gone"), async || {
        match api.get_opt(name).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(found) => Err(format!("{:?}", found.metadata.deletion_timestamp)),
        }
    })
    .await?;
    Ok(())
}

#[test]
fn an_ambient_mesh_comes_up_in_order_and_rests_and_its_agents_go_in_order() {
    let mut options = LabOptions::default().audited();
    options.nodes = vec![NodeSpec::new("node-1"), NodeSpec::new("node-2")];
    run(options, async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, spec("ambient")).await?;
        let ready = mesh.wait_ready(NAME).await?;
        for agent in ["cni", "ztunnel"] {
            assert_eq!(component(&ready, agent), Some(("istio-system".into(), 2, 2)), "{agent}");
        }
        let audit = lab.settled_audit().await?;
        let order = [
            place(&audit, "patch", "mutatingwebhookconfigurations", "istio-sidecar-injector")?,
            place(&audit, "patch", "daemonsets", "istio-cni-node")?,
            place(&audit, "patch", "daemonsets", "ztunnel")?,
            place(&audit, "patch", "deployments", "edge")?,
        ];
        assert!(order.is_sorted(), "{order:?}");

        // A node more is one pod more of each, and nothing to write but status.
        let before = audit.mark();
        let room = json!({"cpu": "4", "memory": "8Gi", "pods": "50"});
        let labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/hostname": "node-3"});
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-3", "labels": labels},
            "status": {"capacity": room, "allocatable": room},
        });
        mesh.api("v1", "Node", None).create(&PostParams::default(), &serde_json::from_value(node)?).await?;
        wait::until(wait::PATIENCE, "status to count the third node", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let all = Some(("istio-system".to_owned(), 3, 3));
            if component(&found, "cni") == all && component(&found, "ztunnel") == all {
                Ok(())
            } else {
                Err(message(&found))
            }
        })
        .await?;
        // The verdict on the spec may have been written after Ready was.
        let own = ["meshinstallations/status", "controllerrevisions"];
        let writes = operator_writes(&lab.settled_audit().await?, before);
        assert!(writes.iter().all(|write| own.iter().any(|kind| write.contains(kind))), "{writes:#?}");

        // Without them the mesh goes on.
        let before = lab.settled_audit().await?.mark();
        mesh.apply(NAME, spec("default")).await?;
        let ready = mesh.wait_ready(NAME).await?;
        assert_eq!((component(&ready, "cni"), component(&ready, "ztunnel")), (None, None));
        gone(&mesh, "rbac.authorization.k8s.io/v1", "ClusterRole", None, "istio-cni").await?;
        let audit = lab.settled_audit().await?.since(before);
        let order = [
            place(&audit, "delete", "daemonsets", "ztunnel")?,
            place(&audit, "delete", "daemonsets", "istio-cni-node")?,
            place(&audit, "delete", "clusterroles", "istio-cni")?,
        ];
        assert!(order.is_sorted(), "{order:?}");
        for name in ["ztunnel", "istio-cni-node"] {
            let left = mesh.api("apps/v1", "DaemonSet", Some("istio-system")).get_opt(name).await?;
            assert!(left.is_none(), "Ready came before {name} was gone");
        }
        Ok(())
    });
}

#[test]
fn an_ambient_mesh_is_uninstalled_from_its_edge_inwards() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, spec("ambient")).await?;
        mesh.wait_ready(NAME).await?;
        let before = lab.settled_audit().await?.mark();
        mesh.delete(NAME, &DeleteParams::default()).await?;
        let audit = lab.settled_audit().await?.since(before);
        let order = [
            place(&audit, "delete", "deployments", "edge")?,
            place(&audit, "delete", "mutatingwebhookconfigurations", "istio-sidecar-injector")?,
            place(&audit, "delete", "daemonsets", "ztunnel")?,
            place(&audit, "delete", "daemonsets", "istio-cni-node")?,
            place(&audit, "delete", "deployments", "istiod")?,
            place(&audit, "delete", "clusterroles", "istio-cni")?,
        ];
        assert!(order.is_sorted(), "{order:?}");
        Ok(())
    });
}

#[test]
fn pod_security_that_refuses_node_agents_is_named_and_is_its_owners_to_change() {
    const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        objects::namespace(&lab.client(), "nodes", &[(ENFORCE, "baseline")]).await?;
        let agent = |namespace: &str| json!({"mode": "Enabled", "namespace": namespace});
        let strict = with(with(spec("default"), "cni", agent("nodes")), "ztunnel", agent("proxies"));
        mesh.apply(NAME, strict).await?;
        let stuck = mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("PodSecurityTooStrict")).await?;
        let said = message(&stuck);
        for part in ["cni", "namespace nodes", "pod-security.kubernetes.io/enforce=baseline", "spec.cni.namespace"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        let namespaces = mesh.api("v1", "Namespace", None);
        assert_eq!(namespaces.get("nodes").await?.labels()[ENFORCE], "baseline", "another's label stays");
        assert_eq!(namespaces.get("proxies").await?.labels()[ENFORCE], "privileged", "our own lets them pass");

        let label = Patch::Merge(json!({"metadata": {"labels": {ENFORCE: "privileged"}}}));
        namespaces.patch("nodes", &PatchParams::default(), &label).await?;
        // The DaemonSet's controller tries again ever more rarely; a pod of its own makes it look.
        let pods = mesh.api("apps/v1", "DaemonSet", Some("nodes"));
        let nudge = Patch::Merge(json!({"metadata": {"annotations": {"example.com/look": "again"}}}));
        pods.patch("istio-cni-node", &PatchParams::default(), &nudge).await?;
        let ready = mesh.wait_ready(NAME).await?;
        assert_eq!(component(&ready, "cni"), Some(("nodes".into(), 1, 1)));
        assert_eq!(component(&ready, "ztunnel"), Some(("proxies".into(), 1, 1)));
        Ok(())
    });
}

#[test]
fn openshifts_profile_waits_for_multus_and_says_so() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        // What OpenShift puts on every namespace, and istiod reads.
        let range = json!({"openshift.io/sa.scc.uid-range": "1000620000/10000", "openshift.io/sa.scc.supplemental-groups": "1000620000/10000"});
        for name in ["istio-system", "edge"] {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": range}});
            mesh.api("v1", "Namespace", None)
                .patch(name, &PatchParams::apply("openshift"), &Patch::Apply(namespace))
                .await?;
        }
        mesh.apply(NAME, spec("openshift")).await?;
        let what = "the missing kind to be named";
        wait::until(wait::PATIENCE, what, async || {
            let said = message(&mesh.installations().get(NAME).await.map_err(|error| error.to_string())?);
            let named = said.contains("the cluster has no network-attachment-definitions (k8s.cni.cncf.io)");
            if named { Ok(()) } else { Err(said) }
        })
        .await?;
        // The control plane doesn't wait for it.
        mesh.deployment_ready("istio-system", "istiod").await?;
        multus(&mesh).await?;
        let ready = mesh.wait_ready(NAME).await?;
        assert_eq!(component(&ready, "cni"), Some(("kube-system".into(), 1, 1)));
        let system = mesh.api("v1", "Namespace", None).get("kube-system").await?;
        assert!(!system.labels().contains_key("meshwright.dev/installation"), "the cluster's namespaces aren't ours");

        // From now on it is watched like any other kind.
        let attachments = mesh.api("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", Some("default"));
        let old = attachments.get("istio-cni").await?.uid();
        attachments.delete("istio-cni", &DeleteParams::default()).await?;
        wait::until(wait::PATIENCE, "the attachment to be back", async || {
            let found = attachments.get_opt("istio-cni").await.map_err(|error| error.to_string())?;
            if found.is_some_and(|found| found.uid() != old) { Ok(()) } else { Err("it isn't".to_owned()) }
        })
        .await?;
        Ok(())
    });
}

/// Defines Multus' kind as Multus does.
pub(super) async fn multus(mesh: &Mesh) -> TestResult {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"config": {"type": "string"}}},
    }}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "network-attachment-definitions.k8s.cni.cncf.io"},
        "spec": {
            "group": "k8s.cni.cncf.io", "scope": "Namespaced",
            "names": {"plural": "network-attachment-definitions", "singular": "network-attachment-definition", "kind": "NetworkAttachmentDefinition"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    let definitions = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
    definitions.create(&PostParams::default(), &serde_json::from_value(definition)?).await?;
    let attachments = mesh.api("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", None);
    wait::until(wait::PATIENCE, "Multus' kind to be served", async || {
        attachments.list(&kube::api::ListParams::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}

fn patch(kind: &str, name: &str, operations: &Value) -> Value {
    json!([{"target": {"kind": kind, "name": name}, "patch": operations}])
}

#[test]
fn patches_are_honoured_and_healed_and_a_wrong_one_leaves_the_mesh_as_it_was() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let patches = json!([
            {"target": {"kind": "DaemonSet", "name": "ztunnel"}, "patch": [
                {"op": "test", "path": "/spec/template/spec/containers/0/name", "value": "istio-proxy"},
                {"op": "add", "path": "/spec/template/spec/nodeSelector/mesh", "value": "yes"},
            ]},
            {"target": {"kind": "Service", "name": "istiod", "namespace": "istio-system"}, "patch": [
                {"op": "add", "path": "/metadata/annotations", "value": {"example.com/owner": "mesh-team"}},
            ]},
        ]);
        mesh.apply(NAME, with(spec("ambient"), "patches", patches)).await?;
        let ready = mesh.wait_ready(NAME).await?;
        // No node has that label: nothing to roll out is rolled out.
        assert_eq!(component(&ready, "ztunnel"), Some(("istio-system".into(), 0, 0)));
        let services = mesh.api("v1", "Service", Some("istio-system"));
        assert_eq!(services.get("istiod").await?.annotations()["example.com/owner"], "mesh-team");
        let edit = Patch::Merge(json!({"metadata": {"annotations": {"example.com/owner": "nobody"}}}));
        services.patch("istiod", &PatchParams::default(), &edit).await?;
        wait::until(wait::PATIENCE, "the patched annotation to be put right", async || {
            let now =
                services.get("istiod").await.map_err(|error| error.to_string())?.annotations()["example.com/owner"]
                    .clone();
            if now == "mesh-team" { Ok(()) } else { Err(now) }
        })
        .await?;

        let name = json!([{"op": "replace", "path": "/metadata/name", "value": "mine"}]);
        let mark = json!([{"op": "add", "path": "/metadata/labels/meshwright.dev~1installation", "value": "mine"}]);
        let path = json!([{"op": "remove", "path": "/spec/nothing"}]);
        let add = json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]);
        for (patches, parts) in [
            (patch("Service", "istiod", &name), ["spec.patches[0]", "metadata.name of Service istiod"]),
            (patch("Service", "istiod", &mark), ["spec.patches[0]", "metadata.labels of Service istiod"]),
            (patch("Service", "istiod", &path), ["spec.patches[0].patch[0]", "\"/spec/nothing\""]),
            (patch("Service", "istoid", &add), ["spec.patches[0].target", "no Service istoid"]),
            (patch("Pod", "istiod", &add), ["spec.patches[0].target.kind", "\"Pod\""]),
        ] {
            let applied = mesh.apply(NAME, with(spec("ambient"), "patches", patches)).await?;
            let stalled = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("InvalidSpec")).await?;
            assert_eq!(stalled.metadata.generation, applied.metadata.generation);
            let said = message(&stalled);
            assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
            assert_eq!(services.get("istiod").await?.annotations()["example.com/owner"], "mesh-team");
        }
        mesh.apply(NAME, spec("ambient")).await?;
        let ready = mesh.wait_ready(NAME).await?;
        assert_eq!(component(&ready, "ztunnel"), Some(("istio-system".into(), 1, 1)));
        assert_eq!(services.get("istiod").await?.annotations().get("example.com/owner"), None);
        Ok(())
    });
}

#[test]
fn node_agents_that_do_not_go_together_are_refused_with_the_reason() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let (on, off) = (json!({"mode": "Enabled"}), json!({"mode": "Disabled"}));
        for (refused, parts) in [
            (with(spec("default"), "ztunnel", on), ["spec.ztunnel.mode", "needs cni"]),
            (with(spec("ambient"), "cni", off.clone()), ["spec.cni.mode", "leaves ztunnel without traffic"]),
            (with(spec("ambient"), "ztunnel", off), ["spec.ztunnel.mode", "profile ambient"]),
            (with(spec("default"), "cni", json!({"namespace": "nodes"})), ["spec.cni.namespace", "does nothing"]),
        ] {
            stalls(&mesh, refused, "InvalidSpec", &parts).await?;
        }
        Ok(())
    });
}
