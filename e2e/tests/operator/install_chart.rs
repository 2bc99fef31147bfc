//! The Helm chart of the operator: the same objects as config/, changed by what its values promise and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, DynamicObject};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, config, small};
use meshwright_e2e::{LabOptions, Programs, TestResult, apply, objects, run};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cli::{Ran, meshwright};

const NOWHERE: &str = "/nowhere/kubeconfig";

/// Runs helm with the chart; what it keeps goes away with it.
async fn helm(kubeconfig: &Path, args: &[&str]) -> TestResult<Ran> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(Programs::find()?.path("helm"));
    command.args(args).current_dir(config().join("chart")).env("HOME", home.path()).env("KUBECONFIG", kubeconfig);
    for kept in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(kept, home.path());
    }
    let output = command.kill_on_drop(true).output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
}

/// Helm's output, where it succeeds.
async fn done(kubeconfig: &Path, args: &[&str]) -> TestResult<String> {
    let ran = helm(kubeconfig, args).await?;
    if ran.code == Some(0) { Ok(ran.out) } else { Err(format!("helm {args:?}: {}", ran.err).into()) }
}

/// What the chart makes, by kind, namespace and name.
async fn made(namespace: &str, args: &[&str]) -> TestResult<BTreeMap<String, Value>> {
    let args = [&["template", "meshwright", ".", "--namespace", namespace], args].concat();
    by_name(apply::parse("helm template", &done(Path::new(NOWHERE), &args).await?)?)
}

fn by_name(objects: Vec<DynamicObject>) -> TestResult<BTreeMap<String, Value>> {
    let named = objects.into_iter().map(|object| {
        let kind = object.types.clone().unwrap_or_default().kind;
        let key = format!("{kind} {}/{}", object.namespace().unwrap_or_default(), object.name_any());
        Ok((key, serde_json::to_value(object)?))
    });
    named.collect()
}

