//! Stability of assigned node ports.

use kube::api::{DeleteParams, Patch, PatchParams};
use meshwright_api::{GatewayAddressType, NodePortOrigin, NodePortRangeSource};
use meshwright_e2e::mesh::{Mesh, NAME};
use meshwright_e2e::{LabOptions, TestResult, run};
use serde_json::{Value, json};

use super::{
    NAMESPACE, Ports, gateway, http, occupy, ports, recreate_service, restart_operator, service_ports, services,
    status, wait_service_ports, with,
};

#[test]
fn assigned_ports_are_stable() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        occupy(&mesh, "api-server", 30402).await?;
        let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
        let spec = |first: Value, second: Value| {
            let mut spec = with(json!([first, second]));
            spec["nodePorts"] = json!({"reserved": ["30401", "30405-30409"]});
            spec
        };
        let (a, b) = (gateway("a", json!({"type": "NodePort"})), gateway("b", local.clone()));
        mesh.apply(NAME, spec(b.clone(), a.clone())).await?;
        let ready = mesh.wait_ready(NAME).await?;

        let expected = ports(&[
            ("a/http2", 30400),
            ("a/https", 30403),
            ("a/status-port", 30404),
            ("b/http2", 30410),
            ("b/https", 30411),
            ("b/status-port", 30412),
            ("b/healthCheckNodePort", 30413),
        ]);
        assert_eq!(service_ports(&mesh).await?, expected);
        let status = ready.status.unwrap_or_default();
        let range = status.platform.node_port_range.unwrap();
        assert_eq!((range.range.as_str(), range.source), ("30400-30449", NodePortRangeSource::Discovered));
        assert_eq!(status.node_ports.len(), expected.len());
        assert!(status.node_ports.iter().all(|port| port.from == NodePortOrigin::Assigned), "{:?}", status.node_ports);
        let gateway_status = &status.gateways[0];
        assert_eq!(
            (gateway_status.address_type, gateway_status.addresses.len()),
            (Some(GatewayAddressType::Node), 1),
            "{gateway_status:?}"
        );

        mesh.apply(NAME, spec(a.clone(), b.clone())).await?;
        mesh.wait_ready(NAME).await?;
        wait_service_ports(&mesh, "another order of gateways", &expected).await?;

        recreate_service(&mesh, "a").await?;
        recreate_service(&mesh, "b").await?;
        wait_service_ports(&mesh, "deleted Services", &expected).await?;

        let edit = Patch::Strategic(json!({"spec": {"ports": [{"port": 80, "nodePort": 30444}]}}));
        services(&mesh).patch("a", &PatchParams::default(), &edit).await?;
        wait_service_ports(&mesh, "an edited Service", &expected).await?;

        // Now only the revision history has the ports of gateway a.
        let flipped = gateway("a", json!({"type": "ClusterIP"}));
        mesh.apply(NAME, spec(flipped.clone(), b.clone())).await?;
        mesh.wait_ready(NAME).await?;
        let without: Ports = expected.clone().into_iter().filter(|(slot, _)| slot.starts_with("b/")).collect();
        wait_service_ports(&mesh, "a without node ports", &without).await?;
        let empty = Patch::Merge(json!({"status": {"nodePorts": null, "gateways": null, "conditions": null}}));
        mesh.installations().patch_status(NAME, &PatchParams::default(), &empty).await?;
        restart_operator(&mesh).await?;
        let more = json!({"type": "LoadBalancer", "ports": [
            {"name": "status-port", "port": 15021}, {"name": "web", "port": 8080},
            {"name": "http2", "port": 80}, {"name": "https", "port": 443},
        ]});
        mesh.apply(NAME, spec(gateway("a", more), b.clone())).await?;
        mesh.wait_ready(NAME).await?;
        let mut grown = expected.clone();
        grown.insert("a/web".into(), 30414);
        wait_service_ports(&mesh, "a load balancer with another port", &grown).await?;
        mesh.apply(NAME, spec(a, gateway("b", json!({"type": "NodePort"})))).await?;
        mesh.wait_ready(NAME).await?;
        let mut back = expected.clone();
        back.remove("b/healthCheckNodePort");
        wait_service_ports(&mesh, "the initial service types", &back).await?;
        Ok(())
    });
}

#[test]
fn renamed_gateway_keeps_ports() {
    run(LabOptions::default().node_port_range("30400-30402"), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, with(json!([gateway("old", http(Some(30401)))]))).await?;
        mesh.wait_ready(NAME).await?;
        mesh.apply(NAME, with(json!([gateway("new", http(Some(30401)))]))).await?;
        mesh.wait_ready(NAME).await?;
        wait_service_ports(&mesh, "an explicit port", &ports(&[("new/http2", 30401)])).await?;

        // The old gateway uses the whole range, and the new gateway needs the same ports.
        mesh.apply(NAME, with(json!([gateway("wide", json!({"type": "NodePort"}))]))).await?;
        mesh.wait_ready(NAME).await?;
        mesh.apply(NAME, with(json!([gateway("wider", json!({"type": "NodePort"}))]))).await?;
        mesh.wait_ready(NAME).await?;
        let names = ["http2", "https", "status-port"].map(|name| format!("wider/{name}"));
        wait_service_ports(&mesh, "chosen ports", &names.into_iter().zip(30400..).collect()).await?;
        Ok(())
    });
}

#[test]
fn kubernetes_assignment_keeps_api_servers_ports() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let spec = |assignment: &str| {
            let mut spec = with(json!([gateway("edge", json!({"type": "NodePort"}))]));
            spec["nodePorts"] = json!({"assignment": assignment});
            spec
        };
        mesh.apply(NAME, spec("Kubernetes")).await?;
        mesh.wait_ready(NAME).await?;
        let first = service_ports(&mesh).await?;
        let status = status(&mesh).await?;
        assert_eq!(status.platform.node_port_range.unwrap().range, "30000-32767");
        assert!(status.node_ports.iter().all(|port| port.from == NodePortOrigin::Cluster), "{:?}", status.node_ports);

        mesh.apply(NAME, spec("Stable")).await?;
        mesh.wait_ready(NAME).await?;
        recreate_service(&mesh, "edge").await?;
        wait_service_ports(&mesh, "the Service's ports are now stable", &first).await?;
        mesh.apply(NAME, spec("Kubernetes")).await?;
        mesh.wait_ready(NAME).await?;
        wait_service_ports(&mesh, "assignment by Kubernetes again", &first).await?;

        let edit = Patch::Strategic(json!({"spec": {"ports": [{"port": 80, "nodePort": 32000}]}}));
        services(&mesh).patch("edge", &PatchParams::default(), &edit).await?;
        let mut edited = first.clone();
        edited.insert("edge/http2".into(), 32000);
        recreate_deployment(&mesh, "edge").await?;
        wait_service_ports(&mesh, "an edited port is not reverted", &edited).await?;
        Ok(())
    });
}

/// Deletes a Deployment and waits until the operator has recreated it.
async fn recreate_deployment(mesh: &Mesh, name: &str) -> TestResult {
    mesh.api("apps/v1", "Deployment", Some(NAMESPACE)).delete(name, &DeleteParams::default()).await?;
    mesh.deployment_ready(NAMESPACE, name).await?;
    Ok(())
}
