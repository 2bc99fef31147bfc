//! The platform: found, remembered, overridden, and lived with.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::{apps::v1::ControllerRevision, apps::v1::Deployment, core::v1::Node};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::{LoadBalancers, PlatformPermission, PlatformStatus};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, operator_writes, small};
use meshwright_e2e::{Lab, LabOptions, NodeSpec, TestResult, objects, run, wait};
use serde_json::{Value, json};

/// One gateway of which nothing is said but its name.
fn with_gateway() -> Value {
    let mut spec = small();
    spec["gateways"] = json!([{"name": "ingress"}]);
    spec
}

fn nodes(nodes: impl IntoIterator<Item = NodeSpec>) -> LabOptions {
    let mut options = LabOptions::default().needs_own_lab();
    options.nodes = nodes.into_iter().collect();
    options
}

async fn platform(mesh: &Mesh) -> TestResult<PlatformStatus> {
    let ready = mesh.wait_ready(NAME).await?;
    Ok(ready.status.unwrap_or_default().platform)
}

async fn ingress(lab: &Lab) -> TestResult<(String, Vec<i32>)> {
    let services: Api<Service> = Api::namespaced(lab.client(), "istio-system");
    let spec = services.get("ingress").await?.spec.unwrap_or_default();
    let ports = spec.ports.unwrap_or_default().iter().filter_map(|port| port.node_port).collect();
    Ok((spec.type_.unwrap_or_default(), ports))
}

#[test]
fn on_vmware_cloud_pks_a_gateway_is_reached_by_node_ports_and_the_platform_is_remembered() {
    let pks = nodes([NodeSpec::new("worker-906ccfc2-d38f-11e8-968e-0694ec89544a")]).node_port_range("30400-30449");
    run(pks, async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, with_gateway()).await?;
        let found = platform(&mesh).await?;
        assert_eq!(found.name.as_deref(), Some("vmware-pks"));
        assert!(found.evidence.iter().any(|text| text.contains("nodes' names")), "{:?}", found.evidence);
        assert_eq!(found.privileged_pods, Some(PlatformPermission::Forbidden));
        let (service_type, ports) = ingress(lab).await?;
        assert_eq!(service_type, "NodePort");
        assert!(ports.len() >= 3 && ports.iter().all(|port| (30400..=30449).contains(port)), "{ports:?}");

        // Nodes of another kind come later: what was accepted stays, whoever leads.
        let nodes: Api<Node> = Api::all(lab.client());
        let other = json!({"metadata": {"name": "other", "labels": {"microk8s.io/cluster": "true"}}});
        nodes.create(&PostParams::default(), &serde_json::from_value(other)?).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
        pods.delete_collection(&kube::api::DeleteParams::default(), &ListParams::default()).await?;
        objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
        // A switch that doesn't shape the mesh: the new leader has seen this generation when it is ready.
        let mut spec = with_gateway();
        spec["deletion"] = json!({"whileInUse": "Proceed"});
        mesh.apply(NAME, spec).await?;
        assert_eq!(platform(&mesh).await?.name.as_deref(), Some("vmware-pks"));
        let revisions: Api<ControllerRevision> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
        let kept = revisions.list(&ListParams::default()).await?.items;
        assert_eq!(kept.len(), 1);
        let inputs = serde_json::to_value(&kept[0].data)?;
        assert_eq!(inputs["platform"]["name"], "vmware-pks", "{inputs}");
        Ok(())
    });
}

#[test]
fn the_spec_overrides_what_is_found_and_every_platform_of_the_charts_installs() {
    let mut node = NodeSpec::new("kind-control-plane");
    node.provider_id = Some("kind://docker/kind/kind-control-plane".into());
    run(nodes([node]), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        let mut spec = with_gateway();
        spec["platform"] = json!("tanzu");
        let refused = mesh.apply(NAME, spec).await.map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("spec.platform") && refused.contains("docker-desktop"), "{refused}");

        mesh.apply(NAME, with_gateway()).await?;
        let found = platform(&mesh).await?;
        assert_eq!(found.name.as_deref(), Some("kind"));
        assert_eq!(found.evidence, ["nodes' providerID kind://"]);
        assert_eq!(found.load_balancer, Some(LoadBalancers::Absent));
        assert_eq!(ingress(lab).await?.0, "LoadBalancer");

        let deployments: Api<Deployment> = Api::namespaced(lab.client(), "istio-system");
        for name in ["minikube", "openshift", "gke", "k3s", "k3d", "microk8s"] {
            let mut spec = with_gateway();
            spec["platform"] = json!(name);
            if name == "openshift" {
                // Its node agent is named to pods by a kind that this cluster lacks.
                spec["cni"] = json!({"mode": "Disabled"});
            }
            mesh.apply(NAME, spec).await?;
            let chosen = platform(&mesh).await?;
            assert_eq!(chosen.name.as_deref(), Some(name));
            assert_eq!(chosen.evidence, ["spec.platform says so"]);
            let istiod = serde_json::to_value(deployments.get("istiod").await?)?;
            let container = &istiod["spec"]["template"]["spec"]["containers"][0];
            let env = container["env"].as_array().cloned().unwrap_or_default();
            assert!(env.contains(&json!({"name": "PLATFORM", "value": name})), "{name}: {env:?}");
            let service_type = if name == "minikube" { "NodePort" } else { "LoadBalancer" };
            assert_eq!(ingress(lab).await?.0, service_type, "{name}");
        }
        Ok(())
    });
}

