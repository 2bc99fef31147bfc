//! Ports that can't be had: who has them, and what a person is told.

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{Mesh, NAME};
use meshwright_e2e::{LabOptions, run, wait};
use serde_json::json;

use super::{Ports, delete_service, gateway, held, holds, http, leave, occupy, ports, services, with};
use crate::stalling::{stalled, stalls};

#[test]
fn what_cannot_be_had_is_refused_by_name_and_the_running_mesh_stays() {
    run(LabOptions::default().node_port_range("30400-30404"), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        occupy(&mesh, "api-server", 30401).await?;
        mesh.apply(NAME, with(json!([gateway("edge", http(Some(30400)))]))).await?;
        mesh.wait_ready(NAME).await?;
        let before = ports(&[("edge/http2", 30400)]);

        let one = |number: i32| with(json!([gateway("edge", http(Some(number)))]));
        let field = "spec.gateways[edge].service.ports[http2].nodePort";
        stalls(&mesh, one(31380), "NodePortOutOfRange", &[field, "31380", "30400-30404", "the API server's"]).await?;
        stalls(&mesh, one(30401), "NodePortTaken", &[field, "30401", "default/api-server/api"]).await?;
        let mut reserved = one(30402);
        reserved["nodePorts"] = json!({"reserved": ["30402-30403"]});
        stalls(&mesh, reserved, "NodePortReserved", &[field, "30402", "spec.nodePorts.reserved"]).await?;
        let twice = json!([gateway("edge", http(Some(30402))), gateway("other", http(Some(30402)))]);
        stalls(&mesh, with(twice), "NodePortTaken", &["30402", "edge", "other"]).await?;
        let mut outside = one(30400);
        outside["nodePorts"] = json!({"range": "30400-30500"});
        stalls(&mesh, outside, "NodePortOutOfRange", &["spec.nodePorts.range", "30400-30500", "30400-30404"]).await?;
        let many = json!([gateway("edge", http(Some(30400))), gateway("b", json!({})), gateway("c", json!({}))]);
        stalls(&mesh, with(many), "NodePortsExhausted", &["6 node ports", "3 are free", "5 in all", "1 are held"])
            .await?;

        holds(&mesh, "refused specs", &before).await?;
        delete_service(&mesh, "edge").await?;
        holds(&mesh, "the mesh is healed all the same", &before).await?;
        mesh.wait_for(NAME, ConditionType::Available, "True", None).await?;

        // Whoever is in the way goes: nobody has to touch the installation.
        stalls(&mesh, one(30401), "NodePortTaken", &["default/api-server/api"]).await?;
        leave(&mesh, "api-server").await?;
        mesh.wait_ready(NAME).await?;
        holds(&mesh, "a port that became free", &ports(&[("edge/http2", 30401)])).await?;
        Ok(())
    });
}

#[test]
fn a_port_that_was_lost_to_another_is_chosen_anew_or_the_holder_is_named() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let spec = |paused: bool| {
            let mut spec = with(json!([gateway("chosen", http(None)), gateway("fixed", http(Some(30410)))]));
            spec["paused"] = paused.into();
            spec
        };
        mesh.apply(NAME, spec(false)).await?;
        mesh.wait_ready(NAME).await?;
        holds(&mesh, "first", &ports(&[("chosen/http2", 30400), ("fixed/http2", 30410)])).await?;

        // While the operator looks away, others take what it will ask for: as in the moment between plan and apply.
        mesh.apply(NAME, spec(true)).await?;
        mesh.wait_ready(NAME).await?;
        for (name, number) in [("chosen", 30400), ("fixed", 30410)] {
            services(&mesh).delete(name, &DeleteParams::default()).await?;
            occupy(&mesh, &format!("thief-of-{name}"), number).await?;
        }
        mesh.apply(NAME, spec(false)).await?;
        stalled(&mesh, NAME, "NodePortTaken", &["30410", "default/thief-of-fixed/api"]).await?;
        leave(&mesh, "thief-of-fixed").await?;
        mesh.wait_ready(NAME).await?;
        holds(&mesh, "recovered", &ports(&[("chosen/http2", 30401), ("fixed/http2", 30410)])).await?;
        wait::until(wait::PATIENCE, "an Event that tells of the move", async || {
            let events: Api<Event> = Api::all(lab.client());
            let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let notes: Vec<String> = list
                .into_iter()
                .filter(|event| event.reason.as_deref() == Some("NodePortMoved"))
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
fn exactly_enough_ports_are_enough_and_one_fewer_is_told() {
    for (range, enough) in [("30400-30403", true), ("30400-30402", false)] {
        run(LabOptions::default().node_port_range(range), async |lab| {
            let mesh = Mesh::operator(lab).await?;
            let spec = with(json!([gateway("edge", json!({"externalTrafficPolicy": "Local"}))]));
            if enough {
                mesh.apply(NAME, spec).await?;
                mesh.wait_ready(NAME).await?;
                assert_eq!(held(&mesh).await?.len(), 4);
                delete_service(&mesh, "edge").await?;
                assert_eq!(held(&mesh).await?.len(), 4);
            } else {
                stalls(&mesh, spec, "NodePortsExhausted", &["4 node ports", "3 are free", range]).await?;
                assert_eq!(held(&mesh).await?, Ports::new(), "nothing is half-done");
                let few = json!({"externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false});
                mesh.apply(NAME, with(json!([gateway("edge", few)]))).await?;
                mesh.wait_ready(NAME).await?;
                holds(&mesh, "only the health check", &ports(&[("edge/healthCheckNodePort", 30400)])).await?;
            }
            Ok(())
        });
    }
}
