//! Every image of a mesh: in applied objects and in injected pods.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{LAB_1_32, Mesh, NAME, VERSION, operator_writes};
use meshwright_e2e::{LabOptions, TestResult, objects, run, wait};
use serde_json::{Value, json};

use crate::cli::{file, meshwright};

const MIRROR: &str = "mirror.example.com:5000/istio";
/// Placeholder image of a gateway's Deployment, which istiod replaces.
const AUTO: &str = "auto";
/// Image hard-coded in Istio's template grpc-simple; no chart value changes it.
const HELPER: &str = "busybox:1.28";

fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

const ADD_ONS: [&str; 4] = ["prometheus", "grafana", "kiali", "jaeger"];

/// A mesh with all components: istio-cni, ztunnel, an ingress and an egress gateway, add-ons.
fn spec() -> Value {
    let gateways = json!([
        {"name": "in", "namespace": "edge", "service": {"type": "ClusterIP"}},
        {"name": "out", "namespace": "edge", "direction": "Egress"},
    ]);
    let addons = ADD_ONS.map(|name| json!({"name": name}));
    let images = json!({"registry": MIRROR});
    json!({"version": VERSION, "profile": "ambient", "gateways": gateways, "addons": addons, "images": images})
}

/// Like [`spec`] with every image pinned by digest.
fn pinned() -> Value {
    let mut spec = spec();
    let digests = [("pilot", 'a'), ("proxyv2", 'b'), ("install-cni", 'c'), ("ztunnel", 'd'), ("agentgateway", 'e')];
    let addon_digests = ADD_ONS.map(|name| (name, 'f'));
    spec["images"]["digests"] = digests
        .into_iter()
        .chain(addon_digests)
        .map(|(name, letter)| (name.to_owned(), json!(digest(letter))))
        .collect();
    spec
}

async fn rendered(spec: &Value) -> TestResult<Vec<Value>> {
    let (_dir, path) = file(NAME, spec, &json!({}))?;
    let output = meshwright(Path::new("/nowhere/kubeconfig"), &["render", "-f", &path, "-o", "json"]).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let list: Value = serde_json::from_str(&output.stdout)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Collects every string with the key `image` at any depth.
fn images(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(image) if name == "image" => _ = found.insert(image.to_owned()),
                    _ => images(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| images(item, found)),
        _ => {}
    }
}

fn injector(objects: &[Value]) -> TestResult<(Value, Value)> {
    let is_injector =
        |object: &&Value| object["metadata"]["name"] == "istio-sidecar-injector" && object["kind"] == "ConfigMap";
    let data = &objects.iter().find(is_injector).ok_or("no injector")?["data"];
    let values = serde_json::from_str(data["values"].as_str().unwrap_or_default())?;
    Ok((values, serde_saphyr::from_str(data["config"].as_str().unwrap_or_default())?))
}

/// Hard-coded images of all injection templates.
fn literal_images(config: &Value) -> BTreeSet<String> {
    let templates = config["templates"].as_object().into_iter().flatten();
    let lines = templates.flat_map(|(_, text)| text.as_str().unwrap_or_default().lines());
    let images = lines.filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image:"));
    images.map(|image| image.trim().trim_matches('"').to_owned()).filter(|image| !image.contains("{{")).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Output lines of `meshwright catalog images`.
async fn listed_images(more: &[&str]) -> TestResult<Vec<String>> {
    let args = [&["catalog", "images", "--version", VERSION][..], more].concat();
    let output = meshwright(Path::new("/nowhere/kubeconfig"), &args).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    Ok(output.stdout.lines().map(str::to_owned).collect())
}

/// Names of the add-ons' images in a registry.
async fn add_ons_in(registry: &str) -> TestResult<Vec<String>> {
    let all = listed_images(&[]).await?;
    let last = |image: &String| image.rsplit_once('/').map(|(_, last)| format!("{registry}/{last}"));
    let found: Vec<String> = all.iter().filter(|image| is_of_add_on(image)).filter_map(last).collect();
    assert_eq!(found.len(), ADD_ONS.len(), "{found:?}");
    Ok(found)
}

fn is_of_add_on(image: &str) -> bool {
    ADD_ONS.iter().any(|name| image.contains(&format!("/{name}:")))
}

fn block_on(test: impl Future<Output = TestResult>) -> TestResult {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test)
}