#[test]
fn on_aks_the_admissions_enforcer_is_asked_to_stay_away_and_not_fought_when_it_comes() {
    let mut node = NodeSpec::new("aks-nodepool1-14592863-vmss000000");
    node.labels.insert("kubernetes.azure.com/cluster".into(), "MC_rg_prod_westeurope".into());
    run(nodes([node]).audited(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        assert_eq!(platform(&mesh).await?.name.as_deref(), Some("aks"));
        let kind = "MutatingWebhookConfiguration";
        let webhooks = mesh.api("admissionregistration.k8s.io/v1", kind, None);
        let read = async || webhooks.get("istio-sidecar-injector").await;
        let found = read().await?;
        let labels = found.metadata.labels.clone().unwrap_or_default();
        assert_eq!(labels["admissions.enforcer/disabled"], "true");
        let own = |expression: &Value| expression["key"] == "control-plane";
        let expressions = |data: &Value| {
            let list = data["webhooks"][0]["namespaceSelector"]["matchExpressions"].as_array().cloned();
            list.unwrap_or_default()
        };

        // What it does all the same: each selector gets an expression more.
        let mut hooks = found.data["webhooks"].as_array().cloned().unwrap_or_default();
        for hook in &mut hooks {
            let expressions = hook["namespaceSelector"]["matchExpressions"].as_array_mut().ok_or("no expressions")?;
            expressions.push(json!({"key": "control-plane", "operator": "DoesNotExist"}));
        }
        let before = lab.settled_audit().await?.mark();
        let patch = PatchParams { field_manager: Some("admissionsenforcer".into()), ..PatchParams::default() };
        webhooks.patch("istio-sidecar-injector", &patch, &Patch::Merge(json!({"webhooks": hooks}))).await?;
        // Something else of the same object is changed: by the time that is put right, the selectors were looked at.
        let untouched = expressions(&read().await?.data);
        assert!(untouched.iter().any(own));
        let app = json!({"metadata": {"labels": {"app": "other"}}});
        webhooks.patch("istio-sidecar-injector", &patch, &Patch::Merge(app)).await?;
        wait::until(wait::PATIENCE, "the label app to be back".to_owned(), async || {
            let found = read().await.map_err(|error| error.to_string())?;
            let app = found.metadata.labels.unwrap_or_default().remove("app");
            if app.as_deref() == Some("sidecar-injector") { Ok(()) } else { Err(format!("{app:?}")) }
        })
        .await?;
        assert_eq!(expressions(&read().await?.data), untouched);
        let writes = operator_writes(&lab.settled_audit().await?, before);
        let own_writes: Vec<_> = writes.iter().filter(|write| write.contains("mutatingwebhook")).collect();
        assert_eq!(own_writes.len(), 1, "{writes:?}");

        // A selector that says something else is put right, and what the enforcer added goes with it.
        let nothing =
            json!([{"op": "replace", "path": "/webhooks/0/namespaceSelector", "value": {"matchLabels": {"a": "b"}}}]);
        let nothing: json_patch::Patch = serde_json::from_value(nothing)?;
        webhooks.patch("istio-sidecar-injector", &patch, &Patch::<()>::Json(nothing)).await?;
        wait::until(wait::PATIENCE, "the selector to be back".to_owned(), async || {
            let back = expressions(&read().await.map_err(|error| error.to_string())?.data);
            if !back.is_empty() && !back.iter().any(own) { Ok(()) } else { Err(format!("{back:?}")) }
        })
        .await?;
        Ok(())
    });
}

#[test]
fn a_namespace_that_refuses_sidecars_is_named_while_the_mesh_is_ready() {
    run(LabOptions::default(), async |lab| {
        let labels = [("istio-injection", "enabled"), ("pod-security.kubernetes.io/enforce", "baseline")];
        objects::namespace(&lab.client(), "shop", &labels).await?;
        objects::namespace(&lab.client(), "plain", &labels[1..]).await?;
        let mesh = Mesh::ready(lab).await?;
        let ready = mesh.wait_ready(NAME).await?;
        let status = ready.status.unwrap_or_default();
        let warnings = &status.platform.warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("shop (baseline)") && !warnings[0].contains("plain"), "{warnings:?}");
        assert!(status.message.is_some_and(|message| message.contains("status.platform.warnings")));

        // It is true: the API server refuses such a pod, and names the capability.
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        let refused = pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await;
        let refused = refused.map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("PodSecurity") && refused.contains("NET_ADMIN"), "{refused}");
        Ok(())
    });
}
