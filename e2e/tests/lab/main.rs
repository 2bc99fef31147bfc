//! Tests of the lab itself.

#![allow(clippy::indexing_slicing, clippy::default_trait_access, reason = "a test that panics is a test that fails")]

mod istiod;
mod restrictions;

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use meshwright_e2e::{Lab, LabOptions, NodeSpec, TestResult, objects, run, wait};
use serde_json::json;

#[test]
fn annotations_control_simulated_pods() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let client = lab.client();
        objects::namespace(&client, "shop", &[("team", "a")]).await?;
        objects::workload(&client, 3, "shop").await?;

        let pods: Api<Pod> = Api::namespaced(client.clone(), "shop");
        for play in ["crash", "unready", "manual"] {
            let mut pod = objects::pod(play, &[]);
            pod.annotations_mut().insert("lab.meshwright.dev/play".into(), play.into());
            pods.create(&PostParams::default(), &pod).await?;
        }
        let reason = async |name: &str| -> Result<(String, Option<String>), String> {
            let status = pods.get(name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
            let container = status.container_statuses.unwrap_or_default().pop();
            let waiting = container.and_then(|container| container.state?.waiting?.reason);
            Ok((status.phase.unwrap_or_default(), waiting))
        };
        wait::until(wait::TIMEOUT, "the annotated Pods", async || {
            let seen = (reason("crash").await?, reason("unready").await?, reason("manual").await?);
            let crash = ("Running".to_owned(), Some("CrashLoopBackOff".to_owned()));
            let expected = (crash, ("Running".to_owned(), None), ("Pending".to_owned(), None));
            if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await?;

        for pod in pods.list(&ListParams::default()).await? {
            pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
        }
        pods.delete("manual", &DeleteParams::default().grace_period(0)).await?;
        wait::until(wait::TIMEOUT, "deletion of the Pods", async || {
            let names = objects::pod_names(&client, "shop", "!app").await.map_err(|error| error.to_string())?;
            if names.is_empty() { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await?;
        Ok(())
    });
}

#[test]
fn applies_node_options_and_port_range() {
    let mut node = NodeSpec::new("gke-1");
    node.labels.insert("cloud.google.com/gke-nodepool".into(), "pool-1".into());
    node.provider_id = Some("gce://project/zone/gke-1".into());
    node.allocatable.insert("cpu".into(), "3920m".into());
    let mut options = LabOptions::default().node_port_range("30400-30449");
    options.nodes = vec![node, NodeSpec::new("gke-2")];
    run(options, async |lab| {
        let nodes: Api<Node> = Api::all(lab.client());
        let node = wait::until(wait::TIMEOUT, "the Node to be ready", async || {
            let node = nodes.get("gke-1").await.map_err(|error| error.to_string())?;
            let conditions = node.status.clone().and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            if ready { Ok(node) } else { Err(format!("{conditions:?}")) }
        })
        .await?;
        assert_eq!(node.spec.unwrap().provider_id.as_deref(), Some("gce://project/zone/gke-1"));
        assert_eq!(node.status.unwrap().allocatable.unwrap()["cpu"].0, "3920m");
        assert_eq!(node.metadata.labels.unwrap()["cloud.google.com/gke-nodepool"], "pool-1");

        let error = create_with_node_port(lab, 31380).await.unwrap_err().to_string();
        assert!(error.contains("The range of valid ports is 30400-30449"), "{error}");
        create_with_node_port(lab, 30401).await?;
        lab.restart_api_server("31000-31500").await?;
        create_with_node_port(lab, 31380).await?;
        Ok(())
    });
}

async fn create_with_node_port(lab: &Lab, port: i32) -> TestResult<Service> {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": format!("port-{port}")},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]},
    }))?;
    Ok(Api::default_namespaced(lab.client()).create(&PostParams::default(), &service).await?)
}

#[test]
fn parallel_labs_are_isolated() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        objects::namespace(&lab.client(), "first", &[]).await?;
        let inner = std::thread::spawn(|| {
            run(LabOptions::default().needs_own_lab(), async |other| {
                let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(other.client());
                assert!(namespaces.get_opt("first").await?.is_none());
                objects::namespace(&other.client(), "second", &[]).await?;
                objects::workload(&other.client(), 1, "second").await?;
                Ok(())
            });
        });
        let inner = tokio::task::spawn_blocking(move || inner.join()).await?;
        assert!(inner.is_ok(), "the second lab failed");
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(lab.client());
        assert!(namespaces.get_opt("second").await?.is_none());
        Ok(())
    });
}