#[tokio::test]
async fn the_chart_makes_what_lies_in_config_and_keeps_what_meshes_need() {
    let manifest = meshwright(Path::new(NOWHERE), &["install"]).await.unwrap();
    let mut expected = by_name(apply::parse("meshwright install", &manifest.out).unwrap()).unwrap();
    // Helm makes the release's namespace.
    expected.remove("Namespace /meshwright-system").unwrap();
    for kept in ["Namespace /istio-system", "CustomResourceDefinition /meshinstallations.meshwright.dev"] {
        expected.get_mut(kept).unwrap()["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
    }
    let made = made(OPERATOR_NAMESPACE, &[]).await.unwrap();
    assert_eq!(made.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, object) in &expected {
        assert_eq!(made.get(name), Some(object), "{name}");
    }
}

#[tokio::test]
async fn the_charts_values_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let values = folder.path().join("values.yaml");
    let resources =
        json!({"requests": {"cpu": "1", "memory": "64Mi", "ephemeral-storage": "1Gi"}, "limits": {"memory": "256Mi"}});
    let toleration = json!({"key": "infra", "operator": "Exists"});
    let given = json!({
        "image": {
            "repository": "registry.example.com/mesh/meshwright", "tag": "sha256:00ff", "pullPolicy": "Always",
            "pullSecrets": ["registry-key"],
        },
        "catalog": {
            "places": ["/catalog", "oci://registry.example.com/charts"], "plainHTTP": true, "credentialsSecret": "login",
        },
        "replicas": 1, "resources": resources, "nodeSelector": {"pool": "infra"}, "tolerations": [toleration],
        "mesh": {"namespace": "mesh", "createNamespace": false},
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
        "affinity": {"podAntiAffinity": {}}, "priorityClassName": "infra",
        "podLabels": {"team": "mesh"}, "podAnnotations": {"example.com/owner": "mesh"},
        "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/authorities/ca.crt"}],
        "extraVolumes": [{"name": "authorities", "configMap": {"name": "authorities"}}],
        "extraVolumeMounts": [{"name": "authorities", "mountPath": "/authorities", "readOnly": true}],
    });
    std::fs::write(&values, given.to_string()).unwrap();
    let made = made("platform", &["--values", &values.display().to_string()]).await.unwrap();
    let spec = &made["Deployment platform/meshwright"]["spec"];
    let (pod, container) = (&spec["template"]["spec"], &spec["template"]["spec"]["containers"][0]);
    assert_eq!(spec["replicas"], 1);
    assert_eq!(container["image"], "registry.example.com/mesh/meshwright@sha256:00ff");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"], resources);
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry-key"}]));
    assert_eq!(pod["nodeSelector"], json!({"pool": "infra"}));
    assert_eq!(pod["tolerations"], json!([toleration]));
    let set = |name: &str| container["env"].as_array()?.iter().find(|entry| entry["name"] == name)?["value"].as_str();
    assert_eq!(set("MESHWRIGHT_CATALOG"), Some("/catalog:oci://registry.example.com/charts"));
    assert_eq!(set("MESHWRIGHT_CATALOG_PLAIN_HTTP"), Some("true"));
    assert_eq!(set("MESHWRIGHT_CATALOG_CACHE"), container["volumeMounts"][0]["mountPath"].as_str());
    assert_eq!(set("DOCKER_CONFIG"), container["volumeMounts"][1]["mountPath"].as_str());
    let login = json!({"secretName": "login", "items": [{"key": ".dockerconfigjson", "path": "config.json"}]});
    assert_eq!(pod["volumes"][1], json!({"name": container["volumeMounts"][1]["name"], "secret": login}));
    assert_eq!(set("SSL_CERT_FILE"), Some("/authorities/ca.crt"));
    assert_eq!(container["volumeMounts"][2], given["extraVolumeMounts"][0]);
    assert_eq!(pod["volumes"][2], given["extraVolumes"][0]);
    assert_eq!((&pod["affinity"], &pod["priorityClassName"]), (&given["affinity"], &given["priorityClassName"]));
    let template = &spec["template"]["metadata"];
    assert_eq!(template["annotations"], given["podAnnotations"]);
    let labels = json!({"app.kubernetes.io/name": "meshwright", "sidecar.istio.io/inject": "false", "team": "mesh"});
    assert_eq!(template["labels"], labels);
    assert_eq!(made["ServiceMonitor platform/meshwright"]["metadata"]["labels"]["release"], "prometheus");
    assert!(!made.contains_key("PrometheusRule platform/meshwright"));
    assert!(!made.keys().any(|name| name.starts_with("Namespace")), "{:?}", made.keys());

    // Its rights are those that the operator works out for these namespaces.
    let args = ["rbac", "--namespace", "mesh", "--operator-namespace", "platform"];
    let rights = with_the_first_catalog(&args).await.unwrap();
    let rights = by_name(apply::parse("meshwright rbac", &rights).unwrap()).unwrap();
    for (name, object) in rights.iter().filter(|(name, _)| !name.starts_with("Namespace")) {
        assert_eq!(made.get(name), Some(object), "{name}");
    }

    for (wrong, named) in [
        ("image.repo=x", "repo"),
        (r"podLabels.sidecar\.istio\.io/inject=yes", "podLabels"),
        ("mesh.namespace=Foo_Bar", "/mesh/namespace"),
        ("prometheusRule.runbooks=docs", "runbooks"),
    ] {
        let refused = helm(Path::new(NOWHERE), &["template", "meshwright", ".", "--set", wrong]).await.unwrap();
        assert!(refused.code != Some(0) && refused.err.contains(named), "{wrong}: {}", refused.err);
    }
}

#[tokio::test]
async fn alerts_come_with_the_labels_that_are_looked_for_and_lead_to_runbooks() {
    let runbooks = "https://git.example.com/meshwright/docs/runbooks.md";
    let args = ["--set", "prometheusRule.enabled=true,prometheusRule.labels.release=prometheus"];
    let without = made(OPERATOR_NAMESPACE, &args).await.unwrap();
    let address = format!("prometheusRule.runbooks={runbooks}");
    let with = made(OPERATOR_NAMESPACE, &[&args[..], &["--set", &address]].concat()).await.unwrap();
    let rule = |made: &BTreeMap<String, Value>| made["PrometheusRule meshwright-system/meshwright"].clone();
    assert_eq!(rule(&without)["metadata"]["labels"]["release"], "prometheus");
    let text = std::fs::read_to_string(config().join("overlays/service-monitor/prometheus_rule.yaml")).unwrap();
    let written: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(rule(&without)["spec"], written["spec"]);
    let linked =
        written["spec"].to_string().replace("\"runbook\":\"docs/runbooks.md", &format!("\"runbook_url\":\"{runbooks}"));
    assert!(linked.contains(runbooks));
    assert_eq!(rule(&with)["spec"], serde_json::from_str::<Value>(&linked).unwrap());
}