#[test]
fn every_image_uses_configured_registry() -> TestResult {
    block_on(async {
        let objects = rendered(&spec()).await?;
        let mut found = BTreeSet::new();
        for object in &objects {
            images(object, &mut found);
        }
        // The ambient profile uses the distroless variant.
        let of = |name: &str| format!("{MIRROR}/{name}:{VERSION}-distroless");
        let mut expected = set(&[&of("install-cni"), &of("pilot"), &of("ztunnel"), AUTO]);
        expected.extend(add_ons_in(MIRROR).await?);
        assert_eq!(found, expected);

        let (values, config) = injector(&objects)?;
        assert_eq!((values["global"]["hub"].as_str(), values["global"]["tag"].as_str()), (Some(MIRROR), Some(VERSION)));
        assert_eq!(literal_images(&config), set(&[HELPER]));
        Ok(())
    })
}

#[test]
fn every_image_can_be_pinned_by_digest() -> TestResult {
    block_on(async {
        let objects = rendered(&pinned()).await?;
        let mut found = BTreeSet::new();
        for object in &objects {
            images(object, &mut found);
        }
        let of = |name: &str, letter: char| format!("{MIRROR}/{name}:{VERSION}@{}", digest(letter));
        let mut expected = set(&[&of("install-cni", 'c'), &of("pilot", 'a'), &of("ztunnel", 'd'), AUTO]);
        // Images of add-ons have no tag: the operator's version of the tag might not match the digest.
        expected.extend(ADD_ONS.map(|name| format!("{MIRROR}/{name}@{}", digest('f'))));
        assert_eq!(found, expected);
        let (values, _) = injector(&objects)?;
        assert_eq!(values["global"]["proxy"]["image"], of("proxyv2", 'b'));
        assert_eq!(values["global"]["proxy_init"]["image"], of("proxyv2", 'b'));
        assert_eq!(values["global"]["agentgateway"]["image"], of("agentgateway", 'e'));
        Ok(())
    })
}

#[test]
fn catalog_images_lists_every_required_image() -> TestResult {
    block_on(async {
        let args = ["catalog", "images", "--version", VERSION];
        let of = |name: &str| format!("registry.istio.io/testing/{name}:{VERSION}");
        let all = ["agentgateway", "install-cni", "pilot", "proxyv2", "ztunnel"].map(of);
        let mut expected: Vec<&str> = vec![HELPER];
        expected.extend(all.iter().map(String::as_str));
        let (of_add_ons, of_istio): (Vec<_>, Vec<_>) =
            listed_images(&[]).await?.into_iter().partition(|it| is_of_add_on(it));
        assert_eq!((of_istio.iter().map(String::as_str).collect(), of_add_ons.len()), (expected, ADD_ONS.len()));

        // The list contains the profile's components; the ambient profile uses the distroless variant.
        let variant = |name: &str, end: &str| format!("{}{end}", of(name));
        for (name, images, end) in [
            ("minimal", &["agentgateway", "pilot", "proxyv2"][..], ""),
            ("ambient", &["agentgateway", "install-cni", "pilot", "proxyv2", "ztunnel"], "-distroless"),
        ] {
            let mut expected: Vec<String> = images.iter().map(|image| variant(image, end)).collect();
            expected.extend(of_add_ons.iter().cloned());
            let found: BTreeSet<String> = listed_images(&["--profile", name]).await?.into_iter().collect();
            assert_eq!(found, expected.into_iter().chain([HELPER.to_owned()]).collect(), "{name}");
        }
        let output =
            meshwright(Path::new("/nowhere/kubeconfig"), &[&args[..], &["--profile", "large"]].concat()).await?;
        assert!(output.stderr.contains("unknown profile \"large\"; use one of: default, demo"), "{}", output.stderr);

        let json = meshwright(Path::new("/nowhere/kubeconfig"), &[&args[..], &["-o", "json"]].concat()).await?;
        let list: Value = serde_json::from_str(&json.stdout)?;
        assert_eq!(list["pullable"], false, "the lab's release has an abbreviated commit as its tag");
        let users = |image: &str| {
            let entry = list["images"].as_array()?.iter().find(|entry| entry["image"] == image)?;
            Some(entry["usedBy"].clone())
        };
        assert_eq!(users(HELPER), Some(json!(["template grpc-simple"])));
        assert_eq!(users(&of("ztunnel")), Some(json!(["DaemonSet ztunnel"])));
        Ok(())
    })
}

