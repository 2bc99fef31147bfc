//! Gateways: what they are made of, how they go, and what is told of them.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use meshwright_api::conditions::{ConditionType, Reason};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION};
use meshwright_e2e::{Lab, LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

fn with(gateways: &Value) -> Value {
    json!({"version": VERSION, "profile": "demo", "gateways": gateways})
}

/// The gateway's message in status, and whether it is ready.
async fn gateway(mesh: &Mesh, name: &str) -> Result<(Option<String>, bool, Vec<String>), String> {
    let found = mesh.installations().get(NAME).await.map_err(|e| e.to_string())?;
    let gateways = found.status.unwrap_or_default().gateways;
    let gateway = gateways.into_iter().find(|g| g.name == name).ok_or("status doesn't tell of it")?;
    Ok((gateway.message, gateway.ready, gateway.addresses))
}

/// Does what a cloud's controller does.
async fn give_address(lab: &Lab, namespace: &str, name: &str) -> TestResult {
    let services: Api<Service> = Api::namespaced(lab.client(), namespace);
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}});
    services.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

#[test]
fn a_pending_load_balancer_is_told_and_holds_nothing_up_unless_it_is_required() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, with(&json!([{"name": "edge"}]))).await?;
        mesh.wait_ready(NAME).await?;
        let (message, ready, addresses) = gateway(&mesh, "edge").await?;
        assert_eq!(message.as_deref(), Some("the load balancer has no address yet"));
        // Until there is one, the node's address and the node ports are the way in.
        assert!(ready && addresses.len() == 1 && addresses != ["203.0.113.7"], "{addresses:?}");

        mesh.apply(NAME, with(&json!([{"name": "edge", "requireAddress": true}]))).await?;
        let reason = Some(Reason::WaitingForAddress.as_str());
        mesh.wait_for(NAME, ConditionType::Ready, "Unknown", reason).await?;
        give_address(lab, "istio-system", "edge").await?;
        mesh.wait_ready(NAME).await?;
        let (message, _, addresses) = gateway(&mesh, "edge").await?;
        assert_eq!((message, addresses), (None, vec!["203.0.113.7".to_owned()]));
        Ok(())
    });
}

#[test]
fn ingress_egress_and_east_west_gateways_stand_in_their_own_namespaces() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let ports = json!([{"name": "tls", "port": 15443, "nodePort": 31443}]);
        let gateways = json!([
            {"name": "ingress", "namespace": "edge", "service": {
                "type": "NodePort",
                "ports": [{"name": "http2", "port": 80}, {"name": "status-port", "port": 15021}],
            }},
            {"name": "egress", "namespace": "outbound", "direction": "Egress", "replicas": 2},
            {"name": "crosspoint", "namespace": "edge", "direction": "EastWest", "network": "network1",
             "service": {"type": "NodePort", "ports": ports}},
        ]);
        mesh.apply(NAME, with(&gateways)).await?;
        mesh.wait_ready(NAME).await?;

        let service = async |namespace: &str, name: &str| -> TestResult<Service> {
            Ok(Api::<Service>::namespaced(lab.client(), namespace).get(name).await?)
        };
        let ports = |service: &Service| -> Vec<(String, i32, Option<i32>)> {
            let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            ports.map(|port| (port.name.clone().unwrap_or_default(), port.port, port.node_port)).collect()
        };
        let ingress = service("edge", "ingress").await?;
        assert_eq!(ports(&ingress)[0].0, "status-port", "load balancers look for health at the first port");
        let egress = service("outbound", "egress").await?;
        assert_eq!(egress.spec.as_ref().and_then(|spec| spec.type_.as_deref()), Some("ClusterIP"));
        assert_eq!(mesh.deployment_ready("outbound", "egress").await?.spec.and_then(|spec| spec.replicas), Some(2));
        let crosspoint = service("edge", "crosspoint").await?;
        assert_eq!(crosspoint.labels().get("topology.istio.io/network").map(String::as_str), Some("network1"));
        let names: Vec<String> = ports(&crosspoint).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["status-port", "tls", "tls-istiod", "tls-webhook"]);
        assert_eq!(ports(&crosspoint)[1], ("tls".into(), 15443, Some(31443)));
        Ok(())
    });
}

