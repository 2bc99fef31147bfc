//! Kustomize overlays and `GitOps` examples in config/.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION};
use meshwright_e2e::{LabOptions, Programs, TestResult, apply, objects, run};
use serde_json::{Value, json};

use super::file;
use crate::cli::meshwright;

const CLUSTERS: [&str; 3] = ["gke", "minikube", "vmware-pks"];

/// Objects that `kustomize build` prints for a directory.
fn build(dir: &Path) -> TestResult<Vec<DynamicObject>> {
    let output = Command::new(Programs::find()?.path("kustomize")).arg("build").arg(dir).output()?;
    assert!(output.status.success(), "{}: {}", dir.display(), String::from_utf8_lossy(&output.stderr));
    Ok(apply::parse(&dir.display().to_string(), &String::from_utf8(output.stdout)?)?)
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

/// Sorted kind, namespace and name of each object.
fn names(objects: &[DynamicObject]) -> Vec<String> {
    let name = |o: &DynamicObject| format!("{} {}/{}", kind(o), o.namespace().unwrap_or_default(), o.name_any());
    let mut names: Vec<String> = objects.iter().map(name).collect();
    names.sort();
    names
}

fn find<'a>(objects: &'a [DynamicObject], wanted: &str, name: &str) -> TestResult<&'a DynamicObject> {
    let found = objects.iter().find(|object| kind(object) == wanted && object.name_any() == name);
    Ok(found.ok_or_else(|| format!("no {wanted} {name}"))?)
}

/// Replaces the mesh's version by the lab's release.
fn with_lab_version(mut objects: Vec<DynamicObject>) -> Vec<DynamicObject> {
    for object in objects.iter_mut().filter(|object| kind(object) == "MeshInstallation") {
        object.data["spec"]["version"] = VERSION.into();
    }
    objects
}