/// Images that istiod adds to a pod with an injection template.
async fn injected(client: &Client, template: &str) -> TestResult<BTreeSet<String>> {
    let mut pod = objects::pod("app", &[("sidecar.istio.io/inject", "true")]);
    if template == "gateway" {
        "istio-proxy".clone_into(&mut pod.spec.get_or_insert_default().containers[0].name);
        pod.spec.get_or_insert_default().containers[0].image = Some(AUTO.to_owned());
    }
    let templates = [("inject.istio.io/templates".to_owned(), template.to_owned())];
    pod.metadata.annotations = Some(templates.into_iter().collect());
    let own = objects::pod("app", &[]).spec.unwrap_or_default().containers[0].image.clone().unwrap_or_default();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let back = Api::<Pod>::namespaced(client.clone(), "shop").create(&dry_run, &pod).await?;
    let mut found = BTreeSet::new();
    images(&serde_json::to_value(back.spec)?, &mut found);
    found.remove(&own);
    Ok(found)
}

#[test]
fn injected_containers_use_configured_registry_and_digest() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        let client = lab.client();
        objects::namespace(&client, "shop", &[]).await?;
        let mut spec = json!({"version": VERSION, "images": {"registry": MIRROR}});
        mesh.apply(NAME, spec.clone()).await?;
        mesh.wait_ready(NAME).await?;
        let proxy = format!("{MIRROR}/proxyv2:{VERSION}");
        for template in ["sidecar", "gateway", "grpc-agent"] {
            assert_eq!(injected(&client, template).await?, set(&[&proxy]), "{template}");
        }
        assert_eq!(injected(&client, "grpc-simple").await?, set(&[HELPER]));

        let pinned = format!("{MIRROR}/proxyv2:{VERSION}@{}", digest('b'));
        spec["images"]["digests"] = json!({"proxyv2": digest('b')});
        mesh.apply(NAME, spec.clone()).await?;
        mesh.wait_ready(NAME).await?;
        for template in ["sidecar", "gateway", "grpc-agent"] {
            // istiod reloads its configuration with a delay.
            let wanted = set(&[&pinned]);
            wait::until(wait::TIMEOUT, format!("{template} by its digest"), async || {
                match injected(&client, template).await {
                    Ok(found) if found == wanted => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
        }

        // A new version with the old digest is rejected before anything is written.
        spec["version"] = json!(LAB_1_32);
        let start = lab.settled_audit().await?.position();
        mesh.apply(NAME, spec).await?;
        let stalled = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("InvalidSpec")).await?;
        let message = stalled.status.and_then(|status| status.message).unwrap_or_default();
        assert!(message.contains("spec.images.digests[proxyv2]") && message.contains(VERSION), "{message}");
        let writes = operator_writes(&lab.settled_audit().await?, start);
        assert!(writes.iter().all(|write| write.contains("meshinstallations")), "{writes:?}");
        Ok(())
    });
}
