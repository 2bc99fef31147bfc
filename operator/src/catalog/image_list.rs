//! Lists the images that charts can make a node pull, and so a mirror needs. Pure: the charts are arguments.
//!
//! The images are found in the rendered objects and in the injector's templates for sidecars, gateways and waypoints,
//! with the values that istiod fills in.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_chart::{Capabilities, Chart, DocumentError, Limits, Release, RenderError, documents};
use serde::Deserialize;
use serde_json::{Value, json};

use super::yaml;

/// Full image names, each with its users: `Deployment istiod`, `template sidecar`.
pub type ImageList = BTreeMap<String, BTreeSet<String>>;

/// The images can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListImagesError {
    /// A chart can't be rendered.
    #[error("can't render chart {chart}")]
    Render {
        chart: String,
        #[source]
        source: Box<RenderError>,
    },
    /// The output of a chart is not YAML.
    #[error("the rendered output of chart {chart} is not YAML")]
    Document {
        chart: String,
        #[source]
        source: Box<DocumentError>,
    },
    /// The values for the injector's templates can't be parsed.
    #[error("can't parse the injector's values")]
    InjectorValues(#[source] serde_json::Error),
    /// The injector's templates can't be parsed.
    #[error("can't parse the injector's templates")]
    InjectorConfig(#[source] Box<serde_saphyr::Error>),
    /// An unsupported expression: an incomplete list would only fail on a node.
    #[error("the injector's template {template} has an unsupported image expression: {line}")]
    Template { template: String, line: String },
}

/// Lists the default images of named charts. For Istio's charts the Kubernetes version makes no difference.
pub fn list<'a>(
    charts: impl IntoIterator<Item = (&'a str, &'a Chart)>,
    kubernetes: &str,
) -> Result<ImageList, ListImagesError> {
    let charts = charts.into_iter();
    let rendered: Vec<_> = charts.map(|(name, chart)| objects(name, chart, kubernetes)).collect::<Result<_, _>>()?;
    of_objects(rendered.into_iter().flatten())
}

/// Lists the images of objects, including those that istiod injects.
pub fn of_objects(objects: impl IntoIterator<Item = Value>) -> Result<ImageList, ListImagesError> {
    let mut images = ImageList::new();
    for object in objects {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let user = format!("{} {}", text("/kind"), text("/metadata/name"));
        if user == "ConfigMap istio-sidecar-injector" {
            of_injector(text("/data/values"), text("/data/config"), &mut images)?;
        }
        of_object(&object, &user, &mut images);
    }
    // The placeholder in a gateway's Deployment, which istiod replaces by the proxy image.
    images.remove("auto");
    Ok(images)
}

fn objects(name: &str, chart: &Chart, kubernetes: &str) -> Result<Vec<Value>, ListImagesError> {
    let release = Release { name: name.to_owned(), namespace: "istio-system".to_owned() };
    let capabilities = Capabilities { kube_version: kubernetes.to_owned(), api_versions: BTreeSet::new() };
    let rendered = chart
        .render(&release, &json!({}), &capabilities, &Limits::default())
        .map_err(|source| ListImagesError::Render { chart: name.to_owned(), source: Box::new(source) })?;
    let objects: Result<Vec<Value>, DocumentError> = rendered.iter().flat_map(documents).collect();
    objects.map_err(|source| ListImagesError::Document { chart: name.to_owned(), source: Box::new(source) })
}

/// Adds every string with the key `image`, at any depth.
fn of_object(value: &Value, user: &str, images: &mut ImageList) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(image) if name == "image" => note(image, user, images),
                    _ => of_object(value, user, images),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| of_object(item, user, images)),
        _ => {}
    }
}

fn note(image: &str, user: &str, images: &mut ImageList) {
    images.entry(image.to_owned()).or_default().insert(user.to_owned());
}

/// The injector's values that image names are built from.
#[derive(Deserialize)]
struct InjectorValues {
    global: GlobalValues,
}

#[derive(Deserialize)]
struct GlobalValues {
    hub: String,
    tag: Value,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    proxy: ImageOverride,
    #[serde(default)]
    proxy_init: ImageOverride,
}

#[derive(Default, Deserialize)]
struct ImageOverride {
    image: Option<String>,
}

#[derive(Deserialize)]
struct InjectorConfig {
    #[serde(default)]
    templates: BTreeMap<String, String>,
}

