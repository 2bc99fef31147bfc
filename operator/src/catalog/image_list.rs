//! Which images charts can ask a node to pull: what a mirror has to hold. Pure: the charts come as arguments.
//!
//! Found by rendering: in the objects of the charts that run something, and in the templates that istiod fills in for the
//! pods of others (sidecars, gateways, waypoints), with the values that it fills them in with.

use std::collections::{BTreeMap, BTreeSet};

use meshwright_chart::{Capabilities, Chart, DocumentError, Limits, Release, RenderError, documents};
use serde::Deserialize;
use serde_json::{Value, json};

use super::yaml;

/// Images by their full names, each with what asks for it: `Deployment istiod`, `template sidecar`.
pub type ImageList = BTreeMap<String, BTreeSet<String>>;

/// The images can't be told.
#[derive(Debug, thiserror::Error)]
pub enum ListImagesError {
    /// A chart can't be rendered.
    #[error("chart {chart} can't be rendered")]
    Render {
        /// The chart.
        chart: String,
        /// Cause.
        #[source]
        source: Box<RenderError>,
    },
    /// A chart renders something that is no YAML.
    #[error("chart {chart} renders what can't be read")]
    Document {
        /// The chart.
        chart: String,
        /// Cause.
        #[source]
        source: Box<DocumentError>,
    },
    /// The values for the injector's templates can't be read.
    #[error("the injector's values are not usable")]
    InjectorValues(#[source] serde_json::Error),
    /// The injector's templates can't be read.
    #[error("the injector's templates are not usable")]
    InjectorConfig(#[source] Box<serde_saphyr::Error>),
    /// A template says it in a way that this program doesn't know: an incomplete list would be found out by a node.
    #[error("the injector's template {template} names an image in a way that isn't known: {line}")]
    Template {
        /// The template.
        template: String,
        /// Its line.
        line: String,
    },
}

/// The images that charts ask for by default, each chart with its name. Which Kubernetes they are rendered for makes no
/// difference to Istio's.
pub fn list<'a>(
    charts: impl IntoIterator<Item = (&'a str, &'a Chart)>,
    kubernetes: &str,
) -> Result<ImageList, ListImagesError> {
    let charts = charts.into_iter();
    let rendered: Vec<_> = charts.map(|(name, chart)| objects(name, chart, kubernetes)).collect::<Result<_, _>>()?;
    of_objects(rendered.into_iter().flatten())
}

/// The images that objects ask for, and that istiod gives to others' pods by them.
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
    // What stands in a gateway's Deployment until istiod has put the proxy there.
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

/// Every text with the key `image`, at any depth.
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

/// What of the injector's values images are made of.
#[derive(Deserialize)]
struct Injected {
    global: Global,
}

#[derive(Deserialize)]
struct Global {
    hub: String,
    tag: Value,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    proxy: Named,
    #[serde(default)]
    proxy_init: Named,
}

#[derive(Default, Deserialize)]
struct Named {
    image: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    templates: BTreeMap<String, String>,
}

impl Global {
    /// As istiod puts it together; a name with a slash is a whole one.
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
    let Injected { global } = serde_json::from_str(values).map_err(ListImagesError::InjectorValues)?;
    let Config { templates } = yaml::parse(config).map_err(ListImagesError::InjectorConfig)?;
    for (name, text) in templates {
        for line in text.lines() {
            let Some(said) = line.trim().trim_start_matches("- ").strip_prefix("image:") else { continue };
            let image = match said.trim().trim_matches('"') {
                "{{ .ProxyImage }}" => global.image(global.proxy.image.as_deref(), "proxyv2"),
                "{{ .ProxyInitImage }}" => global.image(global.proxy_init.image.as_deref(), "proxyv2"),
                "{{ .AgentgatewayImage }}" => global.image(None, "agentgateway"),
                // The pod's own choice, by an annotation; or else the value that is used above, where it is a whole name.
                said if said.starts_with("{{ annotation .ObjectMeta ") => continue,
                said if said.contains("{{") => {
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
    fn what_the_injector_fills_in_is_what_istiod_would() {
        let global = json!({"hub": "r/i", "tag": 7, "variant": "debug", "proxy": {"image": "envoy"}, "other": true});
        let list = injected(&json!({"global": global}), TEMPLATE).unwrap();
        assert_eq!(names(&list), ["helper:1", "r/i/envoy:7-debug", "r/i/proxyv2:7-debug"]);
        assert_eq!(list["helper:1"], BTreeSet::from(["template sidecar".to_owned()]));
    }

    #[test]
    fn a_whole_name_is_taken_as_it_is() {
        let image = json!({"image": "own/envoy@sha256:0"});
        let global = json!({"hub": "r/i", "tag": "1.31.2", "proxy": image, "proxy_init": image});
        let list = injected(&json!({"global": global}), TEMPLATE).unwrap();
        assert_eq!(names(&list), ["helper:1", "own/envoy@sha256:0"]);
    }

    #[test]
    fn an_image_that_cannot_be_told_is_an_error_that_shows_the_line() {
        let global = json!({"hub": "r/i", "tag": "1.31.2"});
        let error = injected(&json!({"global": global}), "  - image: {{ .Surprise }}").unwrap_err();
        assert!(error.to_string().ends_with("isn't known: - image: {{ .Surprise }}"), "{error}");
    }

    #[test]
    fn images_are_found_at_any_depth_and_with_who_asks() {
        let mut images = ImageList::new();
        let pod = json!({"spec": {"template": {"spec": {"initContainers": [{"image": "a"}], "containers": [{"image": "b"}]}}}});
        of_object(&pod, "Deployment x", &mut images);
        of_object(&json!({"image": {"image": "a"}, "imagePullPolicy": "c"}), "DaemonSet y", &mut images);
        assert_eq!(names(&images), ["a", "b"]);
        assert_eq!(images["a"].len(), 2);
    }
}
