//! Every image that a mesh asks nodes to pull: of what the operator applies, and of what istiod makes of others' pods.

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
/// What a gateway's Deployment has instead of an image: istiod puts one there.
const AUTO: &str = "auto";
/// Istio's template grpc-simple names it outright: no value of a chart reaches it.
const HELPER: &str = "busybox:1.28";

fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

const ADD_ONS: [&str; 4] = ["prometheus", "grafana", "kiali", "jaeger"];

/// Everything that there is: node agents, gateways, an egress gateway, add-ons.
fn spec() -> Value {
    let gateways = json!([
        {"name": "in", "namespace": "edge", "service": {"type": "ClusterIP"}},
        {"name": "out", "namespace": "edge", "direction": "Egress"},
    ]);
    let addons = ADD_ONS.map(|name| json!({"name": name}));
    let images = json!({"registry": MIRROR});
    json!({"version": VERSION, "profile": "ambient", "gateways": gateways, "addons": addons, "images": images})
}

/// The same with every image named by its digest.
fn pinned() -> Value {
    let mut spec = spec();
    let digests = [("pilot", 'a'), ("proxyv2", 'b'), ("install-cni", 'c'), ("ztunnel", 'd'), ("agentgateway", 'e')];
    let of_add_ons = ADD_ONS.map(|name| (name, 'f'));
    spec["images"]["digests"] =
        digests.into_iter().chain(of_add_ons).map(|(name, letter)| (name.to_owned(), json!(digest(letter)))).collect();
    spec
}

