//! The lab proves itself: what every other lab test takes for granted.

#![allow(clippy::indexing_slicing, clippy::default_trait_access, reason = "a test that panics is a test that fails")]

mod istiod;
mod obstacles;

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use meshwright_e2e::{Lab, LabOptions, NodeSpec, TestResult, objects, run, wait};
use serde_json::json;

#[test]
fn plain_pods_become_ready_and_their_annotations_choose_otherwise() {
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
        wait::until(wait::PATIENCE, "the annotated Pods", async || {
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
        wait::until(wait::PATIENCE, "deleted Pods to go", async || {
            let names = objects::pod_names(&client, "shop", "!app").await.map_err(|error| error.to_string())?;
            if names.is_empty() { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await?;
        Ok(())
    });
}

#[test]
fn nodes_are_as_asked_for_and_a_node_port_outside_the_range_is_refused() {
    let mut node = NodeSpec::new("gke-1");
    node.labels.insert("cloud.google.com/gke-nodepool".into(), "pool-1".into());
    node.provider_id = Some("gce://project/zone/gke-1".into());
    node.allocatable.insert("cpu".into(), "3920m".into());
    let mut options = LabOptions::default().node_port_range("30400-30449");
    options.nodes = vec![node, NodeSpec::new("gke-2")];
    run(options, async |lab| {
        let nodes: Api<Node> = Api::all(lab.client());
        let node = wait::until(wait::PATIENCE, "the Node to be ready", async || {
            let node = nodes.get("gke-1").await.map_err(|error| error.to_string())?;
            let conditions = node.status.clone().and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            if ready { Ok(node) } else { Err(format!("{conditions:?}")) }
        })
        .await?;
        assert_eq!(node.spec.unwrap().provider_id.as_deref(), Some("gce://project/zone/gke-1"));
        assert_eq!(node.status.unwrap().allocatable.unwrap()["cpu"].0, "3920m");
        assert_eq!(node.metadata.labels.unwrap()["cloud.google.com/gke-nodepool"], "pool-1");

        let refusal = create_with_node_port(lab, 31380).await.unwrap_err().to_string();
        assert!(refusal.contains("The range of valid ports is 30400-30449"), "{refusal}");
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
fn two_labs_stand_side_by_side_and_know_nothing_of_each_other() {
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
fn nothing_is_left_when_a_test_panics() {
    if Lab::is_external() {
        return;
    }
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        run(LabOptions::default().needs_own_lab(), async |lab| {
            let dir = lab.logs_dir()?.parent().map(Path::to_path_buf).unwrap_or_default();
            tell.send((lab.pid().unwrap_or_default(), dir))?;
            panic!("as a failing test does");
        });
    });
    assert!(thread.join().is_err(), "the panic reaches the test");
    let Ok((pid, dir)) = told.recv() else { return };
    assert_ne!(pid, 0);
    gone(&dir);
}

/// Waits until no process works in the lab's directory any more, and the directory is gone.
fn gone(dir: &Path) {
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
        // Nobody tells when a process of another's is gone.
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
fn the_audit_log_tells_who_wrote_what() {
    run(LabOptions::default().audited(), async |lab| {
        let mark = lab.settled_audit().await?.mark();
        objects::namespace(&lab.client(), "shop", &[]).await?;
        let audit = lab.settled_audit().await?.since(mark);
        let writes: Vec<_> =
            audit.writes("lab-admin").map(|entry| (entry.verb.as_str(), entry.name.as_str())).collect();
        assert_eq!(writes, [("create", "shop")]);
        Ok(())
    });
}

/// Stands for the operator: tells what it was given, and says good-bye when asked to end.
const STAND_IN: &str = "#!/bin/sh\ntrap 'echo ended in good order; exit 0' TERM\n\
    echo \"I am $POD_NAME at $POD_IP with $1 and $MESHWRIGHT_CATALOG\"\ngrep tokenFile \"$KUBECONFIG\"\n\
    while :; do sleep 0.05; done\n";

#[test]
fn the_operators_image_runs_the_given_program_as_its_pods() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("stand-in");
    std::fs::write(&program, STAND_IN)?;
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
        lab.apply_yaml("the stand-in", &deployment.to_string()).await?;
        objects::deployment_ready(&lab.client(), "default", "operator").await?;
        let names = objects::pod_names(&lab.client(), "default", "app=operator").await?;
        assert_eq!(names.len(), 2);
        let pods: Api<Pod> = Api::namespaced(lab.client(), "default");
        for name in &names {
            let ip = pods.get(name).await?.status.and_then(|status| status.pod_ip).unwrap_or_default();
            wait::until(wait::PATIENCE, "what the program was given", async || {
                let log = lab.logs("default", name).map_err(|error| error.to_string())?;
                let told = log.contains(&format!("I am {name} at {ip} with --as={name} and /catalog"));
                if told && log.contains("tokenFile") { Ok(()) } else { Err(log) }
            })
            .await?;
        }
        let name = names.first().cloned().unwrap_or_default();
        pods.delete(&name, &DeleteParams::default()).await?;
        wait::until(wait::PATIENCE, "the Pod to end in good order", async || {
            let there = pods.get_opt(&name).await.map_err(|error| error.to_string())?.is_some();
            let log = lab.logs("default", &name).map_err(|error| error.to_string())?;
            if !there && log.contains("ended in good order") {
                Ok(())
            } else {
                Err(format!("there: {there}, log: {log}"))
            }
        })
        .await?;
        Ok(())
    });
    Ok(())
}
