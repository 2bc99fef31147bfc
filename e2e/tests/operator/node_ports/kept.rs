//! Ports that are chosen once and kept through everything.

use kube::api::{DeleteParams, Patch, PatchParams};
use meshwright_api::{AddressType, NodePortOrigin, NodePortRangeSource};
use meshwright_e2e::mesh::{Mesh, NAME};
use meshwright_e2e::{LabOptions, TestResult, run};
use serde_json::{Value, json};

use super::{
    NAMESPACE, Ports, delete_service, gateway, held, holds, http, occupy, ports, restart_operator, services, status,
    with,
};

#[test]
fn chosen_ports_lie_in_the_range_and_survive_whatever_happens() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::operator(lab).await?;
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
        assert_eq!(held(&mesh).await?, expected);
        let seen = ready.status.unwrap_or_default();
        let range = seen.platform.node_port_range.unwrap();
        assert_eq!((range.range.as_str(), range.source), ("30400-30449", NodePortRangeSource::Discovered));
        assert_eq!(seen.node_ports.len(), expected.len());
        assert!(seen.node_ports.iter().all(|port| port.from == NodePortOrigin::Assigned), "{:?}", seen.node_ports);
        let way = &seen.gateways[0];
        assert_eq!((way.address_type, way.addresses.len()), (Some(AddressType::Node), 1), "{way:?}");

        mesh.apply(NAME, spec(a.clone(), b.clone())).await?;
        mesh.wait_ready(NAME).await?;
        holds(&mesh, "another order of gateways", &expected).await?;

        delete_service(&mesh, "a").await?;
        delete_service(&mesh, "b").await?;
        holds(&mesh, "deleted Services", &expected).await?;

        let edit = Patch::Strategic(json!({"spec": {"ports": [{"port": 80, "nodePort": 30444}]}}));
        services(&mesh).patch("a", &PatchParams::default(), &edit).await?;
        holds(&mesh, "an edited Service", &expected).await?;

        // Nothing but the operator's memory has a's ports now.
        let flipped = gateway("a", json!({"type": "ClusterIP"}));
        mesh.apply(NAME, spec(flipped.clone(), b.clone())).await?;
        mesh.wait_ready(NAME).await?;
        let without: Ports = expected.clone().into_iter().filter(|(slot, _)| slot.starts_with("b/")).collect();
        holds(&mesh, "a without node ports", &without).await?;
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
        holds(&mesh, "a load balancer with a port more", &grown).await?;
        mesh.apply(NAME, spec(a, gateway("b", json!({"type": "NodePort"})))).await?;
        mesh.wait_ready(NAME).await?;
        let mut back = expected.clone();
        back.remove("b/healthCheckNodePort");
        holds(&mesh, "the first types again", &back).await?;
        Ok(())
    });
}

#[test]
fn a_gateway_that_is_renamed_takes_its_ports_along() {
    run(LabOptions::default().node_port_range("30400-30402"), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, with(json!([gateway("old", http(Some(30401)))]))).await?;
        mesh.wait_ready(NAME).await?;
        mesh.apply(NAME, with(json!([gateway("new", http(Some(30401)))]))).await?;
        mesh.wait_ready(NAME).await?;
        holds(&mesh, "an explicit port", &ports(&[("new/http2", 30401)])).await?;

        // All of the range is the old gateway's when the new one is to have it.
        mesh.apply(NAME, with(json!([gateway("wide", json!({"type": "NodePort"}))]))).await?;
        mesh.wait_ready(NAME).await?;
        mesh.apply(NAME, with(json!([gateway("wider", json!({"type": "NodePort"}))]))).await?;
        mesh.wait_ready(NAME).await?;
        let names = ["http2", "https", "status-port"].map(|name| format!("wider/{name}"));
        holds(&mesh, "chosen ports", &names.into_iter().zip(30400..).collect()).await?;
        Ok(())
    });
}

#[test]
fn the_usual_range_is_found_and_the_api_servers_own_choice_is_left_alone_where_it_is_wanted() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let spec = |assignment: &str| {
            let mut spec = with(json!([gateway("edge", json!({"type": "NodePort"}))]));
            spec["nodePorts"] = json!({"assignment": assignment});
            spec
        };
        mesh.apply(NAME, spec("Kubernetes")).await?;
        mesh.wait_ready(NAME).await?;
        let first = held(&mesh).await?;
        let seen = status(&mesh).await?;
        assert_eq!(seen.platform.node_port_range.unwrap().range, "30000-32767");
        assert!(seen.node_ports.iter().all(|port| port.from == NodePortOrigin::Cluster), "{:?}", seen.node_ports);

        mesh.apply(NAME, spec("Stable")).await?;
        mesh.wait_ready(NAME).await?;
        delete_service(&mesh, "edge").await?;
        holds(&mesh, "what the Service held is kept from now on", &first).await?;
        mesh.apply(NAME, spec("Kubernetes")).await?;
        mesh.wait_ready(NAME).await?;
        holds(&mesh, "handed back", &first).await?;

        let edit = Patch::Strategic(json!({"spec": {"ports": [{"port": 80, "nodePort": 32000}]}}));
        services(&mesh).patch("edge", &PatchParams::default(), &edit).await?;
        let mut edited = first.clone();
        edited.insert("edge/http2".into(), 32000);
        delete_deployment(&mesh, "edge").await?;
        holds(&mesh, "another's choice is not ours to undo", &edited).await?;
        Ok(())
    });
}

/// Gives the operator something to heal, and waits until it has.
async fn delete_deployment(mesh: &Mesh, name: &str) -> TestResult {
    mesh.api("apps/v1", "Deployment", Some(NAMESPACE)).delete(name, &DeleteParams::default()).await?;
    mesh.deployment_ready(NAMESPACE, name).await?;
    Ok(())
}
