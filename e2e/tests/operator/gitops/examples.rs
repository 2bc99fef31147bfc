//! The folders below config/ that people build on: built by kustomize, and one of them lived with.

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

/// The objects that a folder's kustomization makes.
fn built(folder: &Path) -> TestResult<Vec<DynamicObject>> {
    let output = Command::new(Programs::find()?.path("kustomize")).arg("build").arg(folder).output()?;
    assert!(output.status.success(), "{}: {}", folder.display(), String::from_utf8_lossy(&output.stderr));
    Ok(apply::parse(&folder.display().to_string(), &String::from_utf8(output.stdout)?)?)
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

/// Kind, namespace and name of each, sorted.
fn names(objects: &[DynamicObject]) -> Vec<String> {
    let name = |o: &DynamicObject| format!("{} {}/{}", kind(o), o.namespace().unwrap_or_default(), o.name_any());
    let mut names: Vec<String> = objects.iter().map(name).collect();
    names.sort();
    names
}

fn find<'a>(objects: &'a [DynamicObject], of: &str, name: &str) -> TestResult<&'a DynamicObject> {
    let found = objects.iter().find(|object| kind(object) == of && object.name_any() == name);
    Ok(found.ok_or_else(|| format!("no {of} {name}"))?)
}

/// The cluster's mesh, of the one release that the lab has.
fn with_the_labs_release(mut objects: Vec<DynamicObject>) -> Vec<DynamicObject> {
    for object in objects.iter_mut().filter(|object| kind(object) == "MeshInstallation") {
        object.data["spec"]["version"] = VERSION.into();
    }
    objects
}

#[test]
fn the_overlays_differ_from_the_rest_in_what_they_promise() {
    let whole = built(&file("config")).unwrap();
    let replicas = |objects: &[DynamicObject]| {
        find(objects, "Deployment", "meshwright").unwrap().data["spec"]["replicas"].as_i64()
    };
    let one = built(&file("config/overlays/one-replica")).unwrap();
    assert_eq!((names(&one), replicas(&whole), replicas(&one)), (names(&whole), Some(2), Some(1)));

    let monitored = built(&file("config/overlays/service-monitor")).unwrap();
    assert_eq!(monitored.len(), whole.len() + 2);
    let monitor = find(&monitored, "ServiceMonitor", "meshwright").unwrap();
    let service = find(&monitored, "Service", "meshwright-metrics").unwrap();
    let wanted = monitor.data["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(wanted.iter().all(|(key, value)| service.labels().get(key).is_some_and(|label| label == value)));
    assert_eq!(monitor.data["spec"]["endpoints"][0]["port"], service.data["spec"]["ports"][0]["name"]);
    assert_eq!(monitor.namespace(), service.namespace());
    assert_eq!(
        names(&built(&file("config/overlays/mesh-monitor")).unwrap()),
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
async fn the_overlay_with_rights_in_namespaces_is_what_the_command_prints() {
    let nowhere = Path::new("/nowhere/kubeconfig");
    let printed = meshwright(nowhere, &["install", "--cluster-objects", "preinstalled"]).await.unwrap();
    let sorted = |mut objects: Vec<DynamicObject>| {
        objects.sort_by_key(|object| names(std::slice::from_ref(object)));
        objects.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect::<Vec<Value>>()
    };
    let overlay = built(&file("config/overlays/namespaced-rights")).unwrap();
    assert_eq!(sorted(overlay), sorted(apply::parse("meshwright install", &printed.out).unwrap()));
}

#[test]
fn argo_cds_own_kustomization_takes_the_health_check_in() {
    let script = std::fs::read_to_string(file("config/gitops/argocd/health.lua")).unwrap();
    let map = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    // As Argo CD publishes it: empty, and its namespace is left to the kustomization.
    let published = map(json!({"name": "argocd-cm", "labels": {"app.kubernetes.io/part-of": "argocd"}}));
    let mut own = map(json!({"name": "argocd-cm", "namespace": "argocd"}));
    own["data"] = json!({"url": "https://argocd.example.com"});
    for (argocd, namespace, url) in [(published, "argocd", None), (own, "", Some("https://argocd.example.com"))] {
        let here = with_the_component(&[argocd, map(json!({"name": "other"}))], namespace).unwrap();
        let objects = built(here.path()).unwrap();
        assert_eq!(objects.len(), 2, "{:?}", names(&objects));
        let found = find(&objects, "ConfigMap", "argocd-cm").unwrap();
        assert_eq!(found.namespace().as_deref(), Some("argocd"));
        let data = &found.data["data"];
        assert_eq!(data["resource.customizations.health.meshwright.dev_MeshInstallation"], script);
        assert_eq!(data["url"].as_str(), url);
    }
    // Where it would have no effect it says so.
    let here = with_the_component(&[map(json!({"name": "argocd-rbac-cm"}))], "argocd").unwrap();
    let output = Command::new(Programs::find().unwrap().path("kustomize")).arg("build").arg(here.path()).output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(said.contains("argocd-cm"), "{said}");
}

/// A kustomization of these objects with the component that has the health check.
fn with_the_component(objects: &[Value], namespace: &str) -> TestResult<tempfile::TempDir> {
    let here = tempfile::tempdir()?;
    let component = file("config/gitops/argocd").canonicalize()?;
    // Kustomize wants a way to it from here.
    let mut way = "..".to_owned();
    here.path().canonicalize()?.ancestors().skip(2).for_each(|_| way.push_str("/.."));
    write!(way, "{}", component.display())?;
    std::fs::write(
        here.path().join("maps.yaml"),
        json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string(),
    )?;
    let kustomization = json!({"namespace": namespace, "resources": ["maps.yaml"], "components": [way]});
    std::fs::write(here.path().join("kustomization.yaml"), kustomization.to_string())?;
    Ok(here)
}

#[test]
fn fluxs_types_know_every_field_of_the_example_and_its_paths_are_there() {
    let example = file("config/gitops/flux/gke.yaml");
    let output = Command::new(Programs::find().unwrap().path("gitops-judge")).arg("flux").arg(&example).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&example).unwrap();
    let paths: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("path: ./")).collect();
    assert_eq!(paths.len(), 3);
    for path in paths {
        built(&file(path)).unwrap();
    }
}

#[tokio::test]
async fn one_base_gives_each_cluster_a_mesh_of_its_platform() {
    let mut specs = Vec::new();
    for cluster in CLUSTERS {
        let objects = built(&file("config/gitops/clusters").join(cluster)).unwrap();
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
            let guard = |key: &str| annotations.get(key).map(String::as_str);
            assert_eq!(guard("argocd.argoproj.io/sync-options"), Some("Prune=confirm,Delete=confirm"), "{kind}");
            assert_eq!(guard("kustomize.toolkit.fluxcd.io/prune"), Some("disabled"), "{kind}");
        }
        let objects = with_the_labs_release(objects);
        let mesh = find(&objects, "MeshInstallation", NAME).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.yaml").display().to_string();
        std::fs::write(&path, serde_json::to_string(mesh).unwrap()).unwrap();
        let nowhere = Path::new("/nowhere/kubeconfig");
        let rendered = meshwright(nowhere, &["render", "-f", &path, "--kubernetes", "v1.33.0"]).await.unwrap();
        assert_eq!(rendered.code, Some(0), "{cluster}: {}", rendered.err);
        assert_eq!(mesh.data["spec"]["platform"], cluster);
        specs.push(mesh.data["spec"].clone());
    }
    assert_eq!(specs[2]["gateways"][0]["service"]["ports"][1]["nodePort"], 30401);
}