#[test]
fn cleans_up_after_panic() {
    if Lab::is_external() {
        return;
    }
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        run(LabOptions::default().needs_own_lab(), async |lab| {
            let dir = lab.logs_dir()?.parent().map(Path::to_path_buf).unwrap_or_default();
            sender.send((lab.pid().unwrap_or_default(), dir))?;
            panic!("simulated test failure");
        });
    });
    assert!(thread.join().is_err(), "the test should panic");
    let Ok((pid, dir)) = receiver.recv() else { return };
    assert_ne!(pid, 0);
    wait_cleaned_up(&dir);
}

/// Waits until no process uses the lab's directory and the directory is deleted.
fn wait_cleaned_up(dir: &Path) {
    let start = Instant::now();
    loop {
        let left = processes_in(dir);
        if left.is_empty() && !dir.exists() {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "left behind: {left:?}, {} exists: {}",
            dir.display(),
            dir.exists()
        );
        // There is no notification for the end of another process's child.
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn processes_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&format!("{}/", dir.display())) {
            found.push(command);
        }
    }
    found
}

#[test]
fn audit_log_attributes_writes_to_users() {
    run(LabOptions::default().audited(), async |lab| {
        let start = lab.settled_audit().await?.position();
        objects::namespace(&lab.client(), "shop", &[]).await?;
        let audit = lab.settled_audit().await?.since(start);
        let writes: Vec<_> =
            audit.writes("lab-admin").map(|entry| (entry.verb.as_str(), entry.name.as_str())).collect();
        assert_eq!(writes, [("create", "shop")]);
        Ok(())
    });
}

/// Replaces the operator: prints its environment, and exits on SIGTERM.
const STUB_OPERATOR: &str = "#!/bin/sh\ntrap 'echo terminated; exit 0' TERM\n\
    echo \"name=$POD_NAME ip=$POD_IP arg=$1 catalog=$MESHWRIGHT_CATALOG\"\ngrep tokenFile \"$KUBECONFIG\"\n\
    while :; do sleep 0.05; done\n";

#[test]
fn operator_image_runs_configured_program() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("stub-operator");
    std::fs::write(&program, STUB_OPERATOR)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let mut options = LabOptions::default().needs_own_lab();
    options.operator = Some(program);
    options.catalog = Some("/catalog".into());
    run(options, async |lab| {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "operator", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "operator"}}, "template": {
                "metadata": {"labels": {"app": "operator"}},
                "spec": {"containers": [{
                    "name": "operator", "image": "ghcr.io/example/meshwright:dev", "args": ["--as=$(POD_NAME)"],
                    "env": [
                        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    ],
                }]},
            }},
        });
        lab.apply_yaml("the stub operator", &deployment.to_string()).await?;
        objects::deployment_ready(&lab.client(), "default", "operator").await?;
        let names = objects::pod_names(&lab.client(), "default", "app=operator").await?;
        assert_eq!(names.len(), 2);
        let pods: Api<Pod> = Api::namespaced(lab.client(), "default");
        for name in &names {
            let ip = pods.get(name).await?.status.and_then(|status| status.pod_ip).unwrap_or_default();
            wait::until(wait::TIMEOUT, "the program's output", async || {
                let log = lab.logs("default", name).map_err(|error| error.to_string())?;
                let complete = log.contains(&format!("name={name} ip={ip} arg=--as={name} catalog=/catalog"));
                if complete && log.contains("tokenFile") { Ok(()) } else { Err(log) }
            })
            .await?;
        }
        let name = names.first().cloned().unwrap_or_default();
        pods.delete(&name, &DeleteParams::default()).await?;
        wait::until(wait::TIMEOUT, "graceful termination of the Pod", async || {
            let exists = pods.get_opt(&name).await.map_err(|error| error.to_string())?.is_some();
            let log = lab.logs("default", &name).map_err(|error| error.to_string())?;
            if !exists && log.contains("terminated") {
                Ok(())
            } else {
                Err(format!("Pod exists: {exists}, log: {log}"))
            }
        })
        .await?;
        Ok(())
    });
    Ok(())
}
