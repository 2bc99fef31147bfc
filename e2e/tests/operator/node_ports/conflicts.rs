//! Unavailable node ports and how they are reported.

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{Mesh, NAME};
use meshwright_e2e::{LabOptions, run, wait};
use serde_json::json;

use super::{
    Ports, gateway, http, occupy, ports, recreate_service, release, service_ports, services, wait_service_ports, with,
};
use crate::stalled::{assert_stalls, wait_stalled};

#[test]
fn rejects_unavailable_ports_and_keeps_running_mesh() {
    run(LabOptions::default().node_port_range("30400-30404"), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        occupy(&mesh, "api-server", 30401).await?;
        mesh.apply(NAME, with(json!([gateway("edge", http(Some(30400)))]))).await?;
        mesh.wait_ready(NAME).await?;
        let before = ports(&[("edge/http2", 30400)]);

        let with_port = |number: i32| with(json!([gateway("edge", http(Some(number)))]));
        let field = "spec.gateways[edge].service.ports[http2].nodePort";
        assert_stalls(
            &mesh,
            with_port(31380),
            "NodePortOutOfRange",
            &[field, "31380", "30400-30404", "the API server's"],
        )
        .await?;
        assert_stalls(
            &mesh,
            with_port(30401),
            "NodePortInUse",
            &[field, "30401", "port api of Service default/api-server"],
        )
        .await?;
        let mut reserved = with_port(30402);
        reserved["nodePorts"] = json!({"reserved": ["30402-30403"]});
        assert_stalls(&mesh, reserved, "NodePortReserved", &[field, "30402", "spec.nodePorts.reserved"]).await?;
        let twice = json!([gateway("edge", http(Some(30402))), gateway("other", http(Some(30402)))]);
        assert_stalls(&mesh, with(twice), "NodePortInUse", &["30402", "edge", "other"]).await?;
        let mut outside = with_port(30400);
        outside["nodePorts"] = json!({"range": "30400-30500"});
        assert_stalls(&mesh, outside, "NodePortOutOfRange", &["spec.nodePorts.range", "30400-30500", "30400-30404"])
            .await?;
        let many = json!([gateway("edge", http(Some(30400))), gateway("b", json!({})), gateway("c", json!({}))]);
        assert_stalls(
            &mesh,
            with(many),
            "NodePortsExhausted",
            &["6 node ports", "only 3 of 5 are free", "1 used by other Services"],
        )
        .await?;

        wait_service_ports(&mesh, "rejected specs", &before).await?;
        recreate_service(&mesh, "edge").await?;
        wait_service_ports(&mesh, "drift is still reverted", &before).await?;
        mesh.wait_for(NAME, ConditionType::Available, "True", None).await?;

        // The operator continues when the conflicting Service is deleted.
        assert_stalls(&mesh, with_port(30401), "NodePortInUse", &["port api of Service default/api-server"]).await?;
        release(&mesh, "api-server").await?;
        mesh.wait_ready(NAME).await?;
        wait_service_ports(&mesh, "a released port", &ports(&[("edge/http2", 30401)])).await?;
        Ok(())
    });
}

#[test]
fn replaces_lost_ports_or_reports_owner() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let spec = |paused: bool| {
            let mut spec = with(json!([gateway("chosen", http(None)), gateway("fixed", http(Some(30410)))]));
            spec["paused"] = paused.into();
            spec
        };
        mesh.apply(NAME, spec(false)).await?;
        mesh.wait_ready(NAME).await?;
        wait_service_ports(&mesh, "first", &ports(&[("chosen/http2", 30400), ("fixed/http2", 30410)])).await?;

        // Other Services take the ports while the installation is paused, as can happen between planning and applying.
        mesh.apply(NAME, spec(true)).await?;
        mesh.wait_ready(NAME).await?;
        for (name, number) in [("chosen", 30400), ("fixed", 30410)] {
            services(&mesh).delete(name, &DeleteParams::default()).await?;
            occupy(&mesh, &format!("conflict-{name}"), number).await?;
        }
        mesh.apply(NAME, spec(false)).await?;
        wait_stalled(&mesh, NAME, "NodePortInUse", &["30410", "port api of Service default/conflict-fixed"]).await?;
        release(&mesh, "conflict-fixed").await?;
        mesh.wait_ready(NAME).await?;
        wait_service_ports(&mesh, "recovered", &ports(&[("chosen/http2", 30401), ("fixed/http2", 30410)])).await?;
        wait::until(wait::TIMEOUT, "an Event about the reassignment", async || {
            let events: Api<Event> = Api::all(lab.client());
            let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let notes: Vec<String> = list
                .into_iter()
                .filter(|event| event.reason.as_deref() == Some("NodePortReassigned"))
                .filter_map(|event| event.note)
                .collect();
            if notes.iter().any(|note| note.contains("30400") && note.contains("30401")) {
                Ok(())
            } else {
                Err(format!("{notes:?}"))
            }
        })
        .await?;
        Ok(())
    });
}

#[test]
fn reports_exhausted_range() {
    for (range, enough) in [("30400-30403", true), ("30400-30402", false)] {
        run(LabOptions::default().node_port_range(range), async |lab| {
            let mesh = Mesh::install_operator(lab).await?;
            let spec = with(json!([gateway("edge", json!({"externalTrafficPolicy": "Local"}))]));
            if enough {
                mesh.apply(NAME, spec).await?;
                mesh.wait_ready(NAME).await?;
                assert_eq!(service_ports(&mesh).await?.len(), 4);
                recreate_service(&mesh, "edge").await?;
                assert_eq!(service_ports(&mesh).await?.len(), 4);
            } else {
                assert_stalls(&mesh, spec, "NodePortsExhausted", &["4 node ports", "only 3 of 3 are free", range])
                    .await?;
                assert_eq!(service_ports(&mesh).await?, Ports::new(), "no port should be assigned");
                let few = json!({"externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false});
                mesh.apply(NAME, with(json!([gateway("edge", few)]))).await?;
                mesh.wait_ready(NAME).await?;
                wait_service_ports(&mesh, "only the health check", &ports(&[("edge/healthCheckNodePort", 30400)]))
                    .await?;
            }
            Ok(())
        });
    }
}
