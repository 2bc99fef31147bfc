//! Platform detection, overrides, and platform-specific behaviour.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::{apps::v1::ControllerRevision, apps::v1::Deployment, core::v1::Node};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use meshwright_api::{LoadBalancerSupport, PlatformPermission, PlatformStatus};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, demo_spec, operator_writes};
use meshwright_e2e::{Lab, LabOptions, NodeSpec, TestResult, objects, run, wait};
use serde_json::{Value, json};

/// A mesh with a gateway that sets only its name.
fn with_gateway() -> Value {
    let mut spec = demo_spec();
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
fn vmware_pks_uses_node_ports() {
    let pks = nodes([NodeSpec::new("worker-906ccfc2-d38f-11e8-968e-0694ec89544a")]).node_port_range("30400-30449");
    run(pks, async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, with_gateway()).await?;
        let found = platform(&mesh).await?;
        assert_eq!(found.name.as_deref(), Some("vmware-pks"));
        assert!(found.evidence.iter().any(|text| text.contains("nodes' names")), "{:?}", found.evidence);
        assert_eq!(found.privileged_pods, Some(PlatformPermission::Forbidden));
        let (service_type, ports) = ingress(lab).await?;
        assert_eq!(service_type, "NodePort");
        assert!(ports.len() >= 3 && ports.iter().all(|port| (30400..=30449).contains(port)), "{ports:?}");

        // Nodes of another platform don't change the accepted revision, even after a leader change.
        let nodes: Api<Node> = Api::all(lab.client());
        let other = json!({"metadata": {"name": "other", "labels": {"microk8s.io/cluster": "true"}}});
        nodes.create(&PostParams::default(), &serde_json::from_value(other)?).await?;
        let pods: Api<Pod> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
        pods.delete_collection(&kube::api::DeleteParams::default(), &ListParams::default()).await?;
        objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
        // This change doesn't affect the mesh; Ready for its generation shows that the new leader has reconciled.
        let mut spec = with_gateway();
        spec["deletion"] = json!({"whileInUse": "Proceed"});
        mesh.apply(NAME, spec).await?;
        assert_eq!(platform(&mesh).await?.name.as_deref(), Some("vmware-pks"));
        let revisions: Api<ControllerRevision> = Api::namespaced(lab.client(), OPERATOR_NAMESPACE);
        let records = revisions.list(&ListParams::default()).await?.items;
        assert_eq!(records.len(), 1);
        let inputs = serde_json::to_value(&records[0].data)?;
        assert_eq!(inputs["platform"]["name"], "vmware-pks", "{inputs}");
        Ok(())
    });
}