#[tokio::test]
async fn rights_that_come_from_elsewhere_are_left_to_them() {
    let whole = made(OPERATOR_NAMESPACE, &[]).await.unwrap();
    let without = made(OPERATOR_NAMESPACE, &["--set", "rbac.create=false"]).await.unwrap();
    let printed = with_the_first_catalog(&["rbac"]).await.unwrap();
    let printed = by_name(apply::parse("meshwright rbac", &printed).unwrap()).unwrap();
    let together: Vec<&String> = without.keys().chain(printed.keys()).collect();
    assert_eq!(together.len(), whole.len(), "{together:?}");
    assert!(whole.keys().all(|name| together.contains(&name)), "{together:?}");
}

/// What the operator prints with the catalog that committed files are made from.
async fn with_the_first_catalog(args: &[&str]) -> TestResult<String> {
    let catalog = meshwright_e2e::programs::catalog().ok_or("MESHWRIGHT_CATALOG is not set")?.display().to_string();
    let ran = meshwright(Path::new(NOWHERE), &[args, &["--catalog", &catalog]].concat()).await?;
    if ran.code == Some(0) { Ok(ran.out) } else { Err(ran.err.into()) }
}

/// Applies what `meshwright rbac` prints as docs/install.md has it: without force, so that another owner is a conflict.
async fn apply_rights(kubeconfig: &Path) -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rights.yaml");
    std::fs::write(&file, with_the_first_catalog(&["rbac"]).await?)?;
    let mut command = Command::new(Programs::find()?.path("kubectl"));
    command.args(["apply", "--server-side", "-f"]).arg(&file).env("KUBECONFIG", kubeconfig).env("HOME", folder.path());
    let output = command.kill_on_drop(true).output().await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_release_comes_changes_and_goes_and_the_mesh_is_none_the_wiser() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let release = ["meshwright", ".", "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "2m"];
        done(lab.kubeconfig(), &[&["install", "--create-namespace"], &release[..]].concat()).await?;
        let mesh = Mesh::of(lab.client());
        mesh.apply(NAME, small()).await?;
        mesh.wait_ready(NAME).await?;
        let istiods = objects::pod_names(&lab.client(), "istio-system", "").await?;

        done(lab.kubeconfig(), &[&["upgrade", "--set", "replicas=1"], &release[..]].concat()).await?;
        let operator = objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
        assert_eq!(operator.spec.and_then(|spec| spec.replicas), Some(1));
        mesh.wait_ready(NAME).await?;
        done(lab.kubeconfig(), &["uninstall", "meshwright", "--namespace", OPERATOR_NAMESPACE, "--wait"]).await?;
        assert_eq!(objects::pod_names(&lab.client(), "istio-system", "").await?, istiods, "no Pod was replaced");

        // Definition and namespace have stayed, so the mesh did, and another release takes it on: one with rights that are
        // applied apart from it. Neither is in the other's way, then or later.
        apply_rights(lab.kubeconfig()).await?;
        let apart = [&release[..], &["--set", "rbac.create=false"]].concat();
        done(lab.kubeconfig(), &[&["install"], &apart[..]].concat()).await?;
        apply_rights(lab.kubeconfig()).await?;
        done(lab.kubeconfig(), &[&["upgrade", "--set", "replicas=1"], &apart[..]].concat()).await?;
        apply_rights(lab.kubeconfig()).await?;
        mesh.wait_ready(NAME).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        assert!(mesh.api("apps/v1", "Deployment", Some("istio-system")).get_opt("istiod").await?.is_none());
        Ok(())
    });
}