#[test]
fn a_gateway_that_is_taken_off_the_list_goes_service_first_and_leaves_nothing() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, with(&json!([{"name": "edge"}, {"name": "stays"}]))).await?;
        mesh.wait_ready(NAME).await?;
        let mark = lab.settled_audit().await?.mark();
        // A cloud's controller holds a Service until its load balancer is gone.
        let services: Api<Service> = Api::namespaced(lab.client(), "istio-system");
        let hold = json!({"metadata": {"finalizers": ["service.kubernetes.io/load-balancer-cleanup"]}});
        services.patch("edge", &PatchParams::default(), &Patch::Merge(&hold)).await?;

        mesh.apply(NAME, with(&json!([{"name": "stays"}]))).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "Unknown", Some(Reason::Pruning.as_str())).await?;
        mesh.deployment_ready("istio-system", "edge").await?;
        let release = json!({"metadata": {"finalizers": null}});
        services.patch("edge", &PatchParams::default(), &Patch::Merge(&release)).await?;
        mesh.wait_ready(NAME).await?;

        let audit = lab.settled_audit().await?;
        let deletes: Vec<String> = audit
            .since(mark)
            .writes(meshwright_e2e::mesh::OPERATOR)
            .filter(|entry| entry.verb == "delete")
            .map(|entry| entry.resource.clone())
            .collect();
        let at = |resource: &str| deletes.iter().position(|deleted| deleted == resource);
        assert!(at("services") < at("deployments") && at("deployments") < at("serviceaccounts"), "{deletes:?}");
        let params = ListParams::default().labels("meshwright.dev/component=gateway.edge");
        for kind in ["Service", "ServiceAccount"] {
            assert!(mesh.api("v1", kind, Some("istio-system")).list(&params).await?.items.is_empty(), "{kind}");
        }
        Ok(())
    });
}

#[test]
fn a_gateway_pod_that_was_never_injected_is_replaced() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, with(&json!([{"name": "edge"}]))).await?;
        mesh.wait_ready(NAME).await?;
        // With nobody to heal it, the injector's webhook stays away while a pod is made.
        let paused = json!({"version": VERSION, "profile": "demo", "paused": true, "gateways": [{"name": "edge"}]});
        mesh.apply(NAME, paused).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", Some(Reason::Paused.as_str())).await?;
        let webhooks = mesh.api("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None);
        webhooks.delete("istio-sidecar-injector", &DeleteParams::default()).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), "istio-system");
        let of_edge = ListParams::default().labels("istio=edge");
        let first = pods.list(&of_edge).await?.items;
        pods.delete(&first[0].name_any(), &DeleteParams::default()).await?;
        let images = async || -> Result<Vec<String>, String> {
            let found = pods.list(&of_edge).await.map_err(|e| e.to_string())?.items;
            let live = found.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
            Ok(live.flat_map(|pod| pod.spec.unwrap_or_default().containers).filter_map(|c| c.image).collect())
        };
        wait::until(wait::PATIENCE, "a pod with the placeholder for an image", async || match images().await? {
            found if found == ["auto"] => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await?;

        mesh.apply(NAME, with(&json!([{"name": "edge"}]))).await?;
        wait::until(wait::PATIENCE, "the pod to be replaced by one with a proxy", async || match images().await? {
            found if found.len() == 1 && found[0].contains("proxyv2") => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn the_gateway_api_is_told_of_when_its_definitions_are_there() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        let told = async || -> Result<Option<(bool, Option<String>)>, String> {
            let found = mesh.installations().get(NAME).await.map_err(|e| e.to_string())?;
            Ok(found.status.unwrap_or_default().gateway_api.map(|api| (api.installed, api.version)))
        };
        assert_eq!(told().await?, Some((false, None)));
        let definitions = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": "gateways.gateway.networking.k8s.io",
                "annotations": {
                    "gateway.networking.k8s.io/bundle-version": "v1.4.0",
                    "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/0",
                },
            },
            "spec": {
                "group": "gateway.networking.k8s.io", "scope": "Namespaced",
                "names": {"kind": "Gateway", "plural": "gateways", "singular": "gateway"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        });
        let params = PatchParams::apply("admin");
        definitions.patch("gateways.gateway.networking.k8s.io", &params, &Patch::Apply(&definition)).await?;
        wait::until(wait::PATIENCE, "the Gateway API to be told of", async || match told().await? {
            Some((true, Some(version))) if version == "v1.4.0" => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