#[test]
fn spec_overrides_detected_platform() {
    let mut node = NodeSpec::new("kind-control-plane");
    node.provider_id = Some("kind://docker/kind/kind-control-plane".into());
    run(nodes([node]), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let mut spec = with_gateway();
        spec["platform"] = json!("tanzu");
        let rejected = mesh.apply(NAME, spec).await.map(|_| ()).unwrap_err().to_string();
        assert!(rejected.contains("spec.platform") && rejected.contains("docker-desktop"), "{rejected}");

        mesh.apply(NAME, with_gateway()).await?;
        let found = platform(&mesh).await?;
        assert_eq!(found.name.as_deref(), Some("kind"));
        assert_eq!(found.evidence, ["nodes' providerID kind://"]);
        assert_eq!(found.load_balancer, Some(LoadBalancerSupport::Absent));
        assert_eq!(ingress(lab).await?.0, "LoadBalancer");

        let deployments: Api<Deployment> = Api::namespaced(lab.client(), "istio-system");
        for name in ["minikube", "openshift", "gke", "k3s", "k3d", "microk8s"] {
            let mut spec = with_gateway();
            spec["platform"] = json!(name);
            if name == "openshift" {
                // On OpenShift istio-cni needs the Multus CRD, which this cluster lacks.
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
fn tolerates_aks_admissions_enforcer() {
    let mut node = NodeSpec::new("aks-nodepool1-14592863-vmss000000");
    node.labels.insert("kubernetes.azure.com/cluster".into(), "MC_rg_prod_westeurope".into());
    run(nodes([node]).audited(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        assert_eq!(platform(&mesh).await?.name.as_deref(), Some("aks"));
        let kind = "MutatingWebhookConfiguration";
        let webhooks = mesh.api("admissionregistration.k8s.io/v1", kind, None);
        let read = async || webhooks.get("istio-sidecar-injector").await;
        let found = read().await?;
        let labels = found.metadata.labels.clone().unwrap_or_default();
        assert_eq!(labels["admissions.enforcer/disabled"], "true");
        let enforcers = |expression: &Value| expression["key"] == "control-plane";
        let expressions = |data: &Value| {
            let list = data["webhooks"][0]["namespaceSelector"]["matchExpressions"].as_array().cloned();
            list.unwrap_or_default()
        };

        // Simulates the enforcer: it adds an expression to each selector.
        let mut hooks = found.data["webhooks"].as_array().cloned().unwrap_or_default();
        for hook in &mut hooks {
            let expressions = hook["namespaceSelector"]["matchExpressions"].as_array_mut().ok_or("no expressions")?;
            expressions.push(json!({"key": "control-plane", "operator": "DoesNotExist"}));
        }
        let before = lab.settled_audit().await?.position();
        let patch = PatchParams { field_manager: Some("admissionsenforcer".into()), ..PatchParams::default() };
        webhooks.patch("istio-sidecar-injector", &patch, &Patch::Merge(json!({"webhooks": hooks}))).await?;
        // Edits a label of the same object: when it is reverted, the operator has compared the selectors too.
        let tolerated = expressions(&read().await?.data);
        assert!(tolerated.iter().any(enforcers));
        let app = json!({"metadata": {"labels": {"app": "other"}}});
        webhooks.patch("istio-sidecar-injector", &patch, &Patch::Merge(app)).await?;
        wait::until(wait::TIMEOUT, "the label app to be restored".to_owned(), async || {
            let found = read().await.map_err(|error| error.to_string())?;
            let app = found.metadata.labels.unwrap_or_default().remove("app");
            if app.as_deref() == Some("sidecar-injector") { Ok(()) } else { Err(format!("{app:?}")) }
        })
        .await?;
        assert_eq!(expressions(&read().await?.data), tolerated);
        let writes = operator_writes(&lab.settled_audit().await?, before);
        let webhook_writes: Vec<_> = writes.iter().filter(|write| write.contains("mutatingwebhook")).collect();
        assert_eq!(webhook_writes.len(), 1, "{writes:?}");

        // Reverting another change of the selector also removes the enforcer's expression.
        let edit =
            json!([{"op": "replace", "path": "/webhooks/0/namespaceSelector", "value": {"matchLabels": {"a": "b"}}}]);
        let edit: json_patch::Patch = serde_json::from_value(edit)?;
        webhooks.patch("istio-sidecar-injector", &patch, &Patch::<()>::Json(edit)).await?;
        wait::until(wait::TIMEOUT, "the selector to be restored".to_owned(), async || {
            let current = expressions(&read().await.map_err(|error| error.to_string())?.data);
            if !current.is_empty() && !current.iter().any(enforcers) { Ok(()) } else { Err(format!("{current:?}")) }
        })
        .await?;
        Ok(())
    });
}

#[test]
fn warns_about_namespaces_that_reject_sidecars() {
    run(LabOptions::default(), async |lab| {
        let labels = [("istio-injection", "enabled"), ("pod-security.kubernetes.io/enforce", "baseline")];
        objects::namespace(&lab.client(), "shop", &labels).await?;
        objects::namespace(&lab.client(), "plain", &labels[1..]).await?;
        let mesh = Mesh::install(lab).await?;
        let ready = mesh.wait_ready(NAME).await?;
        let status = ready.status.unwrap_or_default();
        let warnings = &status.platform.warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("shop (baseline)") && !warnings[0].contains("plain"), "{warnings:?}");
        assert!(status.message.is_some_and(|message| message.contains("status.platform.warnings")));

        // The warning is correct: the API server rejects an injected pod because of its capabilities.
        let pods: Api<Pod> = Api::namespaced(lab.client(), "shop");
        let rejected = pods.create(&PostParams::default(), &objects::pod("cart", &[("app", "cart")])).await;
        let rejected = rejected.map(|_| ()).unwrap_err().to_string();
        assert!(rejected.contains("PodSecurity") && rejected.contains("NET_ADMIN"), "{rejected}");
        Ok(())
    });
}
