//! Gateways: their objects, their removal, and their status.

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

/// Message, readiness and addresses of a gateway in status.
async fn gateway(mesh: &Mesh, name: &str) -> Result<(Option<String>, bool, Vec<String>), String> {
    let found = mesh.installations().get(NAME).await.map_err(|e| e.to_string())?;
    let gateways = found.status.unwrap_or_default().gateways;
    let gateway = gateways.into_iter().find(|g| g.name == name).ok_or("status doesn't list the gateway")?;
    Ok((gateway.message, gateway.ready, gateway.addresses))
}

/// Sets the address of a load balancer like a cloud controller.
async fn set_address(lab: &Lab, namespace: &str, name: &str) -> TestResult {
    let services: Api<Service> = Api::namespaced(lab.client(), namespace);
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}});
    services.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

#[test]
fn pending_load_balancer_blocks_only_when_required() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, with(&json!([{"name": "edge"}]))).await?;
        mesh.wait_ready(NAME).await?;
        let (message, ready, addresses) = gateway(&mesh, "edge").await?;
        assert_eq!(message.as_deref(), Some("the load balancer has no address yet"));
        // Without a load balancer address, status shows the node's address.
        assert!(ready && addresses.len() == 1 && addresses != ["203.0.113.7"], "{addresses:?}");

        mesh.apply(NAME, with(&json!([{"name": "edge", "requireAddress": true}]))).await?;
        let reason = Some(Reason::WaitingForAddress.as_str());
        mesh.wait_for(NAME, ConditionType::Ready, "Unknown", reason).await?;
        set_address(lab, "istio-system", "edge").await?;
        mesh.wait_ready(NAME).await?;
        let (message, _, addresses) = gateway(&mesh, "edge").await?;
        assert_eq!((message, addresses), (None, vec!["203.0.113.7".to_owned()]));
        Ok(())
    });
}

#[test]
fn installs_gateways_in_their_own_namespaces() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
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
        assert_eq!(ports(&ingress)[0].0, "status-port", "cloud load balancers check the first port");
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
fn deletes_service_of_removed_gateway_first() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, with(&json!([{"name": "edge"}, {"name": "stays"}]))).await?;
        mesh.wait_ready(NAME).await?;
        let start = lab.settled_audit().await?.position();
        // A cloud controller's finalizer keeps a Service until its load balancer is deleted.
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
            .since(start)
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
fn replaces_gateway_pod_without_proxy() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, with(&json!([{"name": "edge"}]))).await?;
        mesh.wait_ready(NAME).await?;
        // While paused, the operator doesn't recreate the injection webhook, so the new pod isn't injected.
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
        wait::until(wait::TIMEOUT, "a pod with the placeholder image", async || match images().await? {
            found if found == ["auto"] => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await?;

        mesh.apply(NAME, with(&json!([{"name": "edge"}]))).await?;
        wait::until(wait::TIMEOUT, "a new pod with a proxy", async || match images().await? {
            found if found.len() == 1 && found[0].contains("proxyv2") => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}

#[test]
fn reports_installed_gateway_api() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let gateway_api = async || -> Result<Option<(bool, Option<String>)>, String> {
            let found = mesh.installations().get(NAME).await.map_err(|e| e.to_string())?;
            Ok(found.status.unwrap_or_default().gateway_api.map(|api| (api.installed, api.version)))
        };
        assert_eq!(gateway_api().await?, Some((false, None)));
        let crds = mesh.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": "gateways.gateway.networking.k8s.io",
                "annotations": {
                    "gateway.networking.k8s.io/bundle-version": "v1.4.0",
                    "gateway.networking.k8s.io/channel": "experimental",
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
        crds.patch("gateways.gateway.networking.k8s.io", &params, &Patch::Apply(&crd)).await?;
        wait::until(wait::TIMEOUT, "status to report the Gateway API", async || match gateway_api().await? {
            Some((true, Some(version))) if version == "v1.4.0" => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await?;
        wait::until(wait::TIMEOUT, "a warning that istiod ignores old CRDs", async || {
            let found = mesh.installations().get(NAME).await.map_err(|e| e.to_string())?;
            let warnings = found.status.unwrap_or_default().platform.warnings;
            let is_warned = warnings.iter().any(|warning| warning.contains("ignores TLSRoute, TCPRoute"));
            if is_warned { Ok(()) } else { Err(format!("{warnings:?}")) }
        })
        .await?;
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
