//! istio-cni and ztunnel: installation order, Pod Security, removal; and patches.

use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use meshwright_api::MeshInstallation;
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::audit::Audit;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR, VERSION, operator_writes};
use meshwright_e2e::{LabOptions, NodeSpec, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::stalled::assert_stalls;

/// A mesh with a gateway of type ClusterIP and small resource requests.
fn spec(profile: &str) -> Value {
    let gateway = json!({"name": "edge", "namespace": "edge", "replicas": 1, "service": {"type": "ClusterIP"}});
    let resources = json!({"requests": {"cpu": "10m", "memory": "100Mi"}});
    json!({"version": VERSION, "profile": profile, "controlPlane": {"replicas": 1, "resources": resources}, "gateways": [gateway]})
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

/// Index of the first write with this verb to an object.
fn write_index(audit: &Audit, verb: &str, resource: &str, name: &str) -> TestResult<usize> {
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

async fn wait_deleted(mesh: &Mesh, api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> TestResult {
    let api = mesh.api(api_version, kind, namespace);
    wait::until(wait::TIMEOUT, format!("deletion of {kind} {name}"), async || {
        match api.get_opt(name).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(found) => Err(format!("{:?}", found.metadata.deletion_timestamp)),
        }
    })
    .await?;
    Ok(())
}

#[test]
fn installs_and_removes_ambient_components_in_order() {
    let mut options = LabOptions::default().audited();
    options.nodes = vec![NodeSpec::new("node-1"), NodeSpec::new("node-2")];
    run(options, async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, spec("ambient")).await?;
        let ready = mesh.wait_ready(NAME).await?;
        for agent in ["cni", "ztunnel"] {
            assert_eq!(component(&ready, agent), Some(("istio-system".into(), 2, 2)), "{agent}");
        }
        let audit = lab.settled_audit().await?;
        let order = [
            write_index(&audit, "patch", "mutatingwebhookconfigurations", "istio-sidecar-injector")?,
            write_index(&audit, "patch", "daemonsets", "istio-cni-node")?,
            write_index(&audit, "patch", "daemonsets", "ztunnel")?,
            write_index(&audit, "patch", "deployments", "edge")?,
        ];
        assert!(order.is_sorted(), "{order:?}");

        // A new node adds a pod of each DaemonSet; the operator writes only status.
        let before = audit.position();
        let capacity = json!({"cpu": "4", "memory": "8Gi", "pods": "50"});
        let labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/hostname": "node-3"});
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-3", "labels": labels},
            "status": {"capacity": capacity, "allocatable": capacity},
        });
        mesh.api("v1", "Node", None).create(&PostParams::default(), &serde_json::from_value(node)?).await?;
        wait::until(wait::TIMEOUT, "status to count the third node", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let all = Some(("istio-system".to_owned(), 3, 3));
            if component(&found, "cni") == all && component(&found, "ztunnel") == all {
                Ok(())
            } else {
                Err(message(&found))
            }
        })
        .await?;
        // The revision's verdict may be written after Ready.
        let own = ["meshinstallations/status", "controllerrevisions"];
        let writes = operator_writes(&lab.settled_audit().await?, before);
        assert!(writes.iter().all(|write| own.iter().any(|kind| write.contains(kind))), "{writes:#?}");

        // The mesh continues without both components.
        let before = lab.settled_audit().await?.position();
        mesh.apply(NAME, spec("default")).await?;
        let ready = mesh.wait_ready(NAME).await?;
        assert_eq!((component(&ready, "cni"), component(&ready, "ztunnel")), (None, None));
        wait_deleted(&mesh, "rbac.authorization.k8s.io/v1", "ClusterRole", None, "istio-cni").await?;
        let audit = lab.settled_audit().await?.since(before);
        let order = [
            write_index(&audit, "delete", "daemonsets", "ztunnel")?,
            write_index(&audit, "delete", "daemonsets", "istio-cni-node")?,
            write_index(&audit, "delete", "clusterroles", "istio-cni")?,
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
fn uninstalls_ambient_mesh_in_order() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, spec("ambient")).await?;
        mesh.wait_ready(NAME).await?;
        let before = lab.settled_audit().await?.position();
        mesh.delete(NAME, &DeleteParams::default()).await?;
        let audit = lab.settled_audit().await?.since(before);
        let order = [
            write_index(&audit, "delete", "deployments", "edge")?,
            write_index(&audit, "delete", "mutatingwebhookconfigurations", "istio-sidecar-injector")?,
            write_index(&audit, "delete", "daemonsets", "ztunnel")?,
            write_index(&audit, "delete", "daemonsets", "istio-cni-node")?,
            write_index(&audit, "delete", "deployments", "istiod")?,
            write_index(&audit, "delete", "clusterroles", "istio-cni")?,
        ];
        assert!(order.is_sorted(), "{order:?}");
        Ok(())
    });
}

