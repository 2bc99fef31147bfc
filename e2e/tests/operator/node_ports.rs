//! Node ports: chosen inside the API server's range, kept through everything, refused with the right words.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::conditions::ConditionType;
use meshwright_api::{AddressType, MeshInstallationStatus, NodePortOrigin, NodePortRangeSource};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, small};
use meshwright_e2e::{LabOptions, TestResult, run, wait};
use serde_json::{Value, json};

const NAMESPACE: &str = "istio-system";

/// Numbers by `service/port`.
type Ports = BTreeMap<String, i32>;

fn with(gateways: Value) -> Value {
    let mut spec = small();
    spec["gateways"] = gateways;
    spec
}

fn gateway(name: &str, service: Value) -> Value {
    let mut gateway = json!({"name": name});
    gateway["service"] = service;
    gateway
}

fn http(number: Option<i32>) -> Value {
    let port = match number {
        Some(number) => json!({"name": "http2", "port": 80, "nodePort": number}),
        None => json!({"name": "http2", "port": 80}),
    };
    json!({"type": "NodePort", "ports": [port]})
}

fn services(mesh: &Mesh) -> Api<Service> {
    Api::namespaced(mesh.client(), NAMESPACE)
}

/// What the gateways' Services hold.
async fn held(mesh: &Mesh) -> Result<Ports, String> {
    let params = ListParams::default().labels("meshwright.dev/installation");
    let list = services(mesh).list(&params).await.map_err(|error| error.to_string())?;
    let mut ports = Ports::new();
    for service in list {
        let name = service.name_any();
        let spec = service.spec.unwrap_or_default();
        for port in spec.ports.unwrap_or_default() {
            ports.extend(port.node_port.map(|number| (format!("{name}/{}", port.name.unwrap_or_default()), number)));
        }
        ports.extend(spec.health_check_node_port.map(|number| (format!("{name}/healthCheckNodePort"), number)));
    }
    Ok(ports)
}

/// Waits until the Services hold these ports.
async fn holds(mesh: &Mesh, what: &str, expected: &Ports) -> TestResult {
    wait::until(wait::PATIENCE, format!("{what}: {expected:?}"), async || {
        let seen = held(mesh).await?;
        if seen == *expected { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await?;
    Ok(())
}

fn ports(expected: &[(&str, i32)]) -> Ports {
    expected.iter().map(|(slot, number)| ((*slot).to_owned(), *number)).collect()
}

/// A Service of somebody else with that node port.
async fn occupy(mesh: &Mesh, name: &str, number: i32) -> TestResult {
    let service = json!({
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "ports": [{"name": "api", "port": 8080, "nodePort": number}]},
    });
    let api: Api<Service> = Api::namespaced(mesh.client(), "default");
    api.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    Ok(())
}

async fn leave(mesh: &Mesh, name: &str) -> TestResult {
    let api: Api<Service> = Api::namespaced(mesh.client(), "default");
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

async fn status(mesh: &Mesh) -> TestResult<MeshInstallationStatus> {
    Ok(mesh.installations().get(NAME).await?.status.unwrap_or_default())
}

/// Applies a spec that can't be followed; checks the reason and that the message says all of `words`.
async fn stalls(mesh: &Mesh, spec: Value, reason: &str, words: &[&str]) -> TestResult {
    mesh.apply(NAME, spec).await?;
    let stalled = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some(reason)).await?;
    let message = stalled.status.and_then(|status| status.message).unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "{word:?} is missing in: {message}");
    }
    Ok(())
}

/// Ends all replicas of the operator; their Deployment makes new ones.
async fn restart_operator(mesh: &Mesh) -> TestResult {
    let pods: Api<Pod> = Api::namespaced(mesh.client(), OPERATOR_NAMESPACE);
    let before: Vec<String> =
        pods.list(&ListParams::default()).await?.iter().map(kube::ResourceExt::name_any).collect();
    for name in &before {
        pods.delete(name, &DeleteParams::default()).await?;
    }
    wait::until(wait::PATIENCE, "the operator's old pods to be gone", async || {
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let old: Vec<String> =
            list.iter().map(kube::ResourceExt::name_any).filter(|name| before.contains(name)).collect();
        if old.is_empty() { Ok(()) } else { Err(format!("{old:?}")) }
    })
    .await?;
    mesh.deployment_ready(OPERATOR_NAMESPACE, "meshwright").await?;
    Ok(())
}