#[test]
fn argo_cds_example_has_a_folder_for_each_platform_that_it_names() {
    let text = std::fs::read_to_string(file("config/gitops/argocd/clusters.yaml")).unwrap();
    let set = apply::parse("clusters.yaml", &text).unwrap().remove(0);
    assert_eq!(set.data["spec"]["template"]["spec"]["source"]["path"], "config/gitops/clusters/{{ .platform }}");
    assert_eq!(set.data["spec"]["syncPolicy"]["preserveResourcesOnDeletion"], true);
    let elements = set.data["spec"]["generators"][0]["list"]["elements"].as_array().unwrap();
    assert_eq!(elements.len(), CLUSTERS.len());
    assert!(elements.iter().all(|one| one["platform"].as_str().is_some_and(|name| CLUSTERS.contains(&name))));
}

/// Checks that an apply of Argo CD would change nothing of an object. Nothing is written.
async fn is_in_sync(client: &Client, object: &DynamicObject) -> TestResult {
    let types = object.types.as_ref().ok_or("no kind")?;
    let resource = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::try_from(types)?);
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let live = bare(api.get(&object.name_any()).await?)?;
    // Under the name that it was applied with, as Argo CD does, and without force: what somebody else has set is a conflict.
    let params = PatchParams { dry_run: true, ..PatchParams::apply(apply::MANAGER) };
    let planned = bare(api.patch(&object.name_any(), &params, &Patch::Apply(object)).await?)?;
    assert_eq!(planned, live, "{} {} differs", types.kind, object.name_any());
    Ok(())
}

/// Without the marks that any apply changes.
fn bare(mut object: DynamicObject) -> TestResult<Value> {
    object.metadata.managed_fields = None;
    Ok(serde_json::to_value(object)?)
}

#[test]
fn nothing_that_lies_in_git_differs_from_what_runs() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let client = lab.client();
        let objects = with_the_labs_release(built(&file("config/gitops/clusters/vmware-pks"))?);
        apply::apply_all(&client, objects.clone()).await?;
        objects::deployment_ready(&client, "meshwright-system", "meshwright").await?;
        let mesh = Mesh::of(client.clone());
        let ready = mesh.wait_ready(NAME).await?;
        for object in &objects {
            is_in_sync(&client, object).await?;
        }
        // Of what lies in Git the operator sets nothing but its finalizer and status, so there is no difference to ignore.
        for entry in ready.managed_fields() {
            let manager = entry.manager.clone().unwrap_or_default();
            let fields = entry.fields_v1.as_ref().map(|fields| fields.0.clone()).unwrap_or_default();
            assert_eq!(fields.get("f:spec").is_some(), manager == apply::MANAGER, "{manager}: {fields}");
        }
        // And nothing of the mesh looks as if it were from Git, which would have Argo CD take it away again.
        let inventory = meshwright_e2e::inventory::Inventory::of(&client, NAME).await?;
        let in_git = names(&objects);
        let both: Vec<&str> = inventory.keys().filter(|key| in_git.iter().any(|name| name == key)).collect();
        assert_eq!(both, ["Namespace /istio-system"], "the operator only labels it");
        Ok(())
    });
}
