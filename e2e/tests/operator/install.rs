//! Installation with `kubectl apply`: injection, gateway ports, revision history and pausing.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR, OPERATOR_NAMESPACE, VERSION, demo_spec, operator_writes};
use meshwright_e2e::{LabOptions, objects, run, wait};
use serde_json::json;

fn demo() -> serde_json::Value {
    let ports = json!([
        {"name": "status-port", "port": 15021},
        {"name": "http2", "port": 80, "nodePort": 30401},
        {"name": "https", "port": 443, "nodePort": 30402},
        {"name": "tcp", "port": 31400, "nodePort": 30403},
    ]);
    let gateway = json!({"name": "istio-ingressgateway", "service": {"type": "NodePort", "ports": ports}});
    json!({"version": VERSION, "profile": "demo", "gateways": [gateway]})
}

#[test]
fn installs_mesh_and_gateway_with_one_resource() {
    run(LabOptions::default().node_port_range("30400-30449").audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let before = lab.settled_audit().await?.position();
        mesh.apply(NAME, demo()).await?;
        let ready = mesh.wait_ready(NAME).await?;

        let status = ready.status.clone().unwrap_or_default();
        assert_eq!(status.version.running.as_deref(), Some(VERSION));
        assert!(status.components.iter().all(|c| c.ready == c.desired && c.desired > 0), "{:?}", status.components);
        let ports: Vec<i32> = status.node_ports.iter().map(|assigned| assigned.port).collect();
        assert!([30401, 30402, 30403].iter().all(|port| ports.contains(port)), "{ports:?}");
        assert!(status.ca.is_some_and(|ca| ca.not_after.is_some()), "the CA's expiry should be reported");
        assert_eq!(ready.finalizers().len(), 1);

        let services: Api<Service> = Api::namespaced(lab.client(), "istio-system");
        let service = services.get("istio-ingressgateway").await?;
        assert_eq!(service.spec.as_ref().and_then(|spec| spec.type_.as_deref()), Some("NodePort"));
        assert!(service.owner_references().is_empty(), "ownership uses labels and annotations, not owner references");

        objects::namespace(&lab.client(), "shop", &[("istio-injection", "enabled")]).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        let pod = pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await?;
        assert!(objects::proxy(&pod).is_some(), "{:?}", pod.spec);

        // One write per object, and three own writes: the finalizer, the revision, and its verdict. Status isn't
        // counted.
        let writes = operator_writes(&lab.settled_audit().await?, before);
        let own =
            |write: &&String| ["meshinstallations", "controllerrevisions"].iter().any(|kind| write.contains(kind));
        let own_writes = writes.iter().filter(own).filter(|write| !write.contains("meshinstallations/status")).count();
        assert_eq!(own_writes, 3, "{writes:#?}");
        let mut objects: Vec<&String> = writes.iter().filter(|write| !own(write)).collect();
        let count = objects.len();
        objects.sort();
        objects.dedup();
        assert_eq!(objects.len(), count, "an object was written twice: {writes:#?}");

        // An object takes a read, a dry run and a write.
        let audit = lab.settled_audit().await?.since(before);
        let requests = audit.by(OPERATOR).filter(|entry| entry.resource != "leases" && entry.verb != "watch");
        let requests: Vec<String> =
            requests.map(|entry| format!("{} {} {}", entry.verb, entry.uri, entry.code)).collect();
        assert!(requests.len() <= 3 * count + 30, "{} requests for {count} objects: {requests:#?}", requests.len());
        Ok(())
    });
}

#[test]
fn records_revision_and_verdict_of_accepted_spec() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let revisions: Api<ControllerRevision> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
        let verdicts = async || -> Result<Vec<String>, String> {
            let mut list = revisions.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
            list.sort_by_key(|revision| revision.revision);
            Ok(list
                .iter()
                .map(|r| r.annotations().get("meshwright.dev/verdict").cloned().unwrap_or_default())
                .collect())
        };
        let expect = async |expected: &[&str]| {
            wait::until(wait::TIMEOUT, format!("verdicts {expected:?}"), async || {
                let seen = verdicts().await?;
                if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
            })
            .await
        };
        expect(&["deployed"]).await?;

        let mut second = demo_spec();
        second["proxy"] = json!({"logLevel": "debug"});
        mesh.apply(NAME, second).await?;
        mesh.wait_ready(NAME).await?;
        expect(&["superseded", "deployed"]).await?;

        // Revision history is sufficient to restore a lost status.
        let lost = json!({"status": null});
        let params = kube::api::PatchParams::default();
        mesh.installations().patch_status(NAME, &params, &kube::api::Patch::Merge(&lost)).await?;
        mesh.wait_ready(NAME).await?;
        expect(&["superseded", "deployed"]).await?;
        Ok(())
    });
}

#[test]
fn paused_installation_is_measured_but_not_written() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let mut paused = demo_spec();
        paused["paused"] = true.into();
        mesh.apply(NAME, paused.clone()).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("Paused")).await?;
        let writes = operator_writes(&lab.settled_audit().await?, Default::default());
        assert!(writes.iter().all(|write| write.contains("meshinstallations/status")), "{writes:#?}");

        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        mesh.apply(NAME, paused).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", Some("Paused")).await?;
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        deployments.delete("istiod", &Default::default()).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some("Paused")).await?;
        assert!(deployments.get_opt("istiod").await?.is_none(), "drift should not be reverted while paused");

        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn removed_gateway_is_deleted_with_its_objects() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let gateway = |name: &str| json!({"name": name, "namespace": "edge", "service": {"type": "ClusterIP"}});
        let mut spec = demo_spec();
        spec["gateways"] = json!([gateway("one"), gateway("two")]);
        mesh.apply(NAME, spec.clone()).await?;
        mesh.wait_ready(NAME).await?;
        let pods_before = objects::pod_names(&lab.client(), "edge", "app=one").await?;

        spec["gateways"] = json!([gateway("one")]);
        mesh.apply(NAME, spec).await?;
        let ready = mesh.wait_ready(NAME).await?;
        assert_eq!(ready.status.unwrap_or_default().gateways.len(), 1);
        for (api_version, kind) in [
            ("apps/v1", "Deployment"),
            ("v1", "Service"),
            ("v1", "ServiceAccount"),
            ("rbac.authorization.k8s.io/v1", "Role"),
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ] {
            let api = mesh.api(api_version, kind, Some("edge"));
            wait::until(wait::TIMEOUT, format!("deletion of {kind} two"), async || {
                match api.get_opt("two").await.map_err(|e| e.to_string())? {
                    None => Ok(()),
                    Some(_) => Err("it still exists".to_owned()),
                }
            })
            .await?;
            assert!(kind == "Role" || api.get_opt("one").await?.is_some(), "{kind} one should remain");
        }
        assert_eq!(
            objects::pod_names(&lab.client(), "edge", "app=one").await?,
            pods_before,
            "no other workload should roll"
        );
        Ok(())
    });
}