/// Deletes a Service and waits until another of that name is there.
async fn delete_service(mesh: &Mesh, name: &str) -> TestResult {
    let uid = services(mesh).get(name).await?.uid();
    services(mesh).delete(name, &DeleteParams::default()).await?;
    wait::until(wait::PATIENCE, format!("the Service {name} to be back"), async || {
        let found = services(mesh).get_opt(name).await.map_err(|error| error.to_string())?;
        match found {
            Some(service) if service.uid() != uid => Ok(()),
            other => Err(format!("{:?}", other.map(|service| service.metadata))),
        }
    })
    .await?;
    Ok(())
}

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
        let stalled = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("NodePortTaken")).await?;
        let message = stalled.status.and_then(|status| status.message).unwrap_or_default();
        assert!(message.contains("30410") && message.contains("default/thief-of-fixed/api"), "{message}");
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

#[test]
fn a_server_that_does_not_tell_its_range_is_learnt_from_when_it_refuses() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        // A webhook that doesn't answer is asked before the range is looked at, and so hides it.
        let rule =
            json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]});
        let hook = json!({
            "name": "silent.example.com", "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:1/"}, "failurePolicy": "Fail",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": OPERATOR_NAMESPACE}},
        });
        let webhook = json!({"metadata": {"name": "silent"}, "webhooks": [hook]});
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(lab.client());
        webhooks.create(&PostParams::default(), &serde_json::from_value(webhook)?).await?;
        let services: Api<Service> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
        let trial = json!({"metadata": {"name": "trial"}, "spec": {"ports": [{"port": 80}]}});
        let (trial, dry) = (serde_json::from_value(trial)?, PostParams { dry_run: true, ..PostParams::default() });
        wait::until(wait::PATIENCE, "the webhook to be asked", async || match services.create(&dry, &trial).await {
            Ok(_) => Err("a Service could be made".to_owned()),
            Err(_) => Ok(()),
        })
        .await?;
        restart_operator(&mesh).await?;
        mesh.apply(NAME, with(json!([]))).await?;
        mesh.wait_ready(NAME).await?;
        let range = status(&mesh).await?.platform.node_port_range.unwrap();
        assert_eq!((range.range.as_str(), range.source), ("30000-32767", NodePortRangeSource::Default));
        assert!(range.message.is_some_and(|message| message.contains("silent.example.com")));

        let two = json!([{"name": "https", "port": 443}, {"name": "http3", "port": 443, "protocol": "UDP"}]);
        mesh.apply(NAME, with(json!([gateway("edge", json!({"type": "NodePort", "ports": two}))]))).await?;
        mesh.wait_ready(NAME).await?;
        holds(&mesh, "the server's words", &ports(&[("edge/https", 30400), ("edge/http3", 30400)])).await?;
        let range = status(&mesh).await?.platform.node_port_range.unwrap();
        assert_eq!((range.range.as_str(), range.source), ("30400-30449", NodePortRangeSource::Discovered));
        Ok(())
    });
}

#[test]
fn a_range_that_changes_is_noticed_when_it_matters() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let spec = |number: Option<i32>| with(json!([gateway("edge", http(number))]));
        mesh.apply(NAME, spec(None)).await?;
        mesh.wait_ready(NAME).await?;
        lab.restart_api_server("30500-30549").await?;
        mesh.deployment_ready(OPERATOR_NAMESPACE, "meshwright").await?;

        delete_service(&mesh, "edge").await?;
        holds(&mesh, "chosen in the new range", &ports(&[("edge/http2", 30500)])).await?;
        mesh.wait_ready(NAME).await?;
        assert_eq!(status(&mesh).await?.platform.node_port_range.unwrap().range, "30500-30549");

        lab.restart_api_server("30500-30599").await?;
        mesh.deployment_ready(OPERATOR_NAMESPACE, "meshwright").await?;
        mesh.apply(NAME, spec(Some(30577))).await?;
        mesh.wait_ready(NAME).await?;
        holds(&mesh, "a wider range is asked for before anything is refused", &ports(&[("edge/http2", 30577)])).await?;

        lab.restart_api_server("30400-30449").await?;
        mesh.deployment_ready(OPERATOR_NAMESPACE, "meshwright").await?;
        services(&mesh).delete("edge", &DeleteParams::default()).await?;
        let stalled = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("NodePortOutOfRange")).await?;
        let message = stalled.status.and_then(|status| status.message).unwrap_or_default();
        assert!(message.contains("30577") && message.contains("30400-30449"), "{message}");
        Ok(())
    });
}