#[test]
fn reports_pod_security_violation_of_cni() {
    const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        objects::namespace(&lab.client(), "nodes", &[(ENFORCE, "baseline")]).await?;
        let agent = |namespace: &str| json!({"mode": "Enabled", "namespace": namespace});
        let strict = with(with(spec("default"), "cni", agent("nodes")), "ztunnel", agent("proxies"));
        mesh.apply(NAME, strict).await?;
        let pending = mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("PodSecurityViolation")).await?;
        let text = message(&pending);
        for part in ["cni", "Namespace nodes", "pod-security.kubernetes.io/enforce=baseline", "spec.cni.namespace"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let namespaces = mesh.api("v1", "Namespace", None);
        assert_eq!(
            namespaces.get("nodes").await?.labels()[ENFORCE],
            "baseline",
            "the label of an unmanaged namespace should stay"
        );
        assert_eq!(
            namespaces.get("proxies").await?.labels()[ENFORCE],
            "privileged",
            "a managed namespace should allow privileged pods"
        );

        let label = Patch::Merge(json!({"metadata": {"labels": {ENFORCE: "privileged"}}}));
        namespaces.patch("nodes", &PatchParams::default(), &label).await?;
        // The DaemonSet controller retries with growing back-off; a change to the DaemonSet makes it retry at once.
        let daemon_sets = mesh.api("apps/v1", "DaemonSet", Some("nodes"));
        let annotation = Patch::Merge(json!({"metadata": {"annotations": {"example.com/retry": "now"}}}));
        daemon_sets.patch("istio-cni-node", &PatchParams::default(), &annotation).await?;
        let ready = mesh.wait_ready(NAME).await?;
        assert_eq!(component(&ready, "cni"), Some(("nodes".into(), 1, 1)));
        assert_eq!(component(&ready, "ztunnel"), Some(("proxies".into(), 1, 1)));
        Ok(())
    });
}

#[test]
fn openshift_profile_waits_for_multus_crd() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        // OpenShift annotates every namespace so, and istiod reads it.
        let range = json!({"openshift.io/sa.scc.uid-range": "1000620000/10000", "openshift.io/sa.scc.supplemental-groups": "1000620000/10000"});
        for name in ["istio-system", "edge"] {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": range}});
            mesh.api("v1", "Namespace", None)
                .patch(name, &PatchParams::apply("openshift"), &Patch::Apply(namespace))
                .await?;
        }
        mesh.apply(NAME, spec("openshift")).await?;
        wait::until(wait::TIMEOUT, "status to report the missing kind", async || {
            let text = message(&mesh.installations().get(NAME).await.map_err(|error| error.to_string())?);
            let named = text.contains("the cluster has no network-attachment-definitions (k8s.cni.cncf.io)");
            if named { Ok(()) } else { Err(text) }
        })
        .await?;
        // The control plane doesn't wait for the CRD.
        mesh.deployment_ready("istio-system", "istiod").await?;
        install_multus_crd(&mesh).await?;
        let ready = mesh.wait_ready(NAME).await?;
        assert_eq!(component(&ready, "cni"), Some(("kube-system".into(), 1, 1)));
        let system = mesh.api("v1", "Namespace", None).get("kube-system").await?;
        assert!(
            !system.labels().contains_key("meshwright.dev/installation"),
            "the operator should not own kube-system"
        );

        // The operator now watches this kind.
        let attachments = mesh.api("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", Some("default"));
        let old = attachments.get("istio-cni").await?.uid();
        attachments.delete("istio-cni", &DeleteParams::default()).await?;
        wait::until(wait::TIMEOUT, "the NetworkAttachmentDefinition to be recreated", async || {
            let found = attachments.get_opt("istio-cni").await.map_err(|error| error.to_string())?;
            if found.is_some_and(|found| found.uid() != old) { Ok(()) } else { Err("not recreated".to_owned()) }
        })
        .await?;
        Ok(())
    });
}