async fn rendered(spec: &Value) -> TestResult<Vec<Value>> {
    let (_dir, path) = file(NAME, spec, &json!({}))?;
    let ran = meshwright(Path::new("/nowhere/kubeconfig"), &["render", "-f", &path, "-o", "json"]).await?;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let list: Value = serde_json::from_str(&ran.out)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Each text with the key `image`, at any depth of any object.
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

/// Image lines of all injection templates that name an image outright.
fn literal_images(config: &Value) -> BTreeSet<String> {
    let templates = config["templates"].as_object().into_iter().flatten();
    let lines = templates.flat_map(|(_, text)| text.as_str().unwrap_or_default().lines());
    let said = lines.filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image:"));
    said.map(|image| image.trim().trim_matches('"').to_owned()).filter(|image| !image.contains("{{")).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The list of images that a mirror has to hold.
async fn listed(more: &[&str]) -> TestResult<Vec<String>> {
    let args = [&["catalog", "images", "--version", VERSION][..], more].concat();
    let ran = meshwright(Path::new("/nowhere/kubeconfig"), &args).await?;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    Ok(ran.out.lines().map(str::to_owned).collect())
}

/// What copies of the add-ons' images are called in a registry.
async fn add_ons_in(registry: &str) -> TestResult<Vec<String>> {
    let all = listed(&[]).await?;
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
fn every_image_of_every_object_comes_from_the_registry_of_the_spec() -> TestResult {
    block_on(async {
        let objects = rendered(&spec()).await?;
        let mut found = BTreeSet::new();
        for object in &objects {
            images(object, &mut found);
        }
        // The charts' profile ambient asks for the smaller variant.
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
fn every_image_can_be_named_by_its_digest() -> TestResult {
    block_on(async {
        let objects = rendered(&pinned()).await?;
        let mut found = BTreeSet::new();
        for object in &objects {
            images(object, &mut found);
        }
        let of = |name: &str, letter: char| format!("{MIRROR}/{name}:{VERSION}@{}", digest(letter));
        let mut expected = set(&[&of("install-cni", 'c'), &of("pilot", 'a'), &of("ztunnel", 'd'), AUTO]);
        // Their versions are the operator's: what an older digest means, no tag should say.
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
fn the_list_of_images_holds_all_that_an_installation_asks_for() -> TestResult {
    block_on(async {
        let args = ["catalog", "images", "--version", VERSION];
        let of = |name: &str| format!("registry.istio.io/testing/{name}:{VERSION}");
        let all = ["agentgateway", "install-cni", "pilot", "proxyv2", "ztunnel"].map(of);
        let mut expected: Vec<&str> = vec![HELPER];
        expected.extend(all.iter().map(String::as_str));
        let (of_add_ons, of_istio): (Vec<_>, Vec<_>) = listed(&[]).await?.into_iter().partition(|it| is_of_add_on(it));
        assert_eq!((of_istio.iter().map(String::as_str).collect(), of_add_ons.len()), (expected, ADD_ONS.len()));

        // A profile asks for its own components, and ambient for the smaller variant of them.
        let variant = |name: &str, end: &str| format!("{}{end}", of(name));
        for (name, images, end) in [
            ("minimal", &["agentgateway", "pilot", "proxyv2"][..], ""),
            ("ambient", &["agentgateway", "install-cni", "pilot", "proxyv2", "ztunnel"], "-distroless"),
        ] {
            let mut expected: Vec<String> = images.iter().map(|image| variant(image, end)).collect();
            expected.extend(of_add_ons.iter().cloned());
            let found: BTreeSet<String> = listed(&["--profile", name]).await?.into_iter().collect();
            assert_eq!(found, expected.into_iter().chain([HELPER.to_owned()]).collect(), "{name}");
        }
        let ran = meshwright(Path::new("/nowhere/kubeconfig"), &[&args[..], &["--profile", "large"]].concat()).await?;
        assert!(ran.err.contains("there is no profile \"large\", only default, demo"), "{}", ran.err);

        let json = meshwright(Path::new("/nowhere/kubeconfig"), &[&args[..], &["-o", "json"]].concat()).await?;
        let list: Value = serde_json::from_str(&json.out)?;
        assert_eq!(list["pullable"], false, "the lab's release has a shortened commit for a tag");
        let users = |image: &str| {
            let entry = list["images"].as_array()?.iter().find(|entry| entry["image"] == image)?;
            Some(entry["usedBy"].clone())
        };
        assert_eq!(users(HELPER), Some(json!(["template grpc-simple"])));
        assert_eq!(users(&of("ztunnel")), Some(json!(["DaemonSet ztunnel"])));
        Ok(())
    })
}

/// The images that istiod gives a pod which asks for a template, without its own container.
async fn injected(client: &Client, template: &str) -> TestResult<BTreeSet<String>> {
    let mut pod = objects::pod("app", &[("sidecar.istio.io/inject", "true")]);
    if template == "gateway" {
        "istio-proxy".clone_into(&mut pod.spec.get_or_insert_default().containers[0].name);
        pod.spec.get_or_insert_default().containers[0].image = Some(AUTO.to_owned());
    }
    let templates = [("inject.istio.io/templates".to_owned(), template.to_owned())];
    pod.metadata.annotations = Some(templates.into_iter().collect());
    let own = objects::pod("app", &[]).spec.unwrap_or_default().containers[0].image.clone().unwrap_or_default();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let back = Api::<Pod>::namespaced(client.clone(), "shop").create(&dry, &pod).await?;
    let mut found = BTreeSet::new();
    images(&serde_json::to_value(back.spec)?, &mut found);
    found.remove(&own);
    Ok(found)
}

#[test]
fn every_container_that_istiod_injects_comes_from_the_registry_of_the_spec_or_by_its_digest() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
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
            // istiod reads its changed configuration when it comes to it.
            let wanted = set(&[&pinned]);
            wait::until(wait::PATIENCE, format!("{template} by its digest"), async || {
                match injected(&client, template).await {
                    Ok(found) if found == wanted => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
        }

        // The version goes on, and the digest stays behind: nothing is moved.
        spec["version"] = json!(LAB_1_32);
        let mark = lab.settled_audit().await?.mark();
        mesh.apply(NAME, spec).await?;
        let told = mesh.wait_for(NAME, ConditionType::Stalled, "True", Some("InvalidSpec")).await?;
        let message = told.status.and_then(|status| status.message).unwrap_or_default();
        assert!(message.contains("spec.images.digests[proxyv2]") && message.contains(VERSION), "{message}");
        let writes = operator_writes(&lab.settled_audit().await?, mark);
        assert!(writes.iter().all(|write| write.contains("meshinstallations")), "{writes:?}");
        Ok(())
    });
}
