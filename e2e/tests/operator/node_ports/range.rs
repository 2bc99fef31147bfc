//! Discovery of the API server's node port range.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use meshwright_api::NodePortRangeSource;
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE};
use meshwright_e2e::{LabOptions, run, wait};
use serde_json::json;

use super::{gateway, http, ports, recreate_service, restart_operator, services, status, wait_service_ports, with};
use crate::stalled::wait_stalled;

#[test]
fn discovers_range_from_rejected_service() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        // The API server calls webhooks before it validates the port, so a failing webhook prevents discovery.
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
        let (trial, dry_run) = (serde_json::from_value(trial)?, PostParams { dry_run: true, ..PostParams::default() });
        wait::until(wait::TIMEOUT, "the webhook to take effect", async || {
            match services.create(&dry_run, &trial).await {
                Ok(_) => Err("a Service was admitted".to_owned()),
                Err(_) => Ok(()),
            }
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
        wait_service_ports(
            &mesh,
            "the range in the server's error",
            &ports(&[("edge/https", 30400), ("edge/http3", 30400)]),
        )
        .await?;
        let range = status(&mesh).await?.platform.node_port_range.unwrap();
        assert_eq!((range.range.as_str(), range.source), ("30400-30449", NodePortRangeSource::Discovered));
        Ok(())
    });
}

#[test]
fn wide_range_allows_explicit_low_ports() {
    run(LabOptions::default().node_port_range("1-65535"), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let low = json!([
            {"name": "http2", "port": 80, "nodePort": 80}, {"name": "https", "port": 443, "nodePort": 443},
        ]);
        let edge = gateway("edge", json!({"type": "NodePort", "ports": low}));
        mesh.apply(NAME, with(json!([edge, gateway("inner", http(None))]))).await?;
        mesh.wait_ready(NAME).await?;
        let mut expected = ports(&[("edge/http2", 80), ("edge/https", 443), ("inner/http2", 30000)]);
        wait_service_ports(&mesh, "explicit and chosen ports", &expected).await?;
        let range = status(&mesh).await?.platform.node_port_range.unwrap();
        assert_eq!((range.range.as_str(), range.source), ("1-65535", NodePortRangeSource::Discovered));
        let probes: Api<Service> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
        let names: Vec<String> = probes.list(&Default::default()).await?.iter().map(ResourceExt::name_any).collect();
        assert!(!names.iter().any(|name| name.starts_with("meshwright-node-port-range-")), "{names:?}");

        let mut spec = with(json!([edge, gateway("inner", http(None)), gateway("other", http(None))]));
        spec["nodePorts"] = json!({"range": "1-65535"});
        mesh.apply(NAME, spec).await?;
        mesh.wait_ready(NAME).await?;
        expected.insert("other/http2".to_owned(), 30001);
        wait_service_ports(&mesh, "chosen in Kubernetes' default range", &expected).await?;
        Ok(())
    });
}

#[test]
fn detects_changed_range() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let spec = |number: Option<i32>| with(json!([gateway("edge", http(number))]));
        mesh.apply(NAME, spec(None)).await?;
        mesh.wait_ready(NAME).await?;
        lab.restart_api_server("30500-30549").await?;
        mesh.deployment_ready(OPERATOR_NAMESPACE, "meshwright").await?;

        recreate_service(&mesh, "edge").await?;
        wait_service_ports(&mesh, "assigned in the new range", &ports(&[("edge/http2", 30500)])).await?;
        wait::until(wait::TIMEOUT, "status to report the new range", async || {
            let range = status(&mesh).await.map_err(|error| error.to_string())?.platform.node_port_range;
            if range.as_ref().is_some_and(|range| range.range == "30500-30549") {
                Ok(())
            } else {
                Err(format!("{range:?}"))
            }
        })
        .await?;
        mesh.wait_ready(NAME).await?;

        lab.restart_api_server("30500-30599").await?;
        mesh.deployment_ready(OPERATOR_NAMESPACE, "meshwright").await?;
        mesh.apply(NAME, spec(Some(30577))).await?;
        mesh.wait_ready(NAME).await?;
        wait_service_ports(
            &mesh,
            "the range is rediscovered before a port is rejected",
            &ports(&[("edge/http2", 30577)]),
        )
        .await?;

        lab.restart_api_server("30400-30449").await?;
        mesh.deployment_ready(OPERATOR_NAMESPACE, "meshwright").await?;
        services(&mesh).delete("edge", &DeleteParams::default()).await?;
        wait_stalled(&mesh, NAME, "NodePortOutOfRange", &["30577", "30400-30449"]).await?;
        Ok(())
    });
}
