//! The operator's Helm chart: the same objects as config/, changed only by its values.

use std::collections::BTreeMap;
use std::path::Path;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, DynamicObject};
use meshwright_e2e::mesh::{Mesh, NAME, OPERATOR_NAMESPACE, config_dir, demo_spec};
use meshwright_e2e::{LabOptions, Programs, TestResult, apply, objects, run};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cli::{CommandOutput, meshwright};

const NO_KUBECONFIG: &str = "/nowhere/kubeconfig";

/// Runs helm in the chart's directory with temporary helm directories.
async fn helm(kubeconfig: &Path, args: &[&str]) -> TestResult<CommandOutput> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(Programs::find()?.path("helm"));
    command.args(args).current_dir(config_dir().join("chart")).env("HOME", home.path()).env("KUBECONFIG", kubeconfig);
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, home.path());
    }
    let output = command.kill_on_drop(true).output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(CommandOutput { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
}

/// Runs helm; returns its standard output, or its standard error as the error.
async fn helm_ok(kubeconfig: &Path, args: &[&str]) -> TestResult<String> {
    let output = helm(kubeconfig, args).await?;
    if output.code == Some(0) { Ok(output.stdout) } else { Err(format!("helm {args:?}: {}", output.stderr).into()) }
}

/// Rendered objects of the chart, by kind, namespace and name.
async fn rendered(namespace: &str, args: &[&str]) -> TestResult<BTreeMap<String, Value>> {
    let args = [&["template", "meshwright", ".", "--namespace", namespace], args].concat();
    by_name(apply::parse("helm template", &helm_ok(Path::new(NO_KUBECONFIG), &args).await?)?)
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
async fn chart_matches_config_and_keeps_shared_objects() {
    let manifest = meshwright(Path::new(NO_KUBECONFIG), &["install"]).await.unwrap();
    let mut expected = by_name(apply::parse("meshwright install", &manifest.stdout).unwrap()).unwrap();
    // Helm creates the release's namespace.
    expected.remove("Namespace /meshwright-system").unwrap();
    for kept in ["Namespace /istio-system", "CustomResourceDefinition /meshinstallations.meshwright.dev"] {
        expected.get_mut(kept).unwrap()["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
    }
    let rendered = rendered(OPERATOR_NAMESPACE, &[]).await.unwrap();
    assert_eq!(rendered.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, object) in &expected {
        assert_eq!(rendered.get(name), Some(object), "{name}");
    }
}

#[tokio::test]
async fn system_priority_class_has_quota() {
    for (class, has_quota) in [("infra", false), ("system-node-critical", true)] {
        let rendered = rendered("platform", &["--set", &format!("priorityClassName={class}")]).await.unwrap();
        let pod = &rendered["Deployment platform/meshwright"]["spec"]["template"]["spec"];
        assert_eq!(pod["priorityClassName"], class);
        let quota = rendered.get("ResourceQuota platform/meshwright-critical-pods");
        assert_eq!(quota.is_some(), has_quota, "{class}");
        let values = |quota: &Value| quota.pointer("/spec/scopeSelector/matchExpressions/0/values").cloned();
        assert!(quota.is_none_or(|quota| values(quota) == Some(json!([class]))), "{quota:?}");
    }
}

#[tokio::test]
async fn chart_values_take_effect() {
    let dir = tempfile::tempdir().unwrap();
    let values = dir.path().join("values.yaml");
    let resources =
        json!({"requests": {"cpu": "1", "memory": "64Mi", "ephemeral-storage": "1Gi"}, "limits": {"memory": "256Mi"}});
    let toleration = json!({"key": "infra", "operator": "Exists"});
    let given = json!({
        "image": {
            "repository": "registry.example.com/mesh/meshwright", "tag": "sha256:00ff", "pullPolicy": "Always",
            "pullSecrets": ["registry-key"],
        },
        "catalog": {
            "sources": ["/catalog", "oci://registry.example.com/charts"], "plainHTTP": true, "credentialsSecret": "login",
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
    let rendered = rendered("platform", &["--values", &values.display().to_string()]).await.unwrap();
    let spec = &rendered["Deployment platform/meshwright"]["spec"];
    let (pod, container) = (&spec["template"]["spec"], &spec["template"]["spec"]["containers"][0]);
    assert_eq!(spec["replicas"], 1);
    assert_eq!(container["image"], "registry.example.com/mesh/meshwright@sha256:00ff");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"], resources);
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry-key"}]));
    assert_eq!(pod["nodeSelector"], json!({"pool": "infra", "kubernetes.io/os": "linux"}));
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
    assert_eq!(rendered["ServiceMonitor platform/meshwright"]["metadata"]["labels"]["release"], "prometheus");
    assert!(!rendered.contains_key("PrometheusRule platform/meshwright"));
    assert!(!rendered.keys().any(|name| name.starts_with("Namespace")), "{:?}", rendered.keys());

    // The chart's permissions match `meshwright rbac` for these namespaces.
    let args = ["rbac", "--mesh-namespace", "mesh", "--operator-namespace", "platform"];
    let permissions = output_with_default_catalog(&args).await.unwrap();
    let permissions = by_name(apply::parse("meshwright rbac", &permissions).unwrap()).unwrap();
    for (name, object) in permissions.iter().filter(|(name, _)| !name.starts_with("Namespace")) {
        assert_eq!(rendered.get(name), Some(object), "{name}");
    }

    for (wrong, named) in [
        ("image.repo=x", "repo"),
        (r"podLabels.sidecar\.istio\.io/inject=yes", "podLabels"),
        ("mesh.namespace=Foo_Bar", "/mesh/namespace"),
        ("prometheusRule.runbooks=docs", "runbooks"),
    ] {
        let rejected = helm(Path::new(NO_KUBECONFIG), &["template", "meshwright", ".", "--set", wrong]).await.unwrap();
        assert!(rejected.code != Some(0) && rejected.stderr.contains(named), "{wrong}: {}", rejected.stderr);
    }
}

#[tokio::test]
async fn chart_alerts_have_labels_and_runbooks() {
    let runbooks = "https://git.example.com/meshwright/docs/runbooks.md";
    let args = ["--set", "prometheusRule.enabled=true,prometheusRule.labels.release=prometheus"];
    let without = rendered(OPERATOR_NAMESPACE, &args).await.unwrap();
    let address = format!("prometheusRule.runbooks={runbooks}");
    let with = rendered(OPERATOR_NAMESPACE, &[&args[..], &["--set", &address]].concat()).await.unwrap();
    let rule = |objects: &BTreeMap<String, Value>| objects["PrometheusRule meshwright-system/meshwright"].clone();
    assert_eq!(rule(&without)["metadata"]["labels"]["release"], "prometheus");
    let text = std::fs::read_to_string(config_dir().join("overlays/service-monitor/prometheus_rule.yaml")).unwrap();
    let committed: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(rule(&without)["spec"], committed["spec"]);
    let linked = committed["spec"]
        .to_string()
        .replace("\"runbook\":\"docs/runbooks.md", &format!("\"runbook_url\":\"{runbooks}"));
    assert!(linked.contains(runbooks));
    assert_eq!(rule(&with)["spec"], serde_json::from_str::<Value>(&linked).unwrap());
}

#[tokio::test]
async fn chart_without_rbac_omits_only_permissions() {
    let complete = rendered(OPERATOR_NAMESPACE, &[]).await.unwrap();
    let without = rendered(OPERATOR_NAMESPACE, &["--set", "rbac.create=false"]).await.unwrap();
    let printed = output_with_default_catalog(&["rbac"]).await.unwrap();
    let printed = by_name(apply::parse("meshwright rbac", &printed).unwrap()).unwrap();
    let combined: Vec<&String> = without.keys().chain(printed.keys()).collect();
    assert_eq!(combined.len(), complete.len(), "{combined:?}");
    assert!(complete.keys().all(|name| combined.contains(&name)), "{combined:?}");
}

/// Runs `meshwright` with the catalog from which the committed files are generated.
async fn output_with_default_catalog(args: &[&str]) -> TestResult<String> {
    let catalog = meshwright_e2e::programs::catalog().ok_or("MESHWRIGHT_CATALOG is not set")?.display().to_string();
    let output = meshwright(Path::new(NO_KUBECONFIG), &[args, &["--catalog", &catalog]].concat()).await?;
    if output.code == Some(0) { Ok(output.stdout) } else { Err(output.stderr.into()) }
}

/// Applies the output of `meshwright rbac` as in docs/install.md: without force, so that a field owned by another
/// manager is a conflict.
async fn apply_permissions(kubeconfig: &Path) -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("rbac.yaml");
    std::fs::write(&file, output_with_default_catalog(&["rbac"]).await?)?;
    let mut command = Command::new(Programs::find()?.path("kubectl"));
    command.args(["apply", "--server-side", "-f"]).arg(&file).env("KUBECONFIG", kubeconfig).env("HOME", dir.path());
    let output = command.kill_on_drop(true).output().await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn chart_lifecycle_does_not_affect_mesh() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let release = ["meshwright", ".", "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "2m"];
        helm_ok(lab.kubeconfig(), &[&["install", "--create-namespace"], &release[..]].concat()).await?;
        let mesh = Mesh::connect(lab.client());
        mesh.apply(NAME, demo_spec()).await?;
        mesh.wait_ready(NAME).await?;
        let istiods = objects::pod_names(&lab.client(), "istio-system", "").await?;

        helm_ok(lab.kubeconfig(), &[&["upgrade", "--set", "replicas=1"], &release[..]].concat()).await?;
        let operator = objects::deployment_ready(&lab.client(), OPERATOR_NAMESPACE, "meshwright").await?;
        assert_eq!(operator.spec.and_then(|spec| spec.replicas), Some(1));
        mesh.wait_ready(NAME).await?;
        helm_ok(lab.kubeconfig(), &["uninstall", "meshwright", "--namespace", OPERATOR_NAMESPACE, "--wait"]).await?;
        assert_eq!(objects::pod_names(&lab.client(), "istio-system", "").await?, istiods, "no Pod was replaced");

        // Uninstalling the chart kept the CRD and the namespace, and therefore the mesh. A second Helm release, with
        // permissions applied separately, takes it over without conflicts.
        apply_permissions(lab.kubeconfig()).await?;
        let without_rbac = [&release[..], &["--set", "rbac.create=false"]].concat();
        helm_ok(lab.kubeconfig(), &[&["install"], &without_rbac[..]].concat()).await?;
        apply_permissions(lab.kubeconfig()).await?;
        helm_ok(lab.kubeconfig(), &[&["upgrade", "--set", "replicas=1"], &without_rbac[..]].concat()).await?;
        apply_permissions(lab.kubeconfig()).await?;
        mesh.wait_ready(NAME).await?;
        mesh.delete(NAME, &DeleteParams::default()).await?;
        assert!(mesh.api("apps/v1", "Deployment", Some("istio-system")).get_opt("istiod").await?.is_none());
        Ok(())
    });
}