#[test]
fn overlays_change_only_what_they_describe() {
    let default = build(&file("config")).unwrap();
    let replicas = |objects: &[DynamicObject]| {
        find(objects, "Deployment", "meshwright").unwrap().data["spec"]["replicas"].as_i64()
    };
    let one = build(&file("config/overlays/one-replica")).unwrap();
    assert_eq!((names(&one), replicas(&default), replicas(&one)), (names(&default), Some(2), Some(1)));

    let monitored = build(&file("config/overlays/service-monitor")).unwrap();
    assert_eq!(monitored.len(), default.len() + 2);
    let monitor = find(&monitored, "ServiceMonitor", "meshwright").unwrap();
    let service = find(&monitored, "Service", "meshwright-metrics").unwrap();
    let selector = monitor.data["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(selector.iter().all(|(key, value)| service.labels().get(key).is_some_and(|label| label == value)));
    assert_eq!(monitor.data["spec"]["endpoints"][0]["port"], service.data["spec"]["ports"][0]["name"]);
    assert_eq!(monitor.namespace(), service.namespace());
    assert_eq!(
        names(&build(&file("config/overlays/mesh-monitor")).unwrap()),
        [
            "PodMonitor istio-system/istio-proxies",
            "PrometheusRule istio-system/istio",
            "ServiceMonitor istio-system/istiod",
        ]
    );
    let job = monitor.data["spec"]["jobLabel"].as_str().and_then(|label| service.labels().get(label));
    let rules = find(&monitored, "PrometheusRule", "meshwright").unwrap().data["spec"].to_string();
    assert!(job.is_some_and(|job| rules.contains(&format!("job=\\\"{job}\\\""))), "{job:?}");
}

#[tokio::test]
async fn namespaced_overlay_matches_install_command() {
    let no_kubeconfig = Path::new("/nowhere/kubeconfig");
    let printed = meshwright(no_kubeconfig, &["install", "--cluster-scoped-resources", "external"]).await.unwrap();
    let sorted = |mut objects: Vec<DynamicObject>| {
        objects.sort_by_key(|object| names(std::slice::from_ref(object)));
        objects.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect::<Vec<Value>>()
    };
    let overlay = build(&file("config/overlays/namespaced-permissions")).unwrap();
    assert_eq!(sorted(overlay), sorted(apply::parse("meshwright install", &printed.stdout).unwrap()));
}

#[test]
fn component_adds_health_check_to_argocd_cm() {
    let script = std::fs::read_to_string(file("config/gitops/argocd/health.lua")).unwrap();
    let config_map = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    // In Argo CD's manifests the ConfigMap is empty and the kustomization sets its namespace.
    let published = config_map(json!({"name": "argocd-cm", "labels": {"app.kubernetes.io/part-of": "argocd"}}));
    let mut custom = config_map(json!({"name": "argocd-cm", "namespace": "argocd"}));
    custom["data"] = json!({"url": "https://argocd.example.com"});
    for (argocd, namespace, url) in [(published, "argocd", None), (custom, "", Some("https://argocd.example.com"))] {
        let dir = kustomization_with_component(&[argocd, config_map(json!({"name": "other"}))], namespace).unwrap();
        let objects = build(dir.path()).unwrap();
        assert_eq!(objects.len(), 2, "{:?}", names(&objects));
        let found = find(&objects, "ConfigMap", "argocd-cm").unwrap();
        assert_eq!(found.namespace().as_deref(), Some("argocd"));
        let data = &found.data["data"];
        assert_eq!(data["resource.customizations.health.meshwright.dev_MeshInstallation"], script);
        assert_eq!(data["url"].as_str(), url);
    }
    // The build fails if the component would have no effect.
    let dir = kustomization_with_component(&[config_map(json!({"name": "argocd-rbac-cm"}))], "argocd").unwrap();
    let output = Command::new(Programs::find().unwrap().path("kustomize")).arg("build").arg(dir.path()).output();
    let stderr = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(stderr.contains("argocd-cm"), "{stderr}");
}

/// Writes a kustomization with these objects and the component with the health check.
fn kustomization_with_component(objects: &[Value], namespace: &str) -> TestResult<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let component = file("config/gitops/argocd").canonicalize()?;
    // Kustomize requires a relative path.
    let mut path = "..".to_owned();
    dir.path().canonicalize()?.ancestors().skip(2).for_each(|_| path.push_str("/.."));
    write!(path, "{}", component.display())?;
    std::fs::write(
        dir.path().join("config_maps.yaml"),
        json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string(),
    )?;
    let kustomization = json!({"namespace": namespace, "resources": ["config_maps.yaml"], "components": [path]});
    std::fs::write(dir.path().join("kustomization.yaml"), kustomization.to_string())?;
    Ok(dir)
}

#[test]
fn flux_example_has_valid_fields_and_paths() {
    let example = file("config/gitops/flux/gke.yaml");
    let output = Command::new(Programs::find().unwrap().path("gitops-health")).arg("flux").arg(&example).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&example).unwrap();
    let paths: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("path: ./")).collect();
    assert_eq!(paths.len(), 3);
    for path in paths {
        build(&file(path)).unwrap();
    }
}

#[tokio::test]
async fn each_cluster_overlay_renders_its_platform() {
    let mut specs = Vec::new();
    for cluster in CLUSTERS {
        let objects = build(&file("config/gitops/clusters").join(cluster)).unwrap();
        let wave = |object: &DynamicObject| object.annotations().get("argocd.argoproj.io/sync-wave").cloned();
        assert_eq!(wave(find(&objects, "Deployment", "meshwright").unwrap()), None, "wave 0");
        assert_eq!(wave(find(&objects, "MeshInstallation", NAME).unwrap()).as_deref(), Some("1"));
        assert_eq!(wave(find(&objects, "Namespace", "shop").unwrap()).as_deref(), Some("2"));
        for (kind, name) in [
            ("MeshInstallation", NAME),
            ("Namespace", "istio-system"),
            ("CustomResourceDefinition", "meshinstallations.meshwright.dev"),
        ] {
            let annotations = find(&objects, kind, name).unwrap().annotations().clone();
            let annotation = |key: &str| annotations.get(key).map(String::as_str);
            assert_eq!(annotation("argocd.argoproj.io/sync-options"), Some("Prune=confirm,Delete=confirm"), "{kind}");
            assert_eq!(annotation("kustomize.toolkit.fluxcd.io/prune"), Some("disabled"), "{kind}");
        }
        let objects = with_lab_version(objects);
        let mesh = find(&objects, "MeshInstallation", NAME).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.yaml").display().to_string();
        std::fs::write(&path, serde_json::to_string(mesh).unwrap()).unwrap();
        let no_kubeconfig = Path::new("/nowhere/kubeconfig");
        let rendered = meshwright(no_kubeconfig, &["render", "-f", &path, "--kubernetes", "v1.33.0"]).await.unwrap();
        assert_eq!(rendered.code, Some(0), "{cluster}: {}", rendered.stderr);
        assert_eq!(mesh.data["spec"]["platform"], cluster);
        specs.push(mesh.data["spec"].clone());
    }
    assert_eq!(specs[2]["gateways"][0]["service"]["ports"][1]["nodePort"], 30401);
}

