//! The inputs of a gateway's injected proxy: the injector's gateway template, the values that this template reads, and
//! the proxy configuration of the mesh. Gateway pods are rolled when these change, and only then.

use serde_json::{Value, json};

use super::merge::get;
use super::object::short_hash;
use crate::proxies::tag_of;

/// Annotation on the pod template of gateways: the checksum of their proxy inputs.
pub const PROXY_INPUTS_ANNOTATION: &str = "meshwright.dev/proxy-inputs";

/// Values from which istiod composes the proxy image, which the template doesn't reference itself.
const IMAGE_VALUES: [&str; 4] = ["global.hub", "global.tag", "global.variant", "global.proxy.image"];

/// The checksum of the data of the injector's and the mesh's `ConfigMap`s. `None` if the injector's can't be parsed.
#[must_use]
pub fn proxy_inputs(injector: &Value, mesh: Option<&Value>) -> Option<String> {
    let config: Value = parse(injector.get("config")?)?;
    let values: Value = parse(injector.get("values")?)?;
    let template = config.pointer("/templates/gateway").and_then(Value::as_str)?;
    let mesh: Value = mesh.and_then(|data| data.get("mesh")).and_then(parse).unwrap_or_default();
    let proxy = json!([mesh.get("defaultConfig"), mesh.get("trustDomain")]);
    Some(short_hash(json!([template, used_values(template, &values), proxy]).to_string().as_bytes()))
}

/// The values that a template reads, with their paths.
pub(super) fn used_values(template: &str, values: &Value) -> Vec<Value> {
    let read = IMAGE_VALUES.into_iter().map(str::to_owned).chain(paths(template));
    read.map(|path| json!([path, get(values, &path)])).collect()
}

/// Whether a proxy's image matches the injector's configuration by tag, of which variants have a longer one, or by
/// digest. A complete image reference without a digest matches any image.
#[must_use]
pub fn is_expected_image(injector: &Value, image: &str) -> bool {
    let Some(values) = injector.get("values").and_then(parse) else { return true };
    let text = |path: &str| match get(&values, path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let (tag, named) = (text("global.tag"), text("global.proxy.image"));
    if let Some((_, wanted)) = named.split_once('@') {
        return image.split_once('@').is_some_and(|(_, found)| found == wanted);
    }
    if tag.is_empty() || named.contains(['/', ':', '@']) || image.contains('@') {
        return true;
    }
    tag_of(image)
        .is_some_and(|found| found.strip_prefix(&tag).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

pub(super) fn parse(text: &Value) -> Option<Value> {
    serde_saphyr::from_str(text.as_str()?).ok()
}

/// The paths after each `.Values.` in a template. A path in parentheses continues after them:
/// `(.Values.pilot.env).NAME`.
fn paths(template: &str) -> impl Iterator<Item = String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    template.split(".Values.").skip(1).map(move |rest| {
        let (path, rest) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        let further = rest.strip_prefix(").").unwrap_or_default();
        let further = further.split(|c| !is_part(c)).next().unwrap_or_default();
        let path = path.trim_end_matches('.');
        if further.is_empty() { path.to_owned() } else { format!("{path}.{}", further.trim_end_matches('.')) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(template: &str, values: &Value, mesh: &str) -> String {
        let config = json!({"templates": {"gateway": template, "sidecar": "x"}}).to_string();
        let injector = json!({"config": config, "values": values.to_string()});
        proxy_inputs(&injector, Some(&json!({"mesh": mesh}))).unwrap()
    }

    #[test]
    fn checksum_covers_only_values_the_template_reads() {
        let template = "level={{ .Values.global.proxy.logLevel }}";
        let values = |level: &str, excluded: &str| json!({"global": {"proxy": {"logLevel": level, "excludeInboundPorts": excluded}}});
        let before = inputs(template, &values("warning", ""), "");
        assert_ne!(before, inputs(template, &values("debug", ""), ""));
        assert_eq!(before, inputs(template, &values("warning", "9100"), ""));
    }

    #[test]
    fn compares_image_tag_and_digest() {
        let injector = |values: Value| json!({"values": values.to_string()});
        let plain = injector(json!({"global": {"tag": "1.32.0", "proxy": {"image": "proxyv2"}}}));
        assert!(is_expected_image(&plain, "registry:5000/istio/proxyv2:1.32.0"));
        assert!(is_expected_image(&plain, "istio/proxyv2:1.32.0-distroless"));
        assert!(!is_expected_image(&plain, "istio/proxyv2:1.31.0"));
        assert!(!is_expected_image(&plain, "istio/proxyv2:1.32.01"));
        let own = injector(json!({"global": {"tag": "1.32.0", "proxy": {"image": "mine/proxy:7"}}}));
        assert!(is_expected_image(&own, "mine/proxy:7"));
        let pinned = injector(json!({"global": {"tag": "1.32.0", "proxy": {"image": "r/proxyv2:1.32.0@sha256:b"}}}));
        assert!(is_expected_image(&pinned, "mirror/proxyv2:1.32.0@sha256:b"));
        assert!(!is_expected_image(&pinned, "r/proxyv2:1.32.0@sha256:a"));
        assert!(!is_expected_image(&pinned, "r/proxyv2:1.31.0"));
        assert!(is_expected_image(&injector(json!({"global": {"proxy": {"image": "proxyv2"}}})), "x:1"));
    }

    #[test]
    fn checksum_covers_path_after_parentheses() {
        let template = "{{ if (.Values.pilot.env).BUNDLES }}{{ (.Values.global.x) }}";
        let values = |env: Value| json!({"pilot": {"env": env}});
        let before = inputs(template, &values(json!({"OTHER": "1"})), "");
        assert_eq!(before, inputs(template, &values(json!({"OTHER": "2"})), ""));
        assert_ne!(before, inputs(template, &values(json!({"OTHER": "1", "BUNDLES": "true"})), ""));
    }

    #[test]
    fn checksum_covers_template_image_and_proxy_config() {
        let before = inputs("a", &json!({}), "accessLogFile: /dev/null");
        assert_ne!(before, inputs("b", &json!({}), "accessLogFile: /dev/null"));
        assert_ne!(before, inputs("a", &json!({"global": {"tag": "1.2"}}), "accessLogFile: /dev/null"));
        assert_ne!(before, inputs("a", &json!({}), "defaultConfig: {concurrency: 2}"));
        assert_eq!(before, inputs("a", &json!({}), "accessLogFile: /dev/stdout"));
    }
}