impl GlobalValues {
    /// Builds an image name as istiod does; a name with a slash is already a full one.
    fn image(&self, name: Option<&str>, default: &str) -> String {
        let name = name.filter(|name| !name.is_empty()).unwrap_or(default);
        if name.contains('/') {
            return name.to_owned();
        }
        let tag = self.tag.as_str().map_or_else(|| self.tag.to_string(), str::to_owned);
        let variant = if self.variant.is_empty() { String::new() } else { format!("-{}", self.variant) };
        format!("{}/{name}:{tag}{variant}", self.hub)
    }
}

fn of_injector(values: &str, config: &str, images: &mut ImageList) -> Result<(), ListImagesError> {
    let InjectorValues { global } = serde_json::from_str(values).map_err(ListImagesError::InjectorValues)?;
    let InjectorConfig { templates } = yaml::parse(config).map_err(ListImagesError::InjectorConfig)?;
    for (name, text) in templates {
        for line in text.lines() {
            let Some(expression) = line.trim().trim_start_matches("- ").strip_prefix("image:") else { continue };
            let image = match expression.trim().trim_matches('"') {
                "{{ .ProxyImage }}" => global.image(global.proxy.image.as_deref(), "proxyv2"),
                "{{ .ProxyInitImage }}" => global.image(global.proxy_init.image.as_deref(), "proxyv2"),
                "{{ .AgentgatewayImage }}" => global.image(None, "agentgateway"),
                // The pod's annotation, or else the value used above if it is a full name.
                expression if expression.starts_with("{{ annotation .ObjectMeta ") => continue,
                expression if expression.contains("{{") => {
                    return Err(ListImagesError::Template { template: name, line: line.trim().to_owned() });
                }
                literal => literal.to_owned(),
            };
            note(&image, &format!("template {name}"), images);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(values: &Value, template: &str) -> Result<ImageList, ListImagesError> {
        let mut images = ImageList::new();
        let config = json!({"templates": {"sidecar": template}}).to_string();
        of_injector(&values.to_string(), &config, &mut images).map(|()| images)
    }

    fn names(list: &ImageList) -> Vec<&str> {
        list.keys().map(String::as_str).collect()
    }

    const TEMPLATE: &str = "spec:\n  initContainers:\n  - image: \"{{ .ProxyInitImage }}\"\n  containers:\n  - name: x\n    \
                            image: \"{{ annotation .ObjectMeta `a/b` .Values.global.proxy.image }}\"\n    \
                            image: \"{{ .ProxyImage }}\"\n  - image: helper:1\n";

    #[test]
    fn builds_image_names_as_istiod_does() {
        let global = json!({"hub": "r/i", "tag": 7, "variant": "debug", "proxy": {"image": "envoy"}, "other": true});
        let list = injected(&json!({"global": global}), TEMPLATE).unwrap();
        assert_eq!(names(&list), ["helper:1", "r/i/envoy:7-debug", "r/i/proxyv2:7-debug"]);
        assert_eq!(list["helper:1"], BTreeSet::from(["template sidecar".to_owned()]));
    }

    #[test]
    fn keeps_full_image_names() {
        let image = json!({"image": "own/envoy@sha256:0"});
        let global = json!({"hub": "r/i", "tag": "1.31.2", "proxy": image, "proxy_init": image});
        let list = injected(&json!({"global": global}), TEMPLATE).unwrap();
        assert_eq!(names(&list), ["helper:1", "own/envoy@sha256:0"]);
    }

    #[test]
    fn rejects_unsupported_image_expression() {
        let global = json!({"hub": "r/i", "tag": "1.31.2"});
        let error = injected(&json!({"global": global}), "  - image: {{ .Surprise }}").unwrap_err();
        assert!(error.to_string().ends_with("unsupported image expression: - image: {{ .Surprise }}"), "{error}");
    }

    #[test]
    fn finds_images_at_any_depth_with_users() {
        let mut images = ImageList::new();
        let pod = json!({"spec": {"template": {"spec": {"initContainers": [{"image": "a"}], "containers": [{"image": "b"}]}}}});
        of_object(&pod, "Deployment x", &mut images);
        of_object(&json!({"image": {"image": "a"}, "imagePullPolicy": "c"}), "DaemonSet y", &mut images);
        assert_eq!(names(&images), ["a", "b"]);
        assert_eq!(images["a"].len(), 2);
    }
}