/// Installs the CRD of Multus.
pub(super) async fn install_multus_crd(mesh: &Mesh) -> TestResult {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"config": {"type": "string"}}},
    }}});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "network-attachment-definitions.k8s.cni.cncf.io"},
        "spec": {
            "group": "k8s.cni.cncf.io", "scope": "Namespaced",
            "names": {"plural": "network-attachment-definitions", "singular": "network-attachment-definition", "kind": "NetworkAttachmentDefinition"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    let crds = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
    crds.create(&PostParams::default(), &serde_json::from_value(crd)?).await?;
    let attachments = mesh.api("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", None);
    wait::until(wait::TIMEOUT, "NetworkAttachmentDefinition to be served", async || {
        attachments.list(&kube::api::ListParams::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}

fn patch(kind: &str, name: &str, operations: &Value) -> Value {
    json!([{"target": {"kind": kind, "name": name}, "patch": operations}])
}

#[test]
fn applies_patches_and_rejects_invalid_ones() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
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
        // No node has this label, so zero of zero pods are ready.
        assert_eq!(component(&ready, "ztunnel"), Some(("istio-system".into(), 0, 0)));
        let services = mesh.api("v1", "Service", Some("istio-system"));
        assert_eq!(services.get("istiod").await?.annotations()["example.com/owner"], "mesh-team");
        let edit = Patch::Merge(json!({"metadata": {"annotations": {"example.com/owner": "another-team"}}}));
        services.patch("istiod", &PatchParams::default(), &edit).await?;
        wait::until(wait::TIMEOUT, "the patched annotation to be restored", async || {
            let now =
                services.get("istiod").await.map_err(|error| error.to_string())?.annotations()["example.com/owner"]
                    .clone();
            if now == "mesh-team" { Ok(()) } else { Err(now) }
        })
        .await?;

        let name = json!([{"op": "replace", "path": "/metadata/name", "value": "mine"}]);
        let label = json!([{"op": "add", "path": "/metadata/labels/meshwright.dev~1installation", "value": "mine"}]);
        let path = json!([{"op": "remove", "path": "/spec/nothing"}]);
        let add = json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]);
        for (patches, parts) in [
            (patch("Service", "istiod", &name), ["spec.patches[0]", "metadata.name of Service istiod"]),
            (patch("Service", "istiod", &label), ["spec.patches[0]", "metadata.labels of Service istiod"]),
            (patch("Service", "istiod", &path), ["spec.patches[0].patch[0]", "\"/spec/nothing\""]),
            (patch("Service", "istoid", &add), ["spec.patches[0].target", "Service istoid not found"]),
            (patch("Pod", "istiod", &add), ["spec.patches[0].target.kind", "\"Pod\""]),
        ] {
            let applied = mesh.apply(NAME, with(spec("ambient"), "patches", patches)).await?;
            let stalled = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("InvalidSpec")).await?;
            assert_eq!(stalled.metadata.generation, applied.metadata.generation);
            let text = message(&stalled);
            assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} in {text}");
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
fn rejects_conflicting_cni_and_ztunnel_modes() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let (on, off) = (json!({"mode": "Enabled"}), json!({"mode": "Disabled"}));
        for (refused, parts) in [
            (with(spec("default"), "ztunnel", on), ["spec.ztunnel.mode", "requires cni"]),
            (with(spec("ambient"), "cni", off.clone()), ["spec.cni.mode", "leaves ztunnel without traffic"]),
            (with(spec("ambient"), "ztunnel", off), ["spec.ztunnel.mode", "profile ambient"]),
            (with(spec("default"), "cni", json!({"namespace": "nodes"})), ["spec.cni.namespace", "has no effect"]),
        ] {
            assert_stalls(&mesh, refused, "InvalidSpec", &parts).await?;
        }
        Ok(())
    });
}