#[test]
fn argocd_example_has_directory_for_each_platform() {
    let text = std::fs::read_to_string(file("config/gitops/argocd/clusters.yaml")).unwrap();
    let application_set = apply::parse("clusters.yaml", &text).unwrap().remove(0);
    assert_eq!(
        application_set.data["spec"]["template"]["spec"]["source"]["path"],
        "config/gitops/clusters/{{ .platform }}"
    );
    assert_eq!(application_set.data["spec"]["syncPolicy"]["preserveResourcesOnDeletion"], true);
    let elements = application_set.data["spec"]["generators"][0]["list"]["elements"].as_array().unwrap();
    assert_eq!(elements.len(), CLUSTERS.len());
    assert!(elements.iter().all(|element| element["platform"].as_str().is_some_and(|name| CLUSTERS.contains(&name))));
}

/// Checks by dry run that Argo CD's server-side apply would not change an object.
async fn assert_in_sync(client: &Client, object: &DynamicObject) -> TestResult {
    let types = object.types.as_ref().ok_or("no kind")?;
    let resource = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::try_from(types)?);
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let live = without_managed_fields(api.get(&object.name_any()).await?)?;
    // Like Argo CD, with the field manager of the first apply and without force: fields of other managers are a
    // conflict.
    let params = PatchParams { dry_run: true, ..PatchParams::apply(apply::FIELD_MANAGER) };
    let planned = without_managed_fields(api.patch(&object.name_any(), &params, &Patch::Apply(object)).await?)?;
    assert_eq!(planned, live, "{} {} differs", types.kind, object.name_any());
    Ok(())
}

/// Removes managedFields, which every apply changes.
fn without_managed_fields(mut object: DynamicObject) -> TestResult<Value> {
    object.metadata.managed_fields = None;
    Ok(serde_json::to_value(object)?)
}

#[test]
fn argocd_sees_no_difference_after_sync() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let client = lab.client();
        let objects = with_lab_version(build(&file("config/gitops/clusters/vmware-pks"))?);
        apply::apply_all(&client, objects.clone()).await?;
        objects::deployment_ready(&client, "meshwright-system", "meshwright").await?;
        let mesh = Mesh::connect(client.clone());
        let ready = mesh.wait_ready(NAME).await?;
        for object in &objects {
            assert_in_sync(&client, object).await?;
        }
        // The operator sets only its finalizer and status on objects in Git, so no ignoreDifferences are needed.
        for entry in ready.managed_fields() {
            let manager = entry.manager.clone().unwrap_or_default();
            let fields = entry.fields_v1.as_ref().map(|fields| fields.0.clone()).unwrap_or_default();
            assert_eq!(fields.get("f:spec").is_some(), manager == apply::FIELD_MANAGER, "{manager}: {fields}");
        }
        // Objects of the mesh don't look as if they came from Git, so Argo CD doesn't prune them.
        let inventory = meshwright_e2e::inventory::Inventory::read(&client, NAME).await?;
        let in_git = names(&objects);
        let both: Vec<&str> = inventory.keys().filter(|key| in_git.iter().any(|name| name == key)).collect();
        assert_eq!(both, ["Namespace /istio-system"], "the operator only labels it");
        Ok(())
    });
}
